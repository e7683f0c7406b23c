//! The entries of `invites.toml`.

use std::sync::Arc;

use base64ct::{Base64, Encoding as _};
use crypto_core::identity::KeyId;
use crypto_core::invite::InviteVerifier;
use crypto_core::secret::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::access::client_name::ClientName;
use crate::access::entry::{GrantEntry, Moment, WholeId};
use crate::access::invite::{Invite, InviteState, InviteUse};
use crate::access::text::Text;

/// `[[invite]]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InviteEntry {
    id: WholeId,
    name: Text<ClientName>,
    created: Moment,
    expires: Moment,
    state: StateWord,
    /// Both halves of what proves an invite are kept for as long as it can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    verifier: Option<Half>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind: Option<Half>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Text<KeyId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    grant: GrantEntry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateWord {
    Pending,
    Taken,
    Used,
    Revoked,
}

impl From<&Invite> for InviteEntry {
    fn from(invite: &Invite) -> Self {
        let (state, verifier, used, at) = match &invite.state {
            InviteState::Pending(verifier) => (StateWord::Pending, Some(verifier), None, None),
            InviteState::Taken(used) => (StateWord::Taken, None, Some(used), Some(used.at)),
            InviteState::Used(used) => (StateWord::Used, None, Some(used), Some(used.at)),
            InviteState::Revoked(at) => (StateWord::Revoked, None, None, Some(*at)),
        };
        Self {
            id: WholeId(invite.id),
            name: Text(invite.name.clone()),
            created: Moment(invite.created),
            expires: Moment(invite.expires),
            state,
            verifier: verifier.map(|verifier| Half::of(verifier.verifier())),
            bind: verifier.map(|verifier| Half::of(verifier.bind().expose())),
            key: used.map(|used| Text(used.key)),
            at: at.map(Moment),
            from: used.map(|used| used.from.clone()),
            grant: GrantEntry::new(&invite.grant),
        }
    }
}

impl TryFrom<InviteEntry> for Invite {
    type Error = String;

    fn try_from(entry: InviteEntry) -> Result<Self, String> {
        let WholeId(id) = entry.id;
        let Text(name) = entry.name;
        let incomplete = || format!("the invite {id} does not say all that one of its state has to");
        let at = entry.at.map(|Moment(at)| at);
        let used = || -> Result<InviteUse, String> {
            let (Some(Text(key)), Some(at)) = (&entry.key, at) else { return Err(incomplete()) };
            Ok(InviteUse { key: *key, at, from: entry.from.clone().unwrap_or_default() })
        };
        let state = match (entry.state, &entry.verifier, &entry.bind) {
            (StateWord::Pending, Some(Half(verifier)), Some(Half(bind))) => {
                InviteState::Pending(Arc::new(InviteVerifier::new(**verifier, Secret::new(**bind))))
            }
            (StateWord::Pending, _, _) => return Err(incomplete()),
            (StateWord::Taken, ..) => InviteState::Taken(used()?),
            (StateWord::Used, ..) => InviteState::Used(used()?),
            (StateWord::Revoked, ..) => InviteState::Revoked(at.ok_or_else(incomplete)?),
        };
        let (Moment(created), Moment(expires)) = (entry.created, entry.expires);
        Ok(Self { id, name, grant: entry.grant.grant(), created, expires, state })
    }
}

/// One half of what proves an invite, in base64. It is wiped when it is dropped.
#[derive(Clone)]
struct Half(Zeroizing<[u8; 32]>);

impl Half {
    fn of(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }
}

impl std::fmt::Debug for Half {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Half([redacted])")
    }
}

impl<'de> Deserialize<'de> for Half {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let mut bytes = Zeroizing::new([0; 32]);
        let len = Base64::decode(text.as_bytes(), &mut *bytes).map(<[u8]>::len);
        if len == Ok(bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(de::Error::custom("expected 32 bytes of base64"))
        }
    }
}

impl Serialize for Half {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(Base64::encode_string(&*self.0));
        serializer.serialize_str(&text)
    }
}
