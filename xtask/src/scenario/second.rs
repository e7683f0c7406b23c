//! Goal: an implementation that was written from PROTOCOL.md alone interoperates with ours in every mode, and
//! even with valid keys it cannot break a rule unnoticed.

use std::io::Cursor;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{
    Exit, Harness, Key, Lines, Outcome, Process, Server, Tap, digest, ping, shared_key, word,
};
use crate::scenario::registration::scenarios;

scenarios![
    python_client_is_served_with_the_servers_key,
    python_client_is_served_with_a_shared_key,
    python_client_resumes,
    python_client_without_a_place_is_denied,
    python_server_serves_with_its_key,
    python_server_serves_with_a_shared_key,
    python_server_resumes,
    python_server_denies_and_refuses,
    tickets_under_one_master_key_are_good_at_both,
    pipe_to_rust_with_every_padding_and_key_updates,
    pipe_from_rust_with_every_padding_and_key_updates,
    hello_for_another_server_is_not_answered,
    binder_and_ticket_with_a_changed_bit_open_nothing,
    broken_handshake_of_a_client_is_refused,
    broken_handshake_of_a_server_is_refused,
    broken_stream_ends_the_pipe_of_the_server,
    broken_stream_ends_the_pipe_of_the_client,
    broken_message_is_not_printed,
    broken_answer_confirms_nothing,
    idle_channel_takes_no_stray_record,
];

/// The cases are a key that is requested, a key that is known, a client with a key of its own, and records
/// right after Finished.
fn python_client_is_served_with_the_servers_key(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    harness
        .server(&home, &["allow", &harness.fingerprint("client", &alice)?, "--name", "alice"])
        .run()?
        .expect(Exit::Done)?;
    let server = Server::start(harness, &home, &["--anyone"])?;
    let [known, key] = [alice.file("known"), alice.file("client.key")];
    let known = ["--server-key", server.key()?, "--known-key", word(&known)?];
    let with_key = ["--client-key", word(&key)?, "--every-padding"];
    for (text, name, options, is_offered) in [
        ("asked", "anonymous", &known[..], true),
        ("known", "anonymous", &[&known[..], &["--eager"]].concat(), false),
        ("it is me", "alice", &[&known[..], &with_key].concat(), false),
        ("me again", "alice", &with_key, true),
    ] {
        let outcome = client(harness, &server, "send", options, text)?.expect(Exit::Done).context(text)?;
        expect_mode(&outcome, "rsa")?;
        ensure!(outcome.stderr.contains("offered") == is_offered, "{text}: {}", outcome.stderr);
        server.printed(&format!("[{name}] {text}"))?;
    }
    client(harness, &server, "ping", &known, "")?.expect(Exit::Done)?;
    // One channel carries several streams one after the other.
    client(harness, &server, "send", &["--times", "3", "--update-every", "2"], "thrice")?
        .expect(Exit::Done)?;
    server.still_serves(harness)?;
    let printed = server.process.stdout.text();
    ensure!(printed.matches("[anonymous] thrice\n").count() == 3, "three messages, one channel:\n{printed}");
    Ok(())
}

fn python_client_is_served_with_a_shared_key(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let file = shared_key(harness, &home, "laptop")?;
    let psk = ["--psk", word(&file)?];
    let server = Server::start(harness, &home, &psk)?;
    expect_mode(&client(harness, &server, "send", &psk, "shared")?.expect(Exit::Done)?, "psk")?;
    server.printed("[laptop] shared")?;
    client(harness, &server, "ping", &psk, "")?.expect(Exit::Done)?;
    // A client without the shared key is refused, and told so.
    client(harness, &server, "send", &[], "let me in")?.expect(Exit::Refused)?.error_names(&["psk only"])?;
    Ok(())
}

fn python_client_resumes(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    let server = Server::start(harness, &home, &["--anyone"])?;
    let [tickets, key] = [alice.file("ticket"), alice.file("client.key")];
    let tickets = ["--tickets", word(&tickets)?];
    let first = [&tickets[..], &["--client-key", word(&key)?]].concat();
    expect_mode(&client(harness, &server, "ping", &first, "")?.expect(Exit::Done)?, "rsa")?;
    for text in ["second", "third"] {
        expect_mode(&client(harness, &server, "send", &tickets, text)?.expect(Exit::Done)?, "resumption")?;
        server.printed(&format!("[{}] {text}", harness.fingerprint("client", &alice)?))?;
    }
    Ok(())
}

fn python_client_without_a_place_is_denied(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    let server = Server::start(harness, &home, &[])?;
    let arguments = ["allow", &harness.fingerprint("client", &alice)?, "--name", "alice"];
    harness.server(&home, &arguments).run()?.expect(Exit::Done)?;
    let key = mallory.file("client.key");
    for (options, reason) in
        [(&["--client-key", word(&key)?][..], "not allowed"), (&[], "client key required")]
    {
        let outcome = client(harness, &server, "send", options, "let me in")?;
        outcome.expect(Exit::Refused)?.error_names(&[reason])?;
    }
    // A server of messages offers no pipe, and refuses it on a channel that ends cleanly.
    let key = alice.file("client.key");
    let outcome = client(harness, &server, "pipe", &["--client-key", word(&key)?], "up")?;
    outcome.expect(Exit::Refused)?.error_names(&["refused with code 0"])?;
    Ok(())
}

fn python_server_serves_with_its_key(harness: &Harness) -> Result<()> {
    let alice = harness.home_with(Key::Alice)?;
    let fingerprint = harness.fingerprint("client", &alice)?;
    for (client, name) in [(&harness.home()?, "anonymous"), (&alice, fingerprint.as_str())] {
        let server = keyed(harness, &["--connections", "2", "--every-padding", "--update-every", "1"], "")?;
        let report = ping(harness, client, server.address(), &["--server-key", server.key()?])?;
        ensure!(report["mode"] == "rsa" && report["server_key"] == server.key()?, "{report}");
        let arguments = ["send", server.address(), "hello", "--server-key", server.key()?];
        harness.client(client, &arguments).run()?.expect(Exit::Done)?;
        server.finish()?.expect(Exit::Done)?.expect_stdout(format!("[{name}] hello\n").as_bytes())?;
    }
    Ok(())
}

fn python_server_serves_with_a_shared_key(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let file = shared_key(harness, &home, "laptop")?;
    let psk = ["--psk", word(&file)?];
    let server = server(harness, &[&psk[..], &["--connections", "2"]].concat(), "")?;
    let report = ping(harness, &harness.home()?, server.address(), &psk)?;
    ensure!(report["mode"] == "psk", "{report}");
    let arguments = [&["send", server.address(), "shared"], &psk[..]].concat();
    harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Done)?;
    server.finish()?.expect(Exit::Done)?.expect_stdout(b"[laptop] shared\n")?;
    Ok(())
}

fn python_server_resumes(harness: &Harness) -> Result<()> {
    let alice = harness.home_with(Key::Alice)?;
    let fingerprint = harness.fingerprint("client", &alice)?;
    let server = keyed(harness, &["--connections", "3", "--allow", &fingerprint], "")?;
    for mode in ["rsa", "resumption"] {
        let report = ping(harness, &alice, server.address(), &["--server-key", server.key()?])?;
        ensure!(report["mode"] == mode, "{report}");
    }
    harness.send(&alice, &server, "resumed")?.expect(Exit::Done)?;
    let expected = format!("[{fingerprint}] resumed\n");
    server.finish()?.expect(Exit::Done)?.expect_stdout(expected.as_bytes())?;
    Ok(())
}

fn python_server_denies_and_refuses(harness: &Harness) -> Result<()> {
    let alice = harness.fingerprint("client", &harness.home_with(Key::Alice)?)?;
    for stranger in [harness.home_with(Key::Mallory)?, harness.home()?] {
        let server = keyed(harness, &["--allow", &alice], "")?;
        harness.send(&stranger, &server, "let me in")?.expect(Exit::Refused)?.error_names(&[])?;
    }
    let server = keyed(harness, &["--message-only"], "")?;
    let arguments = ["pipe", server.address(), "--server-key", server.key()?];
    let outcome = harness.client(&harness.home()?, &arguments).input(sent()?).run()?;
    outcome.expect(Exit::Refused)?.error_names(&[])?;
    Ok(())
}

/// Two servers share a key pair and a master key, so tickets of either one are valid at both, repeatedly.
fn tickets_under_one_master_key_are_good_at_both(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let [master, key, tickets] = [home.file("ticket-keys"), home.file("server.key"), home.file("ticket")];
    let ours = Server::start(harness, &home, &["--anyone", "--ticket-keys", word(&master)?])?;
    let arguments = ["--key", word(&key)?, "--ticket-keys", word(&master)?, "--connections", "2"];
    let theirs = server(harness, &arguments, "")?;
    let options = ["--tickets", word(&tickets)?];
    for (server, mode) in
        [(&ours, "rsa"), (&theirs, "resumption"), (&ours, "resumption"), (&theirs, "resumption")]
    {
        expect_mode(&client(harness, server, "ping", &options, "")?.expect(Exit::Done)?, mode)?;
    }
    theirs.finish()?.expect(Exit::Done)?;
    Ok(())
}

fn pipe_to_rust_with_every_padding_and_key_updates(harness: &Harness) -> Result<()> {
    let keyed = harness.home_with(Key::Server)?;
    let shared = harness.home()?;
    let file = shared_key(harness, &shared, "laptop")?;
    let psk = ["--psk", word(&file)?];
    let mebibyte = Lines::of_length(MEBIBYTE).bytes()?;
    for (home, service, options) in
        [(&keyed, &["pipe", "--anyone"][..], &["--eager"][..]), (&shared, &["pipe", psk[0], psk[1]], &psk)]
    {
        let mut server = Server::start(harness, home, service)?;
        server.process.feed(Lines::of_length(MEBIBYTE))?;
        let outcome = client(harness, &server, "pipe", &[options, ODD].concat(), mebibyte.clone())?;
        same(&outcome.expect(Exit::Done)?.stdout, &mebibyte)?;
        same(&server.finish()?.expect(Exit::Done)?.stdout, &mebibyte)?;
    }
    Ok(())
}

/// The three runs are with a key and an anonymous client, with resumption, and with a shared key.
fn pipe_from_rust_with_every_padding_and_key_updates(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let file = shared_key(harness, &home, "laptop")?;
    let [key, master] = [home.file("server.key"), home.file("ticket-keys")];
    home.write("ticket-keys", format!("sockseal-ticket-key-v1 {}\n", "A".repeat(43)))?;
    let keyed = ["--key", word(&key)?, "--ticket-keys", word(&master)?];
    let psk = ["--psk", word(&file)?];
    let mebibyte = Lines::of_length(MEBIBYTE).bytes()?;
    let tap = Tap::before("127.0.0.1:9")?;
    for (mode, options, trust) in [
        ("rsa", &keyed[..], &["--trust", "accept-new"]),
        ("resumption", &keyed, &["--trust", "strict"]),
        ("psk", &psk, &psk),
    ] {
        let server = server(harness, &[options, ODD].concat(), mebibyte.clone())?;
        // The client uses the same address while the server behind it changes its port.
        tap.redirect(server.address());
        let address = tap.address();
        let arguments = [&["pipe", address.as_str()], &trust[..]].concat();
        let client = harness.client(&home, &arguments).input(mebibyte.clone()).run()?.expect(Exit::Done)?;
        same(&client.stdout, &mebibyte)?;
        let outcome = server.finish()?.expect(Exit::Done)?;
        same(&outcome.stdout, &mebibyte)?;
        expect_mode(&outcome, mode)?;
    }
    Ok(())
}

/// A server with a key of its own offers that key, and the client goes on. A shared key of another server is unknown.
fn hello_for_another_server_is_not_answered(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let [known, tickets] = [home.file("known"), home.file("ticket")];
    let server = Server::start(harness, &home, &["--anyone"])?;
    let options = ["--known-key", word(&known)?, "--tickets", word(&tickets)?];
    client(harness, &server, "ping", &options, "")?.expect(Exit::Done)?;
    for options in [["--known-key", word(&known)?], ["--tickets", word(&tickets)?]] {
        let options = [&options[..], &["--fault", "server-id"]].concat();
        let outcome = client(harness, &server, "send", &options, "after an offer")?.expect(Exit::Done)?;
        ensure!(outcome.stderr.contains("offered"), "no key was offered:\n{}", outcome.stderr);
        expect_mode(&outcome, "rsa")?;
    }
    let shared = harness.home()?;
    let file = shared_key(harness, &shared, "laptop")?;
    let psk = ["--psk", word(&file)?];
    let server = Server::start(harness, &shared, &psk)?;
    let options = [&psk[..], &["--fault", "server-id"]].concat();
    let outcome = client(harness, &server, "send", &options, "let me in")?;
    outcome.expect(Exit::Refused)?.error_names(&["unknown psk"])?;
    client(harness, &server, "send", &psk, "mine")?.expect(Exit::Done)?;
    server.printed("[laptop] mine")
}

fn binder_and_ticket_with_a_changed_bit_open_nothing(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let tickets = home.file("ticket");
    let tickets = ["--tickets", word(&tickets)?];
    let server = Server::start(harness, &home, &["--anyone"])?;
    client(harness, &server, "ping", &tickets, "")?.expect(Exit::Done)?;
    for fault in ["binder", "ticket"] {
        let options = [&tickets[..], &["--fault", fault]].concat();
        expect_mode(&client(harness, &server, "ping", &options, "")?.expect(Exit::Done)?, "rsa")?;
    }
    let shared = harness.home()?;
    let file = shared_key(harness, &shared, "laptop")?;
    let psk = ["--psk", word(&file)?];
    let server = Server::start(harness, &shared, &psk)?;
    let outcome =
        client(harness, &server, "send", &[&psk[..], &["--fault", "binder"]].concat(), "let me in")?;
    outcome.expect(Exit::Refused)?.error_names(&["unknown psk"])?;
    client(harness, &server, "send", &psk, "mine")?.expect(Exit::Done)?;
    server.printed("[laptop] mine")
}

fn broken_handshake_of_a_client_is_refused(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &["--anyone"])?;
    let key = harness.home_with(Key::Alice)?;
    let key = key.file("client.key");
    for (fault, exit) in [
        ("finished", Exit::Integrity),
        ("signature", Exit::Integrity),
        ("auth-replayed", Exit::Integrity),
        // The server answers as usual, and then the two sides have different keys.
        ("sealed", Exit::Integrity),
        ("short-secret", Exit::Integrity),
        ("zero-share", Exit::Integrity),
        ("modulus", Exit::Integrity),
        ("suite", Exit::Refused),
    ] {
        let options = ["--client-key", word(&key)?, "--fault", fault];
        let outcome = client(harness, &server, "send", &options, "let me in")?.expect(exit).context(fault)?;
        server.logged(&["connection failed", source(&outcome)?]).context(fault)?;
        server.still_serves(harness).context(fault)?;
    }
    ensure!(!server.process.stdout.text().contains("let me in"), "a stranger's message was printed");
    Ok(())
}

fn broken_handshake_of_a_server_is_refused(harness: &Harness) -> Result<()> {
    for fault in ["finished", "ciphertext", "suite", "mode", "zero-share", "client-auth", "offers"] {
        let server = keyed(harness, &["--fault", fault], "")?;
        let outcome = harness.send(&harness.home()?, &server, "not for you")?;
        let outcome = outcome.expect_any(&[Exit::Identity, Exit::Integrity]).context(fault)?;
        outcome.error_names(&[])?;
        server.finish()?.expect(Exit::Integrity).context(fault)?.expect_stdout(b"")?;
    }
    // The shared key is not replaced by another proof of the server's identity.
    let home = harness.home()?;
    let file = shared_key(harness, &home, "laptop")?;
    let server = keyed(harness, &["--fault", "offers"], "")?;
    let arguments = ["send", server.address(), "not for you", "--psk", word(&file)?];
    let outcome = harness.client(&home, &arguments).run()?;
    outcome.expect_any(&[Exit::Identity, Exit::Integrity])?.error_names(&[])?;
    Ok(())
}

fn broken_stream_ends_the_pipe_of_the_server(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    for fault in broken() {
        let mut server = Server::start(harness, &home, &["pipe", "--anyone"])?;
        server.process.feed(Cursor::new(sent()?))?;
        let peer = client(harness, &server, "pipe", &["--fault", fault], sent()?)?;
        peer.expect(Exit::Integrity).context(fault)?;
        let outcome = server.finish()?.expect(Exit::Integrity).context(fault)?.error_names(&[])?;
        only_before_the_fault(&outcome, fault)?;
    }
    Ok(())
}

fn broken_stream_ends_the_pipe_of_the_client(harness: &Harness) -> Result<()> {
    for fault in broken() {
        let server = keyed(harness, &["--fault", fault], sent()?)?;
        let arguments = ["pipe", server.address(), "--server-key", server.key()?];
        let outcome = harness.client(&harness.home()?, &arguments).input(sent()?).run()?;
        let outcome = outcome.expect(Exit::Integrity).context(fault)?.error_names(&[])?;
        only_before_the_fault(&outcome, fault)?;
        server.finish()?.expect(Exit::Integrity).context(fault)?;
    }
    Ok(())
}

fn broken_message_is_not_printed(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    for fault in broken() {
        let outcome = client(harness, &server, "send", &["--fault", fault], sent()?)?;
        let outcome = outcome.expect(Exit::Integrity).context(fault)?;
        server.logged(&["connection ended early", source(&outcome)?]).context(fault)?;
        server.still_serves(harness).context(fault)?;
    }
    ensure!(!server.process.stdout.text().contains("nobody between"), "a part of a message was printed");
    Ok(())
}

/// The message arrives, but the record in place of the confirmation does not confirm it.
fn broken_answer_confirms_nothing(harness: &Harness) -> Result<()> {
    for fault in broken().chain(["data", "empty-data", "early-end", "no-close"]) {
        let server = keyed(harness, &["--fault", fault], "")?;
        let outcome = harness.send(&harness.home()?, &server, "hello")?;
        outcome.expect(Exit::Integrity).context(fault)?.error_names(&[])?;
    }
    Ok(())
}

fn idle_channel_takes_no_stray_record(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    for fault in BROKEN.into_iter().chain(["data", "empty-data", "end"]) {
        let outcome = client(harness, &server, "ping", &["--fault", fault], "")?;
        let outcome = outcome.expect(Exit::Integrity).context(fault)?;
        server.logged(&["connection ended early", source(&outcome)?]).context(fault)?;
    }
    client(harness, &server, "ping", &["--fault", "update"], "")?.expect(Exit::Done)?;
    server.still_serves(harness)
}

/// Runs the Python client to its end.
fn client(
    harness: &Harness,
    server: &Server,
    what: &str,
    options: &[&str],
    input: impl Into<Vec<u8>>,
) -> Result<Outcome> {
    let arguments = [&["client", server.address(), what], options].concat();
    start(harness, &arguments, input.into())?.finish()
}

/// Starts the Python server with these options.
fn server(harness: &Harness, options: &[&str], input: impl Into<Vec<u8>>) -> Result<Server> {
    Server::from_process(start(harness, &[&["server"], options].concat(), input.into())?)
}

/// Starts the Python server with a key of its own.
fn keyed(harness: &Harness, options: &[&str], input: impl Into<Vec<u8>>) -> Result<Server> {
    let home = harness.home_with(Key::Server)?;
    let key = home.file("server.key");
    server(harness, &[&["--key", word(&key)?], options].concat(), input)
}

fn start(harness: &Harness, arguments: &[&str], input: Vec<u8>) -> Result<Process> {
    let mut command = harness.peer("sockseal.py")?;
    command.args(arguments);
    let mut process = Process::start(command)?;
    process.feed(Cursor::new(input))?;
    Ok(process)
}

fn expect_mode(outcome: &Outcome, mode: &str) -> Result<()> {
    let said = outcome.stderr.lines().rev().find_map(|line| line.strip_prefix("mode "));
    ensure!(said.map(str::trim) == Some(mode), "not in mode {mode}:\n{}", outcome.stderr);
    Ok(())
}

/// The address of a Python client as the server's log shows it.
fn source(outcome: &Outcome) -> Result<&str> {
    let said = outcome.stderr.lines().rev().find_map(|line| line.strip_prefix("source "));
    Ok(said.context("no source")?.trim())
}

fn same(received: &[u8], sent: &[u8]) -> Result<()> {
    ensure!(digest(received) == digest(sent), "{} bytes, not those that were sent", received.len());
    Ok(())
}

/// The bytes that a peer sends, which are more than those before a fault.
fn sent() -> Result<Vec<u8>> {
    Lines::of_length(100_000).bytes()
}

/// Checks that the output ends before the fault. Three records of data precede it, and the first of two equal
/// records is valid as well.
fn only_before_the_fault(outcome: &Outcome, fault: &str) -> Result<()> {
    let good = [&sent()?[..3 * 4096], b"twice"].concat();
    ensure!(good.starts_with(&outcome.stdout), "{fault}: {} bytes came out", outcome.stdout.len());
    Ok(())
}

/// Faults that break a stream.
fn broken() -> impl Iterator<Item = &'static str> {
    BROKEN.into_iter().chain(["open", "close"])
}

/// Faults that are invalid in every state of a channel.
const BROKEN: [&str; 21] = [
    "replay",
    "reorder",
    "drop",
    "reflect",
    "flip",
    "old-key",
    "cut",
    "no-type",
    "unknown-type",
    "empty-record",
    "long-payload",
    "long-record",
    "handshake",
    "opened",
    "refused",
    "reset",
    "unknown-control",
    "unknown-code",
    "control-and-more",
    "half-a-control",
    "pong",
];

/// Options for records with 0 to 255 bytes of padding and with as much as fits, and a new key every seventh record.
const ODD: &[&str] = &["--every-padding", "--update-every", "7"];

const MEBIBYTE: u64 = 1024 * 1024;
