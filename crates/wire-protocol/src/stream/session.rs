//! What a handshake has settled about a channel.

use std::time::Duration;

use crypto_core::identity::PublicKey;

use crate::handshake::Exporter;
use crate::handshake::client::ResumptionTicket;
use crate::message::{ClientIdentity, Joined, Mode, ServerLimits};

/// The results of a handshake that a channel keeps, such as the identity of the peer.
#[derive(Debug)]
pub struct Session {
    /// How the two authenticated each other.
    pub mode: Mode,
    /// Who is at the other end.
    pub peer: Peer,
    /// What the server will put up with.
    pub limits: ServerLimits,
    /// For the client's next connection: to be taken out and kept.
    pub ticket: Option<ResumptionTicket>,
    /// At a client that has used an invite: what has come of it.
    pub joined: Option<Joined>,
    /// At a server: whether the client got a ticket for its next connection.
    pub gave_ticket: bool,
    /// What resumable streams of the channel are tied to.
    pub exporter: Exporter,
}

/// Who is at the other end of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// The server with this key: known whole after a handshake in RSA mode.
    Server(Option<PublicKey>),
    /// This client.
    Client(ClientIdentity),
}

/// How long a client may leave the channel of `session` idle.
pub(super) fn idle_timeout(session: &Session) -> Duration {
    Duration::from_secs(session.limits.idle_timeout_seconds.into())
}
