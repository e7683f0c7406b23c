//! Connects to a server: dials its address, decides on its key, and does the handshake.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cli_support::home::Home;
use cli_support::identity::{self, Identity as _};
use cli_support::private_file;
use cli_support::questioner::Questioner;
use crypto_core::identity::{ClientKey, KeyId};
use crypto_core::psk::PreSharedKey;
use tokio::time::{Instant, sleep_until};
use tunnel::address::Address;
use tunnel::backoff::Backoff;
use tunnel::closing::close;
use tunnel::dial::{DEADLINE, in_time};
use tunnel::network::Network;
use tunnel::pool::Connect;
use tunnel::socket::Socket;
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::message::{AbortCode, DeniedCode, Target};
use wire_protocol::stream::{self, Channel, OpenError, Peer, SecureStream, Session, error_in};

use crate::cli;
use crate::error::Error;
use crate::tickets::{TicketCache, Tickets};
use crate::trust::{KnownServer, KnownServers, TrustPolicy};

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

    /// The client's key.
    #[must_use]
    pub fn identity(&self) -> Option<&ClientKey> {
        self.identity.as_deref()
    }
}

/// The server to connect to, and how it is authenticated.
#[derive(Debug)]
pub struct Server {
    /// Where it is.
    pub address: Address,
    /// The fingerprint of its key, where that is given.
    pub pinned: Option<KeyId>,
    /// What to do where it is not, and none is known.
    pub policy: TrustPolicy,
    /// The key shared with it, in place of all this.
    pub psk: Option<Arc<PreSharedKey>>,
    /// By which network it is reached.
    pub network: Network,
}

impl Server {
    /// What the command line says, by the network of the system.
    ///
    /// # Errors
    /// [`Error::Program`] when the file of a pre-shared key cannot be used.
    pub fn from_options(address: Address, options: &cli::Trust) -> Result<Self, Error> {
        let psk: Option<&PathBuf> = options.psk.as_ref();
        let psk = psk.map(|path| identity::read_psk(path).map(Arc::new)).transpose()?;
        Ok(Self { address, pinned: options.server_key, policy: options.trust, psk, network: Network::System })
    }
}

/// Connects and does the handshake: the channel is idle.
///
/// Nothing but the handshake is sent to a server whose key is not trusted.
///
/// # Errors
/// [`Error`].
pub async fn connect(credentials: &Credentials, server: &Server) -> Result<Channel<Socket>, Error> {
    let known_servers = KnownServers::new(credentials.home.clone());
    let tickets = OnceLock::new();
    connect_with(credentials, server, None, stream::connect_channel, &tickets, &known_servers).await
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
        connect_with(credentials, server, open, stream::connect_open, &tickets, &known_servers).await?;
    let source = match in_time(async { Ok(opening.confirm().await) }).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(OpenError::Refused { code, channel })) => {
            close(channel).await;
            wire_protocol::Error::Refused(code).into()
        }
        Ok(Err(error)) => error.into(),
        Err(error) => error,
    };
    Err(Error::Channel { address: server.address.to_string(), source })
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
        self.server.address.to_string()
    }
}

impl Connect for Connector {
    type Socket = Socket;
    type Error = Error;

    /// As [`connect`], with tickets that stay in memory.
    async fn connect(&self) -> Result<Channel<Socket>, Error> {
        let Self { credentials, server, tickets, known_servers } = self;
        let mut channel =
            connect_with(credentials, server, None, stream::connect_channel, tickets, known_servers).await?;
        // There may be many, and the server's key has been looked at.
        channel.session_mut().peer = Peer::Server(None);
        Ok(channel)
    }

    fn no_channel(&self) -> Error {
        Error::NoChannel { address: self.address() }
    }
}

/// Connects, and does what `handshake` does with the configuration for it.
async fn connect_with<C: AsMut<Session>, F: Future<Output = io::Result<C>>>(
    credentials: &Credentials,
    server: &Server,
    open: Option<Target>,
    handshake: impl Fn(Socket, ClientConfig) -> F,
    tickets: &OnceLock<TicketCache>,
    known_servers: &KnownServers,
) -> Result<C, Error> {
    let handshake = async |socket, config| {
        in_time(handshake(socket, config)).await.map_err(|source| handshake_error(server, source))
    };
    let mut patience = Patience::new();
    if let Some(psk) = &server.psk {
        loop {
            let socket = dial(server).await?;
            let expected = ExpectedServer::Psk(Arc::clone(psk));
            let config = ClientConfig { server: expected, identity: None, invite: None, open: open.clone() };
            match handshake(socket, config).await {
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
    let mut connected = loop {
        let socket = match socket.take() {
            Some(socket) => socket,
            None => dial(server).await?,
        };
        let config = ClientConfig {
            server: ExpectedServer::Key { id: known.id, key: known.key.clone(), ticket: tickets.take() },
            identity: credentials.identity.clone(),
            invite: None,
            open: open.clone(),
        };
        match handshake(socket, config).await {
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
        if known_servers.find(&server.address)?.as_ref() != Some(&proven) {
            match known_servers.remember(&server.address, &proven) {
                // A user who says which key it has to be does not need it remembered.
                Err(error) if server.pinned.is_some() => {
                    tracing::debug!(%error, "cannot remember the server");
                }
                remembered => remembered?,
            }
        }
    }
    Ok(connected)
}

/// How long a client puts up with a server that has too much to do: as long as it would wait for a handshake.
pub(crate) struct Patience {
    ends: Instant,
    pauses: Backoff,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { ends: Instant::now() + DEADLINE, pauses: Backoff::up_to(MAX_BUSY_PAUSE) }
    }

    /// Waits before the next attempt, where the server was busy and there is time for one.
    pub(crate) async fn endure(&mut self, error: Error) -> Result<(), Error> {
        let is_busy = match &error {
            Error::Handshake { source, .. } => {
                matches!(error_in(source), Some(wire_protocol::Error::Aborted(AbortCode::Busy)))
            }
            _ => false,
        };
        let next = Instant::now() + self.pauses.next_pause();
        if !is_busy || next >= self.ends {
            return Err(error);
        }
        tracing::debug!(%error, "the server is busy: trying again");
        sleep_until(next).await;
        Ok(())
    }
}

/// The server as it is trusted already: given on the command line, or known.
fn trusted(known_servers: &KnownServers, server: &Server) -> Result<Option<KnownServer>, Error> {
    match (known_servers.find(&server.address)?, server.pinned) {
        (Some(known), Some(given)) if known.id != given => {
            Err(Error::ServerKeyContradicts { address: server.address.to_string(), known: known.id, given })
        }
        (Some(known), _) => Ok(Some(known)),
        (None, Some(given)) => Ok(Some(KnownServer { id: given, key: None })),
        (None, None) => Ok(None),
    }
}

/// Asks a server for its key and decides whether to trust it. Also gives the socket where the handshake can go on
/// on it: not after a human was asked, since the server does not wait that long.
async fn first_contact(
    server: &Server,
    patience: &mut Patience,
) -> Result<(KnownServer, Option<Socket>), Error> {
    let address = || server.address.to_string();
    if server.policy == TrustPolicy::Strict {
        return Err(Error::NotKnown { address: address() });
    }
    let (key, socket) = loop {
        let mut socket = dial(server).await?;
        match in_time(stream::fetch_server_key(&mut socket)).await {
            Ok(key) => break (key, socket),
            Err(source) => patience.endure(Error::Handshake { address: address(), source }).await?,
        }
    };
    match server.policy {
        TrustPolicy::AcceptNew => Ok((KnownServer { id: key.id(), key: Some(key) }, Some(socket))),
        _ => {
            let Ok(questioner) = Questioner::find() else {
                return Err(Error::UnknownServer { address: address(), offered: key.id() });
            };
            drop(socket);
            let question = format!("The key of the server at {} is {}. Trust it?", server.address, key.id());
            let stream = questioner.name();
            let trusted = tokio::task::spawn_blocking(move || questioner.confirm(&question))
                .await
                .map_err(io::Error::other)
                .flatten()
                .map_err(|source| Error::Stdio { stream, source })?;
            if !trusted {
                return Err(Error::NotTrusted { address: address() });
            }
            Ok((KnownServer { id: key.id(), key: Some(key) }, None))
        }
    }
}

/// What a handshake has failed with, as it is told.
fn handshake_error(server: &Server, source: io::Error) -> Error {
    let address = || server.address.to_string();
    match error_in(&source) {
        Some(&wire_protocol::Error::ServerKeyMismatch { expected, offered }) => {
            Error::ServerKeyChanged { address: address(), expected, offered }
        }
        Some(wire_protocol::Error::Denied(DeniedCode::NotAllowed)) if server.psk.is_some() => {
            let id = server.psk.as_ref().map(|psk| psk.id().to_owned()).unwrap_or_default();
            Error::Psk { address: address(), id, source }
        }
        _ => Error::Handshake { address: address(), source },
    }
}

pub(crate) async fn dial(server: &Server) -> Result<Socket, Error> {
    let failed = |source| Error::Connect { address: server.address.to_string(), source };
    server.network.dial(&server.address).await.map_err(failed)
}

/// The longest pause between two attempts to connect to a server that is busy.
const MAX_BUSY_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use getrandom::SysRng;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
    use wire_protocol::message::ServerLimits;
    use wire_protocol::stream::{RsaPool, abort_frame, accept_channel};

    use super::*;

    /// Connects to a server that gives `aborts` to the connections that come first, and lets in the one behind them. Gives
    /// the result with how many connections came.
    async fn connect_behind(aborts: &[AbortCode]) -> (Result<(), Error>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let credentials = Credentials::read(Home::resolve(Some(folder.path().into())).unwrap()).unwrap();
        let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", KeyId([7; 32])).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            address: listener.local_addr().unwrap().into(),
            pinned: None,
            policy: TrustPolicy::Strict,
            psk: Some(Arc::clone(&psk)),
            network: Network::System,
        };
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
