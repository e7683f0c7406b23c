//! Finds out that the machine or the process has slept, from what clocks say at regular checks.

use std::mem::replace;
use std::time::Duration;

use tokio::time::Instant;

/// What the clocks said at the last check.
#[derive(Debug)]
pub(super) struct SleepDetector {
    /// The time between two checks of a process that runs.
    every: Duration,
    checked: Instant,
    suspended: Duration,
}

impl SleepDetector {
    /// A detector that is checked `every` so often, from `now` on; `suspended` as in [`Self::check`].
    pub(super) fn new(every: Duration, now: Instant, suspended: Duration) -> Self {
        Self { every, checked: now, suspended }
    }

    /// How long the machine has slept since the last check, `None` for less than [`MIN_ASLEEP`].
    ///
    /// A clock that goes on in a suspended machine counts `suspended`. The clock of `now` stands still there, but goes on
    /// while the process is stopped, so that the check comes late.
    pub(super) fn check(&mut self, now: Instant, suspended: Duration) -> Option<Duration> {
        let waited = now.saturating_duration_since(replace(&mut self.checked, now));
        let suspended_since = suspended.saturating_sub(replace(&mut self.suspended, suspended));
        let late = waited.saturating_sub(self.every);
        let asleep = suspended_since.saturating_add(late);
        (asleep >= MIN_ASLEEP).then_some(asleep)
    }
}

/// The least that counts as sleep: longer than a busy machine keeps a task waiting.
const MIN_ASLEEP: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Checks a detector `waited` after its start, when the machine was suspended for `suspended` besides.
    #[track_caller]
    fn check(waited: Duration, suspended: Duration, asleep: Option<Duration>) {
        let (start, before) = (Instant::now(), Duration::from_secs(1000));
        let mut detector = SleepDetector::new(SECOND, start, before);
        let now = start + waited;
        assert_eq!(detector.check(now, before + suspended), asleep);
        assert_eq!(detector.check(now + SECOND, before + suspended), None, "it is told once");
    }

    #[test]
    fn a_check_in_time_finds_nothing() {
        check(SECOND, Duration::ZERO, None);
        check(SECOND / 10, Duration::ZERO, None);
        check(Duration::ZERO, Duration::ZERO, None);
    }

    #[test]
    fn a_busy_machine_has_not_slept() {
        check(SECOND * 5 / 2 - Duration::from_millis(1), Duration::ZERO, None);
    }

    #[test]
    fn a_stopped_process_has_slept_for_what_the_check_is_late() {
        check(SECOND * 5 / 2, Duration::ZERO, Some(MIN_ASLEEP));
        check(SECOND * 60, Duration::ZERO, Some(SECOND * 59));
    }

    #[test]
    fn a_suspended_machine_has_slept_as_long_as_it_was() {
        check(SECOND, SECOND, None);
        check(SECOND, MIN_ASLEEP, Some(MIN_ASLEEP));
        check(SECOND / 3, SECOND * 30_000, Some(SECOND * 30_000));
        check(SECOND * 11, SECOND * 30, Some(SECOND * 40));
    }

    #[test]
    fn clocks_that_go_back_find_nothing() {
        let (start, before) = (Instant::now(), Duration::from_secs(1000));
        let mut detector = SleepDetector::new(SECOND, start + SECOND * 60, before);
        assert_eq!(detector.check(start, Duration::ZERO), None);
    }
}
