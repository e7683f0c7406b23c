//! What a command tells with `--json` that prints nothing, or a line for a person, without it.

use cli_support::output;
use serde::Serialize;

use crate::error::Error;

/// An object that says what a command has done.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Outcome<'a> {
    /// There is a key.
    Key { fingerprint: &'a str },
    /// A pre-shared key is made: its text, or the file that has it.
    Psk { name: &'a str, text: Option<&'a str>, path: Option<&'a str> },
    /// The configuration is good.
    Checked { path: Option<&'a str>, services: usize, shares: usize },
    /// A running server goes by the configuration as it is now.
    Reloaded { pid: u32 },
    /// A client may do this from now on.
    Allowed { client: &'a str, rights: &'a str, no_longer: &'a [String], limits: &'a [String] },
    /// A client may do nothing any more.
    Revoked { client: &'a str },
    /// An invite is made. The line is a secret.
    Invite { id: &'a str, name: &'a str, expires: &'a str, line: &'a str },
    /// An invite is ended.
    InviteRevoked { id: &'a str },
    /// The pipe has come to its end, and both sides agree on that.
    Ended,
}

impl Outcome<'_> {
    /// Prints the object where the user wants JSON, and returns whether that is so.
    pub(crate) fn tell(&self) -> Result<bool, Error> {
        if output::is_json() {
            output::print_json(self)?;
        }
        Ok(output::is_json())
    }
}
