//! Both programs as a tunnel. Everything shares this machine's processors, the load too: figures are ratios to what the
//! same load does without a tunnel, and CPU seconds per gigabyte are what carries over to another machine best.

pub(super) mod counts;
pub(super) mod load;
pub(super) mod programs;
pub(super) mod turns;

mod table;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::bench::tunnel::load::{Target, bulk, connections, round_trips};
use crate::bench::tunnel::programs::Programs;
use crate::harness::{Fixture, Harness, raise_descriptor_limit};
use crate::workspace;

/// Runs the harness with these peers and our programs, which prints its table.
pub(crate) fn beside(peers_folder: &Path, peers: &[String]) -> Result<()> {
    let programs = workspace::build_programs()?;
    let harness = Harness::new(programs.clone())?;
    let fixture = Fixture::closed(&harness, &["--tcp", "127.0.0.1:*"], &[], &[])?;
    let at = |program: &str, home: &Path| {
        format!("{} --quiet --home {}", programs.join(program).display(), home.display())
    };
    let server = at("server", &fixture.home().file(""));
    let client = at("client", &fixture.alice().file(""));
    let mut command = Command::new(peers_folder.join("run.sh"));
    command.args(peers).arg("ours");
    command.env("OURS_SERVER", format!("{server} run --listen 127.0.0.1:@MID@"));
    let forward = "forward 127.0.0.1:@MID@ -L @LISTEN@:127.0.0.1:@TARGET@ --server-key";
    command.env("OURS_CLIENT", format!("{client} {forward} {}", fixture.key()));
    workspace::run(&mut command)
}

/// Measures our programs alone.
pub(crate) fn alone() -> Result<()> {
    raise_descriptor_limit();
    let harness = Harness::new(workspace::build_programs()?)?;
    let target = Target::start()?;
    let programs = Programs::start(&harness, &target)?;
    let direct = target.address();

    println!("{:<28} {:>12} {:>12} {:>8}", "", "direct", "tunnel", "ratio");
    for streams in [1, 8] {
        let without = bulk(&direct, streams, BULK)?;
        let (with, cpu) = programs.measure(|address| bulk(address, streams, BULK))?;
        let name = format!("streams: {streams}, Gbit/s");
        row(&name, 8.0 * without.per_second(), 8.0 * with.per_second());
        println!("{:<28} {:>12} {:>12.2}", "  CPU s/GB, both ends", "", cpu / with.count);
    }
    let (without, with) = (round_trips(&direct, SHORT)?, round_trips(programs.address(), SHORT)?);
    row("round trip p50, us", without.p50, with.p50);
    row("round trip p99, us", without.p99, with.p99);
    for at_once in [1, 8] {
        let without = connections(&direct, at_once, SHORT)?;
        let with = connections(programs.address(), at_once, SHORT)?;
        row(&format!("connections/s, {at_once} at once"), without.per_second(), with.per_second());
    }
    let grown = programs.idle(IDLE)?;
    println!("{:<28} {:>12} {grown:>12.1}", format!("MB for {IDLE} idle, both ends"), "");
    Ok(())
}

fn row(name: &str, direct: f64, tunnel: f64) {
    println!("{name:<28} {direct:>12.2} {tunnel:>12.2} {:>8.2}", tunnel / direct);
}

const BULK: Duration = Duration::from_secs(4);
const SHORT: Duration = Duration::from_secs(2);
const IDLE: usize = 1000;
