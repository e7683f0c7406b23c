//! The end of a program: its exit code, and the `error:` and `hint:` lines before it.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use serde::Serialize;
use wire_protocol::stream::error_in;
use wire_protocol::{InvalidMessage, message};

use crate::invocation::Naming;
use crate::output::machine;
use crate::output::notice::{flush, say, tell_json};

/// The outcome of a program. The exit codes are part of the command-line interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// The network, or the target at an address, failed.
    Network,
    /// The command line or a configuration file is wrong.
    Usage,
    /// An identity is missing, unusable or not the one that is trusted.
    Identity,
    /// Data was changed or cut off.
    Integrity,
    /// The server refused.
    Refused,
    /// The other side has not answered in time.
    TimedOut,
}

impl Exit {
    /// The exit code.
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

    /// The word for the kind of the error, which stays as it is: the name of the variant, as in `server_key_changed`.
    fn code(&self) -> String {
        word_of(self)
    }

    /// The error in one line, or in several where it quotes a file of the user's.
    fn lines(&self) -> Vec<String> {
        vec![self.to_string()]
    }

    /// Advice on how to go on, where there is any. Commands in it are written as `client send`: [`finish`] shows them by the
    /// names that the programs have here.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Prints the error, if any, and returns the exit code. All notices have been written then, as far as the outputs
/// take them.
pub fn finish<E: Report>(result: Result<(), E>) -> ExitCode {
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (lines, exit) = (error.lines(), error.exit().code());
            let hint = error.hint().map(|hint| Naming::of_process().show(&hint).into_owned());
            if machine::is_json() {
                let (code, message) = (error.code(), lines.join("\n"));
                tell_json(&ErrorLine {
                    event: "error",
                    code: &code,
                    message: &message,
                    hint: hint.as_deref(),
                    exit,
                });
            }
            if !machine::is_on_error() {
                let mut lines = lines.into_iter();
                say(format_args!("error: {}", lines.next().unwrap_or_default()));
                lines.for_each(say);
                if let Some(hint) = hint {
                    say(format_args!("hint: {hint}"));
                }
            }
            ExitCode::from(exit)
        }
    };
    flush();
    code
}

/// An error as an object.
#[derive(Debug, Serialize)]
struct ErrorLine<'a> {
    event: &'static str,
    code: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
    exit: u8,
}

/// The word for the kind of an error: the name of its variant, in small letters with `_` between its words.
#[must_use]
pub fn word_of(error: &(impl std::fmt::Debug + ?Sized)) -> String {
    word(&format!("{error:?}"))
}

/// The name at the beginning of a debug text, in small letters with `_` between its words.
fn word(debug: &str) -> String {
    let name = debug.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let mut word = String::with_capacity(name.len() + 8);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

/// Prints clap's error about the command line, or the help that the user has asked for, and `hint` below it.
/// Returns the exit code.
#[must_use]
pub fn finish_usage(error: &clap::Error, hint: Option<String>) -> ExitCode {
    let hint = hint.map(|hint| Naming::of_process().show(&hint).into_owned());
    let exit = u8::try_from(error.exit_code()).unwrap_or(1);
    let arguments: Vec<OsString> = std::env::args_os().skip(1).take_while(|word| word != "--").collect();
    if error.use_stderr() && arguments.iter().any(|word| word == "--json") {
        // It is not known which command was meant: these words stand for data on standard output.
        let has = |wanted: &str| arguments.iter().any(|word| word == wanted);
        let has_data =
            has("pipe") || (has("get") && has("-")) || (has("forward") && (has("-W") || has("--stdio")));
        machine::print_as_json(has_data);
        let text = error.to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text);
        let message = message.split("\n\nUsage:").next().unwrap_or(message);
        let message = message.split("\n\nFor more information").next().unwrap_or(message).trim_end();
        tell_json(&ErrorLine { event: "error", code: "usage", message, hint: hint.as_deref(), exit });
    }
    if !machine::is_on_error() {
        // The exit code tells the error even where it cannot be printed.
        error.print().ok();
        if let Some(hint) = hint {
            say(format_args!("hint: {hint}"));
        }
    }
    flush();
    ExitCode::from(exit)
}

/// The hint of the error of type `E` that made a command line invalid.
#[must_use]
pub fn hint_of_usage<E: Report + 'static>(error: &clap::Error) -> Option<String> {
    std::error::Error::source(error)?.downcast_ref::<E>()?.hint()
}

/// The exit code for an error of a connection, during its handshake or after it.
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
            | message::ResetCode::Busy
            | message::ResetCode::QuotaUsedUp,
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

/// The phase in which a connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The handshake was not complete.
    Handshake,
    /// The connection was established.
    Established,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_is_its_name() {
        let key = crate::Error::NotRunning { program: "server" };
        assert_eq!(key.code(), "not_running");
        assert_eq!(word("ServerKeyChanged { address: \"A\" }"), "server_key_changed");
        assert_eq!(word("NoHome"), "no_home");
    }
}
