//! What a client brings to a connection.

use std::sync::Arc;

use crypto_core::identity::{ClientKey, KeyId, PublicKey};
use crypto_core::invite::InviteSecret;
use crypto_core::psk::PreSharedKey;
use wire_protocol::handshake::client::{self, ExpectedServer, ResumptionTicket};
use wire_protocol::invite::InviteLine;

use crate::error::Error;

/// The configuration of a client: the server that it expects, and its own identity (section 5 of PROTOCOL.md).
///
/// A contradiction, such as a pre-shared key and an RSA key for one client, is an error when it is connected with, before
/// anything is sent.
///
/// ```
/// # use sockseal::{ClientConfig, ClientKey, Error, KeyId, SysRng};
/// # fn main() -> Result<(), Error> {
/// let server: KeyId = "SHA256:2m9cJc0DhoMXB1zTrsf2HSbCzIAe7DJ4zfXrgq3dgZs".parse()?;
/// let key = ClientKey::generate(&mut SysRng, 2048)?;
/// let config = ClientConfig::pinned(server).identity(key);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct ClientConfig {
    server: ExpectedServer,
    identity: Option<Arc<ClientKey>>,
    invite: Option<Arc<InviteSecret>>,
    misuse: Option<&'static str>,
}

impl ClientConfig {
    /// Means the server whose key has this id, and no other. The client is anonymous until
    /// [`ClientConfig::identity`] says who it is.
    pub fn pinned(server: KeyId) -> Self {
        let server = ExpectedServer::Key { id: server, key: None, ticket: None };
        Self { server, identity: None, invite: None, misuse: None }
    }

    /// Means the server that has this pre-shared key, which says who the client is too.
    pub fn psk(key: impl Into<Arc<PreSharedKey>>) -> Self {
        let server = ExpectedServer::Psk(key.into());
        Self { server, identity: None, invite: None, misuse: None }
    }

    /// Means the server that has made this invite, and has it enrol the client's key there: once, so the stream is followed by
    /// others with [`ClientConfig::pinned`] and [`ClientConfig::identity`]. What has come of it says
    /// [`SecureStream::joined`](crate::blocking::SecureStream::joined). With a ticket, connecting fails.
    ///
    /// Where the answer is lost, connecting again with the same line and the same key is safe.
    pub fn invited(line: InviteLine, key: impl Into<Arc<ClientKey>>) -> Self {
        let config = Self::pinned(line.server()).identity(key);
        Self { invite: Some(Arc::new(line.into_secret())), ..config }
    }

    /// Says who the client is. Only for a pinned server: with a pre-shared key, connecting fails.
    pub fn identity(mut self, key: impl Into<Arc<ClientKey>>) -> Self {
        match self.server {
            ExpectedServer::Key { .. } => self.identity = Some(key.into()),
            ExpectedServer::Psk(_) => self.misuse = Some("a pre-shared key is the client's identity already"),
        }
        self
    }

    /// The server's key, where an earlier connection or a file gave it ([`Peer::Server`](crate::Peer::Server)): not
    /// having to ask for it saves a round trip. It has to have the id that is pinned, else connecting fails. Only for a
    /// pinned server: with a pre-shared key, connecting fails.
    pub fn server_key(mut self, known: PublicKey) -> Self {
        match &mut self.server {
            ExpectedServer::Key { key, .. } => *key = Some(known),
            ExpectedServer::Psk(_) => self.misuse = Some("a server with a pre-shared key has no other"),
        }
        self
    }

    /// Resumes with the ticket of an earlier connection to the same server
    /// ([`SecureStream::take_ticket`](crate::blocking::SecureStream::take_ticket)), without RSA on either side: it is good
    /// once, and for a day at most. A ticket that the
    /// server does not take any more costs a round trip and nothing else. Only for a pinned server: with a
    /// pre-shared key, connecting fails.
    pub fn ticket(mut self, resumed: ResumptionTicket) -> Self {
        match &mut self.server {
            ExpectedServer::Key { ticket, .. } => *ticket = Some(resumed),
            ExpectedServer::Psk(_) => self.misuse = Some("there are no tickets with a pre-shared key"),
        }
        self
    }

    pub(crate) fn into_protocol(self) -> Result<client::ClientConfig, Error> {
        let Self { server, identity, invite, misuse } = self;
        match misuse {
            Some(misuse) => Err(wire_protocol::Error::ApiMisuse(misuse).into()),
            None => Ok(client::ClientConfig { server, identity, invite, open: None, asks_reason: false }),
        }
    }
}
