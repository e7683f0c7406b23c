//! The options that both exchanges share: peer, direction, time limit and message.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use clap::Args;
use serde::Serialize;
use tunnel::address::Address;
use tunnel::escape::escape;
use zeroize::Zeroizing;

use super::connection::{Connection, MAX_MESSAGE_LEN};
use crate::error::Error;
use crate::output::{self, say};
use crate::{duration, hardening};

/// Options of both exchanges: peer, direction and time limit.
#[derive(Debug, Args)]
pub struct Exchange {
    /// Wait for one connection at this address; * is all of this machine, as in *:5000
    #[arg(long, value_name = "ADDR", value_parser = Address::listening, required_unless_present = "connect", conflicts_with = "connect")]
    listen: Option<Address>,
    /// Connect to this address
    #[arg(long, value_name = "ADDR")]
    connect: Option<Address>,
    /// Send this text, or standard input for -
    #[arg(long, value_name = "TEXT", required_unless_present = "receive", conflicts_with = "receive")]
    send: Option<String>,
    /// Receive a message to standard output
    #[arg(long)]
    receive: bool,
    /// Give up when nobody connects, or the other side sends or takes nothing, for this long
    #[arg(long, value_name = "DURATION", default_value = DEFAULT_TIMEOUT, value_parser = timeout)]
    timeout: Duration,
}

impl Exchange {
    /// The message to send, if this side sends.
    pub(super) fn message(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        match self.send.as_deref() {
            None => Ok(None),
            Some("-") => {
                let mut message = Zeroizing::new(Vec::new());
                io::stdin()
                    .take(MAX_MESSAGE_LEN + 1)
                    .read_to_end(&mut message)
                    .map_err(|source| Error::Stdio { stream: "standard input", source })?;
                check_len(message.len())?;
                Ok(Some(message))
            }
            Some(text) => Ok(Some(Zeroizing::new(text.as_bytes().to_vec()))),
        }
    }

    /// Says to a program that the message is sent, where this side sends.
    pub(super) fn tell_sent(&self) -> Result<(), Error> {
        match (&self.send, self.listen.as_ref().or(self.connect.as_ref())) {
            (Some(_), Some(address)) if output::is_json() => {
                output::print_json(&Sent { event: "sent", address: &address.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Opens the single connection of the exchange.
    pub(super) fn connection(&self) -> Result<Connection, Error> {
        Connection::open(self.listen.as_ref(), self.connect.as_ref(), self.timeout)
    }
}

/// Warns on standard error.
pub(super) fn warn(text: &str) {
    say(format_args!("warning: {text}"));
}

/// Prints a received message.
pub(super) fn print(message: &[u8]) -> Result<(), Error> {
    if output::is_json() {
        let text = std::str::from_utf8(message).ok();
        let base64 = if text.is_none() { Some(Base64::encode_string(message)) } else { None };
        return output::print_json(&Received { event: "received", text, base64 });
    }
    let mut output = hardening::standard_output()?;
    // The sender is not known: to a file the message goes as it is, to a terminal it must not do anything.
    let written = if output.is_terminal() {
        writeln!(output, "{}", escape(message.strip_suffix(b"\n").unwrap_or(message)))
    } else {
        output.write_all(message)
    };
    written.map_err(|source| Error::Stdio { stream: "standard output", source })
}

/// A message that was sent, as an object.
#[derive(Serialize)]
struct Sent<'a> {
    event: &'static str,
    address: &'a str,
}

/// A received message as an object: its text, or what it is where that is no text.
#[derive(Serialize)]
struct Received<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// Parses the time limit. Zero is refused, since a socket takes it as no limit.
fn timeout(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(timeout) if timeout >= SHORTEST_TIMEOUT => Ok(timeout),
        Ok(_) => Err("less than 1ms".into()),
        Err(error) => Err(format!("{error}: write 30s, 2m or 12h")),
    }
}

/// Checks that a message is not longer than an exchange accepts.
pub(super) fn check_len(len: usize) -> Result<(), Error> {
    match u64::try_from(len) {
        Ok(len) if len <= MAX_MESSAGE_LEN => Ok(()),
        _ => Err(Error::ClassicPeer("a message of 256 MiB at most")),
    }
}

/// Long enough for a person who starts the other side by hand in another window.
const DEFAULT_TIMEOUT: &str = "2m";
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
