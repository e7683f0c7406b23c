//! `cargo xtask soak`: runs tunnels of every kind for a long time under occasional faults, and looks for leaks.

use std::fmt;
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::flags::SoakFlags;
use crate::harness::socks::{self, Reply};
use crate::harness::{
    Datagrams, Done, Exchange, Fixture, Forward, Harness, Load, Port, Resources, Tap, Target,
    datagram_echoed, datagrams_to, dial, echoed, throughout,
};
use crate::workspace;

pub(crate) fn run(flags: &SoakFlags) -> Result<()> {
    let harness = Harness::new(workspace::build_programs()?)?;
    let mut soak = Soak::start(&harness)?;

    println!("warming up");
    let warm_up = Traffic::start(&soak)?;
    for fault in Fault::ALL {
        throughout(MINUTE / 6, || warm_up.is_good())?;
        soak.strike(fault)?;
    }
    throughout(MINUTE / 6, || warm_up.is_good())?;
    warm_up.finish()?;
    let before = soak.at_rest()?;
    println!("at rest     {before}");

    let traffic = Traffic::start(&soak)?;
    let mut faults = Fault::ALL.into_iter().cycle();
    let mut struck = 0;
    let started = Instant::now();
    for minute in 1..=flags.minutes {
        let end = started + MINUTE * minute;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            throughout(left.min(BETWEEN_FAULTS), || traffic.is_good())?;
            if let Some(fault) = faults.next() {
                soak.strike(fault)?;
                struck += 1;
            }
        }
        println!("minute {minute:<4} {}  {}", soak.resources()?, traffic.done());
    }
    let done = traffic.finish()?;
    let after = soak.settled(&before);
    println!("began with  {before}");
    println!("ended with  {}", soak.resources()?);
    println!("{struck} faults; {done}");
    after
}

/// A fault that the soak injects.
#[derive(Clone, Copy, Debug)]
enum Fault {
    WireOfTheSteadyServer,
    RestartOfTheOtherServer,
    KilledClient,
    WireOfTheOtherServer,
    StalledWire,
}

impl Fault {
    const ALL: [Self; 5] = [
        Self::WireOfTheSteadyServer,
        Self::RestartOfTheOtherServer,
        Self::KilledClient,
        Self::WireOfTheOtherServer,
        Self::StalledWire,
    ];
}

/// Two servers, one of which is restarted now and then, with a client each that runs as long as the soak. A
/// third client, the victim, is killed now and then.
struct Soak<'a> {
    steady: Fixture<'a>,
    other: Fixture<'a>,
    wires: [Tap; 2],
    clients: [Forward<'a>; 2],
    reverse: [Port; 2],
    victim: Option<Forward<'a>>,
    victims_port: Port,
    exchanges: Target,
    echo: Target,
    _datagrams: Datagrams,
}

impl<'a> Soak<'a> {
    fn start(harness: &'a Harness) -> Result<Self> {
        let exchanges = Target::exchange(EXCHANGE)?;
        let echo = Target::echo()?;
        let datagrams = Datagrams::echo()?;
        let rights = [
            "--tcp",
            &exchanges.address(),
            "--tcp",
            &echo.address(),
            "--udp",
            &datagrams.address(),
            "--listen",
            "*",
        ];
        let [steady, other] = [Fixture::open(harness, &rights)?, Fixture::open(harness, &rights)?];
        let wires = [Tap::unrecorded(&steady.address())?, Tap::unrecorded(&other.address())?];
        let reverse = [Port::hold()?, Port::hold()?];
        let specs = [
            format!("0:{}", exchanges.address()),
            format!("0:{}", echo.address()),
            format!("0:{}/udp", datagrams.address()),
        ];
        let forward = |fixture: &Fixture<'a>, wire: &Tap, port: &Port| {
            let reverse = format!("{}:{}", port.number(), exchanges.address());
            let [first, second, third] = &specs;
            let arguments =
                ["-L", first, "-L", second, "-L", third, "-R", &reverse, "-D", "0", "--udp-timeout", "5s"];
            let forward = fixture.forward_through(&wire.address(), &arguments)?;
            forward.remote(0)?;
            Ok::<_, anyhow::Error>(forward)
        };
        let clients = [forward(&steady, &wires[0], &reverse[0])?, forward(&other, &wires[1], &reverse[1])?];
        let victims_port = Port::hold()?;
        let mut soak = Self {
            steady,
            other,
            wires,
            clients,
            reverse,
            victim: None,
            victims_port,
            exchanges,
            echo,
            _datagrams: datagrams,
        };
        soak.replace_victim()?;
        Ok(soak)
    }

    fn strike(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::WireOfTheSteadyServer => self.wires[0].cut(),
            Fault::WireOfTheOtherServer => self.wires[1].cut(),
            Fault::RestartOfTheOtherServer => {
                self.other.kill()?;
                self.other.start()?;
            }
            Fault::KilledClient => self.replace_victim()?,
            Fault::StalledWire => {
                self.wires[0].stall();
                thread::sleep(STALL);
                self.wires[0].flow();
            }
        }
        Ok(())
    }

    /// Kills the victim, and starts the next one at the same addresses.
    fn replace_victim(&mut self) -> Result<()> {
        if let Some(victim) = self.victim.take() {
            victim.kill()?;
        }
        let local = format!("{}:{}", self.victims_port.number(), self.echo.address());
        let victim = self.steady.forward(&["-L", &local, "-R", "0"])?;
        victim.remote(0)?;
        self.victim = Some(victim);
        Ok(())
    }

    fn resources(&self) -> Result<Survivors> {
        let [first, second] = &self.clients;
        Ok(Survivors { server: self.steady.resources()?, clients: [first.resources()?, second.resources()?] })
    }

    fn at_rest(&self) -> Result<Survivors> {
        let [first, second] = &self.clients;
        Ok(Survivors { server: self.steady.at_rest()?, clients: [first.at_rest()?, second.at_rest()?] })
    }

    /// Waits until the survivors hold no more resources than before.
    fn settled(&self, before: &Survivors) -> Result<()> {
        self.steady.expect_again(&before.server).context("the server")?;
        for (client, before) in self.clients.iter().zip(&before.clients) {
            client.expect_again(before).context("a client")?;
        }
        self.exchanges.is_left_alone()?;
        self.echo.is_left_alone()
    }
}

/// The resources of the programs that run as long as the soak.
struct Survivors {
    server: Resources,
    clients: [Resources; 2],
}

impl fmt::Display for Survivors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = &self.clients;
        for (name, resources) in [("server", &self.server), ("client", first), ("client", second)] {
            let descriptors = resources.descriptors.map_or("?".to_owned(), |count| count.to_string());
            write!(
                f,
                "{name} {descriptors:>4} descriptors {:>4} tasks {:>4} channels {:>6} KiB   ",
                resources.tasks, resources.channels, resources.memory
            )?;
        }
        Ok(())
    }
}

/// Loads of all kinds at the same time.
struct Traffic(Vec<(&'static str, Load)>);

impl Traffic {
    fn start(soak: &Soak<'_>) -> Result<Self> {
        let mut loads = Vec::new();
        for (client, reverse) in soak.clients.iter().zip(&soak.reverse) {
            let [exchanges, echo, udp] = [client.local(0)?, client.local(1)?, client.local(2)?];
            let (proxy, port) = (client.dynamic(0)?, soak.exchanges.port());
            loads.push(("exchanges", Load::repeat(2, paced(move || EXCHANGE.ask(dial(&exchanges)?)))));
            loads.push(("long streams", Load::repeat(2, move || long(&echo))));
            let reverse = reverse.address();
            loads.push(("reverse", Load::repeat(1, paced(move || EXCHANGE.ask(dial(&reverse)?)))));
            loads.push((
                "proxy",
                Load::repeat(
                    1,
                    paced(move || {
                        let (stream, reply) = socks::connect(&proxy, "127.0.0.1", port)?;
                        if reply != Reply::Succeeded {
                            // The proxy's answer that there is no connection counts like a reset.
                            return Err(std::io::Error::from(ErrorKind::ConnectionRefused).into());
                        }
                        EXCHANGE.ask(stream)
                    }),
                ),
            ));
            loads.push((
                "datagrams",
                Load::repeat(
                    1,
                    paced(move || {
                        let socket = datagrams_to(&udp)?;
                        (0..20).try_for_each(|_| datagram_echoed(&socket, &[7; 1_200]))
                    }),
                ),
            ));
        }
        let victim = soak.victims_port.address();
        loads.push(("killed client", Load::repeat(1, paced(move || echoed(&mut dial(&victim)?, b"here")))));
        Ok(Self(loads))
    }

    fn is_good(&self) -> Result<()> {
        match self.0.iter().find(|(_, load)| load.has_failed()) {
            Some((name, _)) => bail!("{name} failed"),
            None => Ok(()),
        }
    }

    fn done(&self) -> Tally {
        Tally(self.0.iter().map(|(name, load)| (*name, load.done())).collect())
    }

    fn finish(self) -> Result<Tally> {
        let mut tally = Vec::new();
        for (name, load) in self.0 {
            tally.push((name, load.finish().context(name)?));
        }
        Ok(Tally(tally))
    }
}

/// The results of the traffic, by kind.
struct Tally(Vec<(&'static str, Done)>);

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        for (index, name) in names.into_iter().enumerate() {
            let of_kind = || self.0.iter().filter(|(kind, _)| *kind == name).map(|(_, done)| done);
            let whole: usize = of_kind().map(|done| done.whole).sum();
            let broken: usize = of_kind().map(|done| done.broken).sum();
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{whole} {name} ({broken} broken)")?;
        }
        Ok(())
    }
}

/// Adds a pause after each run, so that the machine is busy but not overloaded.
fn paced(task: impl Fn() -> Result<()> + Send + Sync + 'static) -> impl Fn() -> Result<()> + Send + Sync {
    move || {
        let result = task();
        thread::sleep(PAUSE);
        result
    }
}

/// Runs a stream on which a few bytes are echoed a hundred times, with pauses in between.
fn long(address: &str) -> Result<()> {
    let mut stream = dial(address)?;
    for _ in 0..100 {
        echoed(&mut stream, b"now and then")?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

const EXCHANGE: Exchange = Exchange { up: 200_000, down: 300_001 };
const MINUTE: Duration = Duration::from_secs(60);
const BETWEEN_FAULTS: Duration = Duration::from_secs(11);
const STALL: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);
