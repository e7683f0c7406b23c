//! Attempts of clients to use an invite, and the reasons why they are refused.

use std::net::IpAddr;

use crypto_core::identity::KeyId;
use crypto_core::invite::{InviteId, InviteVerifier};
use jiff::Timestamp;
use wire_protocol::handshake::server::InviteVerdict;

use crate::access::clients::Access;
use crate::access::invite::{Invite, InviteState};
use crate::access::invites::Invites;

/// The attempt of a client to use an invite.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// The invite that the client names.
    pub(crate) id: InviteId,
    /// The key that the client has proved to have. It is not listed, or has expired.
    pub(crate) key: KeyId,
    /// The address of the client; `None` on a unix socket.
    pub(crate) source: Option<IpAddr>,
    /// The address of the client as the log shows it.
    pub(crate) peer: &'a str,
    /// Checks what the client has shown against what is kept of the invite. Without that the work is the same.
    pub(crate) check: &'a dyn Fn(Option<&InviteVerifier>) -> InviteVerdict,
}

/// The reason why a client may not use an invite. It is meant for the log: the client learns none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// There is no such invite.
    #[error("unknown")]
    Unknown,
    /// One of the files cannot be used, so that nobody knows.
    #[error("the files of clients and invites cannot be used")]
    NoFile,
    /// A key has used the invite before.
    #[error("taken by {key} at {at}")]
    Taken { key: KeyId, at: Timestamp },
    /// The invite has expired.
    #[error("expired")]
    Expired,
    /// The invite was revoked.
    #[error("revoked")]
    Revoked,
    /// The client does not have the line.
    #[error("wrong")]
    Wrong,
    /// The client does not have the line, but has shown the half of the invite that only clients send to this server.
    #[error("wrong")]
    WrongProof,
    /// The client comes from outside of the networks of the grant.
    #[error("network")]
    Network,
    /// Another client has the name of the invite.
    #[error("name taken")]
    NameTaken,
}

impl Invites {
    /// Returns the invite that the client of `attempt` may use. Unknown ids take as long as others.
    pub(super) fn judge(
        &self,
        attempt: &Attempt<'_>,
        access: &Access,
        now: Timestamp,
    ) -> Result<&Invite, Refusal> {
        let invite = self.find(attempt.id);
        let kept = match invite.map(|invite| &invite.state) {
            Some(InviteState::Pending(verifier)) => Some(&**verifier),
            _ => None,
        };
        // Always done, so that the time says nothing of the invite.
        let verdict = (attempt.check)(kept);
        let invite = invite.ok_or(Refusal::Unknown)?;
        match &invite.state {
            InviteState::Pending(_) => {}
            InviteState::Taken(used) | InviteState::Used(used) => {
                return Err(Refusal::Taken { key: used.key, at: used.at });
            }
            InviteState::Revoked(_) => return Err(Refusal::Revoked),
        }
        match verdict {
            InviteVerdict::Right => {}
            InviteVerdict::Unknown => return Err(Refusal::Unknown),
            InviteVerdict::Wrong => return Err(Refusal::Wrong),
            InviteVerdict::WrongProof => return Err(Refusal::WrongProof),
        }
        if invite.has_expired(now) || invite.grant.has_expired(now) {
            return Err(Refusal::Expired);
        }
        if !invite.grant.is_from(attempt.source) {
            return Err(Refusal::Network);
        }
        if !access.is_free_for(&invite.name, attempt.key) {
            return Err(Refusal::NameTaken);
        }
        Ok(invite)
    }
}
