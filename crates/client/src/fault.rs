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
            // What one address says is not the last word where another one may answer later.
            Self::Unreached { failures, .. } => {
                let first = failures.first().map_or(Fault::Passing, Self::fault);
                let is_same = failures.iter().all(|failure| failure.fault() == first);
                return if is_same { first } else { Fault::Passing };
            }
            Self::Program(error) if error.is_exhaustion() => return Fault::Passing,
            _ => return Fault::Permanent,
        };
        match error_in(source) {
            Some(wire_protocol::Error::Denied(DeniedCode::TooManyChannels)) => Fault::TooManyChannels,
            Some(wire_protocol::Error::Aborted(AbortCode::Busy)) => Fault::Passing,
            // From another network it may be let in.
            Some(wire_protocol::Error::Denied(DeniedCode::Elsewhere { .. })) => {
                Fault::Denied { is_final: false }
            }
            Some(wire_protocol::Error::Denied(_)) => Fault::Denied { is_final: true },
            Some(
                wire_protocol::Error::Aborted(_)
                | wire_protocol::Error::Refused(RefusedCode::NotAllowed)
                | wire_protocol::Error::PeerKey(_)
                | wire_protocol::Error::InvalidMessage(_),
            ) => Fault::Denied { is_final: false },
            _ => Fault::Passing,
        }
    }
}
