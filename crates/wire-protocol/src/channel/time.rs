//! The time as whoever drives a channel tells it.

use core::time::Duration;

/// A moment on the clock of whoever drives a channel: the time since a start of its choosing, which is the same for both
/// directions. Such a clock does not go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub Duration);

impl Timestamp {
    /// The start of the clock.
    pub const START: Self = Self(Duration::ZERO);

    /// The moment `later` behind this one, or the last that there is.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}
