//! One connection of a status server, with its limits.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};
use tunnel::socket::Socket;

use super::response::BUSY;
use super::routes::Routes;

/// Answers the requests of a connection until it ends, is idle or slow, or has lasted long enough.
pub(super) async fn serve(socket: Socket, routes: Arc<Routes>) {
    let service = service_fn(|request| routes.answer(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD_LEN)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // What went wrong is the other side's fault, and of no interest.
        _ = connection.as_mut() => return,
        () = sleep(LIFETIME) => connection.as_mut().graceful_shutdown(),
    }
    timeout(HEAD_DEADLINE, connection).await.ok();
}

/// Tells a connection that there is no room for it.
pub(super) async fn refuse(mut socket: Socket) {
    let told = async {
        if socket.write_all(BUSY).await.is_ok() {
            socket.end_after_reply().await;
        }
    };
    timeout(REFUSAL_DEADLINE, told).await.ok();
}

/// Most bytes of a request's head, the least that hyper takes.
const MAX_HEAD_LEN: usize = 8192;
/// Most headers of a request; a browser sends about fifteen.
const MAX_HEADERS: usize = 64;
/// Longest wait for the head of a request, from the end of the one before it, so that it bounds idle connections too. The page
/// asks every second.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// Longest life of a connection, which bounds one that reads no answers. Browsers make another one unnoticed.
const LIFETIME: Duration = Duration::from_secs(60);
/// Longest wait for a connection to take that there is no room for it.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);
