//! Two builds as tunnels in turns: both run at once, and each load is put on one, then on the other, round after round, so
//! that what else the machine does meets both.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::bench::tunnel::load::{Target, bulk, connections, round_trips};
use crate::bench::tunnel::programs::{Programs, harness};
use crate::bench::tunnel::table::{Round, Table};
use crate::harness::raise_descriptor_limit;

/// Measures the programs in `this` beside those in `other`, and prints the ratios.
pub(crate) fn against(this: PathBuf, other: &Path, rounds: u16) -> Result<()> {
    raise_descriptor_limit();
    let (this, other) = (harness(this)?, harness(other.to_owned())?);
    let target = Target::start()?;
    let mut table = Table::default();
    {
        let builds = [Programs::start(&this, &target)?, Programs::start(&other, &target)?];
        for round in 0..=rounds {
            for load in LOADS {
                // The order alternates, since the first build finds the machine as the load before has left it.
                let first = usize::from(round % 2);
                let mut figures = [const { Vec::new() }; 2];
                for index in [first, 1 - first] {
                    figures[index] = load.figures(&builds[index])?;
                    thread::sleep(PAUSE);
                }
                let [this, other] = figures;
                // The first round only warms up.
                if round > 0 {
                    for ((name, this), (_, other)) in this.into_iter().zip(other) {
                        table.add(&name, Round { this, other });
                    }
                }
            }
        }
    }
    for _ in 0..IDLE_ROUNDS {
        // These programs are new ones, since what others have freed would be used again, and hide what is needed.
        let idle = |harness| {
            let programs = Programs::start(harness, &target)?;
            connections(programs.address(), 8, TURN)?;
            thread::sleep(PAUSE);
            programs.idle(IDLE)
        };
        table.add(&format!("MB for {IDLE} idle"), Round { this: idle(&this)?, other: idle(&other)? });
    }
    print!("{table}");
    Ok(())
}

/// What the builds do in turns.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// Short connections, so many at once.
    Connections(usize),
    /// Bulk in so many streams.
    Streams(usize),
    /// Small messages there and back, one after the other.
    RoundTrips,
}

impl Load {
    /// Puts the load on a build, and gives what it comes to, each by its name.
    fn figures(self, programs: &Programs<'_>) -> Result<Vec<(String, f64)>> {
        Ok(match self {
            Self::Connections(at_once) => {
                let (done, cpu) = programs.measure(|address| connections(address, at_once, TURN))?;
                vec![
                    (format!("connections/s, {at_once} at once"), done.per_second()),
                    (format!("  CPU ms each, {at_once} at once"), 1000.0 * cpu / done.count),
                ]
            }
            Self::Streams(streams) => {
                let (sent, cpu) = programs.measure(|address| bulk(address, streams, TURN))?;
                vec![
                    (format!("streams: {streams}, Gbit/s"), 8.0 * sent.per_second()),
                    (format!("  CPU s/GB, {streams}"), cpu / sent.count),
                ]
            }
            Self::RoundTrips => {
                let times = round_trips(programs.address(), TURN)?;
                vec![
                    ("round trip p50, us".to_owned(), times.p50),
                    ("round trip p99, us".to_owned(), times.p99),
                ]
            }
        })
    }
}

const LOADS: [Load; 6] = [
    Load::Connections(1),
    Load::Connections(8),
    Load::Connections(64),
    Load::Streams(1),
    Load::Streams(8),
    Load::RoundTrips,
];
/// How long a build has the machine for a load.
const TURN: Duration = Duration::from_millis(500);
/// How long a pool has to be filled again behind a load, before the other build has its turn.
const PAUSE: Duration = Duration::from_millis(50);
const IDLE: usize = 1000;
/// Few, since memory does not depend on what else the machine does.
const IDLE_ROUNDS: usize = 3;
