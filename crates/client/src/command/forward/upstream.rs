//! What the forwards through one server share.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use cli_support::admin::ServerState;
use cli_support::metrics::StreamOutcome;
use tokio::sync::OwnedSemaphorePermit;
use tunnel::ingress::{Ingress, IngressError};
use tunnel::listener::{Listener, Source};
use tunnel::network::Network;
use tunnel::pending_stream::PendingStream;
use tunnel::proxy_header::ProxyHeader;
use tunnel::socket::Socket;
use wire_protocol::message::RefusedCode;
use wire_protocol::stream::{RelayError, error_in};

use crate::Error;
use crate::command::forward::counted_connector::CountedConnector;
use crate::command::forward::tunnels::Tunnels;

/// A server, with the channels to it, and what its forwards share.
#[derive(Debug)]
pub(super) struct Upstream {
    /// The network on which targets here are reached.
    pub(super) network: Network,
    pub(super) ingress: Ingress<CountedConnector>,
    pub(super) tunnels: Tunnels,
    /// What targets here are sent.
    pub(super) header: ProxyHeader,
    /// How often the server could be reached again, the first time included.
    pub(super) reached: AtomicU64,
    /// Has run once the log was told that several servers answer at one address.
    pub(super) several_servers: Once,
}

impl Upstream {
    /// How it is with the server.
    pub(super) fn state(&self) -> ServerState {
        ServerState {
            address: self.address(),
            is_connected: self.ingress.pool.is_up(),
            reconnects: self.reached.load(Ordering::Relaxed).saturating_sub(1),
        }
    }

    /// The server's address, as it is shown.
    pub(super) fn address(&self) -> String {
        self.ingress.pool.connector().address()
    }

    /// Whether the program takes nothing new any more.
    pub(super) fn is_draining(&self) -> bool {
        self.tunnels.draining.is_cancelled()
    }

    /// Carries what has come in here to its end.
    pub(super) async fn carry(&self, stream: PendingStream) -> Result<(), Error> {
        let target = Arc::clone(stream.target());
        let counted = self.tunnels.counts.streams.begin((&*target).into());
        let carried = self.ingress.carry(stream).await;
        match &carried {
            Ok(()) => counted.end(StreamOutcome::Completed),
            Err(IngressError::Stream(error)) => {
                if let Some(code) = refused(error) {
                    counted.refuse(code);
                }
                counted.end(StreamOutcome::Failed);
            }
            Err(IngressError::NoChannel(_)) => counted.end(StreamOutcome::Failed),
        }
        carried.map_err(|error| match error {
            IngressError::NoChannel(error) => error,
            IngressError::Stream(source) => Error::carried(&self.address(), &target, source),
        })
    }

    /// Tells the log, once, why the server closes channels that are parked for what it listens on. What came to one server
    /// is not to be had at another.
    pub(super) fn tell_of_several_servers(&self) {
        self.several_servers.call_once(|| {
            let server = self.address();
            tracing::warn!(
                %server,
                "several servers seem to answer at this address, and only one of them listens for this client: have the \
                 balancer send each client to the same server (in HAProxy: balance source)"
            );
        });
    }

    /// Accepts until the program drains, and serves each connection on a task of its own, which holds its permit. Where
    /// there is no room for more, connections wait with the system.
    pub(super) async fn accept_all<W>(
        self: &Arc<Self>,
        listener: &Listener,
        mut serve: impl FnMut(Socket, Source, OwnedSemaphorePermit) -> W,
    ) where
        W: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = async {
                let permit = Arc::clone(&self.tunnels.accepted).acquire_owned().await;
                // Nobody closes the semaphore.
                let permit = permit.map_err(io::Error::other)?;
                listener.accept().await.map(|(socket, source)| (socket, source, permit))
            };
            let accepted = tokio::select! {
                biased;
                () = self.tunnels.draining.cancelled() => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((socket, source, permit)) => self.tunnels.spawn(serve(socket, source, permit)),
                Err(error) => {
                    // Mostly descriptors that have run out: accepting at once would fail at once.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Why the server did not want a stream, where that is what the error is about.
fn refused(error: &RelayError) -> Option<RefusedCode> {
    let RelayError::Channel(error) = error else { return None };
    match error_in(error) {
        Some(wire_protocol::Error::Refused(code)) => Some(*code),
        _ => None,
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
