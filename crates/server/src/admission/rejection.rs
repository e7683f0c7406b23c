//! Why a connection is rejected before its handshake.

/// Why a connection is rejected before its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// Too many handshakes are under way: the client may be told, and come back.
    Busy,
    /// The source has failed too often: it is told nothing.
    Penalized,
}
