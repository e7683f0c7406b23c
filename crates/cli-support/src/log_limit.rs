//! A limit on log lines that unauthenticated peers can cause: the first lines are written, the others are counted.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The period in which lines are counted together.
pub const WINDOW: Duration = Duration::from_secs(10);

/// A limit for log lines of one kind.
#[derive(Debug)]
pub struct LogLimit {
    most: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Option<Instant>,
    written: u32,
    suppressed: u64,
}

impl LogLimit {
    /// A limit of `most` lines in each [`WINDOW`].
    #[must_use]
    pub const fn new(most: u32) -> Self {
        Self { most, state: Mutex::new(State { since: None, written: 0, suppressed: 0 }) }
    }

    /// Returns whether another line may be written now. A line that may not is counted.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.admits_at(Instant::now())
    }

    fn admits_at(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            state.since = Some(now);
            state.written = 0;
        }
        let admits = state.written < self.most;
        if admits {
            state.written += 1;
        } else {
            state.suppressed += 1;
        }
        admits
    }

    /// Returns the number of lines that were not written since the last call.
    pub fn take_suppressed(&self) -> u64 {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).suppressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_written_and_the_others_are_counted() {
        let limit = LogLimit::new(3);
        let now = Instant::now();
        let admitted = |now| (0..1000).filter(|_| limit.admits_at(now)).count();
        assert_eq!(admitted(now), 3);
        assert_eq!((limit.take_suppressed(), limit.take_suppressed()), (997, 0));
        assert_eq!(admitted(now + WINDOW), 3);
        assert_eq!(limit.take_suppressed(), 997);
    }
}
