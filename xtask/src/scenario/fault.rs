//! Goal: under any network fault, a tunnel delivers everything or breaks visibly, recovers, and leaks nothing.

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::Signal;

use crate::harness::{
    DEADLINE, End, Exchange, Fault, Fixture, Forward, Gate, Harness, Load, Resources, Side, Tap, Target,
    Visitor, Way, dial, echoed, local, read_to_end_of, throughout, until, works_again,
};
use crate::scenario::registration::scenarios;

scenarios![
    delay_of_200_milliseconds_costs_time_alone,
    single_byte_writes_cost_time_alone,
    changed_byte_never_reaches_an_application,
    cut_at_any_byte_never_looks_like_an_end,
    stall_that_ends_in_time_loses_nothing,
    handshake_in_a_black_hole_is_given_up,
    black_hole_is_noticed_by_both_sides,
    half_open_connection_is_noticed_by_the_client,
    half_open_connection_is_noticed_by_the_server,
    lease_that_the_server_has_lost_is_claimed_again_at_once,
    killed_server_under_load_leaves_nothing_at_the_client,
    stopped_server_is_given_up,
    slow_loris_keeps_nobody_out,
    targets_that_refuse_hang_and_reset_leave_nothing,
];

/// A tunnel through a tap after a first exchange, and the resources that both programs held then.
struct Tunnel<'a> {
    fixture: Fixture<'a>,
    tap: Tap,
    forward: Forward<'a>,
    exchange: Exchange,
    target: Target,
    before: (Resources, Resources),
}

impl<'a> Tunnel<'a> {
    fn open(harness: &'a Harness, exchange: Exchange) -> Result<Self> {
        let target = Target::exchange(exchange)?;
        let fixture = Fixture::with_config(harness, &["--tcp", &target.address()], HOLD)?;
        let tap = Tap::unrecorded(&fixture.address())?;
        let forward = fixture.forward_through(&tap.address(), &["-L", &local(&target)])?;
        exchange.ask(forward.dial()?)?;
        let before = (fixture.at_rest()?, forward.at_rest()?);
        Ok(Self { fixture, tap, forward, exchange, target, before })
    }

    fn ask(&self) -> Result<()> {
        self.exchange.ask(self.forward.dial()?)
    }

    /// Sets the fault of new connections, and resets all current ones.
    fn fault(&self, fault: Option<Fault>) {
        self.tap.set_fault(fault);
        self.tap.cut();
    }

    /// Runs load through a network with a fault until a connection has met it, then through one without. Each
    /// exchange has to arrive whole or to break, without wrong or missing bytes.
    fn meets(&self, fault: Fault, way: Way, at: usize) -> Result<()> {
        let made = self.tap.count();
        self.fault(Some(fault));
        let load = Load::start(&self.forward.local(0)?, self.exchange);
        let met = until(DEADLINE, "a connection meets the fault", || {
            let passed = self.tap.crossings().iter().skip(made).map(|crossing| crossing.passed(way)).max();
            ensure!(passed >= Some(at), "at most {passed:?} bytes went {way:?}");
            Ok(())
        });
        self.tap.set_fault(None);
        load.until_more(2)?;
        load.finish()?;
        met
    }

    /// Removes the fault, and checks that the tunnel works and that nothing has leaked.
    fn heals(&self) -> Result<()> {
        self.fault(None);
        until(DEADLINE, "an exchange over a whole wire", || self.ask())?;
        self.target.is_left_alone()?;
        self.fixture.expect_again(&self.before.0)?;
        self.forward.expect_again(&self.before.1)
    }
}

fn delay_of_200_milliseconds_costs_time_alone(harness: &Harness) -> Result<()> {
    let tunnel = Tunnel::open(harness, Exchange { up: 2_000_000, down: 3_000_000 })?;
    tunnel.fault(Some(Fault::Delay(Duration::from_millis(200))));
    for _ in 0..3 {
        let started = Instant::now();
        tunnel.ask()?;
        ensure!(started.elapsed() > Duration::from_millis(400), "the tap does not delay");
    }
    tunnel.heals()
}

fn single_byte_writes_cost_time_alone(harness: &Harness) -> Result<()> {
    let tunnel = Tunnel::open(harness, Exchange { up: 100_000, down: 150_001 })?;
    tunnel.fault(Some(Fault::Trickle));
    tunnel.ask()?;
    tunnel.heals()
}

/// The tap inverts one bit at many offsets in either direction: in the handshake, in lengths, in data and in tags.
fn changed_byte_never_reaches_an_application(harness: &Harness) -> Result<()> {
    let tunnel = Tunnel::open(harness, Exchange { up: 200_000, down: 200_001 })?;
    for way in [Way::Up, Way::Down] {
        for at in [0, 7, 600, 1_500, 5_000, 20_011, 99_991, 180_001] {
            let fault = Fault::Flip { way, at };
            tunnel.meets(fault, way, at).with_context(|| format!("{fault:?}"))?;
        }
    }
    tunnel.heals()
}

fn cut_at_any_byte_never_looks_like_an_end(harness: &Harness) -> Result<()> {
    let tunnel = Tunnel::open(harness, Exchange { up: 100_000, down: 100_001 })?;
    for way in [Way::Up, Way::Down] {
        for at in [1, 9, 1_000, 3_001, 16_384, 50_021, 100_103] {
            let fault = Fault::Cut { way, after: at };
            tunnel.meets(fault, way, at).with_context(|| format!("{fault:?}"))?;
        }
    }
    tunnel.heals()
}

/// Five seconds without a byte are no reason to end a connection.
fn stall_that_ends_in_time_loses_nothing(harness: &Harness) -> Result<()> {
    let tunnel = Tunnel::open(harness, Exchange { up: 8_000_000, down: 8_000_001 })?;
    let stream = tunnel.forward.dial()?;
    let exchange = tunnel.exchange;
    let asking = thread::spawn(move || exchange.ask(stream));
    tunnel.tap.stall();
    throughout(Duration::from_secs(5), || Ok(()))?;
    tunnel.tap.flow();
    asking.join().map_err(|_| anyhow!("the application panicked"))??;
    tunnel.heals()
}

/// The network stalls in the middle of a new channel's handshake, and the client makes another channel in time.
fn handshake_in_a_black_hole_is_given_up(harness: &Harness) -> Result<()> {
    let tunnel = Tunnel::open(harness, Exchange::SMALL)?;
    for fault in [
        Fault::Stall { way: Way::Up, after: 700 },
        Fault::Stall { way: Way::Down, after: 300 },
        Fault::HalfOpen { way: Way::Up, after: 1_000 },
    ] {
        let made = tunnel.tap.count();
        tunnel.fault(Some(fault));
        until(DEADLINE, "a new channel", || {
            ensure!(tunnel.tap.count() > made, "the client makes none");
            Ok(())
        })?;
        let stream = tunnel.forward.dial()?;
        tunnel.tap.set_fault(None);
        let started = Instant::now();
        tunnel.exchange.ask(stream).with_context(|| format!("{fault:?}"))?;
        ensure!(started.elapsed() < Duration::from_secs(28), "{fault:?}: {:?}", started.elapsed());
    }
    tunnel.heals()
}

/// No byte passes, and neither side closes the connection. Without resumption, after thirty seconds of silence both sides give it
/// up, and new connections work.
fn black_hole_is_noticed_by_both_sides(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let tap = Tap::before(&fixture.address())?;
    // What can be taken over would outlive this.
    let ways = ["-L", &local(&target), "-R", &local(&target), "--no-resume"];
    let forward = fixture.forward_through(&tap.address(), &ways)?;
    let ways = [forward.local(0)?, forward.remote(0)?];
    for address in &ways {
        echoed(&mut dial(address)?, b"warm")?;
    }
    let before = (fixture.at_rest()?, forward.at_rest()?);
    let mut streams = ways.iter().map(|address| dial(address)).collect::<Result<Vec<_>>>()?;
    for stream in &mut streams {
        echoed(stream, b"before")?;
    }
    let started = Instant::now();
    tap.stall();
    for stream in &mut streams {
        stream.write_all(b"into the hole")?;
    }
    for stream in streams {
        let ended = read_to_end_of(stream)?;
        ensure!(ended == (0, End::Reset), "{ended:?} instead of a reset");
    }
    let noticed = started.elapsed();
    ensure!(noticed > EARLIEST && noticed < LATEST, "noticed after {noticed:?}");
    target.is_left_alone()?;
    works_again(&ways[0])?;
    fixture.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

fn half_open_connection_is_noticed_by_the_client(harness: &Harness) -> Result<()> {
    half_open(harness, Side::Client)
}

fn half_open_connection_is_noticed_by_the_server(harness: &Harness) -> Result<()> {
    half_open(harness, Side::Server)
}

/// One side of each connection is closed without notice to the side that `keeps` it open.
fn half_open(harness: &Harness, keeps: Side) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let tap = Tap::before(&fixture.address())?;
    // What can be taken over would outlive this.
    let ways = ["-L", &local(&target), "-R", &local(&target), "--no-resume"];
    let forward = fixture.forward_through(&tap.address(), &ways)?;
    forward.remote(0)?;
    echoed(&mut forward.dial()?, b"warm")?;
    let before = (fixture.at_rest()?, forward.at_rest()?);
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"before")?;
    let started = Instant::now();
    tap.half_open(keeps);
    let address = forward.local(0)?;
    works_again(&address)?;
    match keeps {
        Side::Client => {
            let ended = read_to_end_of(stream)?;
            ensure!(ended == (0, End::Reset), "{ended:?} instead of a reset");
            let noticed = started.elapsed();
            ensure!(noticed > EARLIEST && noticed < LATEST, "noticed after {noticed:?}");
        }
        Side::Server => {
            let ended = read_to_end_of(stream)?;
            ensure!(ended == (0, End::Reset), "{ended:?} instead of a reset");
            target.is_left_alone().context("the server keeps a dead stream")?;
        }
    }
    fixture.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

/// The channel of a lease is half open, and the server has ended the lease. The client learns it from the
/// channels that it parks next, and makes few connections until then.
fn lease_that_the_server_has_lost_is_claimed_again_at_once(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let tap = Tap::before(&fixture.address())?;
    let forward = fixture.forward_through(&tap.address(), &["-R", &local(&target)])?;
    let address = forward.remote(0)?;
    works_again(&address)?;
    let crossings = tap.crossings();
    // The client claims its lease on its first channel.
    tap.half_open(Side::Client);
    crossings.iter().skip(1).for_each(|crossing| crossing.cut());
    forward.logged(&["the server knows the lease no longer"])?;
    works_again(&address)?;
    let made = tap.count() - crossings.len();
    ensure!(made < 20, "{made} connections were made");
    Ok(())
}

fn killed_server_under_load_leaves_nothing_at_the_client(harness: &Harness) -> Result<()> {
    let mut tunnel = Tunnel::open(harness, Exchange { up: 300_000, down: 300_001 })?;
    let load = Load::start(&tunnel.forward.local(0)?, tunnel.exchange);
    for _ in 0..5 {
        load.until_more(4)?;
        tunnel.fixture.kill()?;
        tunnel.fixture.start()?;
    }
    load.until_more(4)?;
    load.finish()?;
    tunnel.heals()
}

/// A server that hangs is treated like one that is gone.
fn stopped_server_is_given_up(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::with_config(harness, &["--tcp", &target.address()], HOLD)?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"before")?;
    fixture.server()?.process.pause()?;
    let started = Instant::now();
    stream.write_all(b"anybody there?")?;
    let ended = read_to_end_of(stream);
    let noticed = started.elapsed();
    fixture.server()?.process.signal(Signal::CONT)?;
    let ended = ended?;
    ensure!(ended == (0, End::Reset), "{ended:?} instead of a reset");
    ensure!(noticed < LATEST, "noticed after {noticed:?}");
    works_again(&forward.local(0)?)
}

/// Three hundred peers begin a handshake and never finish it.
fn slow_loris_keeps_nobody_out(harness: &Harness) -> Result<()> {
    let tunnel = Tunnel::open(harness, Exchange::SMALL)?;
    let mut visitors = Vec::new();
    for _ in 0..300 {
        // A server that has too many connections may close this one at once.
        let Ok(mut visitor) = Visitor::connect(&tunnel.fixture.address()) else { continue };
        visitor.send(b"SKS\x01\x03\x00\x08\x00");
        visitors.push(visitor);
    }
    let started = Instant::now();
    tunnel.fault(None);
    until(DEADLINE, "the client gets in", || tunnel.ask())?;
    for visitor in &mut visitors {
        visitor.send(b"\0");
    }
    tunnel.ask()?;
    for visitor in visitors {
        visitor.closed_within(DEADLINE)?;
    }
    let elapsed = started.elapsed();
    ensure!(elapsed < Duration::from_secs(25), "they were kept for {elapsed:?}");
    tunnel.heals()
}

fn targets_that_refuse_hang_and_reset_leave_nothing(harness: &Harness) -> Result<()> {
    let gate = Gate::default();
    let nobody = crate::harness::Port::hold()?;
    let [hanging, resetting] = [Target::hanging(&gate)?, Target::resetting(50_000)?];
    let closing = Target::serve(|stream| {
        drop(stream);
        Ok(())
    })?;
    let addresses = [nobody.address(), hanging.address(), resetting.address(), closing.address()];
    let rights: Vec<&str> = addresses.iter().flat_map(|address| ["--tcp", address.as_str()]).collect();
    let fixture = Fixture::open(harness, &rights)?;
    let specs = addresses.each_ref().map(|address| format!("0:{address}"));
    let arguments: Vec<&str> = specs.iter().flat_map(|spec| ["-L", spec.as_str()]).collect();
    let forward = fixture.forward(&arguments)?;
    forward.connected()?;
    let before = (fixture.at_rest()?, forward.at_rest()?);
    for _ in 0..30 {
        for index in 0..addresses.len() {
            let mut stream = dial(&forward.local(index)?)?;
            stream.set_read_timeout(Some(Duration::from_millis(50)))?;
            stream.write_all(b"!").ok();
            // Some targets answer, and others never do.
            stream.read_exact(&mut [0; 1_000]).ok();
        }
    }
    gate.open();
    hanging.is_left_alone()?;
    resetting.is_left_alone()?;
    fixture.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

/// Bounds around the thirty seconds of silence after which a connection is given up.
const EARLIEST: Duration = Duration::from_secs(15);
const LATEST: Duration = Duration::from_secs(50);

/// The server lets go of what its client does not take over after this long.
const HOLD: &str = "resume = { hold = '3s' }\n";
