//! The first contact with a server whose key is not known: it is asked for, and it is decided whether to trust it.

use std::io;

use cli_support::questioner::Questioner;
use crypto_core::identity::PublicKey;
use tunnel::address::Address;
use tunnel::socket::Socket;
use wire_protocol::stream;

use super::failure::connect_error;
use super::patience::Patience;
use super::race::{Questions, race};
use crate::error::Error;
use crate::server::Server;
use crate::trust::{KnownServer, TrustPolicy};

/// Asks a server for its key and decides whether to trust it. Also gives the socket where the handshake can go on
/// on it: not after a human was asked, since the server does not wait that long.
pub(super) async fn first_contact<'a>(
    server: &'a Server,
    patience: &mut Patience,
) -> Result<(KnownServer, Option<(Socket, &'a Address)>), Error> {
    let address = || server.to_string();
    if server.policy == TrustPolicy::Strict {
        return Err(Error::NotKnown { address: address() });
    }
    let (key, socket, at) = loop {
        match race(&server.network, server.addresses(), Questions::Staggered, fetch).await {
            Ok(((key, socket), at)) => break (key, socket, at),
            Err(lost) => patience.endure(connect_error(server, lost)).await?,
        }
    };
    match server.policy {
        TrustPolicy::AcceptNew => Ok((KnownServer { id: key.id(), key: Some(key) }, Some((socket, at)))),
        _ => {
            let Ok(questioner) = Questioner::find() else {
                return Err(Error::UnknownServer { address: address(), offered: key.id() });
            };
            drop(socket);
            let question = format!("The key of the server at {server} is {}. Trust it?", key.id());
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

async fn fetch(mut socket: Socket) -> io::Result<(PublicKey, Socket)> {
    let key = stream::fetch_server_key(&mut socket).await?;
    Ok((key, socket))
}
