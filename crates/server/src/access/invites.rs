//! The list of invites: its form in `invites.toml`, its changes, and its lines in `server invites`.

use std::collections::BTreeSet;
use std::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::invite::InviteId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::client_name::ClientName;
use crate::access::clients::Access;
use crate::access::invite::{Invite, InviteStanding, InviteState, InviteUse};
use crate::access::invite_entry::InviteEntry;
use crate::error::Error;

/// The invites of a home, as listed in `invites.toml`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Entries", into = "Entries")]
pub struct Invites(Vec<Invite>);

/// The form of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    invite: Vec<Listed>,
}

/// An invite in the file. It is checked while the file is read, so that an error has its line.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "InviteEntry", into = "InviteEntry")]
struct Listed(Invite);

impl TryFrom<InviteEntry> for Listed {
    type Error = String;

    fn try_from(entry: InviteEntry) -> Result<Self, String> {
        Invite::try_from(entry).map(Self)
    }
}

impl From<Listed> for InviteEntry {
    fn from(Listed(invite): Listed) -> Self {
        Self::from(&invite)
    }
}

impl TryFrom<Entries> for Invites {
    type Error = String;

    fn try_from(entries: Entries) -> Result<Self, String> {
        let invites: Vec<Invite> = entries.invite.into_iter().map(|Listed(invite)| invite).collect();
        let mut ids = BTreeSet::new();
        match invites.iter().find(|invite| !ids.insert(invite.id)) {
            Some(double) => Err(format!("the invite {} is there twice", double.id)),
            None => Ok(Self(invites)),
        }
    }
}

impl From<Invites> for Entries {
    fn from(Invites(invites): Invites) -> Self {
        Self { invite: invites.into_iter().map(Listed).collect() }
    }
}

impl Invites {
    /// One line for each invite: its name, its id, what has become of it, and its rights in the words of the options of
    /// `server allow`, separated by tabs.
    pub fn lines(&self, now: Timestamp) -> impl Iterator<Item = String> {
        self.0.iter().map(move |invite| {
            let word = invite.word(now);
            let state = match &invite.state {
                InviteState::Pending(_) if invite.has_expired(now) => format!("{word} {}", invite.expires),
                InviteState::Pending(_) => format!("{word} until {}", invite.expires),
                InviteState::Taken(InviteUse { key, at, from })
                | InviteState::Used(InviteUse { key, at, from }) => {
                    format!("{word} {at} by {key} from {from}")
                }
                InviteState::Revoked(at) => format!("{word} {at}"),
            };
            format!("{}\t{}\t{state}\t{}", invite.name, invite.id, invite.grant.options(now))
        })
    }

    /// What has become of each invite.
    pub(crate) fn standings(&self, now: Timestamp) -> impl Iterator<Item = InviteStanding> {
        self.0.iter().map(move |invite| invite.standing(now))
    }

    /// The name of the client that the invite with this id, as a whole, is for.
    #[must_use]
    pub fn name_of(&self, id: &str) -> Option<&str> {
        let id = id.parse().ok()?;
        self.find(id).map(|invite| invite.name.as_str())
    }

    /// One JSON object for each invite, with the keys of `invites.toml`, but without what proves it. Its `state` may
    /// also be `expired`.
    ///
    /// # Panics
    /// Never: names and rules can always be encoded.
    pub fn objects(&self, now: Timestamp) -> impl Iterator<Item = serde_json::Value> {
        self.0.iter().map(move |invite| {
            let entry = serde_json::to_value(InviteEntry::from(invite));
            let mut object = entry.expect("names and rules can be written as JSON");
            if let Some(object) = object.as_object_mut() {
                object.remove("verifier");
                object.remove("bind");
                object.insert("state".into(), invite.word(now).into());
            }
            object
        })
    }

    /// The name with which the key was let in last by an invite, and when that was.
    pub(crate) fn use_of(&self, key: KeyId) -> Option<(&ClientName, Timestamp)> {
        let used = self.0.iter().filter_map(|invite| match &invite.state {
            InviteState::Taken(used) | InviteState::Used(used) if used.key == key => {
                Some((&invite.name, used.at))
            }
            _ => None,
        });
        used.max_by_key(|(_, at)| *at)
    }

    /// The invite with this id, whatever has become of it.
    pub(super) fn find(&self, id: InviteId) -> Option<&Invite> {
        self.0.iter().find(|invite| invite.id == id)
    }

    /// The invites that a key has used and that may be missing in the file of clients.
    pub(super) fn taken(&self) -> impl Iterator<Item = (&Invite, &InviteUse)> {
        self.0.iter().filter_map(|invite| match &invite.state {
            InviteState::Taken(used) => Some((invite, used)),
            _ => None,
        })
    }

    /// Returns whether there are invites that can be used at `now`.
    pub(super) fn has_pending(&self, now: Timestamp) -> bool {
        self.0.iter().any(|invite| invite.is_pending(now))
    }

    /// Adds an invite.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::NameInvited`], [`Error::TooManyInvites`].
    pub(super) fn add(&mut self, invite: Invite, access: &Access, now: Timestamp) -> Result<(), Error> {
        self.prune(now);
        if self.0.iter().filter(|invite| invite.is_pending(now)).count() >= MAX_PENDING {
            return Err(Error::TooManyInvites { most: MAX_PENDING });
        }
        access.check_can_be_invited(&invite.name, now)?;
        self.check_is_free(invite.name.as_str(), now)?;
        self.0.push(invite);
        Ok(())
    }

    /// Ends the pending invite with this name, id or beginning of an id.
    ///
    /// # Errors
    /// [`Error::UnknownInvite`], also where several could be meant; [`Error::InviteOver`].
    pub(super) fn revoke(&mut self, which: &str, now: Timestamp) -> Result<InviteId, Error> {
        let name: Option<ClientName> = which.parse().ok();
        let start = which.to_ascii_lowercase();
        let is_meant = |invite: &Invite| {
            name.as_ref() == Some(&invite.name)
                || (start.len() >= MIN_ID_LEN && invite.id.to_text().starts_with(&start))
        };
        let pending: Vec<usize> = (0..self.0.len())
            .filter(|index| self.0[*index].is_pending(now) && is_meant(&self.0[*index]))
            .collect();
        match *pending {
            [index] => {
                let invite = &mut self.0[index];
                invite.state = InviteState::Revoked(whole_seconds(now));
                Ok(invite.id)
            }
            [] => match self.0.iter().rev().find(|invite| is_meant(invite)) {
                Some(invite) => {
                    let client = match &invite.state {
                        InviteState::Taken(_) | InviteState::Used(_) => Some(invite.name.to_string()),
                        _ => None,
                    };
                    Err(Error::InviteOver { id: invite.id.to_string(), state: invite.word(now), client })
                }
                None => Err(Error::UnknownInvite { name: which.into() }),
            },
            _ => Err(Error::UnknownInvite { name: which.into() }),
        }
    }

    /// Ends all pending invites, and returns how many there were.
    pub(super) fn revoke_all(&mut self, now: Timestamp) -> usize {
        let pending = self.0.iter_mut().filter(|invite| invite.is_pending(now));
        pending.map(|invite| invite.state = InviteState::Revoked(whole_seconds(now))).count()
    }

    /// Notes that `used` has used an invite, and forgets what proves it.
    pub(super) fn take(&mut self, id: InviteId, used: InviteUse) {
        self.set(id, InviteState::Taken(used));
    }

    /// Notes that the key that has used an invite is in the file of clients.
    pub(super) fn finish(&mut self, id: InviteId, used: InviteUse) {
        self.set(id, InviteState::Used(used));
    }

    fn set(&mut self, id: InviteId, state: InviteState) {
        if let Some(invite) = self.0.iter_mut().find(|invite| invite.id == id) {
            invite.state = state;
        }
    }

    /// Checks that the clients in `after` have no name that an invite will give to another one.
    ///
    /// # Errors
    /// [`Error::NameInvited`].
    pub(super) fn check_names(&self, before: &Access, after: &Access, now: Timestamp) -> Result<(), Error> {
        after
            .grants()
            .filter(|(name, _)| !before.has_name(name))
            .try_for_each(|(name, _)| self.check_is_free(name, now))
    }

    fn check_is_free(&self, name: &str, now: Timestamp) -> Result<(), Error> {
        match self.0.iter().find(|invite| invite.reserves_name(now) && invite.name.as_str() == name) {
            Some(invite) => Err(Error::NameInvited { name: name.into(), id: invite.id.to_string() }),
            None => Ok(()),
        }
    }

    /// Forgets invites that were over long ago.
    fn prune(&mut self, now: Timestamp) {
        let is_recent =
            |ended: Timestamp| now.duration_since(ended).unsigned_abs() < LISTED_FOR || ended > now;
        self.0.retain(|invite| invite.ended(now).is_none_or(is_recent));
        let mut surplus = self.0.len().saturating_sub(MAX_LISTED);
        self.0.retain(|invite| {
            let is_surplus = surplus > 0 && invite.ended(now).is_some();
            surplus -= usize::from(is_surplus);
            !is_surplus
        });
    }
}

/// Most invites that are pending at once.
const MAX_PENDING: usize = 1000;
/// Most invites that are listed, those that are over included.
const MAX_LISTED: usize = 10_000;
/// Time for which an invite that is over stays in the list.
const LISTED_FOR: Duration = Duration::from_hours(90 * 24);
/// Fewest characters of an id that name an invite.
const MIN_ID_LEN: usize = 6;

/// The time as the file and the list of invites have it.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
