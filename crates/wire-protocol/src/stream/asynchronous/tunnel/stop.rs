//! How a relay is stopped from outside.

use crate::message::ResetCode;

/// What becomes of a stream that is stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a stream either ends or goes on")]
pub enum Stop {
    /// It ends: the other side is told this reason.
    Reset(ResetCode),
    /// It leaves its channel, which is cut, and may go on on another one: for resumable streams alone.
    Suspend,
}

impl From<ResetCode> for Stop {
    fn from(code: ResetCode) -> Self {
        Self::Reset(code)
    }
}
