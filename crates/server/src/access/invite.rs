//! Invites: each lets one key in, once, with the grant that it carries.

use std::sync::Arc;

use cli_support::label;
use cli_support::metrics::Label as _;
use crypto_core::identity::KeyId;
use crypto_core::invite::{InviteId, InviteVerifier};
use jiff::Timestamp;

use crate::access::client_name::ClientName;
use crate::access::grant::Grant;
use crate::audit::{Audit, Event};

/// An invite.
#[derive(Debug, Clone)]
pub(super) struct Invite {
    pub(super) id: InviteId,
    /// The name that the client gets.
    pub(super) name: ClientName,
    /// The rights that the client gets.
    pub(super) grant: Grant,
    pub(super) created: Timestamp,
    /// The time from which the invite is worth nothing.
    pub(super) expires: Timestamp,
    pub(super) state: InviteState,
}

/// What has become of an invite. That it has expired is judged by the clock.
#[derive(Debug, Clone)]
pub(super) enum InviteState {
    /// Nobody has used it.
    Pending(Arc<InviteVerifier>),
    /// A key has used it, and may not be in the file of clients yet.
    Taken(InviteUse),
    /// A key has used it, and was written to the file of clients.
    Used(InviteUse),
    /// Its owner has ended it at this time.
    Revoked(Timestamp),
}

/// The use of an invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InviteUse {
    /// The key that was let in.
    pub(super) key: KeyId,
    pub(super) at: Timestamp,
    /// The address that the client came from, as the log shows it.
    pub(super) from: String,
}

impl InviteUse {
    /// Notes in the logs that the key is let in.
    pub(super) fn log(&self, id: InviteId, name: &ClientName, audit: &Audit) {
        let (invite, client, key) = (&*id.to_text(), name.as_str(), &*self.key.to_string());
        audit.note(&Event::Enrolled { invite, client, key, peer: &self.from });
        let (id, name) = (id.to_string(), client);
        tracing::info!(id, name, key, peer = self.from, "invite taken");
    }
}

impl Invite {
    /// Returns whether the invite can be used at `now`.
    pub(super) fn is_pending(&self, now: Timestamp) -> bool {
        matches!(self.state, InviteState::Pending(_)) && !self.has_expired(now)
    }

    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires <= now
    }

    /// Returns whether no client may get the name: one that uses the invite will have it, or is about to.
    pub(super) fn reserves_name(&self, now: Timestamp) -> bool {
        self.is_pending(now) || matches!(self.state, InviteState::Taken(_))
    }

    /// The time since which the invite is worth nothing; `None` for one that is not over.
    pub(super) fn ended(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.state {
            InviteState::Pending(_) => Some(self.expires).filter(|_| self.has_expired(now)),
            InviteState::Taken(_) => None,
            InviteState::Used(used) => Some(used.at),
            InviteState::Revoked(at) => Some(*at),
        }
    }

    /// What has become of the invite.
    pub(super) fn standing(&self, now: Timestamp) -> InviteStanding {
        match &self.state {
            InviteState::Pending(_) if self.has_expired(now) => InviteStanding::Expired,
            InviteState::Pending(_) => InviteStanding::Pending,
            InviteState::Taken(_) => InviteStanding::Taken,
            InviteState::Used(_) => InviteStanding::Used,
            InviteState::Revoked(_) => InviteStanding::Revoked,
        }
    }

    /// What has become of the invite, in one word.
    pub(super) fn word(&self, now: Timestamp) -> &'static str {
        self.standing(now).text()
    }
}

label! {
    /// What has become of an invite by now.
    pub(crate) enum InviteStanding("state") {
        /// Nobody has used it.
        Pending = "pending",
        /// A key has used it, and may not be in the file of clients yet.
        Taken = "taken",
        /// A key has used it, and was written to the file of clients.
        Used = "used",
        /// Nobody has used it in time.
        Expired = "expired",
        /// Its owner has ended it.
        Revoked = "revoked",
    }
}
