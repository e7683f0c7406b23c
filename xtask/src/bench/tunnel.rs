//! Both programs as a tunnel. Everything shares this machine's processors, the load too: figures are ratios to what the
//! same load does without a tunnel, and CPU seconds per gigabyte are what carries over to another machine best.

pub(super) mod counts;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::harness::{Fixture, Forward, Harness, Process, Target, dial};
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
    let harness = Harness::new(workspace::build_programs()?)?;
    let target = Target::serve(serve)?;
    let fixture = Fixture::open(&harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &format!("0:{}", target.address())])?;
    forward.connected()?;
    let tunnel = Tunnel { server: &fixture.server()?.process, client: &forward };
    let (direct, through) = (target.address(), forward.local(0)?);

    println!("{:<28} {:>12} {:>12} {:>8}", "", "direct", "tunnel", "ratio");
    for streams in [1, 8] {
        let (without, _) = bulk(&direct, streams, None)?;
        let (with, cpu) = bulk(&through, streams, Some(&tunnel))?;
        row(&format!("streams: {streams}, Gbit/s"), without, with);
        println!("{:<28} {:>12} {cpu:>12.2}", "  CPU s/GB, both ends", "");
    }
    let (without, with) = (round_trips(&direct)?, round_trips(&through)?);
    row("round trip p50, us", without.0, with.0);
    row("round trip p99, us", without.1, with.1);
    for at_once in [1, 8] {
        let (without, with) = (connections(&direct, at_once)?, connections(&through, at_once)?);
        row(&format!("connections/s, {at_once} at once"), without, with);
    }
    let before = tunnel.memory()?;
    let idle = (0..IDLE).map(|_| echoing(&through)).collect::<Result<Vec<_>>>()?;
    let grown = tunnel.memory()? - before;
    println!("{:<28} {:>12} {grown:>12.1}", format!("MB for {IDLE} idle, both ends"), "");
    drop(idle);
    Ok(())
}

fn row(name: &str, direct: f64, tunnel: f64) {
    println!("{name:<28} {direct:>12.2} {tunnel:>12.2} {:>8.2}", tunnel / direct);
}

struct Tunnel<'a> {
    server: &'a Process,
    client: &'a Forward<'a>,
}

impl Tunnel<'_> {
    /// Seconds of processor time so far.
    fn cpu(&self) -> Result<f64> {
        Ok(self.server.cpu_seconds()? + self.client.process.cpu_seconds()?)
    }

    /// Resident, in MB of 2^20 bytes.
    fn memory(&self) -> Result<f64> {
        let kibibytes = self.server.memory()? + self.client.process.memory()?;
        Ok(f64::from(u32::try_from(kibibytes)?) / 1024.0)
    }
}

/// The first byte says what a connection is for: to be thrown away, or to come back.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut wish = [0];
    stream.read_exact(&mut wish)?;
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        if wish == ECHO {
            stream.write_all(&buffer[..read])?;
        }
    }
}

/// Gbit/s of so many streams, and CPU seconds per 10^9 bytes of the tunnel.
fn bulk(address: &str, streams: usize, tunnel: Option<&Tunnel<'_>>) -> Result<(f64, f64)> {
    let cpu = || tunnel.map_or(Ok(0.0), Tunnel::cpu);
    let (before, started) = (cpu()?, Instant::now());
    let senders: Vec<_> = (0..streams)
        .map(|_| {
            let address = address.to_owned();
            thread::spawn(move || -> Result<u64> {
                let mut stream = dial(&address)?;
                stream.write_all(&SINK)?;
                let (chunk, mut sent) = (vec![7; 1024 * 1024], 0);
                while started.elapsed() < BULK {
                    stream.write_all(&chunk)?;
                    sent += u64::try_from(chunk.len())?;
                }
                Ok(sent)
            })
        })
        .collect();
    let mut bytes = 0;
    for sender in senders {
        bytes += sender.join().map_err(|_| anyhow!("a sender panicked"))??;
    }
    let (elapsed, used) = (started.elapsed().as_secs_f64(), cpu()? - before);
    let gigabytes = f64::from(u32::try_from(bytes / 1_000_000)?) / 1000.0;
    Ok((8.0 * gigabytes / elapsed, used / gigabytes))
}

/// Microseconds that 64 bytes take there and back: the median, and what one in a hundred exceeds.
fn round_trips(address: &str) -> Result<(f64, f64)> {
    let mut stream = echoing(address)?;
    let mut times = Vec::new();
    let (started, mut payload) = (Instant::now(), [7; 64]);
    while started.elapsed() < SHORT {
        let sent = Instant::now();
        stream.write_all(&payload)?;
        stream.read_exact(&mut payload)?;
        times.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get(times.len() * share / 100).copied().context("no round trip");
    Ok((at(50)?, at(99)?))
}

/// Connections a second: a byte each way, then the end.
fn connections(address: &str, at_once: usize) -> Result<f64> {
    let started = Instant::now();
    let visitors: Vec<_> = (0..at_once)
        .map(|_| {
            let address = address.to_owned();
            thread::spawn(move || -> Result<u32> {
                let mut count = 0;
                while started.elapsed() < SHORT {
                    echoing(&address)?;
                    count += 1;
                }
                Ok(count)
            })
        })
        .collect();
    let mut count = 0;
    for visitor in visitors {
        count += visitor.join().map_err(|_| anyhow!("a visitor panicked"))??;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// A connection on which a byte has come back.
fn echoing(address: &str) -> Result<TcpStream> {
    let mut stream = dial(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(&[ECHO[0], b'!'])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    ensure!(answer == *b"!", "another byte came back");
    Ok(stream)
}

const ECHO: [u8; 1] = *b"E";
const SINK: [u8; 1] = *b"S";
const BULK: Duration = Duration::from_secs(4);
const SHORT: Duration = Duration::from_secs(2);
const IDLE: usize = 1000;
