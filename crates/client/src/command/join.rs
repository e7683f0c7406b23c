//! `client join`: reads an invite, joins its server, and says what this client may do there.

mod examples;
mod invocation;

use std::io::{self, IsTerminal as _, Read as _};
use std::time::{SystemTime, UNIX_EPOCH};

use cli_support::hardening;
use cli_support::home::Home;
use cli_support::output::{self, say};
use cli_support::terminal::{Pasted, Terminal};
use serde::Serialize;
use tunnel::network::Network;
use wire_protocol::invite::{InviteLine, InviteLineError};
use wire_protocol::message::JoinOutcome;
use zeroize::Zeroizing;

use self::examples::examples;
pub use self::invocation::Invocation;
use crate::Error;
use crate::join::{Membership, join as use_invite};
use crate::server_spec::ServerName;

/// Reads the line of an invite from standard input, or asks for it where that is a terminal. It is not shown there.
///
/// # Errors
/// [`Error::Invite`] says what is wrong with the line; [`Error::NoInvite`], [`Error::Stdio`].
pub fn read_line() -> Result<InviteLine, Error> {
    let text = if io::stdin().is_terminal() { ask()? } else { read_input()? };
    // A byte that is no text is no part of a line either, and is told as such.
    let text = Zeroizing::new(String::from_utf8_lossy(&text).into_owned());
    if text.trim().is_empty() {
        return Err(Error::NoInvite);
    }
    let line = InviteLine::parse(&text).map_err(Error::Invite)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if line.expires_at() <= now {
        say("warning: by the clock of this machine the invite has expired; the server goes by its own");
    }
    Ok(line)
}

fn ask() -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |source| Error::Stdio { stream: "the terminal", source };
    let terminal = Terminal::open().map_err(failed)?;
    let judge = |text: &[u8]| {
        let text = Zeroizing::new(String::from_utf8_lossy(text).into_owned());
        match InviteLine::parse(&text) {
            Ok(_) => Pasted::Whole,
            Err(InviteLineError::Damaged) => Pasted::Part,
            Err(_) => Pasted::Wrong,
        }
    };
    terminal.ask_secret_lines("Paste the invite, which is not shown: ", ASK_FOR_REST, judge).map_err(failed)
}

fn read_input() -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |source| Error::Stdio { stream: "standard input", source };
    // Without the standard library's buffer, which would keep a copy.
    let input = hardening::standard_input()?;
    // All at once, since a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_INPUT + 1));
    let limit = u64::try_from(MAX_INPUT + 1).unwrap_or(u64::MAX);
    input.take(limit).read_to_end(&mut text).map_err(failed)?;
    if text.len() > MAX_INPUT { Err(Error::Invite(InviteLineError::TooLong)) } else { Ok(text) }
}

/// Joins the server of the invite, and prints what was granted and how to use it.
///
/// # Errors
/// [`Error`].
pub async fn join(
    home: &Home,
    line: InviteLine,
    server_name: Option<ServerName>,
    json: bool,
    invocation: &Invocation<'_>,
) -> Result<(), Error> {
    let membership = use_invite(home, line, server_name, &Network::System).await?;
    if json {
        output::print_json(&Report::of(&membership))?;
        return Ok(());
    }
    let Membership { outcome, address, server_name, server, name, grant, .. } = &membership;
    output::print(format_args!("server      {server_name} ({address})"))?;
    output::print(format_args!("server key  {server}"))?;
    output::print(format_args!("name        {name}"))?;
    output::print(format_args!("may         {grant}"))?;
    for example in examples(grant, server_name, invocation) {
        output::print(format_args!("try:        {example}"))?;
    }
    match outcome {
        JoinOutcome::Enrolled => {}
        JoinOutcome::EnrolledBefore => say("this invite has let this client in before: nothing has changed"),
        JoinOutcome::Known => say(
            "the server knew this client already: nothing has changed, and it has not looked at the invite",
        ),
    }
    Ok(())
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    outcome: &'static str,
    server: &'a str,
    address: String,
    server_key: String,
    client_key: String,
    name: &'a str,
    grant: &'a str,
}

impl<'a> Report<'a> {
    fn of(membership: &'a Membership) -> Self {
        Self {
            outcome: match membership.outcome {
                JoinOutcome::Enrolled => "enrolled",
                JoinOutcome::EnrolledBefore => "enrolled_before",
                JoinOutcome::Known => "known",
            },
            server: membership.server_name.as_str(),
            address: membership.address.to_string(),
            server_key: membership.server.to_string(),
            client_key: membership.client.to_string(),
            name: &membership.name,
            grant: &membership.grant,
        }
    }
}

/// What is shown where a line that was pasted is not whole yet.
const ASK_FOR_REST: &str = "That is not all of it. Paste the rest, or press Enter to give up: ";
/// Most bytes of standard input.
const MAX_INPUT: usize = 64 * 1024;
