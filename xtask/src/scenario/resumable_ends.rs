//! Goal: a connection that cannot go on over another channel is reset on both sides, and never looks like one that has ended.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::harness::{
    DEADLINE, End, Exit, Exposition, Harness, Resumable, StatusPage, Target, echoed, read_to_end_of, until,
};
use crate::scenario::registration::scenarios;

scenarios![
    both_programs_count_what_is_held_and_resumed,
    restarted_server_has_no_stream,
    stopping_server_waits_for_what_it_holds,
    stopped_server_resets_what_it_holds,
    hold_comes_to_its_end,
    withdrawn_right_ends_a_held_stream,
    revoked_client_has_no_stream,
    server_that_ends_resets_both_sides,
    client_that_ends_has_nothing_held,
    killed_client_has_its_stream_held_to_the_end,
];

fn both_programs_count_what_is_held_and_resumed(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &["--status", "127.0.0.1:0"], "")?;
    let pages = [
        StatusPage::of(&open.tunnel.fixture.server()?.process)?,
        StatusPage::of(&open.tunnel.forward.process)?,
    ];
    let expect = |counts: &[(&str, f64)]| {
        until(DEADLINE, "the metrics of both", || {
            pages.iter().try_for_each(|page| Exposition::of(page.address())?.expect(counts))
        })
    };
    open.tunnel.cut_off()?;
    expect(&[("sockseal_streams_held", 1.0), ("sockseal_streams_resumed_total", 0.0)])?;
    let paused = Instant::now();
    open.tunnel.reconnect();
    echoed(&mut open.stream, b"behind")?;
    let paused = paused.elapsed();
    expect(&[("sockseal_streams_held", 0.0), ("sockseal_streams_resumed_total", 1.0)])?;
    for page in &pages {
        let status = page.status()?;
        let resumption = &status["resumption"];
        let pause = resumption["longest_pause_ms"].as_u64().context("no longest pause")?;
        ensure!(pause > 0 && resumption["lost"] == 0, "after {paused:?}: {resumption}");
    }
    Ok(())
}

/// The server is killed while it holds a stream, and another one stands at its address when the client comes back.
fn restarted_server_has_no_stream(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &[], "")?;
    open.tunnel.cut_off()?;
    open.tunnel.holds(1.0)?;
    open.tunnel.fixture.kill()?;
    open.tunnel.fixture.start()?;
    open.tunnel.reconnect();
    open.is_reset()?;
    open.tunnel.forward.logged(&["connection reset", "the server no longer has the stream"])?;
    open.goes_on_anew()
}

/// The server is told to end while it holds a stream, whose client comes back within the grace: for this stream alone.
fn stopping_server_waits_for_what_it_holds(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &["--wait", "1s"], "")?;
    open.tunnel.cut_off()?;
    open.tunnel.holds(1.0)?;
    let server = open.tunnel.fixture.take_server()?;
    server.process.signal(Signal::TERM)?;
    server.logged(&["waiting for the clients of streams"])?;
    open.tunnel.tap.redirect(server.address());
    echoed(&mut open.stream, b"behind")?;
    // Nobody is waited for any more: it takes nothing new.
    until(DEADLINE, "the port is closed", || {
        ensure!(TcpStream::connect(server.address()).is_err(), "the server still accepts");
        Ok(())
    })?;
    open.stream.shutdown(Shutdown::Write)?;
    ensure!(read_to_end_of(&mut open.stream)? == (0, End::Clean), "the stream has not ended well");
    server.finish()?.expect(Exit::Done)?;
    Ok(())
}

/// The server ends while it holds a stream whose client does not come back within the grace.
fn stopped_server_resets_what_it_holds(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &[], "grace = '1s'\n")?;
    open.tunnel.cut_off()?;
    open.tunnel.holds(1.0)?;
    let server = open.tunnel.fixture.take_server()?;
    server.process.signal(Signal::TERM)?;
    let outcome = server.finish()?.expect(Exit::Network)?;
    ensure!(outcome.stderr.contains("stream lost"), "no word of the stream:\n{}", outcome.stderr);
    open.target_is_reset()?;
    open.tunnel.fixture.start()?;
    open.tunnel.reconnect();
    open.is_reset()?;
    open.goes_on_anew()
}

fn hold_comes_to_its_end(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &[], "resume = { hold = '2s' }\n")?;
    let cut = Instant::now();
    open.tunnel.cut_off()?;
    open.target_is_reset()?;
    open.is_reset()?;
    let held = cut.elapsed();
    ensure!(held > Duration::from_millis(1_900), "it was held for {held:?}");
    open.lost("its client has not resumed it in time")?;
    open.tunnel.forward.logged(&["stream lost", "for as long as the server holds it"])?;
    open.tunnel.reconnect();
    open.goes_on_anew()
}

/// The client may not connect to the target any more, though it may still send messages.
fn withdrawn_right_ends_a_held_stream(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &[], "")?;
    open.tunnel.cut_off()?;
    open.tunnel.holds(1.0)?;
    open.tunnel.fixture.allow(&["--messages"])?;
    open.target_is_reset()?;
    open.lost("its client has lost the right to it")?;
    open.tunnel.reconnect();
    open.is_reset()
}

/// The client is taken off the list altogether, and is let in no more: its application hears of it with the first refusal, and does
/// not wait for as long as a stream is held.
fn revoked_client_has_no_stream(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &[], "")?;
    open.tunnel.cut_off()?;
    open.tunnel.holds(1.0)?;
    open.tunnel.fixture.command(&["revoke", "alice"])?.expect(Exit::Done)?;
    open.target_is_reset()?;
    open.lost("its client has lost the right to it")?;
    open.tunnel.reconnect();
    open.is_reset()?;
    open.tunnel.forward.logged(&["stream lost", "does not let this client in"])?;
    Ok(())
}

/// A stream that a channel carries is not kept for after the server's grace.
fn server_that_ends_resets_both_sides(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &[], "grace = '1s'\n")?;
    let server = open.tunnel.fixture.take_server()?;
    let ended = Instant::now();
    server.process.signal(Signal::TERM)?;
    open.target_is_reset()?;
    open.is_reset()?;
    ensure!(ended.elapsed() < SOON, "it took {:?}", ended.elapsed());
    server.finish()?.expect(Exit::Network)?;
    Ok(())
}

/// A client that ends says so, and does not leave its stream to the server.
fn client_that_ends_has_nothing_held(harness: &Harness) -> Result<()> {
    let mut open = Open::start(harness, &["--grace", "1s"], "")?;
    let ended = Instant::now();
    open.tunnel.forward.process.signal(Signal::TERM)?;
    open.is_reset()?;
    open.target_is_reset()?;
    ensure!(ended.elapsed() < SOON, "it took {:?}", ended.elapsed());
    open.tunnel.holds(0.0)
}

/// A client that is killed may be one whose machine has lost its network, as far as the server knows.
fn killed_client_has_its_stream_held_to_the_end(harness: &Harness) -> Result<()> {
    let open = Open::start(harness, &[], "resume = { hold = '2s' }\n")?;
    open.tunnel.forward.process.signal(Signal::KILL)?;
    open.target_is_reset()?;
    open.lost("its client has not resumed it in time")?;
    open.tunnel.holds(0.0)
}

/// A connection through `client forward` to a target that echoes.
struct Open<'a> {
    target: Target,
    tunnel: Resumable<'a>,
    stream: TcpStream,
}

impl<'a> Open<'a> {
    fn start(harness: &'a Harness, options: &[&str], config: &str) -> Result<Self> {
        let target = Target::serve(|mut stream| {
            let mut buffer = [0; 4096];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    count => stream.write_all(&buffer[..count])?,
                }
            }
        })?;
        let tunnel = Resumable::with_config(harness, &[target.address()], options, config)?;
        let mut stream = tunnel.forward.dial()?;
        echoed(&mut stream, b"before")?;
        Ok(Self { target, tunnel, stream })
    }

    /// Waits until the application's connection is reset.
    fn is_reset(&mut self) -> Result<()> {
        let ended = read_to_end_of(&mut self.stream).context("the application")?;
        ensure!(ended == (0, End::Reset), "{ended:?}: a stream that was cut looks like one that ended");
        Ok(())
    }

    /// Waits until the target's connection is reset.
    fn target_is_reset(&self) -> Result<()> {
        self.target.is_left_alone()?;
        let failures = self.target.failures();
        ensure!(failures.len() == self.target.accepted(), "{failures:?}: the target was told of an end");
        Ok(())
    }

    /// Waits until the server has said that the stream is lost.
    fn lost(&self, reason: &str) -> Result<()> {
        self.tunnel.fixture.server()?.logged(&["stream lost", &self.target.address(), reason])?;
        Ok(())
    }

    /// Checks that a new connection works.
    fn goes_on_anew(&self) -> Result<()> {
        until(DEADLINE, "a new connection", || echoed(&mut self.tunnel.forward.dial()?, b"anew"))
    }
}

/// Time within which both sides are told.
const SOON: Duration = Duration::from_secs(10);
