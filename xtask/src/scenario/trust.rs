//! Goal: a client communicates only with the server that it means, and sends nothing before it is certain of it.

use anyhow::{Result, ensure};

use crate::harness::{Exit, Harness, Home, Key, Server, Tap, Way};
use crate::scenario::registration::scenarios;

scenarios![
    wrong_server_key_stops_the_client,
    unknown_server_without_a_terminal_needs_a_flag,
    strict_takes_no_unknown_server,
    accept_new_records_the_key_and_uses_it,
    changed_key_stops_the_client_in_every_mode,
    recorded_key_is_held_against_a_given_one,
    trust_records_and_forgets,
    record_that_leads_nowhere_is_no_empty_one,
    server_key_in_a_wrong_form_is_a_usage_error,
];

fn wrong_server_key_stops_the_client(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let other = harness.fingerprint("server", &harness.home_with(Key::OtherServer)?)?;
    let tap = Tap::before(server.address())?;
    let arguments = ["send", &tap.address(), "for someone else", "--server-key", &other];
    let outcome = harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Identity)?;
    outcome.error_names(&[server.key()?, &other])?;
    nothing_was_sent(&tap)?;
    server.still_serves(harness)?;
    ensure!(!server.process.stdout.text().contains("someone else"), "the message was sent all the same");
    Ok(())
}

fn unknown_server_without_a_terminal_needs_a_flag(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let home = harness.home()?;
    for trust in [&[][..], &["--trust", "ask"]] {
        let arguments = [&["send", server.address(), "hello"], trust].concat();
        let outcome = harness.client(&home, &arguments).detached().run()?.expect(Exit::Identity)?;
        outcome.error_names(&[server.address()])?.hint_names(&["--server-key", "--trust accept-new"])?;
    }
    ensure!(!home.file("known_servers").exists(), "a key was recorded that nobody trusted");
    Ok(())
}

fn strict_takes_no_unknown_server(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let arguments = ["send", server.address(), "hello", "--trust", "strict"];
    harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Identity)?.error_names(&[])?;
    Ok(())
}

fn accept_new_records_the_key_and_uses_it(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let home = harness.home()?;
    let first = ["send", server.address(), "first", "--trust", "accept-new"];
    harness.client(&home, &first).run()?.expect(Exit::Done)?;
    let known = home.read("known_servers")?;
    let line = format!("{} {}", server.address(), server.key()?);
    ensure!(
        known.lines().any(|known| known.starts_with(&line)),
        "known_servers holds {known:?}, expected {line:?}"
    );
    for trust in [&[][..], &["--trust", "strict"]] {
        let arguments = [&["send", server.address(), "again"], trust].concat();
        harness.client(&home, &arguments).run()?.expect(Exit::Done)?;
        server.printed("[anonymous] again")?;
    }
    Ok(())
}

/// Another server answers at the address of a known one, as an attacker in the middle would.
fn changed_key_stops_the_client_in_every_mode(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let other = Server::start(harness, &harness.home_with(Key::OtherServer)?, &[])?;
    let tap = Tap::before(server.address())?;
    let home = harness.home()?;
    let first = ["send", &tap.address(), "first", "--trust", "accept-new"];
    harness.client(&home, &first).run()?.expect(Exit::Done)?;
    let known = home.read("known_servers")?;

    tap.redirect(other.address());
    for trust in ["ask", "accept-new", "strict"] {
        let arguments = ["send", &tap.address(), "not for the other", "--trust", trust];
        let outcome = harness.client(&home, &arguments).run()?.expect(Exit::Identity)?;
        outcome.error_names(&[server.key()?, other.key()?])?;
    }
    other.still_serves(harness)?;
    ensure!(!other.process.stdout.text().contains("not for the other"), "the message was sent all the same");
    ensure!(home.read("known_servers")? == known, "the recorded key was replaced");
    Ok(())
}

/// Of two keys that contradict each other, neither may be preferred silently.
fn recorded_key_is_held_against_a_given_one(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let other = harness.fingerprint("server", &harness.home_with(Key::OtherServer)?)?;
    let home = harness.home()?;
    recorded(harness, &home, server.address(), server.key()?)?;
    let arguments = ["send", server.address(), "hello", "--server-key", &other];
    harness.client(&home, &arguments).run()?.expect(Exit::Identity)?;
    Ok(())
}

fn trust_records_and_forgets(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let home = harness.home()?;
    let strict = ["send", server.address(), "hello", "--trust", "strict"];
    recorded(harness, &home, server.address(), server.key()?)?;
    harness.client(&home, &strict).run()?.expect(Exit::Done)?;
    harness.client(&home, &["trust", server.address(), "--forget"]).run()?.expect(Exit::Done)?;
    harness.client(&home, &strict).run()?.expect(Exit::Identity)?;
    Ok(())
}

/// The record's link leads nowhere, as when its folder is not mounted. The servers in the record are unknown
/// then, and must not count as new.
fn record_that_leads_nowhere_is_no_empty_one(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let home = harness.home()?;
    std::os::unix::fs::symlink("/no/such/place", home.file("known_servers"))?;
    let arguments = ["send", server.address(), "hello", "--trust", "accept-new"];
    harness.client(&home, &arguments).run()?.expect(Exit::Usage)?.error_names(&["known_servers"])?;
    ensure!(server.process.stdout.text().is_empty(), "it was sent all the same");
    Ok(())
}

fn server_key_in_a_wrong_form_is_a_usage_error(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    for key in [
        "",
        "SHA256:",
        "SHA256:short",
        "MD5:00:11",
        "SHA256:////////////////////////////////////////////////",
    ] {
        let arguments = ["send", "127.0.0.1:9", "hello", "--server-key", key];
        harness.client(&home, &arguments).run()?.expect(Exit::Usage)?;
    }
    Ok(())
}

fn recorded(harness: &Harness, home: &Home, address: &str, key: &str) -> Result<()> {
    harness.client(home, &["trust", address, "--server-key", key]).run()?.expect(Exit::Done)?;
    Ok(())
}

/// A request for the key has eight bytes and the closing records a few more, while a hello has more than a thousand.
fn nothing_was_sent(tap: &Tap) -> Result<()> {
    let sent = tap.bytes(Way::Up).len();
    ensure!(sent <= 24, "the client sent {sent} bytes to a server that it should not trust");
    Ok(())
}
