//! What an error of this client means for the attempts that follow.

use tunnel::pool::{Attempt, Fault};
use wire_protocol::message::{AbortCode, DeniedCode, RefusedCode};
use wire_protocol::stream::error_in;

use crate::Error;

impl Attempt for Error {
    fn fault(&self) -> Fault {
        let source = match self {
            Self::Handshake { source, .. }
            | Self::Channel { source, .. }
            | Self::Listening { source, .. } => source,
            Self::Connect { .. } => return Fault::Passing,
            Self::Program(error) if error.is_exhaustion() => return Fault::Passing,
            _ => return Fault::Permanent,
        };
        match error_in(source) {
            Some(wire_protocol::Error::Denied(DeniedCode::TooManyChannels)) => Fault::TooManyChannels,
            Some(wire_protocol::Error::Aborted(AbortCode::Busy)) => Fault::Passing,
            Some(
                wire_protocol::Error::Denied(_)
                | wire_protocol::Error::Aborted(_)
                | wire_protocol::Error::Refused(RefusedCode::NotAllowed)
                | wire_protocol::Error::PeerKey(_)
                | wire_protocol::Error::InvalidMessage(_),
            ) => Fault::Denied,
            _ => Fault::Passing,
        }
    }
}
