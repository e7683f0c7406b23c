//! What a server brings to its connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crypto_core::identity::ServerKey;
use crypto_core::psk::PreSharedKey;
use crypto_core::ticket::TicketKey;
use wire_protocol::handshake::server::{self, ClientAuth};
use wire_protocol::message::ServerLimits;

/// The configuration of a server: how it proves itself, and what it asks of clients. Cheap to clone.
///
/// A client that has the right keys still comes in only where the function says so that
/// [`accept`](crate::blocking::accept) is given.
///
/// ```
/// # use sockseal::{Error, ServerConfig, ServerKey, SysRng};
/// # fn main() -> Result<(), Error> {
/// let key = ServerKey::generate(&mut SysRng, 2048)?;
/// println!("clients pin {}", key.public().id());
/// let config = ServerConfig::rsa(key).require_client();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ServerConfig(Arc<server::ServerConfig>);

impl ServerConfig {
    /// Proves itself with an RSA key, whose id clients pin. Clients may be anonymous until
    /// [`ServerConfig::require_client`] says otherwise.
    pub fn rsa(key: impl Into<Arc<ServerKey>>) -> Self {
        Self::new(Some(key.into()))
    }

    /// Is to be reached with this pre-shared key, and with those that [`ServerConfig::add_psk`] adds.
    pub fn psk(key: impl Into<Arc<PreSharedKey>>) -> Self {
        Self::new(None).add_psk(key)
    }

    fn new(identity: Option<Arc<ServerKey>>) -> Self {
        Self(Arc::new(server::ServerConfig {
            identity,
            psks: BTreeMap::new(),
            tickets: None,
            client_auth: ClientAuth::Optional,
            limits: ServerLimits { idle_timeout_seconds: IDLE_TIMEOUT_SECONDS },
        }))
    }

    /// Also takes the client that has this pre-shared key. One of the same name is replaced.
    pub fn add_psk(self, key: impl Into<Arc<PreSharedKey>>) -> Self {
        let key = key.into();
        self.with(|config| {
            config.psks.insert(key.id().to_owned(), key);
        })
    }

    /// Takes no anonymous client: each has to prove that it has the key that it names. The function that
    /// [`accept`](crate::blocking::accept) is given decides which keys may come in.
    pub fn require_client(self) -> Self {
        self.with(|config| config.client_auth = ClientAuth::Required)
    }

    /// Gives clients tickets, sealed under `key`, to resume with for a day, and for a week after their last full
    /// handshake (section 5 of PROTOCOL.md). Servers of one RSA key that share it take one another's. Clients with a
    /// pre-shared key get none: their handshake is as cheap without.
    pub fn tickets(self, key: impl Into<Arc<TicketKey>>) -> Self {
        let key = key.into();
        self.with(|config| config.tickets = Some(key))
    }

    /// How long a client may take to open its stream once it is let in: a minute unless this says otherwise. Clients are
    /// told, in whole seconds up to 2^32 - 1: a fraction of one is dropped (section 8 of PROTOCOL.md).
    pub fn idle_timeout(self, limit: Duration) -> Self {
        let seconds = u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        self.with(|config| config.limits.idle_timeout_seconds = seconds)
    }

    fn with(mut self, change: impl FnOnce(&mut server::ServerConfig)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    pub(crate) fn to_protocol(&self) -> Arc<server::ServerConfig> {
        Arc::clone(&self.0)
    }
}

/// As long as the program `server` waits.
const IDLE_TIMEOUT_SECONDS: u32 = 60;
