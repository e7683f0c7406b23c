//! Whose fault it is that a handshake has come to nothing: only garbage and failed proofs are the source's.

use std::io;

use wire_protocol::Error;
use wire_protocol::message::DeniedCode;
use wire_protocol::stream::error_in;

/// How far a handshake had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// The client had said nothing.
    Nothing,
    /// It had said something, but no whole hello.
    FirstBytes,
    /// It had said hello, and the rest was for both sides to do.
    Hello,
    /// RSA was done, or begun, for its hello, and all that was left was to prove that the hello was its own.
    Rsa,
}

/// What the end of a handshake says of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It sent garbage, or lacks a key: it is named in the log, and charged.
    Client,
    /// It has proven who it is, and may not come in: it is named in the log.
    Denied,
    /// It is in already as often as it may.
    Full,
    /// The server has no time for it now.
    Busy,
    /// It has left, or was too slow: nobody's.
    Nobody,
}

/// Whose fault `error` is.
pub(crate) fn of(error: &io::Error, reached: Reached) -> Fault {
    match error_in(error) {
        Some(Error::Denied(DeniedCode::TooManyChannels)) => Fault::Full,
        Some(Error::Denied(_)) => Fault::Denied,
        Some(Error::Busy) => Fault::Busy,
        Some(Error::Crypto(_) | Error::ApiMisuse(_)) => Fault::Nobody,
        Some(_) => Fault::Client,
        None => match (reached, error.kind()) {
            // Half a hello, and then the end or nothing more.
            (Reached::FirstBytes, io::ErrorKind::UnexpectedEof | io::ErrorKind::TimedOut)
            // A proof that never came: whoever sends hellos that are not meant is out for just this.
            | (
                Reached::Rsa,
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::TimedOut
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe,
            ) => Fault::Client,
            _ => Fault::Nobody,
        },
    }
}

#[cfg(test)]
mod tests {
    use wire_protocol::{InvalidMessage, PeerMisbehaved};

    use super::*;

    #[test]
    fn only_garbage_and_failed_proofs_are_the_clients_fault() {
        let protocol = |error: Error| io::Error::from(error);
        for error in [
            Error::InvalidMessage(InvalidMessage::TooLong),
            Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyOffers),
            Error::Authentication,
            Error::UnknownServerOrPsk(wire_protocol::message::AbortCode::UnknownPsk),
        ] {
            assert_eq!(of(&protocol(error), Reached::Hello), Fault::Client, "{error}");
        }
        assert_eq!(of(&protocol(Error::Denied(DeniedCode::NotAllowed)), Reached::Hello), Fault::Denied);
        assert_eq!(of(&protocol(Error::Denied(DeniedCode::TooManyChannels)), Reached::Hello), Fault::Full);
        assert_eq!(of(&protocol(Error::Busy), Reached::FirstBytes), Fault::Busy);

        let check = |kind: io::ErrorKind, expected: [Fault; 3]| {
            let fault = |reached| of(&kind.into(), reached);
            assert_eq!(
                [Reached::Nothing, Reached::FirstBytes, Reached::Hello].map(fault),
                expected,
                "{kind}"
            );
        };
        let nobody = [Fault::Nobody; 3];
        check(io::ErrorKind::UnexpectedEof, [Fault::Nobody, Fault::Client, Fault::Nobody]);
        check(io::ErrorKind::TimedOut, [Fault::Nobody, Fault::Client, Fault::Nobody]);
        check(io::ErrorKind::ConnectionAborted, nobody);
        check(io::ErrorKind::ConnectionReset, nobody);
        check(io::ErrorKind::BrokenPipe, nobody);
    }
}
