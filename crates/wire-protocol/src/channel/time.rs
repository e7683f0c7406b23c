//! The time as whoever drives a channel tells it.

use core::time::Duration;

/// A moment on the clock of the driver of a channel: the time since a start that the driver chooses, the same for both
/// directions. The clock does not go back.
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

/// A side that has sent nothing for this long in a tunnel, a flow of datagrams or a listening sends Ping, and so does the
/// client of a message (section 7.1).
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// A side that waits for records there, and gets none for this long, takes the channel as dead (section 7.1). The other side of
/// a flow of datagrams has as long to answer EndOfStream with its own.
pub const SILENCE: Duration = Duration::from_secs(30);

/// What was taken of a resumable stream is acknowledged after this long at the latest (section 7.7).
pub const ACKNOWLEDGE_AFTER: Duration = Duration::from_secs(1);

/// [`HEARTBEAT`] of the client in a resumable stream: its Pings ask for a sign of life well within [`RESUMABLE_SILENCE`].
pub const RESUMABLE_HEARTBEAT: Duration = Duration::from_secs(4);

/// [`SILENCE`] of the client in a resumable stream, which loses nothing by giving the channel up (section 7.7).
pub const RESUMABLE_SILENCE: Duration = Duration::from_secs(10);

/// How long one key may be in use (section 6).
pub const MAX_KEY_AGE: Duration = Duration::from_secs(60 * 60);
