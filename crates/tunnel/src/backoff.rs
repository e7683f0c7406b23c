//! The pauses between attempts that fail.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Exponential backoff with jitter: endless pauses that grow from [`MIN_PAUSE`] to [`MAX_PAUSE`], before the jitter.
#[derive(Debug)]
pub struct Backoff(ExponentialBackoff);

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(MAX_PAUSE)
    }
}

impl Backoff {
    /// With `longest` in place of [`MAX_PAUSE`].
    #[must_use]
    pub fn up_to(longest: Duration) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(MIN_PAUSE)
            .with_max_delay(longest)
            .with_jitter()
            .without_max_times();
        Self(pauses.build())
    }

    /// How long to wait before the next attempt.
    pub fn next_pause(&mut self) -> Duration {
        self.0.next().unwrap_or(MAX_PAUSE)
    }
}

/// The first pause.
pub const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
pub const MAX_PAUSE: Duration = Duration::from_secs(5);
