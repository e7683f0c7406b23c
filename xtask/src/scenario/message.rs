//! Goal: a message that was confirmed to its sender is on the server's standard output, unchanged and on one line.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{DEADLINE, Exit, Fixture, Harness, Key, Process, Server, Tap, Way, until};
use crate::scenario::registration::scenarios;

scenarios![
    first_start_makes_a_key_and_prints_how_to_use_it,
    command_to_paste_works_as_it_stands,
    default_command_is_run,
    message_from_standard_input_is_one_escaped_line,
    server_that_dies_is_noticed_while_the_input_waits,
    one_trailing_newline_is_dropped,
    control_characters_never_reach_the_terminal,
    text_beyond_ascii_arrives_as_it_is,
    empty_message_arrives,
    large_message_is_streamed,
    message_over_the_limit_is_refused,
    json_has_one_object_a_line,
    json_holds_bytes_that_are_no_text,
    several_clients_at_once_are_all_served,
    wire_shows_nothing_of_the_message,
    signals_end_the_server_with_zero,
];

/// The first start makes a key of 3072 bits that only its owner can read, shows the same fingerprint
/// everywhere, and prints a command that works.
fn first_start_makes_a_key_and_prints_how_to_use_it(harness: &Harness) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let home = harness.home()?;
    let server = Server::start(harness, &home, &["run"])?;
    let pem = home.read("server.key")?;
    ensure!(pem.starts_with("-----BEGIN PRIVATE KEY-----"), "server.key is not PKCS#8 PEM");
    // A private key of 3072 bits has about 1,793 bytes of DER, and one of 2048 bits has 1,217.
    ensure!((2_300..2_700).contains(&pem.len()), "server.key of {} characters is not 3072 bits", pem.len());
    let mode = std::fs::metadata(home.file("server.key"))?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "server.key has mode {mode:o}");
    ensure!(harness.fingerprint("server", &home)? == server.key()?, "two fingerprints for one key");

    let banner = server.process.stderr.wait_line(DEADLINE, |line| line.trim_start().starts_with("try:"))?;
    let expected =
        format!("client send {} \"Hello, World!\" --server-key {}", server.address(), server.key()?);
    ensure!(banner.contains(&expected), "the banner says {banner:?}, expected {expected:?}");

    harness.send(&harness.home()?, &server, "Hello, World!")?.expect(Exit::Done)?.expect_stdout(b"")?;
    server.printed("[anonymous] Hello, World!")
}

/// A shell runs the line that the server prints, unchanged, in a home in which the client has never run.
fn command_to_paste_works_as_it_stands(harness: &Harness) -> Result<()> {
    for (arguments, printed) in [
        (&["--listen", "0.0.0.0:0"][..], "[anonymous] Hello, World!\n"),
        (&["--listen", "[::]:0"], "[anonymous] Hello, World!\n"),
        (&["pipe", "--listen", "127.0.0.1:0"], "through the pipe"),
    ] {
        let server_home = harness.home_with(Key::Server)?;
        let mut server = Server::start(harness, &server_home, arguments)?;
        server.process.close_input();
        let line = server.process.stderr.wait_line(DEADLINE, |line| line.starts_with("try:"))?;
        let mut shell = harness.without_settings(Command::new("sh"));
        let home = harness.home()?;
        shell.args(["-c", line.trim_start_matches("try:")]).env("HOME", home.path());
        let mut shell = Process::start(shell)?;
        shell.write(b"through the pipe")?;
        shell.finish()?.expect(Exit::Done)?;
        server.process.stdout.wait_len(DEADLINE, printed.len())?;
        ensure!(server.process.stdout.text() == printed, "{:?} was printed", server.process.stdout.text());
    }
    Ok(())
}

/// `server --listen ...` without a command means `server run --listen ...`.
fn default_command_is_run(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    harness.send(&harness.home()?, &server, "no command")?.expect(Exit::Done)?;
    server.printed("[anonymous] no command")
}

fn message_from_standard_input_is_one_escaped_line(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let home = harness.home()?;
    let with_dash = ["send", server.address(), "-", "--server-key", server.key()?];
    harness.client(&home, &with_dash).input("first\nsecond").run()?.expect(Exit::Done)?;
    server.printed(r"[anonymous] first\nsecond")?;
    let without_text = ["send", server.address(), "--server-key", server.key()?];
    harness.client(&home, &without_text).input("third\n\n").run()?.expect(Exit::Done)?;
    server.printed(r"[anonymous] third\n")?;
    harness.client(&home, &without_text).input(r"no newline: \n").run()?.expect(Exit::Done)?;
    server.printed(r"[anonymous] no newline: \\n")
}

/// The client still waits for input, and has to notice the server's end meanwhile.
fn server_that_dies_is_noticed_while_the_input_waits(harness: &Harness) -> Result<()> {
    let mut fixture = Fixture::open(harness, &["--messages"])?;
    let address = fixture.address();
    let send = ["send", &address, "-", "--server-key", fixture.key()];
    let mut client = harness.client(fixture.alice(), &send).start()?;
    client.write(b"the beginning of ")?;
    until(DEADLINE, "a message under way", || {
        let status: Value = serde_json::from_str(&fixture.command(&["status", "--json"])?.text())?;
        ensure!(status["streams"] == 1, "the status is {status}");
        Ok(())
    })?;
    fixture.kill()?;
    client.wait_for(Duration::from_secs(5)).context("its input is still open")?;
    client.finish()?.expect(Exit::Integrity)?.error_names(&[&address])?;
    Ok(())
}

fn one_trailing_newline_is_dropped(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let arguments = ["send", server.address(), "-", "--server-key", server.key()?];
    harness.client(&harness.home()?, &arguments).input("as echo writes it\n").run()?.expect(Exit::Done)?;
    server.printed("[anonymous] as echo writes it")
}

fn control_characters_never_reach_the_terminal(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let text = "\u{1b}[31mred\u{7}\u{1b}]0;title\u{7}\rover\u{9b}31m\u{202e}gnp.exe\u{7f}end";
    harness.send(&harness.home()?, &server, text)?.expect(Exit::Done)?;
    let line = server.process.stdout.wait_line(DEADLINE, |line| line.contains("end"))?;
    ensure!(!line.chars().any(char::is_control), "a control character came through: {line:?}");
    ensure!(!line.contains('\u{202e}'), "a direction override came through: {line:?}");
    ensure!(line.contains("red") && line.contains("over"), "the text is gone: {line:?}");
    Ok(())
}

fn text_beyond_ascii_arrives_as_it_is(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    harness.send(&harness.home()?, &server, "안녕, 세계 · żółw · 🦀")?.expect(Exit::Done)?;
    server.printed("[anonymous] 안녕, 세계 · żółw · 🦀")
}

fn empty_message_arrives(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    harness.send(&harness.home()?, &server, "")?.expect(Exit::Done)?;
    server.printed("[anonymous]")
}

/// The message is larger than any record and any buffer on its way.
fn large_message_is_streamed(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let text = "0123456789abcdef".repeat(60_000);
    let arguments = ["send", server.address(), "-", "--server-key", server.key()?];
    harness.client(&harness.home()?, &arguments).input(text.as_bytes()).run()?.expect(Exit::Done)?;
    server.printed(&format!("[anonymous] {text}"))
}

fn message_over_the_limit_is_refused(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &["--max-message", "1024"])?;
    let home = harness.home()?;
    harness.send(&home, &server, &"m".repeat(1024))?.expect(Exit::Done)?;
    server.printed(&format!("[anonymous] {}", "m".repeat(1024)))?;
    let arguments = ["send", server.address(), "-", "--server-key", server.key()?];
    let outcome = harness.client(&home, &arguments).input("n".repeat(200_000)).run()?;
    outcome.expect(Exit::Refused)?.error_names(&[])?;
    server.still_serves(harness)?;
    ensure!(!server.process.stdout.text().contains("nnnn"), "a part of a refused message was printed");
    Ok(())
}

fn json_has_one_object_a_line(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let client = harness.home_with(Key::Alice)?;
    let key = harness.fingerprint("client", &client)?;
    harness.server(&home, &["allow", &key, "--name", "alice"]).run()?.expect(Exit::Done)?;
    let server = Server::start(harness, &home, &["--json", "--anyone"])?;
    let text = "two\nlines and a \"quote\" \u{1b}[1m";
    harness.send(&client, &server, text)?.expect(Exit::Done)?;
    harness.send(&harness.home()?, &server, "unknown")?.expect(Exit::Done)?;

    let named: Value =
        serde_json::from_str(&server.process.stdout.wait_line(DEADLINE, |line| line.contains("alice"))?)?;
    ensure!(named["from"] == "alice" && named["key"] == key.as_str(), "{named}");
    ensure!(named["text"] == text, "{named}");
    let unknown: Value =
        serde_json::from_str(&server.process.stdout.wait_line(DEADLINE, |line| line.contains("unknown"))?)?;
    ensure!(unknown["from"] == "anonymous" && unknown["key"].is_null(), "{unknown}");
    Ok(())
}

fn json_holds_bytes_that_are_no_text(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &["--json"])?;
    let arguments = ["send", server.address(), "-", "--server-key", server.key()?];
    harness.client(&harness.home()?, &arguments).input([0xff, 0x00, 0xfe]).run()?.expect(Exit::Done)?;
    let line = server.process.stdout.wait_line(DEADLINE, |line| line.contains("base64"))?;
    let message: Value = serde_json::from_str(&line)?;
    let base64 = message["base64"].as_str().context("no base64")?;
    ensure!(base64.trim_end_matches('=') == "/wD+", "{message}");
    ensure!(message.get("text").is_none(), "{message}");
    Ok(())
}

fn several_clients_at_once_are_all_served(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let home = harness.home()?;
    let mut clients = Vec::new();
    for number in 0..8 {
        let text = format!("client {number}");
        let arguments = ["send", server.address(), &text, "--server-key", server.key()?];
        let mut client = harness.client(&home, &arguments).start()?;
        client.close_input();
        clients.push(client);
    }
    for client in clients {
        client.finish()?.expect(Exit::Done)?;
    }
    (0..8).try_for_each(|number| server.printed(&format!("[anonymous] client {number}")))
}

fn wire_shows_nothing_of_the_message(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let tap = Tap::before(server.address())?;
    let text = "a sentence that nobody else can read ".repeat(40);
    let arguments = ["send", &tap.address(), &text, "--server-key", server.key()?];
    harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Done)?;
    server.printed(&format!("[anonymous] {}", text.trim_end()))?;
    let up = tap.bytes(Way::Up);
    ensure!(up.len() > text.len(), "the message did not cross the tap");
    for bytes in [up, tap.bytes(Way::Down)] {
        ensure!(memchr::memmem::find(&bytes, b"sentence that").is_none(), "plaintext on the wire");
    }
    Ok(())
}

fn signals_end_the_server_with_zero(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start(harness, &home, &[])?;
        server.process.signal(signal)?;
        server.finish()?.expect(Exit::Done)?;
    }
    Ok(())
}
