//! `-L`: what connects here is carried to a target at the server.

use std::io;
use std::sync::Arc;

use cli_support::forward::{LocalForward, Transport};
use tokio::time::{Instant, timeout};
use tunnel::address::Address;
use tunnel::flows::{self, Flows};
use tunnel::listener::Listener;
use tunnel::network::Network;
use tunnel::socket::Socket;
use tunnel::udp::UdpListener;
use wire_protocol::Error as ProtocolError;
use wire_protocol::message::Target;
use wire_protocol::stream::{OpenError, RelayError, SILENCE, open_early, tunnel};

use super::attempts::Attempts;
use super::{Event, Kind, Site, datagrams, listen, shown};
use crate::Error;

/// Where connections, or datagrams, come in.
#[derive(Debug)]
pub(super) enum Entrance {
    Stream(Listener),
    Datagram(Arc<UdpListener>),
}

impl Entrance {
    pub(super) async fn bind(
        network: &Network,
        forward: &LocalForward,
        listened_on: &[Address],
    ) -> Result<Self, Error> {
        let address = &forward.listen.address;
        match forward.listen.transport {
            Transport::Stream => listen(network, address, listened_on).await.map(Self::Stream),
            Transport::Datagram => match UdpListener::bind_beside(address, listened_on).await {
                Ok(socket) => Ok(Self::Datagram(Arc::new(socket))),
                Err(source) => Err(Error::Listen { address: address.to_string(), source }),
            },
        }
    }

    /// As it is shown.
    fn address(&self) -> io::Result<String> {
        Ok(match self {
            Self::Stream(listener) => shown(&listener.address()?, Transport::Stream),
            Self::Datagram(socket) => shown(&socket.local_addr()?, Transport::Datagram),
        })
    }
}

/// Says where connections, or datagrams, are taken.
pub(super) fn announce(site: &Site, forward: &LocalForward, entrance: &Entrance) {
    if let Ok(address) = entrance.address() {
        let target = forward.target.to_string();
        site.tunnels.observer.tell(&Event::Listening {
            kind: Kind::Local,
            address: &address,
            target: Some(&target),
        });
    }
}

pub(super) async fn serve(site: Arc<Site>, forward: LocalForward, entrance: Entrance) {
    let target = Arc::new(forward.target.to_wire());
    match entrance {
        Entrance::Stream(listener) => {
            site.accept_all(&listener, |socket, source, place| {
                let (site, target) = (Arc::clone(&site), Arc::clone(&target));
                async move {
                    let _place = place;
                    tracing::debug!(peer = source.name, %target, "connection");
                    if let Err(error) = carry(&site, socket, &target).await {
                        tracing::info!(peer = source.name, %target, %error, "connection reset");
                    }
                }
            })
            .await;
        }
        Entrance::Datagram(socket) => {
            let name = socket.local_addr().map(|address| shown(&address, Transport::Datagram));
            let mut flows = Flows::new(socket, name.unwrap_or_default(), &site.tunnels.drops);
            loop {
                let (peer, flow) = tokio::select! {
                    biased;
                    () = site.tunnels.draining.cancelled() => return,
                    begun = flows.next(flows::by_source) => begun,
                };
                tracing::debug!(%peer, %target, "datagrams");
                datagrams::spawn(&site, flow, Arc::clone(&target), || flows.give_way());
            }
        }
    }
}

/// Carries one connection to its end. Whatever goes wrong, it is reset.
async fn carry(site: &Site, socket: Socket, target: &Target) -> Result<(), Error> {
    let address = || site.pool.connector().address();
    let deadline = Instant::now() + site.wait;
    let mut attempts = Attempts::until(deadline);
    let mut early = Vec::new();
    let (stream, _open) = loop {
        let channel = site.pool.get(deadline).await?;
        let open = site.tunnels.streams.begin();
        let opened = timeout(SILENCE, open_early(channel, target, &socket, &mut early)).await;
        match opened {
            Ok(Ok(stream)) => break (stream, open),
            Ok(Err(error)) if error.is_retryable(&early) => {
                tracing::debug!(%error, "the stream never stood: opening it again");
                drop(open);
                attempts.pause().await;
            }
            Ok(Err(OpenError::Refused { code, channel })) => {
                site.pool.put(channel);
                let refused = RelayError::Channel(ProtocolError::Refused(code).into());
                return Err(Error::carried(&address(), target, refused));
            }
            Ok(Err(error)) => return Err(Error::carried(&address(), target, error.into())),
            Err(_) => return Err(Error::NoChannel { address: address() }),
        }
    };
    drop(early);
    let channel =
        tunnel(stream, socket, ()).await.map_err(|source| Error::carried(&address(), target, source))?;
    site.pool.put(channel);
    Ok(())
}
