//! Goal: a stream whose bytes were lost or changed on the way never looks like one that ended cleanly.

use anyhow::{Context as _, Result, ensure};

use crate::harness::{DEADLINE, Exit, Fault, Harness, Key, Lines, Outcome, Server, Tap, Way};
use crate::scenario::registration::scenarios;

scenarios![
    pipe_cut_on_the_way_up_is_told_by_the_server,
    pipe_cut_on_the_way_down_is_told_by_the_client,
    pipe_cut_just_before_its_end_is_no_end,
    pipe_stopped_before_its_end_is_told_by_both_sides,
    changed_byte_ends_the_pipe_on_the_way_up,
    changed_byte_ends_the_pipe_on_the_way_down,
    cut_handshake_or_message_is_never_a_success,
    changed_handshake_is_never_a_success,
];

fn pipe_cut_on_the_way_up_is_told_by_the_server(harness: &Harness) -> Result<()> {
    let (server, client) = pipe_with(harness, Fault::Cut { way: Way::Up, after: 1_000_000 })?;
    let server = server.expect(Exit::Integrity)?.error_names(&[])?;
    client.expect_failure()?;
    only_the_beginning(&server.stdout, 1_000_000)
}

fn pipe_cut_on_the_way_down_is_told_by_the_client(harness: &Harness) -> Result<()> {
    let (server, client) = pipe_with(harness, Fault::Cut { way: Way::Down, after: 1_000_000 })?;
    let client = client.expect(Exit::Integrity)?.error_names(&[])?;
    server.expect_failure()?;
    only_the_beginning(&client.stdout, 1_000_000)
}

/// The scenario repeats a short pipe, and cuts off a different number of bytes at its end each time.
fn pipe_cut_just_before_its_end_is_no_end(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let pipe = |fault: Option<Fault>| -> Result<(Outcome, Outcome, usize)> {
        let mut server = Server::start(harness, &home, &["pipe", "--anyone"])?;
        server.process.close_input();
        let tap = Tap::before(server.address())?;
        tap.set_fault(fault);
        let arguments = ["pipe", &tap.address(), "--server-key", server.key()?];
        let client = harness.client(&harness.home()?, &arguments).input("all of it").run()?;
        Ok((server.finish()?, client, tap.last()?.bytes(Way::Up).len()))
    };
    let (server, client, whole) = pipe(None)?;
    server.expect(Exit::Done)?.expect_stdout(b"all of it")?;
    client.expect(Exit::Done)?;
    for missing in [1, 2, 33, 34, 35, 40, 70] {
        let after = whole.checked_sub(missing).context("a pipe of so few bytes")?;
        let (server, client, _) = pipe(Some(Fault::Cut { way: Way::Up, after }))?;
        server.expect(Exit::Integrity).with_context(|| format!("{missing} bytes before the end"))?;
        drop(client);
    }
    Ok(())
}

fn pipe_stopped_before_its_end_is_told_by_both_sides(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &["pipe", "--anyone"])?;
    let arguments = ["pipe", server.address(), "--server-key", server.key()?];
    // It has to be there for as long as the client is.
    let home = harness.home()?;
    let mut client = harness.client(&home, &arguments).start()?;
    client.write(b"some of it")?;
    server.process.stdout.wait_len(DEADLINE, "some of it".len())?;
    server.stop()?.expect(Exit::Integrity)?.error_names(&["pipe"])?;
    client.finish()?.expect(Exit::Integrity)?;
    Ok(())
}

fn changed_byte_ends_the_pipe_on_the_way_up(harness: &Harness) -> Result<()> {
    let (server, client) = pipe_with(harness, Fault::Flip { way: Way::Up, at: 1_000_000 })?;
    let server = server.expect(Exit::Integrity)?.error_names(&[])?;
    client.expect_failure()?;
    only_the_beginning(&server.stdout, 1_000_000)
}

fn changed_byte_ends_the_pipe_on_the_way_down(harness: &Harness) -> Result<()> {
    let (server, client) = pipe_with(harness, Fault::Flip { way: Way::Down, at: 1_000_000 })?;
    let client = client.expect(Exit::Integrity)?.error_names(&[])?;
    server.expect_failure()?;
    only_the_beginning(&client.stdout, 1_000_000)
}

/// Wherever the exchange is cut, the sender is never told that its message arrived.
fn cut_handshake_or_message_is_never_a_success(harness: &Harness) -> Result<()> {
    sweep(harness, |way, at| Fault::Cut { way, after: at })
}

/// Wherever one bit of the exchange is changed, the sender is never told that its message arrived. The client
/// knows the server's key.
fn changed_handshake_is_never_a_success(harness: &Harness) -> Result<()> {
    sweep(harness, |way, at| Fault::Flip { way, at })
}

fn sweep(harness: &Harness, fault: impl Fn(Way, usize) -> Fault) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &["--anyone"])?;
    let tap = Tap::before(server.address())?;
    let send = |text: &str| -> Result<Outcome> {
        let arguments = ["send", &tap.address(), text, "--server-key", server.key()?];
        harness.client(&harness.home()?, &arguments).run()
    };
    send("whole")?.expect(Exit::Done)?;
    let whole = tap.last()?;
    for way in [Way::Up, Way::Down] {
        // The end of the stream holds closing records, which a sender does not wait for once it has its confirmation.
        let confirmed = whole.bytes(way).len().saturating_sub(FAREWELL);
        for at in (0..confirmed).step_by(STRIDE) {
            let fault = fault(way, at);
            tap.set_fault(Some(fault));
            let outcome = send("part").with_context(|| format!("{fault:?}"))?;
            outcome.expect_failure().with_context(|| format!("{fault:?}"))?;
        }
    }
    tap.set_fault(None);
    send("after")?.expect(Exit::Done)?;
    server.printed("[anonymous] after")
}

/// Runs a pipe of 4 MiB in both directions through a tap with a fault, and returns the outcomes of server and client.
fn pipe_with(harness: &Harness, fault: Fault) -> Result<(Outcome, Outcome)> {
    let mut server = Server::start(harness, &harness.home_with(Key::Server)?, &["pipe", "--anyone"])?;
    server.process.feed(Lines::of_length(LENGTH))?;
    let tap = Tap::with_fault(server.address(), fault)?;
    let arguments = ["pipe", &tap.address(), "--server-key", server.key()?];
    // It has to be there for as long as the client is.
    let home = harness.home()?;
    let mut client = harness.client(&home, &arguments).start()?;
    client.feed(Lines::of_length(LENGTH))?;
    let client = client.finish()?;
    Ok((server.finish()?, client))
}

/// Checks that the output is a prefix of the sent bytes, and contains nothing from behind the fault.
fn only_the_beginning(received: &[u8], fault: usize) -> Result<()> {
    ensure!(received.len() <= fault, "{} bytes came out behind a fault at {fault}", received.len());
    let sent = Lines::of_length(LENGTH).bytes()?;
    ensure!(sent.starts_with(received), "what came out is not what went in");
    Ok(())
}

const LENGTH: u64 = 4 * 1024 * 1024;

/// Distance between faults, coprime to the sizes of everything on the wire, so that faults hit every part of it.
const STRIDE: usize = 89;

/// Most bytes of the last control records of a connection.
const FAREWELL: usize = 160;
