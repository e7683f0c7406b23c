//! Goal: a second connection resumes the first one without RSA, for exactly as long as the client is allowed.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::harness::{Exit, Harness, Home, Key, Server, Tap, Way, ping, shared_key, word};
use crate::scenario::registration::scenarios;

scenarios![
    second_connection_resumes,
    shared_key_needs_no_ticket,
    every_connection_has_a_ticket_for_the_next,
    ticket_of_a_revoked_client_is_worth_nothing,
    tickets_survive_a_restart_with_a_key_file,
    restart_without_a_key_file_means_a_full_handshake,
    ticket_opens_no_other_server,
    damaged_ticket_means_a_full_handshake,
    ticket_is_used_once,
];

fn second_connection_resumes(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let tap = Tap::before(server.address())?;
    let client = harness.home()?;
    let arguments = ["send", &tap.address(), "first", "--trust", "accept-new"];
    harness.client(&client, &arguments).run()?.expect(Exit::Done)?;
    expect_mode(&ping(harness, &client, &tap.address(), &[])?, "resumption")?;
    // The hello came first, so no key was requested, and it contains no RSA ciphertext.
    let hello = tap.last()?.bytes(Way::Up);
    ensure!(
        hello.starts_with(b"SKS\x01\x03"),
        "a resuming client opens with {:02x?}",
        &hello[..hello.len().min(8)]
    );
    harness.client(&client, &["send", &tap.address(), "second"]).run()?.expect(Exit::Done)?;
    server.printed("[anonymous] second")
}

fn shared_key_needs_no_ticket(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let file = shared_key(harness, &home, "laptop")?;
    let server = Server::start(harness, &home, &["--psk", word(&file)?])?;
    let client = harness.home()?;
    for _ in 0..2 {
        expect_mode(&ping(harness, &client, server.address(), &["--psk", word(&file)?])?, "psk")?;
    }
    ensure!(!client.file("tickets").exists(), "a ticket was kept for a shared key");
    let arguments = ["send", server.address(), "it is me", "--psk", word(&file)?];
    harness.client(&client, &arguments).run()?.expect(Exit::Done)?;
    server.printed("[laptop] it is me")
}

fn every_connection_has_a_ticket_for_the_next(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let client = harness.home()?;
    known(harness, &client, server.address())?;
    (0..5).try_for_each(|_| expect_mode(&ping(harness, &client, server.address(), &[])?, "resumption"))
}

fn ticket_of_a_revoked_client_is_worth_nothing(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    let key = harness.fingerprint("client", &alice)?;
    harness.server(&home, &["allow", &key, "--name", "alice"]).run()?.expect(Exit::Done)?;
    let server = Server::start(harness, &home, &[])?;
    known(harness, &alice, server.address())?;
    expect_mode(&ping(harness, &alice, server.address(), &[])?, "resumption")?;
    harness.client(&alice, &["send", server.address(), "resumed"]).run()?.expect(Exit::Done)?;
    server.printed("[alice] resumed")?;
    harness.server(&home, &["revoke", "alice"]).run()?.expect(Exit::Done)?;
    harness.client(&alice, &["ping", server.address(), "-c", "1"]).run()?.expect(Exit::Refused)?;
    harness.client(&alice, &["send", server.address(), "no more"]).run()?.expect(Exit::Refused)?;
    Ok(())
}

fn tickets_survive_a_restart_with_a_key_file(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let file = home.file("ticket-keys");
    let arguments = ["--ticket-keys", word(&file)?];
    let client = harness.home()?;
    let report = after_restart(harness, &home, &arguments, &client)?;
    expect_mode(&report, "resumption")
}

fn restart_without_a_key_file_means_a_full_handshake(harness: &Harness) -> Result<()> {
    let report = after_restart(harness, &harness.home_with(Key::Server)?, &[], &harness.home()?)?;
    expect_mode(&report, "rsa")
}

/// Another server with another key sits at the known address. The client stops, and its ticket is of no use
/// to either side.
fn ticket_opens_no_other_server(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let other = Server::start(harness, &harness.home_with(Key::OtherServer)?, &[])?;
    let tap = Tap::before(server.address())?;
    let client = harness.home()?;
    known(harness, &client, &tap.address())?;
    tap.redirect(other.address());
    let outcome = harness.client(&client, &["send", &tap.address(), "not for the other"]).run()?;
    outcome.expect(Exit::Identity)?.error_names(&[server.key()?, other.key()?])?;
    other.still_serves(harness)?;
    ensure!(!other.process.stdout.text().contains("not for the other"), "the message was sent all the same");
    Ok(())
}

fn damaged_ticket_means_a_full_handshake(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    for damage in [&b""[..], b"\0", b"no ticket at all\n", &[0xa5; 4096]] {
        let client = harness.home()?;
        known(harness, &client, server.address())?;
        for ticket in std::fs::read_dir(client.file("tickets"))? {
            std::fs::write(ticket?.path(), damage)?;
        }
        expect_mode(&ping(harness, &client, server.address(), &[])?, "rsa")?;
    }
    Ok(())
}

/// A client removes a ticket when it uses it, so that no ticket is presented twice.
fn ticket_is_used_once(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let client = harness.home()?;
    known(harness, &client, server.address())?;
    let tickets = |client: &Home| -> Result<Vec<Vec<u8>>> {
        std::fs::read_dir(client.file("tickets"))?.map(|ticket| Ok(std::fs::read(ticket?.path())?)).collect()
    };
    let before = tickets(&client)?;
    ensure!(!before.is_empty(), "no ticket was kept");
    expect_mode(&ping(harness, &client, server.address(), &[])?, "resumption")?;
    let after = tickets(&client)?;
    ensure!(before.iter().all(|used| !after.contains(used)), "a used ticket is still there");
    Ok(())
}

/// Pings twice with a restart of the server in between, at an address that stays the same for the client.
fn after_restart(harness: &Harness, home: &Home, arguments: &[&str], client: &Home) -> Result<Value> {
    let server = Server::start(harness, home, arguments)?;
    let tap = Tap::before(server.address())?;
    known(harness, client, &tap.address())?;
    server.stop()?.expect(Exit::Done)?;
    let server = Server::start(harness, home, arguments)?;
    tap.redirect(server.address());
    ping(harness, client, &tap.address(), &[])
}

/// Makes a first connection, after which the client knows the server and has a ticket.
fn known(harness: &Harness, client: &Home, address: &str) -> Result<()> {
    expect_mode(&ping(harness, client, address, &["--trust", "accept-new"])?, "rsa")
}

fn expect_mode(report: &Value, mode: &str) -> Result<()> {
    ensure!(report["mode"] == mode, "the mode is {}, expected {mode}", report["mode"]);
    Ok(())
}
