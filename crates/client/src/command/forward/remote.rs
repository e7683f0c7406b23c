//! `-R`: the server listens for this client, and what comes in there is carried to a target here.

mod lease;
mod parking;
mod target;

use std::sync::Arc;
use std::time::Duration;

use cli_support::forward::{RemoteForward, Transport};
use tokio::time::{Instant, sleep};
use tunnel::backoff::{Backoff, MAX_PAUSE};
use tunnel::pool::{Attempt as _, Fault};
use wire_protocol::message::{ListenAddress, ListenKind, RefusedCode, ResetCode};
use wire_protocol::stream::error_in;

use crate::Error;
use crate::command::forward::event::{Event, Kind, shown};
use crate::command::forward::remote::lease::Lease;
use crate::command::forward::start_order::StartOrder;
use crate::command::forward::upstream::Upstream;

/// Keeps the server listening, again and again, until the program ends.
///
/// # Errors
/// [`Error::Replaced`] where another program of this client listens there from now on: each would take it from the other
/// again and again. One that trying again does not mend; and, as long as the server has never listened, that it does not want to.
pub(super) async fn supervise(
    upstream: Arc<Upstream>,
    forward: RemoteForward,
    order: StartOrder,
) -> Result<(), Error> {
    let mut done = order.reached().await;
    let (mut address, kind) = forward.to_wire();
    let forward = Arc::new(forward);
    let mut history = History::NeverHeld;
    let mut pauses = Backoff::default();
    // A claim that nobody has answered in time may still reach the server, and take the address from a later one.
    let mut has_late_claim = false;
    while !upstream.is_draining() {
        let claimed = tokio::select! {
            biased;
            () = upstream.tunnels.draining.cancelled() => break,
            claimed = Lease::claim(&upstream, &address, kind) => claimed,
        };
        let done = done.take();
        match claimed {
            Ok(lease) => {
                // What was chosen once is asked for from then on: somebody may have been told of it.
                if let ListenAddress::Port { port, .. } = &mut address {
                    *port = lease.port();
                }
                announce(&upstream, &forward, &address, kind);
                drop(done);
                history = History::HeldBefore;
                let since = Instant::now();
                let ended = lease.hold(&upstream, &forward).await;
                if since.elapsed() >= STABLE {
                    pauses = Backoff::default();
                }
                if !upstream.is_draining() {
                    let error = ended.err();
                    if error.as_ref().is_some_and(is_replaced) && !std::mem::take(&mut has_late_claim) {
                        let listen = address.to_string();
                        return Err(Error::Replaced { listen, address: upstream.address() });
                    }
                    let error = error.map(tracing::field::display);
                    tracing::warn!(listen = %address, error, "the server has stopped listening: asking again");
                }
            }
            Err(error) if is_final(&error, history) => return Err(error),
            Err(error) => {
                has_late_claim |= is_unanswered(&error);
                tracing::warn!(listen = %address, %error, "the server does not listen: asking again");
            }
        }
        tokio::select! {
            () = upstream.tunnels.draining.cancelled() => {}
            () = sleep(pauses.next_pause().min(MAX_PAUSE)) => {}
        }
    }
    Ok(())
}

/// Whether the server has listened for this client before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    /// It has not: a refusal is final, and the user learns of it.
    NeverHeld,
    HeldBefore,
}

/// Whether the server is not asked again.
fn is_final(error: &Error, history: History) -> bool {
    match error.fault() {
        Fault::Permanent => !matches!(error, Error::NoChannel { .. }),
        Fault::Denied { .. } => history == History::NeverHeld,
        Fault::TooManyChannels | Fault::Passing => history == History::NeverHeld && is_busy(error),
    }
}

/// Whether another program of this client listens there from now on.
fn is_replaced(error: &std::io::Error) -> bool {
    matches!(error_in(error), Some(wire_protocol::Error::Reset(ResetCode::Replaced)))
}

/// Whether the server may have been asked, and has not answered.
fn is_unanswered(error: &Error) -> bool {
    let Error::Listening { source, .. } = error else { return false };
    !matches!(error_in(source), Some(wire_protocol::Error::Refused(_)))
}

/// Whether the server refused because somebody else has the address.
fn is_busy(error: &Error) -> bool {
    let Error::Listening { source, .. } = error else { return false };
    matches!(error_in(source), Some(wire_protocol::Error::Refused(code)) if *code != RefusedCode::Stopping)
}

fn announce(upstream: &Upstream, forward: &RemoteForward, address: &ListenAddress, kind: ListenKind) {
    let transport = match kind {
        ListenKind::Datagram => Transport::Datagram,
        ListenKind::Stream | ListenKind::Socks => Transport::Stream,
    };
    let target = forward.target.as_ref().map_or_else(|| "socks".to_owned(), ToString::to_string);
    let address = shown(address, transport);
    upstream.tunnels.observer.tell(&Event::Listening {
        kind: Kind::Remote,
        address: &address,
        target: Some(&target),
        server: &upstream.address(),
    });
}

/// A lease that has held for so long has done well: the next attempts come as quickly as the first ones did.
const STABLE: Duration = Duration::from_secs(10);
