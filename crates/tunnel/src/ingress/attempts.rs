//! Opening one stream again and again, until a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;

/// The attempts to open one stream on one channel after the other.
pub(super) struct Attempts {
    deadline: Instant,
    at_once: u32,
    pauses: Backoff,
}

impl Attempts {
    /// Until `deadline`.
    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, at_once: AT_ONCE, pauses: Backoff::default() }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits before the next attempt, until the deadline at most.
    pub(super) async fn pause(&mut self) {
        let pause = self.next_pause();
        if !pause.is_zero() {
            sleep_until(self.deadline.min(Instant::now() + pause)).await;
        }
    }

    /// Channels that have waited here may be old, so the first attempts follow at once; a server that answers each time, and
    /// never opens the stream, is asked as one that cannot be reached.
    fn next_pause(&mut self) -> Duration {
        match self.at_once.checked_sub(1) {
            Some(left) => {
                self.at_once = left;
                Duration::ZERO
            }
            None => self.pauses.next_pause(),
        }
    }
}

/// As many as are kept warm where nothing has been asked for in a while.
const AT_ONCE: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_always_answers_is_asked_less_and_less_often() {
        let mut attempts = Attempts::until(Instant::now() + Duration::from_secs(30));
        let pauses: Vec<Duration> = (0..10).map(|_| attempts.next_pause()).collect();
        assert_eq!(pauses[..2], [Duration::ZERO; 2]);
        assert!(pauses[2] >= Duration::from_millis(100), "{pauses:?}");
        assert!(pauses[9] >= Duration::from_secs(5), "{pauses:?}");
        assert!(pauses[2..].iter().sum::<Duration>() > Duration::from_secs(15), "{pauses:?}");
    }

    #[tokio::test]
    async fn nobody_waits_beyond_the_deadline() {
        let mut attempts = Attempts::until(Instant::now());
        let start = Instant::now();
        for _ in 0..20 {
            attempts.pause().await;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}
