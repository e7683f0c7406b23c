//! Why a stream was not taken over.

use std::io;

use wire_protocol::message::ResetCode;

/// The reason why a stream was not taken over.
pub(super) enum TakeoverError<E> {
    /// There was no channel in time.
    NoChannel(E),
    /// The server does not let the client in any more.
    Denied,
    /// This side does not want it any more, for this reason.
    Stopped(ResetCode),
    /// The other side does not have the stream.
    Gone,
    /// The other side has broken the protocol.
    Failed(io::Error),
}
