//! What a client brings to a handshake, and what the handshake comes to.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crypto_core::identity::{ClientKey, KeyId, PublicKey};
use crypto_core::invite::InviteSecret;
use crypto_core::psk::PreSharedKey;
use crypto_core::secret::Secret;

use crate::error::Error;
use crate::handshake::{ChannelKeys, Exporter};
use crate::message::{Joined, Mode, ServerLimits, Target};

/// Most bytes of a ticket that a client can use: with more, a hello might not fit its frame.
pub const MAX_TICKET_LEN: usize = 4096;

/// The configuration of a client for one handshake.
#[derive(Debug)]
pub struct ClientConfig {
    /// The server that is meant, and how it proves itself.
    pub server: ExpectedServer,
    /// Who the client is; with `None` it is anonymous, or who its pre-shared key says.
    pub identity: Option<Arc<ClientKey>>,
    /// Joins with the invite that has this secret, which enrols the key in `identity`. Needs a server that is expected by the
    /// id of its key, the one in the invite's line, and no ticket.
    pub invite: Option<Arc<InviteSecret>>,
    /// Opens a stream right behind the handshake, which saves a round trip.
    pub open: Option<Target>,
    /// Asks for the reason where the server knows the client, and denies it all the same.
    pub asks_reason: bool,
}

impl ClientConfig {
    /// A configuration for `server`, and nothing else yet.
    #[must_use]
    pub fn new(server: ExpectedServer) -> Self {
        Self { server, identity: None, invite: None, open: None, asks_reason: false }
    }

    /// An invite is for the handshake in RSA mode of a client with a key.
    pub(super) fn check_invite(&self) -> Result<(), Error> {
        match (&self.invite, &self.server, &self.identity) {
            (None, ..) | (Some(_), ExpectedServer::Key { ticket: None, .. }, Some(_)) => Ok(()),
            (Some(_), ExpectedServer::Key { ticket: None, .. }, None) => {
                Err(Error::ApiMisuse("an invite needs a client's key to enrol"))
            }
            (Some(_), ..) => Err(Error::ApiMisuse("an invite goes with no ticket and no pre-shared key")),
        }
    }
}

/// The server that a client means.
#[derive(Debug)]
pub enum ExpectedServer {
    /// The holder of an RSA key.
    Key {
        /// The id that is trusted: the only thing that decides.
        id: KeyId,
        /// The key itself, where it is known already; else it is asked for, which costs a round trip.
        key: Option<PublicKey>,
        /// A ticket of an earlier channel. Used once.
        ticket: Option<ResumptionTicket>,
    },
    /// The holder of a pre-shared key.
    Psk(Arc<PreSharedKey>),
}

/// A ticket with its secret, which a client keeps to resume a channel once.
#[derive(Debug)]
pub struct ResumptionTicket {
    /// As the server sealed it.
    pub ticket: Vec<u8>,
    /// The secret that goes with it.
    pub secret: Secret<32>,
    /// Seconds that it was good for when it came.
    pub lifetime_seconds: u32,
}

/// A client's established channel.
#[derive(Debug)]
pub struct Established {
    /// The keys.
    pub keys: ChannelKeys,
    /// How the two authenticated each other.
    pub mode: Mode,
    /// The server's key, in all modes but psk. Known by its id alone after a resumption.
    pub server_key: Option<PublicKey>,
    /// What the server will put up with.
    pub limits: ServerLimits,
    /// For the next channel.
    pub ticket: Option<ResumptionTicket>,
    /// What has come of the invite, where one was used.
    pub joined: Option<Joined>,
    /// The stream that was opened right behind the handshake, not yet confirmed.
    pub opening: Option<Target>,
    /// What resumable streams of the channel are tied to.
    pub exporter: Exporter,
}
