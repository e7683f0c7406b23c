//! Instructions of both programs as a tunnel. Each load has programs of its own, and so has none at all, which is
//! subtracted.

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::bench::callgrind::Callgrind;
use crate::bench::tunnel::load::{SINK, Target, echoing, end_behind_all};
use crate::harness::{DEADLINE, Exit, Fixture, Forward, Harness, Process, dial, until};
use crate::workspace;

pub(crate) fn run() -> Result<()> {
    let callgrind = Callgrind::find()?;
    let harness = Harness::new(workspace::build_programs()?)?;
    let start = Counts::with(&harness, &callgrind, |_| Ok(()))?;
    println!("{:<28} {:>12} {:>12}", "instructions", "server", "client");
    for load in LOADS {
        let counts = Counts::with(&harness, &callgrind, load.run)?;
        let per_unit = |whole: u64, start: u64| {
            whole
                .checked_sub(start)
                .map(|count| count / load.units)
                .context("fewer instructions for more work")
        };
        let [server, client] =
            [per_unit(counts.server, start.server)?, per_unit(counts.client, start.client)?];
        println!("{:<28} {server:>12} {client:>12}", load.unit);
    }
    Ok(())
}

/// What is asked of a tunnel, by the address of its near end.
struct Load {
    unit: &'static str,
    units: u64,
    run: fn(&str) -> Result<()>,
}

/// What both programs have executed from their start to their end.
struct Counts {
    server: u64,
    client: u64,
}

impl Counts {
    fn with(harness: &Harness, callgrind: &Callgrind, load: impl FnOnce(&str) -> Result<()>) -> Result<Self> {
        let target = Target::start()?;
        let words = wrapper(callgrind, "server");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut fixture = Fixture::wrapped(harness, &["--tcp", &target.address()], &[], &words)?;
        let local = format!("0:{}", target.address());
        let wrapper = wrapper(callgrind, "client");
        let (alice, address) = (fixture.alice(), fixture.address());
        let forward = Forward::wrapped(harness, alice, &address, fixture.key(), &["-L", &local], &wrapper)?;
        forward.connected()?;
        let through = forward.local(0)?;
        // What a first connection brings about is part of the start.
        echoing(&through)?;
        settled(&[&fixture.server()?.process, &forward.process])?;
        load(&through)?;
        settled(&[&fixture.server()?.process, &forward.process])?;
        forward.stop()?.expect(Exit::Done)?;
        fixture.take_server()?.stop()?.expect(Exit::Done)?;
        Ok(Self { server: callgrind.instructions("server")?, client: callgrind.instructions("client")? })
    }
}

/// One worker thread: several take tasks from one another as it happens, and none would run beside another anyway.
fn wrapper(callgrind: &Callgrind, name: &str) -> Vec<String> {
    let mut words = vec!["env".to_owned(), "TOKIO_WORKER_THREADS=1".to_owned()];
    words.extend(callgrind.wrapper(name));
    words
}

/// Waits until the programs rest: the pool is filled again beside the load and behind it. They are not asked, since an
/// answer has its instructions too.
fn settled(programs: &[&Process]) -> Result<()> {
    let used = || programs.iter().map(|program| program.cpu_seconds()).sum::<Result<f64>>();
    until(DEADLINE, "two programs at rest", || {
        let before = used()?;
        thread::sleep(REST);
        ensure!(used()? - before < AT_REST, "they are at work");
        Ok(())
    })
}

fn bulk(address: &str) -> Result<()> {
    let mut stream = dial(address)?;
    stream.write_all(&SINK)?;
    let chunk = vec![7; 1024 * 1024];
    for _ in 0..BULK_KIB / 1024 {
        stream.write_all(&chunk)?;
    }
    end_behind_all(&mut stream)
}

fn round_trips(address: &str) -> Result<()> {
    let (mut stream, mut payload) = (echoing(address)?, [7; 64]);
    for _ in 0..ROUND_TRIPS {
        stream.write_all(&payload)?;
        stream.read_exact(&mut payload)?;
    }
    Ok(())
}

fn connections(address: &str) -> Result<()> {
    (0..CONNECTIONS).try_for_each(|_| echoing(address).map(drop))
}

const LOADS: [Load; 3] = [
    Load { unit: "KiB in bulk", units: BULK_KIB, run: bulk },
    Load { unit: "round trip of 64 bytes", units: ROUND_TRIPS, run: round_trips },
    Load { unit: "connection", units: CONNECTIONS, run: connections },
];
const BULK_KIB: u64 = 16 * 1024;
/// So many that a channel more or less for the pool, some 3.4 million instructions at each end, counts for little.
const ROUND_TRIPS: u64 = 16_000;
const CONNECTIONS: u64 = 4000;
const REST: Duration = Duration::from_millis(500);
/// In seconds: less than two of the ticks in which processor time is told.
const AT_REST: f64 = 0.015;
