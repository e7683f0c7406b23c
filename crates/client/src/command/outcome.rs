//! What a command tells with `--json` that prints nothing, or a line for a person, without it.

use cli_support::output;
use serde::Serialize;

use crate::error::Error;

/// An object that says what a command has done.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Outcome<'a> {
    /// The server has confirmed the message.
    Sent { server: &'a str },
    /// A pipe or a connection has come to its end, and both sides agree on that.
    Ended { server: &'a str, target: &'a str },
    /// There is a key.
    Key { fingerprint: &'a str },
    /// The configuration is good.
    Checked { path: Option<&'a str>, forwards: usize },
    /// Servers are known from now on, or go by another key or name.
    Trusted { servers: &'a [String] },
    /// Nothing is known of servers any more.
    Forgotten { servers: &'a [String] },
    /// Forwards listen, and go on in the background.
    Detached { pid: u32, log: &'a str },
}

impl Outcome<'_> {
    /// Prints the object where the user wants JSON.
    pub(crate) fn tell(&self) -> Result<(), Error> {
        if output::is_json() {
            output::print_json(self)?;
        }
        Ok(())
    }
}
