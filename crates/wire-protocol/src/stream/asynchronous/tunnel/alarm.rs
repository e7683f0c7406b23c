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

/// Sets the timer again, once it has rung.
pub(super) fn set_alarm(alarm: Pin<&mut Sleep>, due: Option<Instant>) {
    alarm.reset(ringing_at(due));
}

/// Where nothing is waited for now, the alarm rings no later than something could be due by then.
fn ringing_at(due: Option<Instant>) -> Instant {
    due.unwrap_or_else(|| Instant::now() + HEARTBEAT)
}
