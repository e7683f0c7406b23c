//! The server as a whole: accepts on all its sockets until it is told to end or its service is done.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cli_support::control::Events;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tunnel::address::Address;
use tunnel::listener::{Listener, Source};
use tunnel::proxied::{self, Proxied};
use tunnel::socket::{OnDrop, Socket};
use wire_protocol::message::AbortCode;
use wire_protocol::stream::{Admission as _, Duplex as _, abort_frame};

use crate::admission::{HandshakePermit, Rejection};
use crate::control::{ControlEvent, ControlEvents};
use crate::error::Error;
use crate::live::Live;
use crate::server::Server;
use crate::settings::Settings;

/// Sockets that are listened on, each with the address as it was asked for.
pub type Listeners = Vec<(Address, Listener)>;

/// Listens on all of `addresses`, or on none.
///
/// # Errors
/// [`Error::Listen`].
pub async fn listen(addresses: &[Address]) -> Result<Listeners, Error> {
    listen_beside(addresses, addresses).await
}

/// Listens on `fresh` ones of `addresses`.
async fn listen_beside(fresh: &[Address], addresses: &[Address]) -> Result<Listeners, Error> {
    let mut listeners = Vec::with_capacity(fresh.len());
    for address in fresh {
        let failed = |source| Error::Listen { address: address.to_string(), source };
        let listener = Listener::bind_beside(address, OnDrop::Ends, addresses).await.map_err(failed)?;
        listeners.push((address.clone(), listener));
    }
    Ok(listeners)
}

/// Serves until `shutdown` is ready, or the one service is done (a pipe is, once its client has gone). From `shutdown` on it
/// takes no new streams, and lets those that are live come to their end for as long as the grace lasts. Dropped before
/// that, it ends without a word to anybody.
///
/// Takes no signals: who does, makes `shutdown` of them. The other end of `events` is a [`Control`](crate::Control).
///
/// Whatever goes wrong on a connection ends that connection alone, with a line in the log.
///
/// # Errors
/// Those of the service itself: a pipe that broke, or was stopped before its end. [`Error::NotDrained`] when streams
/// were still live in the end.
///
/// # Panics
/// On a runtime of a single thread: messages are written where they go without leaving the task.
pub async fn serve(
    settings: Settings,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
    events: ControlEvents,
) -> Result<(), Error> {
    let ControlEvents(mut events) = events;
    let (done, mut pipe_done) = mpsc::channel(1);
    let server = Arc::new(Server::new(settings, done));
    let watched = Arc::clone(&server);
    // Until the end, when streams still come to theirs.
    let _watching = AbortOnDropHandle::new(tokio::spawn(async move { watched.access.watch().await }));
    let mut doors = Doors::open(&server, listeners);
    let telling = server.log_limits.tell();
    tokio::pin!(shutdown, telling);
    loop {
        let event = tokio::select! {
            biased;
            () = &mut shutdown => break,
            never = &mut telling => match never {},
            event = events.next() => event,
            Some(result) = pipe_done.recv() => {
                doors.close().await;
                return result;
            }
        };
        // Nobody waits for an answer any more where one cannot be sent.
        match event {
            ControlEvent::Reload { live, addresses, answer } => {
                answer.send(apply(&server, &mut doors, live, &addresses).await).ok();
            }
            ControlEvent::Recheck(answer) => {
                server.recheck();
                answer.send(()).ok();
            }
            ControlEvent::Status(answer) => {
                answer.send(server.status()).ok();
            }
            ControlEvent::EndNow => {}
        }
    }
    doors.close().await;
    server.log_limits.tell_once();
    server.handlers.stopped()?;
    drain(&server, &mut events).await
}

/// Goes by another configuration: all of it, or nothing of it.
async fn apply(
    server: &Arc<Server>,
    doors: &mut Doors,
    live: Live,
    addresses: &[Address],
) -> Result<(), Error> {
    let fresh: Vec<Address> = addresses.iter().filter(|address| !doors.has(address)).cloned().collect();
    let listeners = listen_beside(&fresh, addresses).await?;
    server.set_live(live);
    doors.change(server, addresses, listeners).await;
    Ok(())
}

async fn drain(server: &Server, events: &mut Events<ControlEvent>) -> Result<(), Error> {
    server.stopping.cancel();
    server.connections.close();
    let grace = sleep(server.live().grace);
    tokio::pin!(grace);
    let streams = server.streams.count();
    if streams > 0 {
        tracing::info!(streams, "waiting for streams to come to their end");
    }
    loop {
        tokio::select! {
            biased;
            () = server.connections.wait() => return Ok(()),
            () = &mut grace => break,
            event = events.next() => match event {
                ControlEvent::EndNow => break,
                ControlEvent::Status(answer) => {
                    answer.send(server.status()).ok();
                }
                ControlEvent::Recheck(answer) => {
                    server.recheck();
                    answer.send(()).ok();
                }
                // Without an answer: a server that ends takes no other configuration.
                ControlEvent::Reload { .. } => {}
            },
        }
    }
    Err(Error::NotDrained { streams: server.streams.count() })
}

/// The listeners, and who accepts on each.
struct Doors(Vec<(Address, JoinHandle<()>)>);

impl Doors {
    fn open(server: &Arc<Server>, listeners: Listeners) -> Self {
        let mut doors = Self(Vec::new());
        doors.add(server, listeners);
        doors
    }

    fn add(&mut self, server: &Arc<Server>, listeners: Listeners) {
        for (address, listener) in listeners {
            self.0.push((address, tokio::spawn(accept_all(listener, Arc::clone(server)))));
        }
    }

    fn has(&self, address: &Address) -> bool {
        self.0.iter().any(|(open, _)| open == address)
    }

    /// Keeps those of `addresses`, closes all others, and opens `fresh` ones.
    async fn change(&mut self, server: &Arc<Server>, addresses: &[Address], fresh: Listeners) {
        let (kept, gone) = self.0.drain(..).partition(|(address, _)| addresses.contains(address));
        self.0 = kept;
        Self(gone).close().await;
        self.add(server, fresh);
    }

    /// Waits until the listeners are gone, and with them the files of their sockets.
    async fn close(self) {
        for (_, accepting) in self.0 {
            accepting.abort();
            accepting.await.ok();
        }
    }
}

async fn accept_all(listener: Listener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((socket, source)) => begin(socket, source, &server),
            Err(error) => {
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
    let is_proxy = server.live().is_proxy(source.ip());
    // A proxy answers for nothing that it hands on.
    let accountable = if is_proxy { None } else { accountable(&source) };
    match server.admission.begin(accountable, Instant::now()) {
        Ok(permit) => {
            let connection = Arc::clone(server);
            server.crew.spawn(server.connections.track_future(async move {
                if is_proxy {
                    begin_behind_proxy(socket, source, &connection, permit).await;
                } else {
                    connection.serve_connection(socket, source, accountable, permit).await;
                }
            }));
        }
        Err(rejection) => reject(&socket, &source, rejection, server),
    }
}

/// Learns from a proxy where a connection comes from, and goes by that.
async fn begin_behind_proxy(
    mut socket: Socket,
    proxy: Source,
    server: &Arc<Server>,
    permit: HandshakePermit,
) {
    let proxied = tokio::select! {
        proxied = timeout(PROXY_HEADER_DEADLINE, proxied::read_header(&mut socket)) => {
            proxied.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        error = permit.given_up() => Err(error.into()),
        () = server.stopping.cancelled() => return,
    };
    drop(permit);
    match proxied {
        Ok(Proxied::Client { source, destination }) => {
            let source = Source::proxied(source, destination);
            let accountable = accountable(&source);
            match server.admission.begin(accountable, Instant::now()) {
                Ok(permit) => server.serve_connection(socket, source, accountable, permit).await,
                Err(rejection) => reject(&socket, &source, rejection, server),
            }
        }
        Ok(Proxied::Check) => tracing::debug!(peer = proxy.name, "a proxy looks whether somebody is here"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tracing::debug!(peer = proxy.name, "connection closed");
        }
        Err(error) => {
            if server.log_limits.turned_away.admits() {
                tracing::warn!(peer = proxy.name, %error, "connection of a proxy turned away");
            }
        }
    }
}

/// Who answers for a connection: nobody, where one address stands for all of this machine.
fn accountable(source: &Source) -> Option<IpAddr> {
    source.ip().filter(|_| !source.is_local())
}

fn reject(socket: &Socket, source: &Source, rejection: Rejection, server: &Server) {
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
