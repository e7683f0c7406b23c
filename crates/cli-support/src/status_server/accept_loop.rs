//! Takes connections of a status server, a bounded number at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;
use tunnel::listener::Listener;

use super::connection::{refuse, serve};
use super::routes::Routes;
use crate::hardening::raise_descriptor_limit;

/// Takes connections for as long as it is polled, on the runtime of the caller.
pub(super) async fn accept_all(listener: &Listener, routes: Arc<Routes>) -> Infallible {
    let (places, refusals) = rooms(raise_descriptor_limit());
    let (places, refusals) = (Arc::new(Semaphore::new(places)), Arc::new(Semaphore::new(refusals)));
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection for the status");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let routes = Arc::clone(&routes);
            tokio::spawn(async move {
                serve(socket, routes).await;
                drop(place);
            });
        } else if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
            tokio::spawn(async move {
                refuse(socket).await;
                drop(place);
            });
        }
    }
}

/// How many connections are served, and how many are refused, at once in a process that may have `descriptors` open: few of
/// what the program keeps for itself, so that nobody who holds them keeps it from its work.
pub(super) fn rooms(descriptors: usize) -> (usize, usize) {
    ((descriptors / 64).clamp(4, MAX_CONNECTIONS), (descriptors / 128).clamp(2, MAX_REFUSALS))
}

/// Most connections that are served at once. A browser has six.
const MAX_CONNECTIONS: usize = 64;
/// Most connections that are told at once that there is no room; others are closed without a word.
const MAX_REFUSALS: usize = 32;
/// Pause after an error of `accept`, which would probably fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_make_few_places() {
        assert_eq!((rooms(64), rooms(1024), rooms(1 << 16)), ((4, 2), (16, 8), (64, 32)));
    }
}
