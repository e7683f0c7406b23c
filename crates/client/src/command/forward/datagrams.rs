//! Flows of datagrams, each over a channel of its own for as long as it lasts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tunnel::drops::DropReason;
use tunnel::flows::Flow;
use wire_protocol::Error as ProtocolError;
use wire_protocol::message::{RefusedCode, Target};
use wire_protocol::stream::{RelayError, error_in, relay_datagrams};

use super::attempts::Attempts;
use super::{REFUSED_PAUSE, Site};
use crate::Error;

/// Carries a flow until it has been idle for long enough, or there is to be no more of it. `give_way` ends another one, where
/// there are so many that there is no room.
pub(super) fn spawn(site: &Arc<Site>, mut flow: Flow, target: Arc<Target>, give_way: impl FnOnce()) {
    let place = Arc::clone(&site.tunnels.accepted).try_acquire_owned().ok();
    if place.is_none() {
        give_way();
    }
    let site = Arc::clone(site);
    let tracker = site.tunnels.tracker.clone();
    tracker.spawn(async move {
        let _place = if let Some(place) = place {
            place
        } else {
            let others = Arc::clone(&site.tunnels.accepted).acquire_owned();
            let place = tokio::select! {
                place = timeout(PLACE_DEADLINE, others) => place,
                () = flow.ended() => return,
            };
            let Ok(Ok(place)) = place else {
                flow.lose(DropReason::NoChannel);
                return;
            };
            place
        };
        if let Err(error) = carry(&site, flow, &target).await {
            tracing::info!(%target, %error, "datagrams are lost");
        }
    });
}

async fn carry(site: &Site, mut flow: Flow, target: &Target) -> Result<(), Error> {
    let broken = |source| {
        let address = site.pool.connector().address();
        Error::carried(&address, target, RelayError::Channel(source))
    };
    let mut deadline = Instant::now() + site.wait;
    let mut attempts = Attempts::until(deadline);
    loop {
        let channel = tokio::select! {
            channel = site.pool.get(deadline) => channel.inspect_err(|_| flow.lose(DropReason::NoChannel))?,
            // It has given way to another one, and what waits in it is too old for anybody.
            () = flow.ended() => return Ok(()),
        };
        let open = site.tunnels.streams.begin();
        let mut stream = channel.begin_open(target).map_err(|error| broken(error.into()))?;
        let error = match relay_datagrams(&mut stream, &mut flow, site.udp_timeout).await {
            Ok(end) => {
                tracing::debug!(%target, ?end, "datagrams have ended");
                site.pool.put(stream.finish().await.map_err(broken)?);
                drop(open);
                // One that came while the end was said.
                if !flow.has_waiting() {
                    return Ok(());
                }
                deadline = Instant::now() + site.wait;
                attempts = Attempts::until(deadline);
                continue;
            }
            Err(error) => error,
        };
        drop(open);
        match error_in(&error) {
            // It never stood, and what was sent on it is lost, as datagrams may be.
            Some(ProtocolError::Closed) => {}
            Some(ProtocolError::Refused(RefusedCode::Stopping)) => {
                site.pool.put(stream.finish().await.map_err(broken)?);
            }
            Some(ProtocolError::Refused(_)) => {
                site.pool.put(stream.finish().await.map_err(broken)?);
                // What comes meanwhile is lost, and does not ask the server again and again.
                sleep(REFUSED_PAUSE).await;
                flow.lose(DropReason::Refused);
                return Err(broken(error));
            }
            _ => return Err(broken(error)),
        }
        attempts.pause().await;
    }
}

/// How long a new flow waits for the place of one that gives way, which ends in a round trip.
const PLACE_DEADLINE: Duration = Duration::from_secs(5);
