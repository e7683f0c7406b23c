//! Joining a server by an invite: it is reached at one of the invite's addresses, its key is pinned, and this client's key is
//! enrolled there.

use std::sync::Arc;

use cli_support::home::Home;
use cli_support::identity::{self, Identity as _, Keygen};
use cli_support::output::say;
use cli_support::private_file;
use crypto_core::identity::{ClientKey, KeyId};
use tunnel::address::Address;
use tunnel::closing::close;
use tunnel::dial::in_time;
use tunnel::network::Network;
use tunnel::socket::Socket;
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::invite::InviteLine;
use wire_protocol::message::{DeniedCode, JoinOutcome, Joined};
use wire_protocol::stream::{self, Channel, Peer, error_in};
use wire_protocol::{Error as ProtocolError, InvalidMessage, PeerMisbehaved};

use crate::connect::{Patience, Server, dial};
use crate::error::Error;
use crate::tickets::Tickets;
use crate::trust::{KnownServer, KnownServers, TrustPolicy};

/// What has come of an invite that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Membership {
    /// Whether it was this invite that let the client in, and when.
    pub outcome: JoinOutcome,
    /// The address that answered, by which the server is known from now on.
    pub address: Address,
    /// The id of the server's key.
    pub server: KeyId,
    /// The id of this client's key.
    pub client: KeyId,
    /// The name that the server has for this client. It is the server's text.
    pub name: String,
    /// What this client may do, in the words of the options of `server allow`. It is the server's text, for a person.
    pub grant: String,
}

/// Joins the server of an invite by a network, and remembers the server. Where the home has no key, one is made; it is on the
/// disk before the first connection, since a key that the server has enrolled must not be lost.
///
/// # Errors
/// [`Error`]. After [`Error::InviteRefused`] the invite is of no use; after most others the same invite can be used again,
/// with the same key.
pub async fn join(home: &Home, line: InviteLine, network: &Network) -> Result<Membership, Error> {
    let addresses: Vec<Address> = line
        .addresses()
        .iter()
        .map(|address| address.parse().map_err(cli_support::Error::from))
        .collect::<Result<_, _>>()?;
    let server = line.server();
    let secret = Arc::new(line.into_secret());
    let (key, known_servers) = (Arc::new(read_or_make_key(home)?), KnownServers::new(home.clone()));
    let mut unreached = None;
    for address in addresses {
        let known = known_servers.find(&address)?;
        if let Some(KnownServer { id: known, .. }) = known.as_ref().filter(|known| known.id != server) {
            let address = address.to_string();
            return Err(Error::ServerKeyContradicts { address, known: *known, given: server });
        }
        let known = known.unwrap_or(KnownServer { id: server, key: None });
        let target = Server {
            address,
            pinned: None,
            policy: TrustPolicy::Strict,
            psk: None,
            network: network.clone(),
        };
        let config = || {
            let expected = ExpectedServer::Key { id: server, key: known.key.clone(), ticket: None };
            let mut config = ClientConfig::new(expected);
            config.identity = Some(Arc::clone(&key));
            config.invite = Some(Arc::clone(&secret));
            config
        };
        match handshake(&target, config).await {
            Ok(channel) => return keep(home, &known_servers, target.address, &key, channel).await,
            Err(error) if is_unreached(&error) => {
                tracing::info!(%error, "the next address of the invite is tried, if it has one");
                unreached.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(unreached.unwrap_or(Error::InviteWithoutAddress))
}

/// Connects and does the handshake, again and again for a while where the server is busy.
async fn handshake(server: &Server, config: impl Fn() -> ClientConfig) -> Result<Channel<Socket>, Error> {
    let mut patience = Patience::new();
    loop {
        let socket = dial(server).await?;
        let channel = in_time(stream::connect_channel(socket, config())).await;
        match channel.map_err(|source| failed(server, source)) {
            Err(error) => patience.endure(error).await?,
            connected => return connected,
        }
    }
}

fn failed(server: &Server, source: std::io::Error) -> Error {
    let address = server.address.to_string();
    match error_in(&source) {
        Some(&ProtocolError::ServerKeyMismatch { expected, offered }) => {
            Error::InviteOfAnother { address, expected, offered }
        }
        Some(ProtocolError::Denied(DeniedCode::NotAllowed)) => Error::InviteRefused { address },
        _ => Error::Handshake { address, source },
    }
}

/// Whether an error says only that the server is not to be reached by an address.
fn is_unreached(error: &Error) -> bool {
    match error {
        Error::Connect { .. } => true,
        Error::Handshake { source, .. } => match error_in(source) {
            None => true,
            Some(ProtocolError::Aborted(_)) => true,
            Some(ProtocolError::InvalidMessage(InvalidMessage::NotSockseal(_))) => true,
            Some(_) => false,
        },
        _ => false,
    }
}

/// Remembers the server that has let the client in.
async fn keep(
    home: &Home,
    known_servers: &KnownServers,
    address: Address,
    key: &ClientKey,
    mut channel: Channel<Socket>,
) -> Result<Membership, Error> {
    let session = channel.session_mut();
    let misbehaved = || {
        let source = ProtocolError::from(PeerMisbehaved::UnexpectedMessage).into();
        Error::Handshake { address: address.to_string(), source }
    };
    let Peer::Server(Some(server)) = &session.peer else { return Err(misbehaved()) };
    let Some(Joined { outcome, name, grant }) = session.joined.take() else { return Err(misbehaved()) };
    let (server, client) = (server.clone(), key.public().id());
    if let Some(ticket) = session.ticket.take() {
        Tickets::new(home, server.id(), Some(client)).keep(&ticket);
    }
    let id = server.id();
    known_servers.remember(&address, &KnownServer { id, key: Some(server) })?;
    close(channel).await;
    Ok(Membership { outcome, address, server: id, client, name, grant })
}

/// The client's key, which is made where there is none.
fn read_or_make_key(home: &Home) -> Result<ClientKey, Error> {
    if private_file::is_absent(&home.file(ClientKey::FILE_NAME))? {
        say("making the key of this client");
        match identity::make(home, &Keygen::default()) {
            // Another program of the same home was quicker.
            Err(cli_support::Error::Exists { .. }) => {}
            made => return Ok(made?),
        }
    }
    Ok(identity::read(home)?)
}
