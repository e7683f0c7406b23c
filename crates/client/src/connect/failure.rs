//! What is told where a server was not reached.

use std::io;

use tunnel::address::Address;
use wire_protocol::message::DeniedCode;
use wire_protocol::stream::error_in;

use super::race::{Cause, Failure, Lost};
use crate::error::Error;
use crate::server::Server;

/// The error of a connection that did not come about.
pub(super) fn connect_error(server: &Server, lost: Lost) -> Error {
    lost_error(server, lost, |address, source| handshake_error(server, address, source))
}

/// As [`connect_error`], with the errors that `handshake` makes of handshakes that have failed.
pub(crate) fn lost_error(
    server: &Server,
    lost: Lost,
    handshake: impl Fn(&Address, io::Error) -> Error,
) -> Error {
    let told = |Failure { address, cause }: Failure| match cause {
        Cause::Connect(source) => Error::Connect { address: server.shown_at(&address), source },
        Cause::Question(source) => handshake(&address, source),
    };
    match lost {
        Lost::Ended(failure) => told(failure),
        Lost::Unreached(failures) => {
            let mut failures: Vec<Error> = failures.into_iter().map(told).collect();
            match failures.pop() {
                None => {
                    let source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                    Error::Connect { address: server.to_string(), source }
                }
                Some(only) if failures.is_empty() => only,
                Some(last) => {
                    failures.push(last);
                    Error::Unreached { server: server.to_string(), failures }
                }
            }
        }
    }
}

/// What a handshake at one of a server's addresses has failed with, as it is told.
pub(super) fn handshake_error(server: &Server, address: &Address, source: io::Error) -> Error {
    let address = server.shown_at(address);
    match error_in(&source) {
        Some(&wire_protocol::Error::ServerKeyMismatch { expected, offered }) => {
            Error::ServerKeyChanged { address, server: server.to_string(), expected, offered }
        }
        Some(wire_protocol::Error::Denied(
            DeniedCode::NotAllowed | DeniedCode::Expired { .. } | DeniedCode::Revoked,
        )) if server.psk.is_some() => {
            let id = server.psk.as_ref().map(|psk| psk.id().to_owned()).unwrap_or_default();
            Error::Psk { address, id, source }
        }
        _ => Error::Handshake { address, source },
    }
}
