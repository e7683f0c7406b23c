//! Why there is no stream, or none any more.

use std::io;

use wire_protocol::stream::error_in;

/// The reason why a connection failed.
///
/// Reading and writing give `std::io::Error`, as their traits ask; `Error::from` finds in it what is here.
///
/// ```
/// use sockseal::Error;
/// use sockseal::reason::ProtocolError;
///
/// fn advice(error: &Error) -> &'static str {
///     match error {
///         Error::Protocol(ProtocolError::ServerKeyMismatch { .. }) => "this is another server",
///         Error::Protocol(ProtocolError::Denied(_)) => "the server has to let this client in first",
///         Error::Protocol(ProtocolError::Truncated) | Error::Disconnected(_) => "the connection was cut",
///         Error::TimedOut(_) => "the other side does not answer",
///         _ => "this needs a closer look",
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A fault that the protocol names. The other side is not who it should be, did not let this side in, broke the protocol, or cut the stream: the reason
    /// is inside.
    #[error(transparent)]
    Protocol(wire_protocol::Error),
    /// The other side took longer than it may: [`HANDSHAKE_DEADLINE`](crate::HANDSHAKE_DEADLINE) for the handshake,
    /// [`SILENCE`](crate::SILENCE) for an answer, [`CLOSE_DEADLINE`](crate::CLOSE_DEADLINE) for its Close, and a client
    /// [`ServerConfig::idle_timeout`](crate::ServerConfig::idle_timeout) until it opens its stream (section 8 of
    /// PROTOCOL.md).
    #[error("{0}")]
    TimedOut(#[source] io::Error),
    /// The connection ended before there was a stream.
    #[error("{0}")]
    Disconnected(#[source] io::Error),
    /// The transport failed.
    #[error("{0}")]
    Transport(#[source] io::Error),
    /// A key could not be made or read.
    #[error(transparent)]
    Key(#[from] crypto_core::Error),
}

impl From<wire_protocol::Error> for Error {
    fn from(error: wire_protocol::Error) -> Self {
        io::Error::from(error).into()
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if let Some(&error) = error_in(&error) {
            return Self::Protocol(error);
        }
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut(error),
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::Disconnected(error),
            _ => Self::Transport(error),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Protocol(error) => error.into(),
            Error::TimedOut(error) | Error::Disconnected(error) | Error::Transport(error) => error,
            Error::Key(error) => Self::new(io::ErrorKind::InvalidInput, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_its_way_through_a_trait_that_asks_for_another() {
        for error in [wire_protocol::Error::Truncated, wire_protocol::Error::Authentication] {
            let there = io::Error::from(Error::Protocol(error));
            assert!(matches!(Error::from(there), Error::Protocol(found) if found == error));
        }
        let silent = Error::from(wire_protocol::Error::Silent);
        assert!(matches!(silent, Error::TimedOut(_)), "{silent:?}");
        for (kind, shown) in [
            (io::ErrorKind::TimedOut, "TimedOut"),
            (io::ErrorKind::BrokenPipe, "Disconnected"),
            (io::ErrorKind::UnexpectedEof, "Disconnected"),
            (io::ErrorKind::PermissionDenied, "Transport"),
        ] {
            let there = Error::from(io::Error::from(kind));
            assert!(format!("{there:?}").starts_with(shown), "{there:?}");
            assert_eq!(io::Error::from(there).kind(), kind);
        }
    }
}
