//! Decides which side a failed handshake is charged to: a source is charged only for garbage and failed proofs.

use std::io;

use wire_protocol::Error;
use wire_protocol::message::{AbortCode, DeniedCode};
use wire_protocol::stream::error_in;

/// The progress of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// The client had sent nothing.
    Nothing,
    /// The client had sent a part of a ClientHello.
    FirstBytes,
    /// The client had sent a whole ClientHello, and both sides had work left.
    Hello,
    /// RSA was begun or done for the ClientHello, and only the client's proof was missing.
    Rsa,
    /// The client had proved who it is, and the server had not answered: that it takes long is not the client's fault.
    Proved,
}

/// The verdict on a client whose handshake has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client sent garbage, or lacks a key. The log names it, and its source is charged.
    Client,
    /// The client has proved its identity, and may not connect. The log names it.
    Denied,
    /// The client has as many channels as it may have.
    Full,
    /// The server has no time for the handshake now.
    Busy,
    /// The client has left, or was too slow, which is charged to nobody.
    Nobody,
}

/// Returns the verdict for `error`.
pub(crate) fn of(error: &io::Error, reached: Reached) -> Fault {
    match error_in(error) {
        Some(Error::Denied(DeniedCode::TooManyChannels)) => Fault::Full,
        Some(Error::Denied(_)) => Fault::Denied,
        Some(Error::Busy) => Fault::Busy,
        // Clients ask a server without a key for one, `client doctor` among them, and the answer costs nothing.
        Some(Error::UnknownServerOrPsk(AbortCode::PskOnly)) => Fault::Nobody,
        Some(Error::Crypto(_) | Error::ApiMisuse(_)) => Fault::Nobody,
        Some(_) => Fault::Client,
        None => match (reached, error.kind()) {
            // The client sent a part of a ClientHello, and then nothing more.
            (Reached::FirstBytes, io::ErrorKind::UnexpectedEof | io::ErrorKind::TimedOut)
            // The proof never came, which is the aim of clients that only want to cost the server RSA.
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

/// Whether the client has left, and said nothing wrong before.
pub(crate) fn has_left(error: &io::Error) -> bool {
    error_in(error).is_none() && error.kind() != io::ErrorKind::TimedOut
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
            Error::UnknownServerOrPsk(AbortCode::UnknownPsk),
        ] {
            assert_eq!(of(&protocol(error), Reached::Hello), Fault::Client, "{error}");
        }
        assert_eq!(of(&protocol(Error::Denied(DeniedCode::NotAllowed)), Reached::Hello), Fault::Denied);
        assert_eq!(of(&protocol(Error::Denied(DeniedCode::TooManyChannels)), Reached::Hello), Fault::Full);
        assert_eq!(of(&protocol(Error::Busy), Reached::FirstBytes), Fault::Busy);
        let asked = Error::UnknownServerOrPsk(AbortCode::PskOnly);
        assert_eq!(of(&protocol(asked), Reached::FirstBytes), Fault::Nobody);

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
        assert_eq!(of(&io::ErrorKind::TimedOut.into(), Reached::Rsa), Fault::Client);
        assert_eq!(of(&io::ErrorKind::UnexpectedEof.into(), Reached::Rsa), Fault::Client);
        assert!(has_left(&io::ErrorKind::UnexpectedEof.into()) && !has_left(&io::ErrorKind::TimedOut.into()));
        assert!(!has_left(&protocol(Error::Authentication)));
        assert_eq!(of(&io::ErrorKind::TimedOut.into(), Reached::Proved), Fault::Nobody);
    }
}
