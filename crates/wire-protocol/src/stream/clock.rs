//! The clock that the channel of a stream goes by.

use std::time::Instant;

use crate::channel::Timestamp;

/// A clock for one channel. It moves with the channel from one kind of stream to the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self { start: now() }
    }

    pub(crate) fn now(self) -> Timestamp {
        Timestamp(now().saturating_duration_since(self.start))
    }

    /// The moment on the system's clock.
    pub(crate) fn instant(self, moment: Timestamp) -> Instant {
        // Beyond what the system counts is as good as the end of what a timer waits for.
        self.start.checked_add(moment.0).unwrap_or_else(|| now() + FAR)
    }
}

/// The time of the system, or that of tokio where a test has its own.
fn now() -> Instant {
    #[cfg(feature = "tokio")]
    return tokio::time::Instant::now().into_std();
    #[cfg(not(feature = "tokio"))]
    Instant::now()
}

/// Later than any timer of a channel.
const FAR: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
