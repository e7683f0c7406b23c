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
use tunnel::network::Network;
use tunnel::socket::Socket;
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::invite::InviteLine;
use wire_protocol::message::{DeniedCode, JoinOutcome, Joined};
use wire_protocol::stream::{self, Channel, Peer, error_in};
use wire_protocol::{Error as ProtocolError, PeerMisbehaved};

use crate::connect::{Patience, Questions, lost_error, race};
use crate::error::Error;
use crate::named_servers::{NamedServer, NamedServers};
use crate::server::Server;
use crate::server_spec::ServerName;
use crate::tickets::Tickets;
use crate::trust::{KnownServer, KnownServers};

/// What has come of an invite that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Membership {
    /// Whether it was this invite that let the client in, and when.
    pub outcome: JoinOutcome,
    /// The address that answered, by which the server is known from now on.
    pub address: Address,
    /// The name by which the server goes here from now on.
    pub server_name: ServerName,
    /// The id of the server's key.
    pub server: KeyId,
    /// The id of this client's key.
    pub client: KeyId,
    /// The name that the server has for this client. It is the server's text.
    pub name: String,
    /// What this client may do, in the words of the options of `server allow`. It is the server's text, for a person.
    pub grant: String,
}

/// Joins the server of an invite by a network, and remembers the server, with all addresses of the invite, under `name`, or one
/// that is made of the addresses. Where the home has no key, one is made; it is on the disk before the first connection, since a
/// key that the server has enrolled must not be lost.
///
/// Connections to the addresses are made beside one another, but the invite is shown to one server at a time.
///
/// # Errors
/// [`Error`]. After [`Error::InviteRefused`] the invite is of no use; after most others the same invite can be used again,
/// with the same key.
pub async fn join(
    home: &Home,
    line: InviteLine,
    name: Option<ServerName>,
    network: &Network,
) -> Result<Membership, Error> {
    let addresses: Vec<Address> = line
        .addresses()
        .iter()
        .map(|address| address.parse().map_err(cli_support::Error::from))
        .collect::<Result<_, _>>()?;
    if addresses.is_empty() {
        return Err(Error::InviteWithoutAddress);
    }
    let server = line.server();
    let named_servers = NamedServers::new(home.clone());
    // Found here, it costs no invite.
    name_of(&named_servers.all()?, server, name.as_ref(), &addresses)?;
    let known_servers = KnownServers::new(home.clone());
    let mut public_key = None;
    let all: Vec<&Address> = addresses.iter().collect();
    for (address, known) in addresses.iter().zip(known_servers.find_all(&all)?) {
        match known {
            Some(KnownServer { id, .. }) if id != server => {
                let (server_at, address) = (address.to_string(), address.to_string());
                return Err(Error::ServerKeyContradicts {
                    address,
                    server: server_at,
                    known: id,
                    given: server,
                });
            }
            Some(KnownServer { key, .. }) => public_key = public_key.or(key),
            None => {}
        }
    }
    let secret = Arc::new(line.into_secret());
    let key = Arc::new(read_or_make_key(home)?);
    let mut target = Server::with_key(addresses.clone(), server);
    target.network = network.clone();
    let config = || {
        let expected = ExpectedServer::Key { id: server, key: public_key.clone(), ticket: None };
        let mut config = ClientConfig::new(expected);
        config.identity = Some(Arc::clone(&key));
        config.invite = Some(Arc::clone(&secret));
        config
    };
    let (channel, address) = handshake(&target, config).await?;
    let membership = keep(home, &known_servers, address.clone(), &key, channel).await?;
    let server_name = named_servers.edit(|servers| {
        let name = name_of(servers, server, name.as_ref(), &addresses)?;
        let answered_first = std::iter::once(address).chain(&addresses).cloned();
        match servers.iter_mut().find(|server| server.name == name) {
            Some(known) => {
                // One that has as many addresses as it can keeps them.
                known.add(answered_first);
            }
            None => {
                let mut named = NamedServer { name: name.clone(), key: server, addresses: Vec::new() };
                named.add(answered_first);
                servers.push(named);
            }
        }
        Ok(name)
    })?;
    Ok(Membership { server_name, ..membership })
}

/// The name for the server with this key: the one that is `wanted`, else the one that the server has, else one after its host.
fn name_of(
    servers: &[NamedServer],
    key: KeyId,
    wanted: Option<&ServerName>,
    addresses: &[Address],
) -> Result<ServerName, Error> {
    let owner =
        |name: &ServerName| servers.iter().find(|server| server.name == *name).map(|server| server.key);
    if let Some(wanted) = wanted {
        return match owner(wanted) {
            Some(known) if known != key => Err(Error::NameTaken { name: wanted.to_string(), known }),
            _ => Ok(wanted.clone()),
        };
    }
    if let Some(known) = servers.iter().find(|server| server.key == key) {
        return Ok(known.name.clone());
    }
    let suggested = addresses.iter().map(ServerName::suggested);
    let suggested = suggested.max_by_key(|name| u8::from(name.as_str() != ServerName::DEFAULT));
    let suggested = suggested.ok_or(Error::InviteWithoutAddress)?;
    let numbered = (2..).map(|number| suggested.numbered(number));
    let free = std::iter::once(suggested.clone()).chain(numbered).find(|name| owner(name).is_none());
    free.ok_or(Error::InviteWithoutAddress)
}

/// Connects and does the handshake, again and again for a while where the server is busy.
async fn handshake(
    server: &Server,
    config: impl Fn() -> ClientConfig + Sync,
) -> Result<(Channel<Socket>, &Address), Error> {
    let mut patience = Patience::new();
    let ask = |socket| stream::connect_channel(socket, config());
    loop {
        match race(&server.network, server.addresses(), Questions::OneByOne, ask).await {
            Ok(joined) => return Ok(joined),
            Err(lost) => patience.endure(lost_error(server, lost, failed)).await?,
        }
    }
}

fn failed(address: &Address, source: std::io::Error) -> Error {
    let address = address.to_string();
    match error_in(&source) {
        Some(&ProtocolError::ServerKeyMismatch { expected, offered }) => {
            Error::InviteOfAnother { address, expected, offered }
        }
        Some(ProtocolError::Denied(DeniedCode::NotAllowed)) => Error::InviteRefused { address },
        _ => Error::Handshake { address, source },
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
    let server_name = ServerName::suggested(&address);
    Ok(Membership { outcome, address, server_name, server: id, client, name, grant })
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
