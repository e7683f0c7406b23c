//! Goal: opening a connection costs no round trip, because the pool holds channels whose handshake is complete.

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::harness::{
    DEADLINE, Fault, Fixture, Harness, Tap, Target, Way, dial, echoed, local, throughout, until,
};
use crate::scenario::registration::scenarios;

scenarios![
    request_takes_one_round_trip_of_the_link,
    channels_are_used_again,
    handshakes_behind_the_first_resume,
    pool_grows_with_use_and_shrinks_again,
    target_that_speaks_first_is_heard_at_once,
    idle_channels_outlive_the_servers_patience,
];

/// The link has a round trip of 100 ms, in which the connection is opened, the request sent and its answer read.
fn request_takes_one_round_trip_of_the_link(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let tap = Tap::with_fault(&fixture.address(), Fault::Delay(ROUND_TRIP / 2))?;
    let forward = fixture.forward_through(&tap.address(), &["-L", &local(&target)])?;
    forward.connected()?;
    echoed(&mut forward.dial()?, b"the first one may wait for a handshake")?;
    let mut times = Vec::new();
    for _ in 0..8 {
        let channels = forward.at_rest()?;
        until(DEADLINE, "a warm channel", || {
            ensure!(forward.resources()?.idle_channels > 0, "{channels:?}");
            Ok(())
        })?;
        let started = Instant::now();
        echoed(&mut forward.dial()?, b"request")?;
        times.push(started.elapsed());
    }
    times.sort();
    let [best, median] = [times[0], times[times.len() / 2]];
    ensure!(best > ROUND_TRIP.mul_f64(0.9), "{best:?}: the tap does not delay");
    ensure!(median < ROUND_TRIP.mul_f64(1.6), "{median:?}, more than one round trip; all: {times:?}");
    Ok(())
}

/// A server with a short time-out for idle channels must not cause the client to make new ones repeatedly.
fn idle_channels_outlive_the_servers_patience(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::with_config(
        harness,
        &["--tcp", &target.address(), "--listen", "*"],
        "idle_timeout = '15s'\n",
    )?;
    let tap = Tap::before(&fixture.address())?;
    let forward = fixture.forward_through(&tap.address(), &["-L", &local(&target), "-R", &local(&target)])?;
    forward.remote(0)?;
    // The pool keeps two warm channels and two parked ones.
    forward.has_idle(4)?;
    let before = tap.count();
    throughout(Duration::from_secs(25), || {
        ensure!(tap.count() == before, "{} channels instead of {before}", tap.count());
        Ok(())
    })?;
    echoed(&mut forward.dial()?, b"over a channel that has waited")
}

/// Two hundred connections one after the other use a handful of channels.
fn channels_are_used_again(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let tap = Tap::before(&fixture.address())?;
    let forward = fixture.forward_through(&tap.address(), &["-L", &local(&target)])?;
    for _ in 0..200 {
        let mut stream = forward.dial()?;
        echoed(&mut stream, b"short")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        ensure!(stream.read(&mut [0])? == 0, "no end");
    }
    ensure!(target.accepted() == 200, "{} connections came out", target.accepted());
    ensure!(tap.count() <= 20, "{} channels for 200 connections", tap.count());
    Ok(())
}

/// Only the first handshakes use RSA, and the others present a ticket.
fn handshakes_behind_the_first_resume(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let tap = Tap::before(&fixture.address())?;
    let forward = fixture.forward_through(&tap.address(), &["-L", &local(&target)])?;
    let mut streams = vec![forward.dial()?];
    echoed(&mut streams[0], b"the first")?;
    for _ in 0..20 {
        let mut stream = forward.dial()?;
        echoed(&mut stream, b"one more at once")?;
        streams.push(stream);
    }
    // The hello itself tells its kind: full handshakes are longer in either flight, by a sealed secret or a signature.
    let crossings = tap.crossings();
    ensure!(crossings.len() > 20, "{} channels for 21 streams", crossings.len());
    let full = crossings
        .iter()
        .map(|crossing| Auth::of(&crossing.bytes(Way::Up)))
        .filter(|auth| !matches!(auth, Ok(Auth::Ticket)))
        .count();
    ensure!(full <= 3, "{full} of {} handshakes were full ones", crossings.len());
    Ok(())
}

/// The authentication of a hello, by its number in PROTOCOL.md, section 3.
#[derive(PartialEq, Eq, Debug)]
enum Auth {
    Rsa,
    SharedKey,
    Ticket,
}

impl Auth {
    fn of(bytes: &[u8]) -> Result<Self> {
        let hello = memchr::memmem::rfind(bytes, b"SKS\x01\x03\x00").context("no hello")?;
        let body = bytes.get(hello + 8..).context("half a hello")?;
        // The fields are random[32], the number of suites u64, two bytes for each, x25519[32],
        // mlkem768[1184], server id[32].
        let suites = body.get(32..40).context("half a hello")?;
        let suites = usize::try_from(u64::from_be_bytes(suites.try_into()?))?;
        let at = 40 + 2 * suites + 32 + 1184 + 32;
        match body.get(at..at + 4).context("half a hello")? {
            [0, 0, 0, 0] => Ok(Self::Rsa),
            [0, 0, 0, 1] => Ok(Self::SharedKey),
            [0, 0, 0, 2] => Ok(Self::Ticket),
            other => Err(anyhow!("an unknown kind of hello: {other:02x?}")),
        }
    }
}

fn pool_grows_with_use_and_shrinks_again(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    forward.connected()?;
    let before = forward.at_rest()?;
    let address = forward.local(0)?;
    for _ in 0..10 {
        let talkers: Vec<_> = (0..12)
            .map(|_| {
                let address = address.clone();
                thread::spawn(move || echoed(&mut dial(&address)?, b"at once"))
            })
            .collect();
        for talker in talkers {
            talker.join().map_err(|_| anyhow!("a talker panicked"))??;
        }
    }
    let busy = forward.resources()?;
    ensure!(busy.channels >= before.channels, "the pool did not grow: {before:?}, {busy:?}");
    // The pool keeps few idle channels, and closes unused ones.
    until(Duration::from_secs(90), "the pool shrinks", || {
        let now = forward.resources()?;
        ensure!(now.idle_channels <= before.idle_channels.max(4), "{now:?}, and {before:?} before");
        Ok(())
    })
}

/// SSH and SMTP servers send such a banner before the client has sent anything.
fn target_that_speaks_first_is_heard_at_once(harness: &Harness) -> Result<()> {
    let target = Target::serve(|mut stream| {
        stream.write_all(b"220 ready\r\n")?;
        stream.read(&mut [0]).map(drop)
    })?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    for _ in 0..5 {
        let mut banner = [0; 11];
        forward.dial()?.read_exact(&mut banner).context("the banner")?;
        ensure!(&banner == b"220 ready\r\n", "another banner");
    }
    Ok(())
}

const ROUND_TRIP: Duration = Duration::from_millis(100);
