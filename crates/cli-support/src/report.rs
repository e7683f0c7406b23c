//! How a program ends: its exit code, and the `error:` and `hint:` lines before it.

use std::io;
use std::process::ExitCode;

use wire_protocol::stream::error_in;
use wire_protocol::{InvalidMessage, message};

use crate::output::said::{flush, say};

/// How a program ended. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// The network, or what is behind an address, failed.
    Network,
    /// The command line or a configuration file is wrong.
    Usage,
    /// An identity is missing, unusable or not the one that is trusted.
    Identity,
    /// Data was changed or cut off.
    Integrity,
    /// The server refused.
    Refused,
    /// The other side did not answer in time.
    TimedOut,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Network => 1,
            Self::Usage => 2,
            Self::Identity => 3,
            Self::Integrity => 4,
            Self::Refused => 5,
            Self::TimedOut => 6,
        }
    }
}

/// The table of exit codes, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done, and complete
  1  network
  2  usage or configuration
  3  identity or authentication
  4  integrity: data was changed or cut off
  5  refused by the server
  6  time-out";

/// An error that a program can end with.
pub trait Report: std::error::Error {
    /// The exit code.
    fn exit(&self) -> Exit;

    /// What went wrong, in the lines that it is shown in: one, but for what quotes a file of our own.
    fn lines(&self) -> Vec<String> {
        vec![self.to_string()]
    }

    /// What to do next, where that is worth a line.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Prints what went wrong, if anything, and gives the exit code. What was said before is written then, if it can be.
pub fn finish<E: Report>(result: Result<(), E>) -> ExitCode {
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut lines = error.lines().into_iter();
            say(format_args!("error: {}", lines.next().unwrap_or_default()));
            lines.for_each(say);
            if let Some(hint) = error.hint() {
                say(format_args!("hint: {hint}"));
            }
            ExitCode::from(error.exit().code())
        }
    };
    flush();
    code
}

/// Prints what is wrong with the command line, or what it asks of clap, with what to do next where what was given has said
/// so, and gives the exit code.
#[must_use]
pub fn finish_usage(error: &clap::Error, hint: Option<String>) -> ExitCode {
    // Where it cannot be written, the exit code says it.
    error.print().ok();
    if let Some(hint) = hint {
        say(format_args!("hint: {hint}"));
    }
    flush();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The hint of an error of type `E` that a command line did not pass for.
#[must_use]
pub fn hint_of_usage<E: Report + 'static>(error: &clap::Error) -> Option<String> {
    std::error::Error::source(error)?.downcast_ref::<E>()?.hint()
}

/// The exit code for an error of a connection: while it was being made, or once it stood.
#[must_use]
pub fn exit_of_io(error: &io::Error, phase: Phase) -> Exit {
    use wire_protocol::Error;

    match error_in(error) {
        Some(Error::ServerKeyMismatch { .. } | Error::PeerKey(_)) => Exit::Identity,
        Some(Error::Authentication) if phase == Phase::Handshake => Exit::Identity,
        Some(Error::Aborted(message::AbortCode::UnknownPsk | message::AbortCode::PskOnly)) => Exit::Identity,
        Some(Error::Aborted(message::AbortCode::Busy) | Error::Denied(_) | Error::Refused(_)) => {
            Exit::Refused
        }
        Some(Error::Reset(
            message::ResetCode::TooLong
            | message::ResetCode::NotAllowed
            | message::ResetCode::Replaced
            | message::ResetCode::Busy,
        )) => Exit::Refused,
        Some(Error::InvalidMessage(InvalidMessage::NotSockseal(_) | InvalidMessage::Version(_))) => {
            Exit::Network
        }
        Some(
            Error::Truncated
            | Error::Reset(_)
            | Error::Authentication
            | Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_),
        ) => Exit::Integrity,
        Some(_) => Exit::Network,
        None if error.kind() == io::ErrorKind::TimedOut => Exit::TimedOut,
        None => Exit::Network,
    }
}

/// Whether a connection stood already when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It was being made.
    Handshake,
    /// It stood.
    Established,
}
