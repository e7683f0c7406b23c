//! `cargo xtask soak`: runs tunnels of every kind for a long time under occasional faults, and looks for leaks.

use std::fmt;
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

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
    // A server that is restarted has forgotten its streams, and a client that is killed is not there any more. All others go on.
    ensure!(done.broken_of_the_steady() == 0, "streams of a client and a server that ran on were broken");
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
        let open = || Fixture::with_config(harness, &rights, HOLD);
        let [steady, other] = [open()?, open()?];
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
struct Traffic(Vec<(Kind, Load)>);

/// What a load does.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    /// Its client and its server run as long as the soak, and its connections outlive those between the two.
    is_steady: bool,
}

impl Traffic {
    fn start(soak: &Soak<'_>) -> Result<Self> {
        let mut loads = Vec::new();
        for ((client, reverse), is_steady) in soak.clients.iter().zip(&soak.reverse).zip([true, false]) {
            let [exchanges, echo, udp] = [client.local(0)?, client.local(1)?, client.local(2)?];
            let (proxy, port) = (client.dynamic(0)?, soak.exchanges.port());
            loads.push((
                Kind { name: "exchanges", is_steady },
                Load::repeat(2, paced(move || EXCHANGE.ask(dial(&exchanges)?))),
            ));
            loads.push((Kind { name: "long streams", is_steady }, Load::repeat(2, move || long(&echo))));
            let reverse = reverse.address();
            loads.push((
                Kind { name: "reverse", is_steady },
                Load::repeat(1, paced(move || EXCHANGE.ask(dial(&reverse)?))),
            ));
            loads.push((
                Kind { name: "proxy", is_steady },
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
                Kind { name: "datagrams", is_steady: false },
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
        let killed = Kind { name: "killed client", is_steady: false };
        loads.push((killed, Load::repeat(1, paced(move || echoed(&mut dial(&victim)?, b"here")))));
        Ok(Self(loads))
    }

    fn is_good(&self) -> Result<()> {
        match self.0.iter().find(|(_, load)| load.has_failed()) {
            Some((kind, _)) => bail!("{} failed", kind.name),
            None => Ok(()),
        }
    }

    fn done(&self) -> Tally {
        Tally(self.0.iter().map(|(kind, load)| (*kind, load.done())).collect())
    }

    fn finish(self) -> Result<Tally> {
        let mut tally = Vec::new();
        for (kind, load) in self.0 {
            tally.push((kind, load.finish().context(kind.name)?));
        }
        Ok(Tally(tally))
    }
}

/// The results of the traffic, by kind.
struct Tally(Vec<(Kind, Done)>);

impl Tally {
    /// The connections that were broken, though their client and their server ran on.
    fn broken_of_the_steady(&self) -> usize {
        self.0.iter().filter(|(kind, _)| kind.is_steady).map(|(_, done)| done.broken).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&str> = self.0.iter().map(|(kind, _)| kind.name).collect();
        names.sort_unstable();
        names.dedup();
        for (index, name) in names.into_iter().enumerate() {
            let of_kind = || self.0.iter().filter(|(kind, _)| kind.name == name).map(|(_, done)| done);
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

/// The streams of a client that is killed are gone when the soak ends.
const HOLD: &str = "resume = { hold = '30s' }\n";
const EXCHANGE: Exchange = Exchange { up: 200_000, down: 300_001 };
const MINUTE: Duration = Duration::from_secs(60);
const BETWEEN_FAULTS: Duration = Duration::from_secs(11);
const STALL: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);
