//! A moment since which all time counts, that in which this machine was suspended included.

use std::time::Duration;

use tokio::time::Instant;

use crate::network_monitor::suspend_clock::{SuspendClock as _, SystemSuspendClock};

/// A moment, for comparing the time since then with what another machine says, which may have gone on meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct RealInstant {
    at: Instant,
    clock: SystemSuspendClock,
    suspended: Duration,
}

impl RealInstant {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let clock = SystemSuspendClock::new();
        Self { at: Instant::now(), clock, suspended: clock.suspended() }
    }

    /// The time since then.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.at.elapsed() + self.clock.suspended().saturating_sub(self.suspended)
    }
}
