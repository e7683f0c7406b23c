//! The server as a whole: accepts on all its sockets until it is told to stop or its service is done.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use program::listener::{Listener, Source};
use program::socket::Socket;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wire_protocol::message::AbortCode;
use wire_protocol::stream::abort_frame;

use crate::limits::Turned;
use crate::session::Server;
use crate::{Error, Settings};

/// Serves until `stop` is ready, or the service is done (a pipe is, once its client has gone).
///
/// Whatever goes wrong on a connection ends that connection alone, with a line in the log.
///
/// # Errors
/// Those of the service itself: a pipe that broke, or was stopped before its end.
///
/// # Panics
/// On a runtime of a single thread: messages are written where they go without leaving the task.
pub async fn serve(
    settings: Settings,
    listeners: Vec<Listener>,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (done, mut service_done) = mpsc::channel(1);
    let server = Arc::new(Server::new(settings, done));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept_all(listener, Arc::clone(&server)));
    }
    tokio::pin!(stop);
    let result = tokio::select! {
        () = stop => server.stopped(),
        result = service_done.recv() => result.unwrap_or(Ok(())),
    };
    // Waits until the listeners are gone, and with them the files of their sockets.
    accepting.shutdown().await;
    result
}

async fn accept_all(listener: Listener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((socket, source)) => begin(socket, source, &server),
            Err(error) => {
                // Mostly descriptors that have run out, or a client that is gone again. Accepting at once would
                // fail at once.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn begin(mut socket: Socket, source: Source, server: &Arc<Server>) {
    let accountable = source.ip().filter(|ip| !is_local(*ip));
    match server.limits.begin_handshake(accountable, Instant::now()) {
        Ok(place) => {
            let server = Arc::clone(server);
            tokio::spawn(async move { server.serve_connection(socket, source, accountable, place).await });
        }
        Err(Turned::Busy) => {
            tracing::warn!(peer = source.name, "connection turned away: too many handshakes");
            tokio::spawn(async move {
                let frame = abort_frame(AbortCode::Busy);
                tokio::time::timeout(ABORT_DEADLINE, socket.write_all(&frame)).await
            });
        }
        Err(Turned::Penalized) => {
            tracing::debug!(peer = source.name, "connection turned away: the source has failed too often");
        }
    }
}

/// Whether an address is this machine's own.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The hint goes into an empty socket buffer: if that takes longer, the client is not worth it.
const ABORT_DEADLINE: Duration = Duration::from_secs(1);
