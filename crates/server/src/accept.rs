//! Accepting connections: each is rejected at once, or served by a task of its own.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tunnel::address::Address;
use tunnel::listener::{Listener, Source};
use tunnel::proxied::{self, Proxied};
use tunnel::socket::Socket;
use wire_protocol::message::AbortCode;
use wire_protocol::stream::{Admission as _, Duplex as _, abort_frame};

use crate::admission::{HandshakePermit, Rejection};
use crate::counters::TurnedAway;
use crate::server::Server;
use crate::session::Admitted;

/// Sockets that are listened on, each with the address as it was asked for.
pub type Listeners = Vec<(Address, Listener)>;

/// The tasks that accept connections: one for each address that is listened on. They end when this is dropped.
pub(crate) struct Acceptors(Vec<(Address, AbortOnDropHandle<()>)>);

impl Acceptors {
    /// Accepts on all of `listeners`.
    pub(crate) fn open(server: &Arc<Server>, listeners: Listeners) -> Self {
        let mut acceptors = Self::none();
        acceptors.add(server, listeners);
        acceptors
    }

    /// Accepts nothing.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    fn add(&mut self, server: &Arc<Server>, listeners: Listeners) {
        for (address, listener) in listeners {
            server.note_listening(&address, &listener);
            let accepting = tokio::spawn(accept_all(listener, Arc::clone(server)));
            self.0.push((address, AbortOnDropHandle::new(accepting)));
        }
    }

    /// Whether this address is listened on.
    pub(crate) fn has(&self, address: &Address) -> bool {
        self.0.iter().any(|(open, _)| open == address)
    }

    /// Keeps those of `addresses`, closes all others, and opens `fresh` ones.
    pub(crate) async fn change(&mut self, server: &Arc<Server>, addresses: &[Address], fresh: Listeners) {
        let (kept, gone) = self.0.drain(..).partition(|(address, _)| addresses.contains(address));
        self.0 = kept;
        server.note_closed(|address| addresses.contains(address));
        Self(gone).close().await;
        self.add(server, fresh);
    }

    /// Waits until the listeners are gone, and with them the files of their sockets.
    pub(crate) async fn close(self) {
        for (_, accepting) in self.0 {
            accepting.abort();
            accepting.await.ok();
        }
    }
}

async fn accept_all(listener: Listener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((socket, source)) => {
                server.counters.accepted.one(());
                begin(socket, source, &server);
            }
            Err(error) => {
                server.counters.not_accepted.one(());
                // Mostly descriptors that have run out, or a client that is gone again. Accepting at once would
                // fail at once.
                if server.log_limits.not_accepted.admits() {
                    tracing::warn!(%error, "cannot accept a connection");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn begin(socket: Socket, source: Source, server: &Arc<Server>) {
    let is_proxy = server.config().is_proxy(source.ip());
    // A proxy answers for nothing that it hands on.
    let accountable = if is_proxy { None } else { accountable(&source) };
    match server.admission.begin(accountable, Instant::now()) {
        Ok(permit) => {
            let connection = Arc::clone(server);
            // On the heap, so that the room for it is given back once it is done.
            let admission: Pin<Box<dyn Future<Output = Option<Admitted>> + Send>> = if is_proxy {
                Box::pin(admit_behind_proxy(connection, socket, source, permit))
            } else {
                Box::pin(connection.admit(socket, source, accountable, permit))
            };
            // Its own token, since all connections would take turns at looking at one.
            let ended = server.ended.child_token();
            server.connections.spawn(async move {
                let served = async {
                    let Some(Admitted { session, channel }) = admission.await else { return };
                    session.serve(channel).await;
                };
                tokio::select! {
                    biased;
                    () = served => {}
                    () = ended.cancelled() => {}
                }
            });
        }
        Err(rejection) => reject(&socket, &source, rejection, server),
    }
}

/// Learns from a proxy where a connection comes from, and goes by that.
async fn admit_behind_proxy(
    server: Arc<Server>,
    mut socket: Socket,
    proxy: Source,
    permit: HandshakePermit,
) -> Option<Admitted> {
    let proxied = tokio::select! {
        proxied = timeout(PROXY_HEADER_DEADLINE, proxied::read_header(&mut socket)) => {
            proxied.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        error = permit.given_up() => Err(error.into()),
        () = server.closed.cancelled() => return None,
    };
    drop(permit);
    match proxied {
        Ok(Proxied::Client { source, destination }) => {
            let source = Source::proxied(source, destination);
            let accountable = accountable(&source);
            match server.admission.begin(accountable, Instant::now()) {
                Ok(permit) => return server.admit(socket, source, accountable, permit).await,
                Err(rejection) => reject(&socket, &source, rejection, &server),
            }
        }
        Ok(Proxied::Check) => tracing::debug!(peer = proxy.name, "a proxy looks whether somebody is here"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tracing::debug!(peer = proxy.name, "connection closed");
        }
        Err(error) => {
            server.counters.turned_away.one(TurnedAway::Proxy);
            if server.log_limits.turned_away.admits() {
                tracing::warn!(peer = proxy.name, %error, "connection of a proxy turned away");
            }
        }
    }
    None
}

/// Who answers for a connection: nobody, where one address stands for all of this machine.
fn accountable(source: &Source) -> Option<IpAddr> {
    source.ip().filter(|_| !source.is_local())
}

fn reject(socket: &Socket, source: &Source, rejection: Rejection, server: &Server) {
    server.counters.turned_away.one(rejection.into());
    match rejection {
        Rejection::Busy => {
            if server.log_limits.turned_away.admits() {
                tracing::warn!(peer = source.name, "connection turned away: too many handshakes");
            }
            // It goes into an empty socket buffer: where it does not, the client is not worth waiting for.
            socket.try_write_vectored(&[IoSlice::new(&abort_frame(AbortCode::Busy))]).ok();
        }
        Rejection::Penalized => {
            tracing::debug!(peer = source.name, "connection turned away: the source has failed too often");
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The header goes out with the connection: a proxy has nothing to think about.
const PROXY_HEADER_DEADLINE: Duration = Duration::from_secs(5);
