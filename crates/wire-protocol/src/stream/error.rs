//! The protocol's errors as those of std, and the time limits of a stream as errors.

use std::io;
use std::time::Duration;

use super::deadline::{CLOSE_DEADLINE, HANDSHAKE_DEADLINE};
use crate::Error;
use crate::channel::SILENCE;

/// The protocol's error in an `io::Error`, where there is one.
#[must_use]
pub fn error_in(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Silent => return silent(),
            Error::EndTimedOut => return end_timed_out(),
            Error::Truncated | Error::InviteUnanswered => io::ErrorKind::UnexpectedEof,
            Error::Closed => io::ErrorKind::NotConnected,
            Error::Denied(_) | Error::Refused(_) => io::ErrorKind::PermissionDenied,
            Error::Aborted(_) => io::ErrorKind::ConnectionRefused,
            Error::Reset(_) => io::ErrorKind::ConnectionReset,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// The peer has left in the middle of a handshake; `ConnectionAborted` where it did nothing wrong with that.
pub(super) fn closed_during_handshake(peer_may_leave: bool) -> io::Error {
    if peer_may_leave {
        io::Error::new(io::ErrorKind::ConnectionAborted, "the client left without a hello")
    } else {
        io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection during the handshake")
    }
}

/// A handshake has taken longer than it may.
pub(super) fn handshake_timed_out() -> io::Error {
    let message = std::format!("the handshake took longer than {} seconds", HANDSHAKE_DEADLINE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// The other side has not been heard of for too long.
pub(super) fn silent() -> io::Error {
    let message = std::format!("the other side has not been heard of for {} seconds", SILENCE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// The other side has not answered the end of a flow of datagrams, or not taken our answer to its own.
pub(super) fn end_timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, std::format!("{}", Error::EndTimedOut))
}

/// The channel was left idle for longer than `limit`.
pub(super) fn idle_for(limit: Duration) -> io::Error {
    let message = std::format!("the channel was idle for longer than {} seconds", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// The other side has not answered our Close.
pub(super) fn not_closed() -> io::Error {
    let message =
        std::format!("the other side has not closed the channel within {} seconds", CLOSE_DEADLINE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// A connection that was reset has lost its end like one that was cut.
pub(super) fn cut_off(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            Error::Truncated.into()
        }
        _ => error,
    }
}
