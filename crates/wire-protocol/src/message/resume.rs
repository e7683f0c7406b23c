//! What the two sides say about a resumable stream (section 7.7).

use crypto_core::stream_secret::STREAM_ID_LEN;
use serde::{Deserialize, Serialize};

use super::target::Target;

/// How much of a stream each side keeps for the other, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Bytes in each direction that are sent and not acknowledged, [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub window: u32,
    /// Seconds that the stream stays without a channel, 1 to [`MAX_HOLD_SECONDS`].
    pub hold_seconds: u32,
}

impl Retention {
    /// Whether both values are in their ranges.
    #[must_use]
    pub fn is_in_range(&self) -> bool {
        (MIN_WINDOW..=MAX_WINDOW).contains(&self.window)
            && (1..=MAX_HOLD_SECONDS).contains(&self.hold_seconds)
    }

    /// The smaller of each of the two values.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            window: self.window.min(other.window),
            hold_seconds: self.hold_seconds.min(other.hold_seconds),
        }
    }
}

impl Default for Retention {
    /// What section 8 asks for: 4 MiB and 300 s.
    fn default() -> Self {
        Self { window: 4 << 20, hold_seconds: 300 }
    }
}

/// The fields of Resume that its proof speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The id of the stream.
    pub id: [u8; STREAM_ID_LEN],
    /// How often the client has taken the stream over, this time included.
    pub generation: u32,
    /// The bytes of the server that the client has taken.
    pub received: u64,
    /// As agreed, or as asked for where no answer to the Open has come.
    pub retention: Retention,
}

/// The fields of Resumed that its proof speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// The bytes of the client that the server has taken.
    pub received: u64,
    /// What holds from now on.
    pub retention: Retention,
}

/// The least window of a resumable stream in bytes.
pub const MIN_WINDOW: u32 = 64 << 10;
/// The largest window of a resumable stream in bytes.
pub const MAX_WINDOW: u32 = 64 << 20;
/// The longest time of a stream without a channel in seconds: a day.
pub const MAX_HOLD_SECONDS: u32 = 86_400;

impl Target {
    /// Whether a stream to this target can be resumable, as far as the target alone says it: one of
    /// [`Target::Forwarded`] cannot where its lease is for datagrams.
    #[must_use]
    pub fn may_be_resumable(&self) -> bool {
        match self {
            Self::Tcp { .. } | Self::Unix { .. } | Self::Service { .. } | Self::Forwarded { .. } => true,
            Self::Message
            | Self::Pipe
            | Self::Udp { .. }
            | Self::Listen { .. }
            | Self::Files { .. }
            | Self::Shares
            | Self::Diagnosis { .. } => false,
        }
    }
}
