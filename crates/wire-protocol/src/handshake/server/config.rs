//! What a server brings to its handshakes, and what one comes to.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;

use crypto_core::identity::ServerKey;
use crypto_core::psk::PreSharedKey;
use crypto_core::ticket::TicketKey;

use crate::handshake::{ChannelKeys, Exporter};
use crate::message::{ClientIdentity, Mode, ServerLimits};

/// How long a ticket is good for.
pub const TICKET_LIFETIME: Duration = Duration::from_hours(24);
/// How long tickets may go on begetting tickets before a full handshake is due: what was proven with a key has
/// to be proven again.
pub const TICKET_CHAIN_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// The configuration of a server for its handshakes.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Its identity; without one it is to be reached with pre-shared keys only.
    pub identity: Option<Arc<ServerKey>>,
    /// The pre-shared keys that it knows, by their ids.
    pub psks: BTreeMap<String, Arc<PreSharedKey>>,
    /// Seals tickets; without it there are none.
    pub tickets: Option<Arc<TicketKey>>,
    /// Whether clients in RSA mode have to say who they are.
    pub client_auth: ClientAuth,
    /// What the server will put up with.
    pub limits: ServerLimits,
}

/// Whether clients in RSA mode have to say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// They have to.
    Required,
    /// They may.
    Optional,
}

/// A server's established channel.
#[derive(Debug)]
pub struct Established {
    /// The keys.
    pub keys: ChannelKeys,
    /// How the two authenticated each other.
    pub mode: Mode,
    /// Who the client is.
    pub client: ClientIdentity,
    /// What the server will put up with.
    pub limits: ServerLimits,
    /// Whether the client got a ticket for its next connection.
    pub gave_ticket: bool,
    /// What resumable streams of the channel are tied to.
    pub exporter: Exporter,
}
