//! How long the machine has been suspended, from a pair of clocks of which one stands still meanwhile.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A clock of the time that the machine was suspended.
pub trait SuspendClock: Send + 'static {
    /// How long the machine has been suspended altogether. Where that began to be counted does not matter.
    fn suspended(&self) -> Duration;
}

/// The clock pair of the system. Where a system has no clock that goes on in a suspended machine, nothing is counted.
#[derive(Debug, Clone, Copy)]
pub struct SystemSuspendClock {
    started: Instant,
}

impl SystemSuspendClock {
    /// Begins with any constant.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemSuspendClock {
    fn default() -> Self {
        Self::new()
    }
}

impl SuspendClock for SystemSuspendClock {
    fn suspended(&self) -> Duration {
        // The standard library's clock stands still while Linux and Apple's systems are suspended.
        let awake = self.started.elapsed();
        let since_boot = Duration::try_from(clock_gettime(GOES_ON)).unwrap_or_default();
        since_boot.saturating_sub(awake)
    }
}

/// The clock that goes on in a suspended machine.
#[cfg(any(target_os = "linux", target_os = "android"))]
const GOES_ON: ClockId = ClockId::Boottime;
/// Apple's systems have it under this name. On others it is the standard library's own.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const GOES_ON: ClockId = ClockId::Monotonic;

#[cfg(test)]
mod tests {
    use super::*;

    /// The difference grows only while the machine is suspended, which this test is not, but for the time between the
    /// readings of two clocks.
    #[test]
    fn time_awake_is_not_counted() {
        let clock = SystemSuspendClock::new();
        let began = Instant::now();
        let least = (0..1000).map(|_| clock.suspended()).min().unwrap();
        let counted = least.abs_diff(clock.suspended());
        assert!(counted <= began.elapsed(), "{counted:?}");
    }
}
