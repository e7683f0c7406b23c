//! Goal: reasons for a denial, and questions of a client about itself, mean the same to an implementation that was written from
//! PROTOCOL.md alone, and neither gets a peer of an earlier version into trouble.

use std::io::Cursor;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{Exit, Fixture, Harness, Home, Key, Outcome, Port, Process, Server, word};
use crate::scenario::doctor::{Check, checks};
use crate::scenario::registration::scenarios;

scenarios![
    python_client_asks_about_itself,
    reason_is_told_to_who_asks_and_is_known,
    python_server_is_looked_at,
    server_of_an_earlier_version_is_no_failure,
];

fn python_client_asks_about_itself(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &["--listen", "*", "--expires", "2099-01-01T00:00:00Z"])?;
    let alice = fixture.alice();
    let said = ask(harness, &fixture, Some(alice), &["client"])?.expect(Exit::Done)?.text();
    let words: Vec<&str> = said.split(' ').collect();
    ensure!(words.len() == 5 && words[..2] == ["client", "alice"], "{said}");
    ensure!(words[3] == "4070908800" && words[4] == "127.0.0.1", "{said}");

    let port = Port::hold()?;
    let address = port.address();
    let listen = ["listen", address.as_str()];
    ask(harness, &fixture, Some(alice), &listen)?.expect(Exit::Done)?.expect_stdout(b"listen free\n")?;
    let forward = fixture.forward(&["-R", &format!("{}:127.0.0.1:9", port.number())])?;
    forward.remote(0)?;
    ask(harness, &fixture, Some(alice), &listen)?.expect(Exit::Done)?.expect_stdout(b"listen own\n")?;
    let mallory = fixture.mallory(&["--listen", "*"])?;
    let taken = ask(harness, &fixture, Some(&mallory), &listen)?.expect(Exit::Done)?;
    taken.expect_stdout(b"listen refused 8\n")?;
    fixture.mallory(&["--messages"])?;
    ask(harness, &fixture, Some(&mallory), &listen)?.expect(Exit::Refused)?.error_names(&["code 1"])?;
    ask(harness, &fixture, Some(&mallory), &["client"])?.expect(Exit::Done)?;

    // A stranger that is let in learns nothing all the same.
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &["--anyone"])?;
    for question in [&["client"][..], &listen] {
        let arguments = [&["client", server.address(), "diagnose"], question].concat();
        python(harness, &arguments)?.finish()?.expect(Exit::Refused)?.error_names(&["code 1"])?;
    }
    server.still_serves(harness)
}

fn reason_is_told_to_who_asks_and_is_known(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &["--expires", "2020-01-01T00:00:00Z"])?;
    let alice = fixture.alice();
    let denied = |home: &Home, options: &[&str], reason: &str| -> Result<()> {
        let address = fixture.address();
        let key = home.file("client.key");
        let always = ["client", &address, "ping", "--client-key", word(&key)?];
        let outcome = python(harness, &[&always, options].concat())?.finish()?.expect(Exit::Refused)?;
        let said = outcome.stderr.lines().find_map(|line| line.strip_prefix("error: denied: "));
        let said = said.context("no reason")?;
        ensure!(said.starts_with(reason), "{said} in place of {reason}");
        Ok(())
    };
    denied(alice, &["--asks-reason"], "expired 1577836800 ")?;
    denied(alice, &[], "not allowed")?;
    fixture.allow(&["--from", "10.0.0.0/8"])?;
    denied(alice, &["--asks-reason"], "elsewhere 127.0.0.1")?;
    denied(alice, &[], "not allowed")?;
    fixture.command(&["revoke", "alice"])?.expect(Exit::Done)?;
    denied(alice, &["--asks-reason"], "not allowed")?;
    denied(&harness.home_with(Key::Mallory)?, &["--asks-reason"], "not allowed")
}

fn python_server_is_looked_at(harness: &Harness) -> Result<()> {
    let alice = harness.home_with(Key::Alice)?;
    for (options, exit, name, text) in [
        (&["--deny", "expired"][..], Exit::Refused, "admission", "have expired"),
        (&["--deny", "elsewhere"], Exit::Refused, "admission", "192.0.2.7"),
        (&["--deny", "revoked"], Exit::Refused, "admission", "was revoked"),
        (&["--deny", "not allowed"], Exit::Refused, "admission", "never allowed"),
        (&["--clock", "360000"], Exit::Usage, "clock", "4 days behind"),
        (&["--told-name", "\u{1b}[31mred"], Exit::Done, "admission", "\\u{1b}[31mred"),
        (&[], Exit::Done, "clock", "agree"),
    ] {
        let (outcome, found) = look(harness, &alice, options)?;
        outcome.expect(exit).with_context(|| options.join(" "))?;
        let check = found.iter().find(|check| check.name == name).context("no such check")?;
        ensure!(check.text.contains(text), "{options:?}: {}", check.text);
    }
    // Who has not asked is told a reason against the rules, and takes it for a refusal.
    let server = serve(harness, &["--deny", "expired", "--fault", "reason"])?;
    let arguments = ["send", server.address(), "hello", "--server-key", server.key()?];
    harness.client(&alice, &arguments).run()?.expect(Exit::Refused)?.error_names(&[])?;
    Ok(())
}

fn server_of_an_earlier_version_is_no_failure(harness: &Harness) -> Result<()> {
    let alice = harness.home_with(Key::Alice)?;
    let (outcome, found) = look(harness, &alice, &["--fault", "no-diagnosis"])?;
    outcome.expect(Exit::Done)?;
    let clock = found.iter().find(|check| check.name == "clock").context("no check of the clock")?;
    ensure!(clock.status == "skipped" && clock.text.contains("too old"), "{}", clock.text);
    Ok(())
}

/// What the doctor finds at a Python server.
fn look(harness: &Harness, home: &Home, options: &[&str]) -> Result<(Outcome, Vec<Check>)> {
    let server = serve(harness, options)?;
    let arguments = ["doctor", server.address(), "--json", "--server-key", server.key()?];
    let outcome = harness.client(home, &arguments).run()?;
    let found = checks(&outcome)?;
    Ok((outcome, found))
}

/// A Python server that goes on when a client leaves in the middle, as one with an invite does.
fn serve(harness: &Harness, options: &[&str]) -> Result<Server> {
    let home = harness.home_with(Key::Server)?;
    let [key, line] = [home.file("server.key"), home.file("line")];
    let always =
        ["server", "--key", word(&key)?, "--invite", word(&line)?, "--connections", "4", "--every-padding"];
    let server = Server::from_process(python(harness, &[&always, options].concat())?);
    // It has read its key by now.
    drop(home);
    server
}

/// Asks our server with the Python client and the key in `home`.
fn ask(harness: &Harness, fixture: &Fixture<'_>, home: Option<&Home>, question: &[&str]) -> Result<Outcome> {
    let address = fixture.address();
    let mut arguments = [&["client", &address, "diagnose"], question].concat();
    let key = home.map(|home| home.file("client.key"));
    if let Some(key) = &key {
        arguments.extend(["--client-key", word(key)?]);
    }
    python(harness, &arguments)?.finish()
}

fn python(harness: &Harness, arguments: &[&str]) -> Result<Process> {
    let mut command = harness.peer("sockseal.py")?;
    command.args(arguments);
    let mut process = Process::start(command)?;
    process.feed(Cursor::new(Vec::new()))?;
    Ok(process)
}
