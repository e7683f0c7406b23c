//! The two ends of a channel, which have keys of their own.

/// The two ends of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a channel has two ends")]
pub enum Side {
    /// The end that sends the ClientHello.
    Client,
    /// The end that sends the ServerHello.
    Server,
}

impl core::ops::Not for Side {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}
