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

/// Sets the timer again, once it has rung and what was due has been done.
pub(super) fn set_alarm(alarm: Pin<&mut Sleep>, due: Option<Instant>) {
    alarm.reset(ringing_at(due));
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

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_due_the_alarm_rings_a_heartbeat_later_or_at_the_end_of_a_hold() {
        let begun = Instant::now();
        let due = begun + Duration::from_secs(1);
        let mut alarm = pin!(alarm(Some(due)));
        for heartbeats in 0..3 {
            poll_fn(|cx| poll_alarm(alarm.as_mut(), None, cx)).await;
            assert_eq!(begun.elapsed(), Duration::from_secs(1) + heartbeats * HEARTBEAT);
            set_alarm(alarm.as_mut(), None);
        }
        let held_until = Instant::now() + Duration::from_secs(2);
        poll_fn(|cx| poll_alarm(alarm.as_mut(), Some(held_until), cx)).await;
        assert_eq!(Instant::now(), held_until);
    }
}
