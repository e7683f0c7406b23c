//! A client as the server knows it.

use std::sync::Arc;

use crypto_core::identity::KeyId;
use jiff::Timestamp;
use wire_protocol::message::ClientIdentity;

use crate::access::rights::Rights;

/// A client that may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The identity that it has proved: the same client has the same.
    pub(crate) identity: ClientIdentity,
    /// What it is called in front of its messages.
    pub(crate) name: String,
    pub(crate) rights: Arc<Rights>,
    /// The moment from which on it is refused.
    pub(crate) expires: Option<Timestamp>,
    pub(crate) enrolment: Enrolment,
}

impl Principal {
    /// The fingerprint of its key, if it has one.
    pub(crate) fn key(&self) -> Option<String> {
        fingerprint(&self.identity)
    }
}

/// Whether somebody has allowed a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enrolment {
    /// Somebody has.
    Enrolled,
    /// Nobody has, and the policy for such clients lets it in.
    Anonymous,
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This machine: loopback or a unix socket.
    Local,
    /// Anywhere else.
    Remote,
}

/// The fingerprint of a client's key, if it has one.
pub(super) fn fingerprint(client: &ClientIdentity) -> Option<String> {
    match client {
        ClientIdentity::Key(id) => Some(KeyId(*id).to_string()),
        ClientIdentity::Psk(_) | ClientIdentity::Anonymous => None,
    }
}
