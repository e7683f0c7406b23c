//! The reasons why a connection is rejected before its handshake.

/// The reason why a connection is rejected before its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// Too many handshakes are in progress. The client may be told to come back.
    Busy,
    /// The source has failed too often, and is told nothing.
    Penalized,
}
