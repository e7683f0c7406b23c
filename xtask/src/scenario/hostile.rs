//! Goal: whatever an unknown peer sends, it ends only its own connection, with one log line, and the next
//! client is served.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::harness::{DEADLINE, Exit, Harness, Key, Server, Tap, Visitor, Way, noise};
use crate::scenario::registration::scenarios;

scenarios![
    silent_and_slow_peers_are_closed_at_the_deadline,
    connecting_and_closing_is_no_failure,
    other_protocols_are_named_in_the_log,
    malformed_frames_are_refused,
    truncated_frames_are_refused,
    random_bytes_are_refused,
    third_key_request_is_refused,
    replayed_connection_prints_nothing,
    reflected_connection_is_refused,
    failure_is_one_log_line,
    crowd_of_strangers_passes,
    flood_of_failures_is_counted_and_not_written_out,
];

/// A handshake may take ten seconds in all, for a silent peer as for one that sends a byte now and then.
fn silent_and_slow_peers_are_closed_at_the_deadline(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let started = Instant::now();
    let silent = Visitor::connect(server.address())?;
    let mut slow = Visitor::connect(server.address())?;
    let hello = [&b"SKS\x01\x03\x00\x08\x00"[..], &[0; 256]].concat();
    let mut bytes = hello.chunks(1);
    // The server has time for other clients while the slow peer sends.
    server.still_serves(harness)?;
    loop {
        slow.send(bytes.next().context("the server took a whole handshake's time of single bytes")?);
        match slow.received().wait_end(Duration::from_millis(400)) {
            Ok(_) => break,
            Err(_) if started.elapsed() < LATEST => {}
            Err(_) => bail!("a slow peer is still connected after {LATEST:?}"),
        }
    }
    silent.closed_within(LATEST.saturating_sub(started.elapsed())).context("a silent peer")?;
    ensure!(started.elapsed() >= EARLIEST, "closed after {:?} already", started.elapsed());
    server.logged(&["connection failed", &slow.source()?])?;
    server.logged(&["handshake not finished", &silent.source()?])?;
    server.still_serves(harness)
}

/// A balancer's health check does the same. Only garbage and failed proofs count for fail2ban.
fn connecting_and_closing_is_no_failure(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let mut sources = Vec::new();
    for _ in 0..50 {
        let visitor = Visitor::connect(server.address())?;
        sources.push(visitor.source()?);
        visitor.close_write();
        visitor.closed_within(SOON)?;
    }
    server.still_serves(harness)?;
    let log = server.process.stderr.text();
    ensure!(!log.contains("connection failed"), "connections that were closed count as failed:\n{log}");
    let named = sources.iter().filter(|source| log.contains(*source)).count();
    ensure!(named == 0, "{named} lines on connections that said nothing:\n{log}");
    Ok(())
}

fn other_protocols_are_named_in_the_log(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let tls = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[0x5a; 506]].concat();
    for (bytes, name) in [
        (&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], "HTTP"),
        (b"POST /login HTTP/1.1\r\n\r\n", "HTTP"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "SSH"),
        (&tls, "TLS"),
    ] {
        let mut visitor = Visitor::connect(server.address())?;
        visitor.send(bytes);
        // The server must close the connection at once, before the deadline.
        let answer = visitor.closed_within(SOON).context(name)?;
        ensure!(answer.len() <= ABORT, "a stranger was told {} bytes", answer.len());
        server.logged(&[name, &visitor.source()?])?;
    }
    server.still_serves(harness)
}

fn malformed_frames_are_refused(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let hello = [&b"SKS\x01\x03\x00\x05\x00"[..], &[0xff; 0x0500]].concat();
    let long_hello = [&b"SKS\x01\x03\x00\x20\x00"[..], &[0; 0x2000]].concat();
    for (bytes, what) in [
        (&b"SKS\x01\x01\x00\x00\x01\x00"[..], "a key request with a body"),
        (b"SKS\x01\x03\x00\x20\x01", "a length over the limit"),
        (b"SKS\x01\x03\x00\xff\xff", "the largest length"),
        (b"SKS\x01\x00\x00\x00\x00", "kind 0"),
        (b"SKS\x01\x06\x00\x00\x00", "kind 6"),
        (b"SKS\x01\xff\x00\x00\x00", "kind 255"),
        (b"SKS\x01\x02\x00\x00\x00", "a server's frame"),
        (b"SKS\x01\x04\x00\x00\x00", "a server's hello"),
        (b"SKS\x02\x01\x00\x00\x00", "version 2"),
        (b"SKS\x00\x01\x00\x00\x00", "version 0"),
        (b"SKS\x01\x01\x01\x00\x00", "a byte that must be zero"),
        (b"SKS\x01\x03\x00\x00\x00", "an empty hello"),
        (b"sks\x01\x01\x00\x00\x00", "a wrong magic"),
        // The server must not wait for a whole header before it closes the connection.
        (b"X", "a first byte of no magic"),
        (b"SKX", "a third byte of no magic"),
        (b"SKS\x01\x02", "the beginning of a server's frame"),
        (b"SKS\x01\x04", "the beginning of a server's hello"),
        (b"SKS\x01\x05", "the beginning of an abort"),
        (b"SKS\x01\x01\x01", "the beginning of a byte that must be zero"),
        (b"SKS\x01\x01\x00\x01", "the beginning of a key request with a body"),
        (b"SKS\x01\x03\x00\x21", "the beginning of a length over the limit"),
        (b"\0\0\0\0\0\0\0\0", "zeros"),
        (&hello, "a hello of ones"),
        (&long_hello, "a hello of zeros, as long as may be"),
    ] {
        let mut visitor = Visitor::connect(server.address())?;
        visitor.send(bytes);
        let answer = visitor.closed_within(SOON).context(what)?;
        ensure!(answer.len() <= ABORT, "{what} was answered with {} bytes", answer.len());
        server.logged(&["connection failed", &visitor.source()?]).context(what)?;
    }
    server.still_serves(harness)
}

/// The scenario cuts a recorded hello after many numbers of bytes.
fn truncated_frames_are_refused(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let recorded = recorded(harness, &server)?;
    for length in (0..9).chain((9..1_600).step_by(211)) {
        let mut visitor = Visitor::connect(server.address())?;
        visitor.send(&recorded[..length.min(recorded.len())]);
        visitor.close_write();
        visitor.closed_within(SOON).with_context(|| format!("{length} bytes"))?;
    }
    server.still_serves(harness)
}

/// A mebibyte of noise is sent at the beginning, after a valid magic, and in place of records.
fn random_bytes_are_refused(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let noise = noise(1024 * 1024)?;
    let recorded = recorded(harness, &server)?;
    // The recording is a key request, and a hello with its length in its own header.
    let length = recorded.get(HEADER + 6..HEADER + 8).context("no hello was recorded")?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let hello = recorded.get(..HEADER + HEADER + length).context("half a hello was recorded")?;
    for prefix in [&b""[..], b"SKS", b"SKS\x01\x03\x00\x08\x00", b"SKS\x01\x01\x00\x00\x00", hello] {
        let mut visitor = Visitor::connect(server.address())?;
        visitor.send(prefix);
        visitor.send(&noise);
        visitor.close_write();
        visitor.closed_within(SOON)?;
        server.logged(&["connection failed", &visitor.source()?])?;
    }
    server.still_serves(harness)
}

/// The server offers its key at most twice on a connection.
fn third_key_request_is_refused(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let mut visitor = Visitor::connect(server.address())?;
    visitor.send(KEY_REQUEST);
    visitor.received().wait_len(DEADLINE, HEADER)?;
    ensure!(
        visitor.received().bytes().starts_with(b"SKS\x01\x02"),
        "a key request is not answered by an offer"
    );
    visitor.send(KEY_REQUEST);
    visitor.send(KEY_REQUEST);
    let answers = visitor.closed_within(SOON)?;
    let offers = memchr::memmem::find_iter(&answers, b"SKS\x01\x02\x00").count();
    ensure!(offers <= 2, "{offers} offers on one connection");
    server.still_serves(harness)
}

/// A recorded client's bytes do not match another connection, since the server's part is fresh.
fn replayed_connection_prints_nothing(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let recorded = recorded(harness, &server)?;
    let mut visitor = Visitor::connect(server.address())?;
    visitor.send(&recorded);
    visitor.close_write();
    visitor.closed_within(SOON)?;
    server.logged(&["connection failed", &visitor.source()?])?;
    server.still_serves(harness)?;
    let printed = server.process.stdout.text();
    ensure!(printed.matches("recorded").count() == 1, "a replayed message was printed:\n{printed}");
    Ok(())
}

/// The scenario sends the server's own bytes back to it.
fn reflected_connection_is_refused(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let tap = Tap::before(server.address())?;
    let arguments = ["send", &tap.address(), "recorded", "--server-key", server.key()?];
    harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Done)?;
    let mut visitor = Visitor::connect(server.address())?;
    visitor.send(&tap.last()?.bytes(Way::Down));
    visitor.close_write();
    visitor.closed_within(SOON)?;
    server.still_serves(harness)
}

/// fail2ban reads one line for each failed connection, with the source address.
fn failure_is_one_log_line(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let mut sources = Vec::new();
    for bytes in [
        &b"GET / HTTP/1.0\r\n\r\n"[..],
        b"SKS\x01\x03\x00\xff\xff",
        b"\x1b[31mred\x07\r\nWARN connection failed",
    ] {
        let mut visitor = Visitor::connect(server.address())?;
        visitor.send(bytes);
        visitor.close_write();
        visitor.closed_within(SOON)?;
        server.logged(&["connection failed", &visitor.source()?])?;
        sources.push(visitor.source()?);
    }
    server.still_serves(harness)?;
    let log = server.process.stderr.text();
    for source in sources {
        let lines = log.lines().filter(|line| line.contains(&source)).count();
        ensure!(lines == 1, "{lines} lines on {source}:\n{log}");
    }
    ensure!(!log.contains('\u{1b}') && !log.contains('\u{7}'), "a control character in the log:\n{log}");
    Ok(())
}

fn crowd_of_strangers_passes(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let noise = noise(4096)?;
    for _ in 0..100 {
        let mut visitor = Visitor::connect(server.address())?;
        visitor.send(&noise);
        visitor.closed_within(SOON)?;
    }
    server.still_serves(harness)
}

/// The log has 300 lines in ten seconds, then one line with the number of those that were left out.
fn flood_of_failures_is_counted_and_not_written_out(harness: &Harness) -> Result<()> {
    const FLOOD: usize = 1_000;
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let begun = Instant::now();
    for _ in 0..FLOOD {
        let mut visitor = Visitor::connect(server.address())?;
        visitor.send(b"GET / HTTP/1.1\r\n\r\n");
        visitor.closed_within(SOON)?;
    }
    let windows = begun.elapsed().as_secs() / 10 + 2;
    server.logged(&["more connections failed", "count="])?;
    let log = server.process.stderr.text();
    let lines = log.lines().filter(|line| line.contains("connection failed")).count();
    ensure!(lines >= 300 && u64::try_from(lines)? <= 300 * windows, "{lines} lines");
    Ok(())
}

/// Returns all bytes that a client sends to transmit the message `recorded`.
fn recorded(harness: &Harness, server: &Server) -> Result<Vec<u8>> {
    let tap = Tap::before(server.address())?;
    let arguments = ["send", &tap.address(), "recorded", "--server-key", server.key()?];
    harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Done)?;
    server.printed("[anonymous] recorded")?;
    tap.last()?.recording(Way::Up).wait_end(DEADLINE)
}

const KEY_REQUEST: &[u8] = b"SKS\x01\x01\x00\x00\x00";
const HEADER: usize = 8;

/// Most bytes in answer to an unknown peer: a header and a code.
const ABORT: usize = 16;

/// Longest time until a peer is refused, well before the deadline of ten seconds.
const SOON: Duration = Duration::from_secs(8);
const EARLIEST: Duration = Duration::from_secs(9);
const LATEST: Duration = Duration::from_secs(16);
