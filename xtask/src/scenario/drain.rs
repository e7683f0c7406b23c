//! Goal: a program that is told to end accepts no new work, lets open streams finish, and reports those that did not.

use std::io::Write as _;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::harness::{
    DEADLINE, Datagrams, End, Exit, Fixture, Forward, Harness, Port, Target, datagram_echoed, datagrams_to,
    dial, echoed, end_behind, local, read_to_end_of, throughout, until,
};
use crate::scenario::registration::scenarios;

scenarios![
    idle_programs_end_at_once,
    server_lets_live_streams_end,
    server_that_is_not_drained_says_so,
    client_lets_live_streams_end,
    client_that_is_not_drained_says_so,
    draining_server_takes_nothing_new,
    flows_of_datagrams_hold_no_end_up,
    same_signal_by_two_ways_is_one,
];

fn idle_programs_end_at_once(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let mut fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let forward = settled(&fixture, &target)?;
    let started = Instant::now();
    forward.stop()?.expect(Exit::Done)?;
    let of_client = started.elapsed();
    let _forward = settled(&fixture, &target)?;
    let server = fixture.take_server()?;
    let log = server.process.stderr.text();
    ensure!(!log.contains("connection failed"), "a good end is no failure:\n{log}");
    let started = Instant::now();
    server.stop()?.expect(Exit::Done)?;
    let of_server = started.elapsed();
    ensure!(
        of_client.max(of_server) < Duration::from_secs(5),
        "idle, they took {of_client:?}, {of_server:?}"
    );
    Ok(())
}

/// Starts a client, and waits until it has all channels that its pool keeps.
fn settled<'a>(fixture: &Fixture<'a>, target: &Target) -> Result<Forward<'a>> {
    let forward = fixture.forward(&["-L", &local(target), "-R", &local(target)])?;
    forward.remote(0)?;
    // The pool keeps two warm channels and two parked ones.
    forward.has_idle(4)?;
    Ok(forward)
}

fn server_lets_live_streams_end(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let rights = ["--tcp", &target.address(), "--listen", "*"];
    let mut fixture = Fixture::with_arguments(harness, &rights, &["--grace", "30s"])?;
    let forward = fixture.forward(&["-L", &local(&target), "-R", &local(&target)])?;
    let mut streams = [forward.dial()?, dial(&forward.remote(0)?)?];
    for stream in &mut streams {
        echoed(stream, b"before")?;
    }
    let server = fixture.take_server()?;
    server.process.signal(Signal::TERM)?;
    throughout(Duration::from_secs(2), || {
        streams.iter_mut().try_for_each(|stream| echoed(stream, b"while it drains"))
    })?;
    for mut stream in streams {
        stream.write_all(b"and to the end")?;
        stream.shutdown(Shutdown::Write)?;
        let ended = read_to_end_of(stream)?;
        ensure!(ended == (14, End::Clean), "{ended:?}");
    }
    server.finish()?.expect(Exit::Done).context("all streams have ended")?;
    Ok(())
}

fn server_that_is_not_drained_says_so(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let mut fixture = Fixture::with_arguments(harness, &["--tcp", &target.address()], &["--grace", "2s"])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"before")?;
    let server = fixture.take_server()?;
    let started = Instant::now();
    server.process.signal(Signal::TERM)?;
    server.finish()?.expect(Exit::Network)?.error_names(&[])?;
    let elapsed = started.elapsed();
    ensure!(elapsed > Duration::from_millis(1_800), "it gave {elapsed:?} of its two seconds");
    ensure!(elapsed < Duration::from_secs(12), "it took {elapsed:?}");
    let ended = read_to_end_of(stream)?;
    ensure!(ended == (0, End::Reset), "{ended:?}: a stream that was cut looks like one that ended");
    target.is_left_alone()
}

fn client_lets_live_streams_end(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let forward = fixture.forward(&["--grace", "30s", "-L", &local(&target), "-R", &local(&target)])?;
    let [here, there] = [forward.local(0)?, forward.remote(0)?];
    let mut streams = [dial(&here)?, dial(&there)?];
    for stream in &mut streams {
        echoed(stream, b"before")?;
    }
    forward.process.signal(Signal::TERM)?;
    until(DEADLINE, "no new connections are taken", || {
        ensure!(!takes(&here), "the local port is still open");
        ensure!(!takes(&there), "the port at the server is still open");
        Ok(())
    })?;
    for mut stream in streams {
        echoed(&mut stream, b"while it drains")?;
        stream.shutdown(Shutdown::Write)?;
        ensure!(read_to_end_of(stream)? == (0, End::Clean), "no clean end");
    }
    forward.finish_within(DEADLINE)?.expect(Exit::Done)?;
    Ok(())
}

fn client_that_is_not_drained_says_so(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["--grace", "2s", "-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"before")?;
    let started = Instant::now();
    forward.process.signal(Signal::TERM)?;
    forward.finish_within(DEADLINE)?.expect(Exit::Network)?.error_names(&[])?;
    let elapsed = started.elapsed();
    ensure!(elapsed > Duration::from_millis(1_800), "it gave {elapsed:?} of its two seconds");
    ensure!(read_to_end_of(stream)? == (0, End::Reset), "a cut that looks like an end");
    target.is_left_alone()
}

/// A client that wants to open a stream on a warm channel finds that the server drains, and tries to connect again.
fn draining_server_takes_nothing_new(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let rights = ["--tcp", &target.address(), "--listen", "*"];
    let mut fixture = Fixture::with_arguments(harness, &rights, &["--grace", "20s"])?;
    let port = Port::hold()?;
    let reverse = format!("{}:{}", port.number(), target.address());
    let forward = fixture.forward(&["--wait", "1s", "-L", &local(&target), "-R", &reverse])?;
    forward.remote(0)?;
    let mut live = forward.dial()?;
    echoed(&mut live, b"before")?;
    let server = fixture.take_server()?;
    server.process.signal(Signal::TERM)?;
    until(DEADLINE, "no new connections are taken", || {
        ensure!(!takes(&fixture.address()), "the server's port is still open");
        ensure!(!takes(&port.address()), "the lease's port is still open");
        Ok(())
    })?;
    let accepted = target.accepted();
    let late = end_behind(forward.dial()?, b"too late")?;
    ensure!(late == (0, End::Reset), "{late:?}: a draining server took a new stream");
    ensure!(target.accepted() == accepted, "the target got a new connection");
    echoed(&mut live, b"still there")?;
    live.shutdown(Shutdown::Write)?;
    ensure!(read_to_end_of(live)? == (0, End::Clean), "no clean end");
    server.finish()?.expect(Exit::Done)?;
    // The client connects to the server's successor.
    fixture.start()?;
    crate::harness::works_again(&forward.local(0)?)
}

/// Returns whether a program listens at the address.
fn takes(address: &str) -> bool {
    std::net::TcpStream::connect(address).is_ok()
}

/// UDP sessions have no end that a draining program could wait for.
fn flows_of_datagrams_hold_no_end_up(harness: &Harness) -> Result<()> {
    let target = Datagrams::echo()?;
    let rights = ["--udp", &target.address(), "--listen", "*"];
    let mut fixture = Fixture::with_arguments(harness, &rights, &["--grace", "60s"])?;
    let forwards = format!("0:{}/udp", target.address());
    let arguments = ["-L", &forwards, "-R", &forwards, "--udp-timeout", "600s", "--grace", "60s"];
    let flowing = |forward: &Forward<'_>| -> Result<()> {
        for address in [forward.local(0)?, forward.remote(0)?] {
            datagram_echoed(&datagrams_to(&address)?, b"flowing")?;
        }
        Ok(())
    };
    let forward = fixture.forward(&arguments)?;
    flowing(&forward)?;
    let started = Instant::now();
    forward.stop()?.expect(Exit::Done)?;
    let forward = fixture.forward(&arguments)?;
    flowing(&forward)?;
    fixture.take_server()?.stop()?.expect(Exit::Done)?;
    let elapsed = started.elapsed();
    ensure!(elapsed < Duration::from_secs(20), "both together took {elapsed:?}");
    Ok(())
}

/// `timeout` sends a signal to the process and to its process group, and so may a terminal.
fn same_signal_by_two_ways_is_one(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let mut fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"before")?;
    let server = fixture.take_server()?;
    for process in [&server.process, &forward.process] {
        process.signal(Signal::INT)?;
        process.signal(Signal::TERM)?;
    }
    throughout(Duration::from_secs(2), || echoed(&mut stream, b"while they drain"))?;
    stream.shutdown(Shutdown::Write)?;
    ensure!(read_to_end_of(stream)? == (0, End::Clean), "no clean end");
    forward.finish_within(DEADLINE)?.expect(Exit::Done)?;
    server.finish()?.expect(Exit::Done)?;
    Ok(())
}
