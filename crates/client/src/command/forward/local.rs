//! `-L`: what connects here is carried to a target at the server.

use std::io;
use std::sync::Arc;

use program::forward::{LocalForward, Transport};
use program::listener::Listener;
use program::socket::Socket;
use tokio::time::{Instant, timeout};
use wire_protocol::Error as ProtocolError;
use wire_protocol::message::{RefusedCode, Target};
use wire_protocol::stream::{RelayError, SILENCE, error_in, never_stood, open_early, tunnel};

use super::{Event, Kind, Site, bind, shown};
use crate::Error;

/// Where connections, or datagrams, come in.
#[derive(Debug)]
pub(super) enum Entrance {
    Stream(Listener),
}

impl Entrance {
    pub(super) async fn bind(forward: &LocalForward) -> Result<Self, Error> {
        match forward.listen.transport {
            Transport::Stream => bind(&forward.listen.address).await.map(Self::Stream),
            Transport::Datagram => {
                let source = io::Error::new(io::ErrorKind::Unsupported, "datagrams are not carried yet");
                Err(Error::Listen { address: forward.listen.address.to_string(), source })
            }
        }
    }
}

/// Says where connections are taken.
pub(super) fn announce(site: &Site, forward: &LocalForward, entrance: &Entrance) {
    let Entrance::Stream(listener) = entrance;
    if let Ok(address) = listener.address() {
        let address = shown(&address, Transport::Stream);
        let target = forward.target.to_string();
        site.tell(&Event::Listening { kind: Kind::Local, address: &address, target: Some(&target) });
    }
}

pub(super) async fn serve(site: Arc<Site>, forward: LocalForward, entrance: Entrance) {
    let target = forward.target.to_wire(site.header);
    match entrance {
        Entrance::Stream(listener) => {
            site.accept_all(&listener, |socket, source| {
                let (site, target) = (Arc::clone(&site), target.clone());
                let tracker = site.tunnels.tracker.clone();
                tracker.spawn(async move {
                    tracing::debug!(peer = source.name, %target, "connection");
                    if let Err(error) = carry(&site, socket, &target).await {
                        tracing::info!(peer = source.name, %target, %error, "connection reset");
                    }
                });
            })
            .await;
        }
    }
}

/// Carries one connection to its end. Whatever goes wrong, it is reset.
async fn carry(site: &Site, socket: Socket, target: &Target) -> Result<(), Error> {
    let address = || site.pool.connector().server().address.to_string();
    let deadline = Instant::now() + site.wait;
    let mut early = Vec::new();
    let stream = loop {
        let mut stream = site.pool.get(deadline).await?;
        let opened = timeout(SILENCE, open_early(&mut stream, target, &socket, &mut early)).await;
        let error = match opened {
            Ok(Ok(())) => break stream,
            Ok(Err(error)) => error,
            Err(_) => return Err(Error::NoChannel { address: address() }),
        };
        if never_stood(&error, &early) {
            tracing::debug!(%error, "the stream never stood: opening it again");
        } else {
            if let RelayError::Channel(source) = &error
                && let Some(ProtocolError::Refused(code)) = error_in(source)
                && *code != RefusedCode::Stopping
            {
                site.pool.put(stream);
            }
            return Err(Error::Pipe { address: address(), source: error });
        }
    };
    drop(early);
    let _open = site.tunnels.streams.begin();
    let (stream, socket) =
        tunnel(stream, socket, ()).await.map_err(|source| Error::Pipe { address: address(), source })?;
    socket.end_well();
    site.pool.put(stream);
    Ok(())
}
