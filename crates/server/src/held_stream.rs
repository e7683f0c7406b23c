//! A resumable stream that has lost its channel: it waits for its client, in the place of a session (section 7.7 of the protocol).

use std::sync::Arc;

use crypto_core::stream_secret::StreamId;
use tokio::sync::watch;
use tunnel::resumable_streams::Hold;

use crate::access::{Origin, Request, Snapshot, permits};
use crate::counters::StreamLoss;
use crate::server::Server;
use crate::stream_owner::StreamOwner;

/// Waits for the client of a stream that has lost its channel, in the place of a session: until the stream is taken over, its time
/// is over, or its client may not have it any more.
pub(crate) async fn hold(
    server: Arc<Server>,
    mut hold: Hold<StreamOwner>,
    owner: StreamOwner,
    origin: Origin,
    mut changes: watch::Receiver<Snapshot>,
) {
    let id = hold.id();
    let (closed, ended) = (server.closed.clone(), server.ended.clone());
    let (is_lost, loss) = loop {
        tokio::select! {
            biased;
            is_lost = hold.over() => break (is_lost, StreamLoss::Expired),
            // Nobody can come for it any more.
            () = closed.cancelled() => break (hold.end(), StreamLoss::Stopped),
            () = ended.cancelled() => break (hold.end(), StreamLoss::Stopped),
            changed = changes.changed() => {
                if changed.is_err() {
                    break (hold.end(), StreamLoss::Stopped);
                }
                let snapshot = changes.borrow_and_update().clone();
                if !may_keep(&server, &owner, origin, &snapshot) {
                    break (hold.end(), StreamLoss::Revoked);
                }
            }
        }
    };
    if is_lost {
        lost(&server, &owner, id, loss);
    }
}

/// Whether the client may still have what it has opened.
fn may_keep(server: &Server, owner: &StreamOwner, origin: Origin, snapshot: &Snapshot) -> bool {
    let principal = match server.reauthorize(&owner.principal.identity, origin, snapshot) {
        Some(Ok(principal)) => principal,
        Some(Err(_)) => return false,
        // The file says nothing: what was permitted stays so.
        None => return true,
    };
    owner.open.as_ref().is_none_or(|open| {
        permits(&Request { principal: &principal, source: origin.source, action: open.action() }).is_ok()
    })
}

/// Counts a stream that was lost, and says so in the log.
pub(crate) fn lost(server: &Server, owner: &StreamOwner, id: StreamId, loss: StreamLoss) {
    server.counters.resumption.lost.one(loss);
    let reason = match loss {
        StreamLoss::Expired => "its client has not resumed it in time",
        StreamLoss::Revoked => "its client has lost the right to it",
        StreamLoss::Stopped => "the server is stopping",
        StreamLoss::Full => "too many streams wait for their clients already",
    };
    tracing::info!(client = owner.name(), target = owner.target(), stream = %id, reason, "stream lost: its target is reset");
}
