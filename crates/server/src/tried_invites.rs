//! Attempts to use an invite that another key has used: somebody else has its line, which its owner should know.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use cli_support::admin::InviteTried;
use crypto_core::identity::KeyId;
use crypto_core::invite::InviteId;
use jiff::Timestamp;

/// The attempts since the server started, as many as are kept. They stay in memory, since no attempt that comes to nothing
/// may cost the disk.
#[derive(Debug, Default)]
pub(crate) struct TriedInvites(Mutex<BTreeMap<(InviteId, KeyId), Tried>>);

#[derive(Debug)]
struct Tried {
    from: String,
    at: Timestamp,
    count: u64,
}

impl TriedInvites {
    /// Notes an attempt of a key that comes from `from`.
    pub(crate) fn note(&self, invite: InviteId, key: KeyId, from: &str, at: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_NOTED
            && !all.contains_key(&(invite, key))
            && let Some(oldest) = all.iter().min_by_key(|(_, tried)| tried.at).map(|(name, _)| *name)
        {
            all.remove(&oldest);
        }
        let tried = all.entry((invite, key)).or_insert(Tried { from: String::new(), at, count: 0 });
        *tried = Tried { from: from.into(), at, count: tried.count.saturating_add(1) };
    }

    /// The attempts that were noted.
    pub(crate) fn list(&self) -> Vec<InviteTried> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|((invite, key), Tried { from, at, count })| InviteTried {
                id: invite.to_text(),
                key: key.to_string(),
                from: from.clone(),
                at: Timestamp::from_second(at.as_second()).unwrap_or(*at).to_string(),
                count: *count,
            })
            .collect()
    }
}

/// Most pairs of an invite and a key that are kept. They fit in an answer beside what else a server tells.
const MAX_NOTED: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn attempts_are_counted_and_the_oldest_are_forgotten() {
        let tried = TriedInvites::default();
        let start = Timestamp::now();
        for number in 0..40_u8 {
            let at = start + Duration::from_secs(number.into());
            tried.note(InviteId([7; 16]), KeyId([number; 32]), "192.0.2.7:1", at);
            tried.note(InviteId([7; 16]), KeyId([255; 32]), &format!("192.0.2.7:{number}"), at);
        }
        let list = tried.list();
        assert_eq!(list.len(), MAX_NOTED);
        assert!(list.iter().any(|tried| tried.key == KeyId([39; 32]).to_string() && tried.count == 1));
        assert!(list.iter().all(|tried| tried.key != KeyId([0; 32]).to_string()));
        let often = list.iter().find(|tried| tried.key == KeyId([255; 32]).to_string()).unwrap();
        assert_eq!((often.count, often.from.as_str()), (40, "192.0.2.7:39"));
        assert_eq!(often.id, InviteId([7; 16]).to_text());
    }
}
