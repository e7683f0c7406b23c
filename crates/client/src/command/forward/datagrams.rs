//! Sessions of datagrams, each over a channel of its own for as long as it lasts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tunnel::drops::DropReason;
use tunnel::pending_stream::PendingStream;
use tunnel::udp_sessions::UdpSession;
use wire_protocol::message::Target;

use crate::command::forward::upstream::Upstream;

/// Carries a session until it has been idle for long enough, or there is to be no more of it. `give_way` ends another one,
/// where there are so many that there is no room.
pub(super) fn spawn(
    upstream: &Arc<Upstream>,
    mut session: UdpSession,
    target: Arc<Target>,
    give_way: impl FnOnce(),
) {
    let permit = Arc::clone(&upstream.tunnels.accepted).try_acquire_owned().ok();
    if permit.is_none() {
        give_way();
    }
    let upstream = Arc::clone(upstream);
    let tracker = upstream.tunnels.tracker.clone();
    tracker.spawn(async move {
        let _permit = if let Some(permit) = permit {
            permit
        } else {
            let others = Arc::clone(&upstream.tunnels.accepted).acquire_owned();
            let permit = tokio::select! {
                permit = timeout(PERMIT_DEADLINE, others) => permit,
                () = session.ended() => return,
            };
            let Ok(Ok(permit)) = permit else {
                session.lose(DropReason::NoChannel);
                return;
            };
            permit
        };
        let stream = PendingStream::Datagrams { session: Box::new(session), target: Arc::clone(&target) };
        if let Err(error) = upstream.carry(stream).await {
            tracing::info!(%target, %error, "datagrams are lost");
        }
    });
}

/// How long a new session waits for the permit of one that gives way, which ends in a round trip.
const PERMIT_DEADLINE: Duration = Duration::from_secs(5);
