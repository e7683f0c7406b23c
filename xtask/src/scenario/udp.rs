//! Goal: each datagram that enters leaves as one datagram, UDP sessions are kept apart, and idle ones end.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::harness::{
    DEADLINE, Datagrams, Exit, Fixture, Harness, RESOLVED, Tool, datagram_echoed, datagrams_to, throughout,
    until,
};
use crate::scenario::registration::scenarios;

scenarios![
    datagrams_keep_their_boundaries,
    datagram_that_is_too_long_is_dropped_alone_and_told_of,
    flow_that_was_answered_gives_its_channel_back,
    senders_are_told_apart,
    idle_flow_ends_and_the_next_datagram_starts_another,
    busy_flow_does_not_end,
    target_without_a_right_gets_nothing,
    flow_ends_with_the_right_to_it,
    names_are_resolved_by_dig_through_the_tunnel,
    answers_come_from_the_address_that_was_asked,
];

fn datagrams_keep_their_boundaries(harness: &Harness) -> Result<()> {
    let target = Datagrams::echo()?;
    let fixture = Fixture::open(harness, &["--udp", &target.address()])?;
    let forward = fixture.forward(&["-L", &format!("0:{}/udp", target.address())])?;
    let address = forward.local(0)?;
    ensure!(address.ends_with("/udp"), "{address} does not say that it takes datagrams");
    let socket = datagrams_to(&address)?;
    for size in [1, 0, 2, 64, 1_200, 1_472, 8_192, 16_383, 16_384, 16_385, 32_741, 65_507, 0] {
        let payload: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
        datagram_echoed(&socket, &payload).with_context(|| format!("{size} bytes"))?;
    }
    // Several datagrams in a row come back one by one.
    for number in 0..20_u8 {
        socket.send(&[number; 100])?;
    }
    let mut buffer = [0; 1_024];
    for _ in 0..15 {
        let count = socket.recv(&mut buffer)?;
        ensure!(count == 100 && buffer[..100].iter().all(|&byte| byte == buffer[0]), "{count} bytes at once");
    }
    Ok(())
}

/// A datagram over IPv6 holds twenty bytes more than one over IPv4.
fn datagram_that_is_too_long_is_dropped_alone_and_told_of(harness: &Harness) -> Result<()> {
    let target = Datagrams::echo()?;
    let fixture = Fixture::open(harness, &["--udp", &target.address()])?;
    let forward = fixture.forward(&["-L", &format!("[::1]:0:{}/udp", target.address())])?;
    let socket = UdpSocket::bind("[::1]:0")?;
    socket.connect(forward.local(0)?.trim_end_matches("/udp"))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    datagram_echoed(&socket, &vec![b'.'; 65_507])?;
    for size in [65_508, 65_527] {
        socket.send(&vec![0; size])?;
        datagram_echoed(&socket, format!("after {size}").as_bytes())?;
    }
    forward.logged(&["datagram dropped", "bytes=65508", "longer than 65507 bytes"])?;
    let dropped = [forward.resources()?, fixture.resources()?].map(|resources| resources.dropped_datagrams);
    ensure!(dropped == [2, 0], "client and server dropped {dropped:?}");
    Ok(())
}

/// A resolver's clients ask once each, and none of them may hold a channel for the whole idle time of a session.
fn flow_that_was_answered_gives_its_channel_back(harness: &Harness) -> Result<()> {
    let target = Datagrams::echo()?;
    let fixture = Fixture::open(harness, &["--udp", &target.address()])?;
    let forward = fixture.forward(&["-L", &format!("0:{}/udp", target.address())])?;
    let address = forward.local(0)?;
    let once = datagrams_to(&address)?;
    once.send(b"?")?;
    ensure!(once.recv(&mut [0; 10])? == 1, "another answer");
    let streams = || -> Result<_> { Ok([forward.resources()?.streams, fixture.resources()?.streams]) };
    ensure!(streams()? == [1, 1], "a flow is no stream");
    until(DEADLINE / 2, "an answered flow ends", || {
        let streams = streams()?;
        ensure!(streams == [0, 0], "client and server have {streams:?} streams");
        Ok(())
    })?;
    datagram_echoed(&once, b"another flow")
}

fn senders_are_told_apart(harness: &Harness) -> Result<()> {
    let target = Datagrams::echo()?;
    let fixture = Fixture::open(harness, &["--udp", &target.address()])?;
    let arguments = ["-L", &format!("0:{}/udp", target.address()), "--udp-timeout", "3s"];
    let forward = fixture.forward(&arguments)?;
    let address = forward.local(0)?;
    let before = (fixture.at_rest()?, forward.at_rest()?);
    let sockets = (0..50).map(|_| datagrams_to(&address)).collect::<Result<Vec<_>>>()?;
    for round in 0..3 {
        for (number, socket) in sockets.iter().enumerate() {
            datagram_echoed(socket, format!("from {number}, round {round}").as_bytes())?;
        }
    }
    ensure!(target.sources() >= 50, "{} flows for 50 senders", target.sources());
    fixture.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

fn idle_flow_ends_and_the_next_datagram_starts_another(harness: &Harness) -> Result<()> {
    let target = Datagrams::echo()?;
    let fixture = Fixture::open(harness, &["--udp", &target.address()])?;
    let forward = fixture.forward(&["-L", &format!("0:{}/udp", target.address()), "--udp-timeout", "1s"])?;
    let socket = datagrams_to(&forward.local(0)?)?;
    for flow in 1..=3 {
        datagram_echoed(&socket, b"here")?;
        ensure!(forward.resources()?.streams == 1, "a flow is no stream");
        ensure!(target.sources() == flow, "{} flows instead of {flow}", target.sources());
        until(DEADLINE, "an idle flow ends", || {
            let streams = [forward.resources()?.streams, fixture.resources()?.streams];
            ensure!(streams == [0, 0], "client and server have {streams:?} streams");
            Ok(())
        })?;
    }
    Ok(())
}

fn busy_flow_does_not_end(harness: &Harness) -> Result<()> {
    let target = Datagrams::echo()?;
    let fixture = Fixture::open(harness, &["--udp", &target.address()])?;
    let forward = fixture.forward(&["-L", &format!("0:{}/udp", target.address()), "--udp-timeout", "2s"])?;
    let socket = datagrams_to(&forward.local(0)?)?;
    throughout(Duration::from_secs(5), || datagram_echoed(&socket, b"busy"))?;
    ensure!(target.sources() == 1, "a busy flow was replaced {} times", target.sources() - 1);
    Ok(())
}

fn target_without_a_right_gets_nothing(harness: &Harness) -> Result<()> {
    let [allowed, closed] = [Datagrams::echo()?, Datagrams::echo()?];
    // A right to a TCP port does not include the UDP port of the same number.
    let fixture = Fixture::open(harness, &["--udp", &allowed.address(), "--tcp", &closed.address()])?;
    let [first, second] = [&allowed, &closed].map(|target| format!("0:{}/udp", target.address()));
    let forward = fixture.forward(&["-L", &first, "-L", &second])?;
    let [open, shut] = [datagrams_to(&forward.local(0)?)?, datagrams_to(&forward.local(1)?)?];
    for round in 0..5 {
        shut.send(b"no right").ok();
        datagram_echoed(&open, format!("round {round}").as_bytes())?;
    }
    ensure!(closed.received() == 0, "{} datagrams reached a target without a right", closed.received());
    Ok(())
}

/// Datagrams pass in both directions when the right is lost, in each possible way. Within a second none
/// passes any more, although both ends go on sending, and both logs give the reason.
fn flow_ends_with_the_right_to_it(harness: &Harness) -> Result<()> {
    thread::scope(|scope| {
        let runs: Vec<_> = [Loss::Revoked, Loss::Replaced, Loss::Edited, Loss::Expired]
            .into_iter()
            .flat_map(|loss| [("-L", loss), ("-R", loss)])
            .map(|(kind, loss)| {
                let run = scope.spawn(move || right_is_lost(harness, kind, loss));
                (kind, loss, run)
            })
            .collect();
        for (kind, loss, run) in runs {
            let result = run.join().map_err(|_| anyhow!("a run panicked"))?;
            result.with_context(|| format!("{kind}, {loss:?}"))?;
        }
        Ok(())
    })
}

/// A way in which a right is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Revoked,
    /// `server allow` replaces it by other rights.
    Replaced,
    /// The file is edited, and `server reload` runs.
    Edited,
    Expired,
}

fn right_is_lost(harness: &Harness, kind: &str, loss: Loss) -> Result<()> {
    let target = UdpSocket::bind("127.0.0.1:0")?;
    target.set_read_timeout(Some(DEADLINE))?;
    let to = target.local_addr()?.to_string();
    let right = if kind == "-L" { ["--udp", &to] } else { ["--listen", "*"] };
    let fixture = Fixture::open(harness, &right)?;
    let forward = fixture.forward(&[kind, &format!("0:{to}/udp")])?;
    let address = if kind == "-L" { forward.local(0)? } else { forward.remote(0)? };
    let visitor = datagrams_to(&address)?;
    visitor.send(b"the first")?;
    let (_, flow) = target.recv_from(&mut [0; 16]).context("the first datagram")?;
    let to_visitor = |datagram: &[u8]| target.send_to(datagram, flow).map(drop);
    let to_target = |datagram: &[u8]| visitor.send(datagram).map(drop);
    let arrived = [Mutex::new(None), Mutex::new(None)];
    let stop = AtomicBool::new(false);
    let lost = thread::scope(|scope| {
        scope.spawn(|| send_until(&stop, to_visitor));
        scope.spawn(|| send_until(&stop, to_target));
        scope.spawn(|| receive_until(&stop, &target, &arrived[0]));
        scope.spawn(|| receive_until(&stop, &visitor, &arrived[1]));
        let lost = is_arriving(&arrived, Instant::now()).and_then(|()| {
            let lost = loss.happen(&fixture, &right)?;
            thread::sleep(lost.saturating_duration_since(Instant::now()));
            Ok(lost)
        });
        thread::sleep(STILL_SENT);
        stop.store(true, Ordering::Relaxed);
        lost
    })?;
    for (way, arrived) in ["to the target", "to the visitor"].into_iter().zip(&arrived) {
        let last = arrived.lock().unwrap_or_else(PoisonError::into_inner).context("nothing arrived")?;
        let after = last.saturating_duration_since(lost);
        ensure!(after < Duration::from_secs(1), "datagrams {way} passed for {after:?} more");
    }
    // The server does not know the client's own targets.
    let open = if kind == "-L" { &to } else { "listening on 127.0.0.1:" };
    fixture.server()?.logged(&["connection ended early", "client=\"alice\"", open, "lost the right"])?;
    forward.logged(&["lost the right"])?;
    Ok(())
}

impl Loss {
    /// Takes `right` from the client, and returns the time at which it ends.
    fn happen(self, fixture: &Fixture<'_>, right: &[&str]) -> Result<Instant> {
        match self {
            Self::Revoked => fixture.command(&["revoke", "alice"])?.expect(Exit::Done).map(drop)?,
            Self::Replaced => fixture.allow(&["--messages"])?,
            Self::Edited => {
                let clients = fixture.home().read("clients.toml")?;
                let others = clients.replace(right[1], "127.0.0.1:9");
                ensure!(others != clients, "no such right in {clients}");
                fixture.home().write("clients.toml", others)?;
                fixture.command(&["reload"])?.expect(Exit::Done)?;
            }
            Self::Expired => {
                fixture.allow(&[right, &["--expires", "2s"]].concat())?;
                return Ok(Instant::now() + Duration::from_secs(2));
            }
        }
        Ok(Instant::now())
    }
}

/// Waits until datagrams have arrived at both ends after `since`.
fn is_arriving(arrived: &[Mutex<Option<Instant>>; 2], since: Instant) -> Result<()> {
    until(DEADLINE, "datagrams pass in both directions", || {
        let lasts = arrived.each_ref().map(|last| *last.lock().unwrap_or_else(PoisonError::into_inner));
        ensure!(lasts.iter().all(|last| last.is_some_and(|last| last > since)), "last at {lasts:?}");
        Ok(())
    })
}

/// Sends datagrams until told to stop. The receiving end decides whether they arrive, so errors are ignored.
fn send_until(stop: &AtomicBool, send: impl Fn(&[u8]) -> std::io::Result<()>) {
    while !stop.load(Ordering::Relaxed) {
        send(b"one more").ok();
        thread::sleep(Duration::from_millis(10));
    }
}

/// Receives datagrams until told to stop, and records the time of the last one.
fn receive_until(stop: &AtomicBool, socket: &UdpSocket, last: &Mutex<Option<Instant>>) {
    socket.set_read_timeout(Some(Duration::from_millis(100))).ok();
    while !stop.load(Ordering::Relaxed) {
        if socket.recv(&mut [0; 16]).is_ok() {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }
}

/// Time for which both ends go on sending without the right, which is longer than datagrams may still pass.
const STILL_SENT: Duration = Duration::from_millis(2_500);

fn names_are_resolved_by_dig_through_the_tunnel(harness: &Harness) -> Result<()> {
    let dig = Tool::DIG.find()?;
    let resolver = Datagrams::resolver()?;
    let fixture = Fixture::open(harness, &["--udp", &resolver.address()])?;
    let forward = fixture.forward(&["-L", &format!("0:{}/udp", resolver.address())])?;
    let address = forward.local(0)?;
    let port = address.trim_end_matches("/udp").rsplit(':').next().context("no port")?;
    for name in ["one.example", "two.example", "three.example"] {
        let mut command = std::process::Command::new(&dig);
        command.args(["@127.0.0.1", "-p", port, name, "A", "+short", "+noedns", "+tries=5", "+time=5"]);
        let answer = crate::harness::printed(&mut command)?;
        ensure!(answer.trim() == RESOLVED, "dig prints {answer:?}");
    }
    Ok(())
}

/// A resolver that listens at all addresses has to answer from the one that was asked: a client with a
/// connected socket drops other answers.
fn answers_come_from_the_address_that_was_asked(harness: &Harness) -> Result<()> {
    let target = Datagrams::echo()?;
    let fixture = Fixture::open(harness, &["--udp", &target.address(), "--listen", "*:*"])?;
    let everywhere = format!("*:0:{}/udp", target.address());
    let forward = fixture.forward(&["-L", &everywhere, "-R", &everywhere])?;
    for address in [forward.local(0)?, forward.remote(0)?] {
        let port = address.trim_end_matches("/udp").rsplit(':').next().context("no port")?;
        for host in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
            let asked = format!("{host}:{port}");
            datagram_echoed(&datagrams_to(&asked)?, b"from here").context(asked)?;
        }
    }
    Ok(())
}
