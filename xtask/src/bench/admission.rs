//! `cargo xtask bench admission`: honest clients during floods, in a network namespace in which a flood has
//! thousands of source addresses. The server, the floods and the clients share the processors of this
//! machine.

mod flood;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use self::flood::{Flood, Target};
use crate::harness::{Exit, Harness, Home, Key, Server, Tap, Way, raise_descriptor_limit};
use crate::workspace;

/// Runs the same command again, in namespaces of its own.
pub(crate) fn outside(seconds: u64) -> Result<()> {
    workspace::build_programs()?;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--"]).arg(std::env::current_exe()?);
    command.args(["bench", "admission", "--inside", "--seconds", &seconds.to_string()]);
    workspace::run(&mut command)
}

/// Runs the measurement inside the namespaces.
pub(crate) fn inside(seconds: u64) -> Result<()> {
    raise_descriptor_limit();
    workspace::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    // Every address in the namespace is local, so a source can have any of them, and a connection to one
    // comes from that same address.
    workspace::run(Command::new("ip").args(["route", "add", "local", "10.64.0.0/10", "dev", "lo"]))?;
    let harness = Harness::new(workspace::build_programs()?)?;
    println!(
        "{:<22} {:>9} {:>7} {:>7} {:>9} {:>7} {:>7} {:>7} {:>8} {:>10}",
        "flood", "fresh", "%", "p99 s", "tickets", "%", "p99 s", "banned", "log KB", "MB"
    );
    for kinds in [
        &[][..],
        &[Flood::Garbage],
        &[Flood::Closed],
        &[Flood::Slow],
        &[Flood::Garbage, Flood::Closed, Flood::Slow],
    ] {
        measure(&harness, kinds, Duration::from_secs(seconds))?;
    }
    Ok(())
}

/// Measures one server under one combination of floods.
fn measure(harness: &Harness, kinds: &[Flood], time: Duration) -> Result<()> {
    // The key is one that `keygen` makes, which is longer than the keys of the scenarios.
    let home = harness.home()?;
    harness.server(&home, &["keygen"]).run()?.expect(Exit::Done)?;
    let alice = harness.home_with(Key::Alice)?;
    let fingerprint = harness.fingerprint("client", &alice)?;
    let allow = ["allow", &fingerprint, "--name", "alice"];
    harness.server(&home, &allow).run()?.expect(Exit::Done)?;
    let server = Server::start(harness, &home, &["--listen", "0.0.0.0:0"])?;
    let port = server.address().rsplit_once(':').context("an address without a port")?.1.parse()?;
    let target = Target {
        address: SocketAddrV4::new(SERVER, port),
        garbage: garbage(harness, &alice, &server, port)?,
    };

    let honest = clients();
    // Clients with tickets get them before the floods start.
    let homes = honest.iter().map(|_| harness.home_with(Key::Alice)).collect::<Result<Vec<_>>>()?;
    for (client, home) in honest.iter().zip(&homes).filter(|(client, _)| client.keeps_tickets) {
        attempt(harness, home, client.address, port, &server).context("before any flood")?;
    }
    let before = server.process.memory()?;
    let ended = AtomicBool::new(false);
    let (results, memory) = thread::scope(|scope| -> Result<_> {
        for kind in kinds {
            kind.start(scope, &target, &ended);
        }
        let clients: Vec<_> = honest
            .iter()
            .zip(&homes)
            .map(|(client, home)| {
                let (server, ended) = (&server, &ended);
                scope.spawn(move || client.come_again_and_again(harness, home, port, server, ended))
            })
            .collect();
        let begun = Instant::now();
        thread::sleep(time / 3);
        let early = server.process.memory()?;
        thread::sleep(time.saturating_sub(begun.elapsed()));
        let late = server.process.memory()?;
        ended.store(true, Ordering::Relaxed);
        let results: Vec<Attempts> = clients
            .into_iter()
            .map(|client| client.join().map_err(|_| anyhow!("a client panicked")))
            .collect::<Result<_>>()?;
        Ok((results, (before, early, late)))
    })?;

    // The clients are honest, so each one that is banned now was banned wrongly.
    let banned = honest
        .iter()
        .zip(&homes)
        .filter(|(client, home)| attempt(harness, home, client.address, port, &server).is_err())
        .count();
    let of = |tickets: bool| -> Attempts {
        let those = honest.iter().zip(&results).filter(|(client, _)| client.keeps_tickets == tickets);
        those.fold(Attempts::default(), |all, (_, some)| all.and(some))
    };
    let name = kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" + ");
    let (fresh, tickets) = (of(false), of(true));
    let megabytes = |kibibytes: u64| kibibytes / 1024;
    println!(
        "{:<22} {:>9} {:>7.1} {:>7.2} {:>9} {:>7.1} {:>7.2} {:>7} {:>8} {:>10}",
        if name.is_empty() { "none" } else { &name },
        format!("{}/{}", fresh.times.len(), fresh.count()),
        fresh.percent(),
        fresh.p99(),
        format!("{}/{}", tickets.times.len(), tickets.count()),
        tickets.percent(),
        tickets.p99(),
        banned,
        server.process.stderr.len() / 1024,
        format!("{},{},{}", megabytes(memory.0), megabytes(memory.1), megabytes(memory.2)),
    );
    if let Some(failure) = fresh.failure.or(tickets.failure) {
        println!("  the first that failed: {failure}");
    }
    server.stop()?;
    Ok(())
}

/// Records a well-formed hello for this server, and breaks it so that its sealed secret does not open.
fn garbage(harness: &Harness, alice: &Home, server: &Server, port: u16) -> Result<Vec<u8>> {
    let tap = Tap::before(&SocketAddrV4::new(SERVER, port).to_string())?;
    let arguments = ["ping", &tap.address(), "--server-key", server.key()?];
    harness.client(alice, &arguments).run()?.expect(Exit::Done)?;
    let sent = tap.last()?.bytes(Way::Up);
    let hello = memchr::memmem::find(&sent, b"SKS\x01\x03").context("no hello was recorded")?;
    let length = sent.get(hello + 6..hello + 8).context("half a hello was recorded")?;
    let end = hello + 8 + usize::from(u16::from_be_bytes([length[0], length[1]]));
    let mut garbage = sent.get(hello..end).context("half a hello was recorded")?.to_vec();
    *garbage.last_mut().context("an empty hello")? ^= 1;
    std::fs::remove_dir_all(alice.file("tickets")).ok();
    Ok(garbage)
}

/// An honest client, identified by its source address.
struct Client {
    address: Ipv4Addr,
    keeps_tickets: bool,
}

/// Twelve clients with an address each, six that share an address, and four with tickets.
fn clients() -> Vec<Client> {
    let fresh = (1..=12).map(|host| (Ipv4Addr::new(10, 70, 0, host), false));
    let behind_one = (0..6).map(|_| (Ipv4Addr::new(10, 70, 1, 1), false));
    let with_tickets = (1..=4).map(|host| (Ipv4Addr::new(10, 70, 2, host), true));
    let all = fresh.chain(behind_one).chain(with_tickets);
    all.map(|(address, keeps_tickets)| Client { address, keeps_tickets }).collect()
}

impl Client {
    fn come_again_and_again(
        &self,
        harness: &Harness,
        home: &Home,
        port: u16,
        server: &Server,
        ended: &AtomicBool,
    ) -> Attempts {
        let mut attempts = Attempts::default();
        while !ended.load(Ordering::Relaxed) {
            if !self.keeps_tickets {
                std::fs::remove_dir_all(home.file("tickets")).ok();
            }
            match attempt(harness, home, self.address, port, server) {
                Ok(seconds) => attempts.times.push(seconds),
                Err(error) => {
                    attempts.failures += 1;
                    attempts.failure.get_or_insert(format!("{error:#}"));
                }
            }
            thread::sleep(PAUSE);
        }
        attempts
    }
}

/// Pings the server once, and returns the seconds from the start of the client's program to its end.
fn attempt(harness: &Harness, home: &Home, address: Ipv4Addr, port: u16, server: &Server) -> Result<f64> {
    let begun = Instant::now();
    let address = SocketAddrV4::new(address, port).to_string();
    let arguments = ["ping", &address, "--count", "1", "--server-key", server.key()?];
    harness.client(home, &arguments).run()?.expect(Exit::Done)?;
    Ok(begun.elapsed().as_secs_f64())
}

/// The results of a client's attempts.
#[derive(Default)]
struct Attempts {
    times: Vec<f64>,
    failures: usize,
    failure: Option<String>,
}

impl Attempts {
    fn and(mut self, other: &Self) -> Self {
        self.times.extend(&other.times);
        self.failures += other.failures;
        self.failure = self.failure.or_else(|| other.failure.clone());
        self
    }

    fn count(&self) -> usize {
        self.times.len() + self.failures
    }

    fn percent(&self) -> f64 {
        let float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        100.0 * float(self.times.len()) / float(self.count()).max(1.0)
    }

    /// The 99th percentile of the times of successful attempts, in seconds.
    fn p99(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        times.get(times.len() * 99 / 100).copied().unwrap_or(f64::NAN)
    }
}

/// The address of the server.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
/// The pause between two attempts of one client.
const PAUSE: Duration = Duration::from_secs(2);
