//! The one timer of a relay: for the channel's own timers, and for a direction that is held up.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::channel::HEARTBEAT;

/// A timer that rings once the timers of the channel have to be looked at, which are due at this moment.
pub(super) fn alarm(due: Option<Instant>) -> Sleep {
    sleep_until(ringing_at(due))
}

/// Ready once the timer rings: at the moment that it was set to, or at the end of what holds a direction up.
pub(super) fn poll_alarm(
    mut alarm: Pin<&mut Sleep>,
    held_until: Option<Instant>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if let Some(held_until) = held_until
        && held_until < alarm.deadline()
    {
        alarm.as_mut().reset(held_until);
    }
    alarm.poll(cx)
}

/// Sets the timer again, once it has rung. What is due even so could not be done, since other bytes wait to go out: it is
/// looked at again a heartbeat later, and not again and again.
pub(super) fn set_alarm(alarm: Pin<&mut Sleep>, due: Option<Instant>) {
    let now = Instant::now();
    alarm.reset(ringing_at(due.filter(|due| *due > now)));
}

/// Where nothing is waited for now, the alarm rings no later than something could be due by then.
fn ringing_at(due: Option<Instant>) -> Instant {
    due.unwrap_or_else(|| Instant::now() + HEARTBEAT)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    /// A Ping is due for as long as the transport takes nothing, which is up to the other side.
    #[tokio::test(start_paused = true)]
    async fn what_is_due_and_cannot_be_done_is_looked_at_a_heartbeat_later() {
        let begun = Instant::now();
        let due = begun + Duration::from_secs(1);
        let mut alarm = pin!(alarm(Some(due)));
        for heartbeats in 0..3 {
            poll_fn(|cx| poll_alarm(alarm.as_mut(), None, cx)).await;
            assert_eq!(begun.elapsed(), Duration::from_secs(1) + heartbeats * HEARTBEAT);
            set_alarm(alarm.as_mut(), Some(due));
        }
    }
}
