//! Goal: invites of an implementation that was written from PROTOCOL.md alone are good at ours and the other way round, and even
//! with valid keys nobody is enrolled by one that is not right.

use std::io::Cursor;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{Exit, Harness, Home, Key, Outcome, Process, Server, word};
use crate::scenario::invites::{invite, invites, join, objects};
use crate::scenario::registration::scenarios;

scenarios![
    python_client_joins_a_server_of_ours,
    invite_of_a_client_that_is_not_right_enrols_nobody,
    client_of_ours_joins_a_python_server,
    answer_that_no_invite_gets_is_refused,
    server_without_invites_may_be_too_old,
];

/// The line comes in capitals once, and from a mail program once.
fn python_client_joins_a_server_of_ours(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    let server = Server::start(harness, &home, &[])?;
    let line = invite(harness, &home, server.address(), &["--name", "alice", "--messages"])?;
    let line = line.trim();
    let joined = python_join(harness, &server, &alice, &line.to_uppercase(), &["--every-padding"])?;
    joined.expect(Exit::Done)?.expect_stdout(b"enrolled: alice: --messages\n")?;
    server.logged(&["invite taken", "name=\"alice\"", &harness.fingerprint("client", &alice)?])?;

    let quoted = format!("> {}\n> {}\n", &line[..70], &line[70..]);
    let again = python_join(harness, &server, &alice, &quoted, &[])?.expect(Exit::Done)?;
    again.expect_stdout(b"enrolled before: alice: --messages\n")?;
    let other = python_join(harness, &server, &mallory, line, &[])?;
    other.expect(Exit::Refused)?.error_names(&["denied: not allowed"])?;
    ensure!(objects(harness, &home, "list")?.len() == 1, "more than one client is allowed");

    let key = alice.file("client.key");
    python(harness, &["client", server.address(), "send", "--client-key", word(&key)?], "it is me")?
        .finish()?
        .expect(Exit::Done)?;
    server.printed("[alice] it is me")
}

/// Each of them costs the invite nothing: it is as good as before for whoever has it.
fn invite_of_a_client_that_is_not_right_enrols_nobody(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    // Strangers may come in, but not one with an invite that is not right.
    let server = Server::start(harness, &home, &["--anyone"])?;
    let line = invite(harness, &home, server.address(), &["--name", "alice"])?;
    for (fault, exit) in [
        ("invite-id", Exit::Refused),
        ("invite-reveal", Exit::Refused),
        ("invite-proof", Exit::Refused),
        ("invite-twice", Exit::Integrity),
        ("finished", Exit::Integrity),
    ] {
        let outcome = python_join(harness, &server, &alice, &line, &["--fault", fault])?;
        outcome.expect(exit).context(fault)?;
        match exit {
            Exit::Refused => server.logged(&["invite refused", "127.0.0.1"]).context(fault)?,
            _ => server.logged(&["connection failed", "127.0.0.1"]).context(fault)?,
        };
        server.still_serves(harness).context(fault)?;
    }
    // A right half with a wrong proof says that what another client sent was read by somebody.
    ensure!(server.process.stderr.text().lines().any(|line| line.contains("ERROR")), "nothing was an error");
    ensure!(objects(harness, &home, "list")?.is_empty(), "a client is allowed");
    let listed = invites(harness, &home)?;
    ensure!(listed.len() == 1 && listed[0]["state"] == "pending", "{listed:?}");
    python_join(harness, &server, &alice, &line, &[])?.expect(Exit::Done)?;
    Ok(())
}

fn client_of_ours_joins_a_python_server(harness: &Harness) -> Result<()> {
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    let (server, line) = inviting(harness, &["--connections", "4", "--every-padding"])?;
    let joined = join(harness, &alice, &line)?.expect(Exit::Done)?.text();
    for said in [server.address(), server.key()?, "guest", "--message"] {
        ensure!(joined.contains(said), "join does not say {said}: {joined}");
    }
    let again = join(harness, &alice, &line)?.expect(Exit::Done)?;
    ensure!(again.stderr.contains("has let this client in before"), "{}", again.stderr);
    join(harness, &mallory, &line)?.expect(Exit::Refused)?;
    harness.client(&alice, &["send", server.address(), "it is me"]).run()?.expect(Exit::Done)?;
    let message = format!("[{}] it is me\n", harness.fingerprint("client", &alice)?);
    server.finish()?.expect(Exit::Done)?.expect_stdout(message.as_bytes())?;
    Ok(())
}

fn answer_that_no_invite_gets_is_refused(harness: &Harness) -> Result<()> {
    for (fault, exit) in [
        ("other-welcome", Exit::Integrity),
        ("long-grant", Exit::Integrity),
        // Before that the client says nothing of its invite.
        ("finished", Exit::Identity),
    ] {
        let (_server, line) = inviting(harness, &["--fault", fault])?;
        let outcome = join(harness, &harness.home_with(Key::Alice)?, &line)?;
        outcome.expect(exit).context(fault)?.error_names(&[])?;
    }
    // Nor is a client that has used none told of one.
    let (server, _) = inviting(harness, &["--fault", "other-welcome"])?;
    let arguments = ["send", server.address(), "not for you", "--server-key", server.key()?];
    let outcome = harness.client(&harness.home_with(Key::Alice)?, &arguments).run()?;
    outcome.expect(Exit::Integrity)?.error_names(&[])?;
    Ok(())
}

fn server_without_invites_may_be_too_old(harness: &Harness) -> Result<()> {
    let (_server, line) = inviting(harness, &["--fault", "no-invites"])?;
    let outcome = join(harness, &harness.home_with(Key::Alice)?, &line)?;
    outcome.expect_any(&[Exit::Network, Exit::Integrity, Exit::Refused])?.error_names(&["too old"])?;
    Ok(())
}

/// Starts a Python server with a key and an invite, and returns the invite's line.
fn inviting(harness: &Harness, options: &[&str]) -> Result<(Server, String)> {
    let home = harness.home_with(Key::Server)?;
    let [key, line] = [home.file("server.key"), home.file("line")];
    let always = ["server", "--key", word(&key)?, "--invite", word(&line)?];
    let server = Server::from_process(python(harness, &[&always, options].concat(), "")?)?;
    Ok((server, home.read("line")?))
}

/// Joins with the Python client and the key in `home`.
fn python_join(
    harness: &Harness,
    server: &Server,
    home: &Home,
    line: &str,
    options: &[&str],
) -> Result<Outcome> {
    let key = home.file("client.key");
    let always = ["client", server.address(), "join", "--client-key", word(&key)?];
    python(harness, &[&always, options].concat(), line)?.finish()
}

fn python(harness: &Harness, arguments: &[&str], input: &str) -> Result<Process> {
    let mut command = harness.peer("sockseal.py")?;
    command.args(arguments);
    let mut process = Process::start(command)?;
    process.feed(Cursor::new(input.as_bytes().to_vec()))?;
    Ok(process)
}
