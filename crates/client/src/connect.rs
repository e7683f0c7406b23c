//! Connects to a server: reaches it at one of its addresses, decides on its key, and does the handshake.

mod failure;
mod first_contact;
mod patience;
mod race;

use std::io;
use std::sync::{Arc, OnceLock};

use cli_support::home::Home;
use cli_support::identity::{self, Identity as _};
use cli_support::private_file;
use crypto_core::identity::ClientKey;
use tunnel::address::Address;
use tunnel::closing::close;
use tunnel::dial::in_time;
use tunnel::pool::Connect;
use tunnel::socket::Socket;
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::message::Target;
use wire_protocol::stream::{self, Channel, OpenError, Peer, SecureStream, Session, VerifiedServer};

use self::failure::{connect_error, handshake_error};
use self::first_contact::first_contact;
use crate::error::Error;
use crate::server::Server;
use crate::tickets::{TicketCache, Tickets};
use crate::trust::{KnownServer, KnownServers};

pub(crate) use self::failure::lost_error;
pub(crate) use self::patience::Patience;
pub(crate) use self::race::{Questions, race};

/// The key of a client, and the home that holds its known servers and tickets.
#[derive(Debug, Clone)]
pub struct Credentials {
    home: Home,
    identity: Option<Arc<ClientKey>>,
}

impl Credentials {
    /// What there is in a home. Without a key the client is anonymous.
    ///
    /// # Errors
    /// [`Error::Program`] when there is a key that cannot be used.
    pub fn read(home: Home) -> Result<Self, Error> {
        let has_none = private_file::is_absent(&home.file(ClientKey::FILE_NAME))?;
        let identity = if has_none { None } else { Some(Arc::new(identity::read(&home)?)) };
        Ok(Self { home, identity })
    }

    /// Where they are kept.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The client's key, for a handshake.
    pub(crate) fn identity_shared(&self) -> Option<Arc<ClientKey>> {
        self.identity.clone()
    }

    /// The client's key.
    #[must_use]
    pub fn identity(&self) -> Option<&ClientKey> {
        self.identity.as_deref()
    }
}

/// Connects and does the handshake: the channel is idle.
///
/// Nothing but the handshake is sent to a server whose key is not trusted. Of several addresses, and of the several that a
/// name may have, the first one is taken at which the server proves its key.
///
/// # Errors
/// [`Error`].
pub async fn connect(credentials: &Credentials, server: &Server) -> Result<Channel<Socket>, Error> {
    connect_somewhere(credentials, server).await.map(|(channel, _)| channel)
}

/// As [`connect`], and gives the address that was taken, too.
pub(crate) async fn connect_somewhere<'a>(
    credentials: &Credentials,
    server: &'a Server,
) -> Result<(Channel<Socket>, &'a Address), Error> {
    let known_servers = KnownServers::new(credentials.home.clone());
    let tickets = OnceLock::new();
    connect_with(credentials, server, None, false, VerifiedServer::enter, &tickets, &known_servers).await
}

/// As [`connect`], and opens a stream to `target` right behind the handshake, without a round trip for it.
///
/// # Errors
/// [`Error`].
pub(crate) async fn connect_open(
    credentials: &Credentials,
    server: &Server,
    target: Target,
) -> Result<SecureStream<Socket>, Error> {
    let known_servers = KnownServers::new(credentials.home.clone());
    let (open, tickets) = (Some(target), OnceLock::new());
    let opening =
        connect_with(credentials, server, open, false, VerifiedServer::open, &tickets, &known_servers);
    let (opening, address) = opening.await?;
    let source = match in_time(async { Ok(opening.confirm().await) }).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(OpenError::Refused { code, channel })) => {
            close(channel).await;
            wire_protocol::Error::Refused(code).into()
        }
        Ok(Err(error)) => error.into(),
        Err(error) => error,
    };
    Err(Error::Channel { address: server.shown_at(address), source })
}

/// Makes one channel after another to one server.
#[derive(Debug)]
pub(crate) struct Connector {
    credentials: Credentials,
    server: Server,
    tickets: OnceLock<TicketCache>,
    known_servers: KnownServers,
}

impl Connector {
    pub(crate) fn new(credentials: Credentials, server: Server) -> Self {
        let known_servers = KnownServers::new(credentials.home.clone());
        Self { credentials, server, tickets: OnceLock::new(), known_servers }
    }

    /// The server's address, as it is shown.
    pub(crate) fn address(&self) -> String {
        self.server.to_string()
    }
}

impl Connect for Connector {
    type Socket = Socket;
    type Error = Error;

    /// As [`connect`], with tickets that stay in memory. A server that does not let the client in is asked for the reason: from another
    /// network it may.
    async fn connect(&self) -> Result<Channel<Socket>, Error> {
        let Self { credentials, server, tickets, known_servers } = self;
        let connected =
            connect_with(credentials, server, None, true, VerifiedServer::enter, tickets, known_servers);
        let (mut channel, _) = connected.await?;
        // There may be many, and the server's key has been looked at.
        channel.session_mut().peer = Peer::Server(None);
        Ok(channel)
    }

    fn no_channel(&self) -> Error {
        Error::NoChannel { address: self.address() }
    }
}

/// Connects, and does with the server that has proven its key what `finish` does.
async fn connect_with<'a, C: AsMut<Session>, F: Future<Output = io::Result<C>>>(
    credentials: &Credentials,
    server: &'a Server,
    open: Option<Target>,
    asks_reason: bool,
    finish: impl Fn(VerifiedServer<Socket>) -> F,
    tickets: &OnceLock<TicketCache>,
    known_servers: &KnownServers,
) -> Result<(C, &'a Address), Error> {
    let finish = async |verified, address| {
        in_time(finish(verified)).await.map_err(|source| handshake_error(server, address, source))
    };
    let mut patience = Patience::new();
    if let Some(psk) = &server.psk {
        let config = || {
            let expected = ExpectedServer::Psk(Arc::clone(psk));
            ClientConfig { open: open.clone(), asks_reason, ..ClientConfig::new(expected) }
        };
        loop {
            let connected = match verify(server, config).await {
                Ok((verified, address)) => finish(verified, address).await.map(|channel| (channel, address)),
                Err(error) => Err(error),
            };
            match connected {
                Err(error) => patience.endure(error).await?,
                connected => return connected,
            }
        }
    }

    let (known, mut socket) = match trusted(known_servers, server)? {
        Some(known) => (known, None),
        None => {
            let contact = first_contact(server, &mut patience).await?;
            // The user may have taken their time to answer, which says nothing of the server.
            patience = Patience::new();
            contact
        }
    };
    let client = credentials.identity.as_ref().map(|key| key.public().id());
    let tickets = tickets.get_or_init(|| Tickets::new(&credentials.home, known.id, client).cached());
    let config = || {
        let (id, key, ticket) = (known.id, known.key.clone(), tickets.take());
        let (identity, open) = (credentials.identity.clone(), open.clone());
        ClientConfig {
            identity,
            open,
            asks_reason,
            ..ClientConfig::new(ExpectedServer::Key { id, key, ticket })
        }
    };
    let (mut connected, address) = loop {
        let verified = match socket.take() {
            // The key was asked for on it.
            Some((socket, address)) => {
                let verified = in_time(stream::verify_server(socket, config())).await;
                verified
                    .map(|verified| (verified, address))
                    .map_err(|source| handshake_error(server, address, source))
            }
            None => verify(server, config).await,
        };
        let connected = match verified {
            Ok((verified, address)) => finish(verified, address).await.map(|channel| (channel, address)),
            Err(error) => Err(error),
        };
        match connected {
            Ok(connected) => break connected,
            Err(error) => patience.endure(error).await?,
        }
    };

    let session = connected.as_mut();
    if let Some(ticket) = session.ticket.take() {
        tickets.keep(ticket);
    }
    // The key has proven itself: it is remembered whole, so that the next handshake needs no question.
    if let Peer::Server(Some(key)) = &session.peer {
        let proven = KnownServer { id: key.id(), key: Some(key.clone()) };
        if known_servers.find(address)?.as_ref() != Some(&proven) {
            match known_servers.remember_proven(address, &proven) {
                // A user who says which key it has to be does not need it remembered.
                Err(error) if server.pinned.is_some() => {
                    tracing::debug!(%error, "cannot remember the server");
                }
                remembered => remembered?,
            }
        }
    }
    Ok((connected, address))
}

/// Reaches the server, up to the proof of its key.
async fn verify(
    server: &Server,
    config: impl Fn() -> ClientConfig + Sync,
) -> Result<(VerifiedServer<Socket>, &Address), Error> {
    let ask = |socket| stream::verify_server(socket, config());
    let raced = race(&server.network, server.addresses(), Questions::Staggered, ask).await;
    let (verified, address) = raced.map_err(|lost| connect_error(server, lost))?;
    server.note_reached(address);
    Ok((verified, address))
}

/// The server as it is trusted already: given on the command line, or known. Of several addresses none may be known with another
/// key.
fn trusted(known_servers: &KnownServers, server: &Server) -> Result<Option<KnownServer>, Error> {
    let addresses: Vec<&Address> = server.addresses().collect();
    let mut trusted = server.pinned.map(|id| KnownServer { id, key: None });
    for (address, known) in addresses.iter().zip(known_servers.find_all(&addresses)?) {
        let Some(known) = known else { continue };
        match &trusted {
            Some(given) if given.id != known.id => {
                return Err(Error::ServerKeyContradicts {
                    address: server.shown_at(address),
                    server: address.to_string(),
                    known: known.id,
                    given: given.id,
                });
            }
            Some(KnownServer { key: Some(_), .. }) => {}
            _ => trusted = Some(known),
        }
    }
    Ok(trusted)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use crypto_core::identity::KeyId;
    use crypto_core::psk::PreSharedKey;
    use getrandom::SysRng;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
    use wire_protocol::message::{AbortCode, ServerLimits};
    use wire_protocol::stream::{RsaPool, abort_frame, accept_channel, error_in};

    use super::*;

    /// Connects to a server that gives `aborts` to the connections that come first, and lets in the one behind them. Gives
    /// the result with how many connections came.
    async fn connect_behind(aborts: &[AbortCode]) -> (Result<(), Error>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let credentials = Credentials::read(Home::resolve(Some(folder.path().into())).unwrap()).unwrap();
        let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", KeyId([7; 32])).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut server = Server::at(listener.local_addr().unwrap().into());
        server.psk = Some(Arc::clone(&psk));
        let config = Arc::new(ServerConfig {
            identity: None,
            psks: BTreeMap::from([("laptop".to_owned(), psk)]),
            tickets: None,
            client_auth: ClientAuth::Required,
            limits: ServerLimits { idle_timeout_seconds: 60 },
        });
        let accepted = Cell::new(0);
        let serve = async {
            for code in aborts {
                let (mut socket, _) = listener.accept().await.unwrap();
                accepted.set(accepted.get() + 1);
                // All of the hello, or closing the socket would reset it and take the frame along.
                let mut head = [0; 8];
                socket.read_exact(&mut head).await.unwrap();
                let mut hello = vec![0; usize::from(u16::from_be_bytes([head[6], head[7]]))];
                socket.read_exact(&mut hello).await.unwrap();
                socket.write_all(&abort_frame(*code)).await.unwrap();
            }
            let (socket, peer) = listener.accept().await.unwrap();
            accepted.set(accepted.get() + 1);
            let socket = Socket::tcp(socket, peer).unwrap();
            let _stream = accept_channel(socket, config, &RsaPool::new(1), |_| Ok(())).await.unwrap();
            std::future::pending::<Infallible>().await
        };
        let result = tokio::select! {
            connected = connect(&credentials, &server) => connected.map(drop),
            never = serve => match never {},
        };
        (result, accepted.get())
    }

    #[tokio::test]
    async fn a_server_that_is_busy_is_asked_again() {
        let (result, accepted) = connect_behind(&[AbortCode::Busy, AbortCode::Busy]).await;
        result.unwrap();
        assert_eq!(accepted, 3);
    }

    #[tokio::test]
    async fn any_other_abort_is_taken_for_an_answer() {
        let (result, accepted) = connect_behind(&[AbortCode::UnknownPsk, AbortCode::Busy]).await;
        let Err(Error::Handshake { source, .. }) = result else { panic!("{result:?}") };
        assert_eq!(error_in(&source), Some(&wire_protocol::Error::Aborted(AbortCode::UnknownPsk)));
        assert_eq!(accepted, 1);
    }
}
