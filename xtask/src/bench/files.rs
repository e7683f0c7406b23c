//! `cargo xtask bench files`: files that are put and got, next to scp, sftp and rsync with the same ciphers. All tools take turns
//! in each round, and each time is that of a whole process, connecting included.

mod commands;
mod resume;
mod trees;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use self::commands::{Ours, Peers};
use self::trees::{Places, make_big_file, make_small_files};
use crate::bench::tunnel::load::{Target, bulk};
use crate::bench::tunnel::programs::Programs;
use crate::harness::services::Sshd;
use crate::harness::{Exit, Fault, Harness, Process, Tap, same_trees};
use crate::workspace;

/// What is measured, and how often.
pub(crate) struct Work<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) mebibytes: u64,
    pub(crate) files: u32,
    pub(crate) rounds: u16,
}

/// Measures all that there is, and prints the tables.
pub(crate) fn run(programs: PathBuf, work: &Work<'_>) -> Result<()> {
    let harness = Harness::new(programs)?;
    let places = Places::within(work.directory)?;
    make_big_file(&places.big(), work.mebibytes)?;
    make_small_files(&places.small(), work.files)?;
    let sshd = Sshd::start(&harness)?;
    let ours = Ours::start(&harness, &places)?;
    let peers = Peers::of(&sshd, &places)?;

    big_file(&harness, work, &places, &ours, &peers)?;
    small_files(work, &places, &ours, &peers)?;
    resume::measure(work.mebibytes, &places, &ours)?;
    memory(&places, &ours)
}

/// Makes each transfer once more, and prints the most memory that both programs have had in use.
fn memory(places: &Places, ours: &Ours<'_>) -> Result<()> {
    let mut most = 0;
    for (source, name) in [(places.big(), "big"), (places.small(), "small")] {
        places.clear_goals()?;
        most = ours.put(&source, None).and_then(peak)?.max(most);
        places.clear_goals()?;
        most = ours.get(name, None).and_then(peak)?.max(most);
    }
    println!(
        "\nMost memory, MiB: server {:.1}, client {:.1}",
        megabytes(ours.peak_memory()?),
        megabytes(most)
    );
    Ok(())
}

/// Runs a command to its good end, and gives the most memory that it had in use, in KiB.
fn peak(command: Command) -> Result<u64> {
    let mut process = Process::start(command)?;
    let mut most = 0;
    while !process.has_ended()? {
        // It is gone between the two questions at the end.
        most = process.peak_memory().unwrap_or(0).max(most);
        thread::sleep(Duration::from_millis(1));
    }
    process.finish()?.expect(Exit::Done)?;
    Ok(most)
}

fn megabytes(kibibytes: u64) -> f64 {
    f64::from(u32::try_from(kibibytes).unwrap_or(u32::MAX)) / 1024.0
}

fn big_file(
    harness: &Harness,
    work: &Work<'_>,
    places: &Places,
    ours: &Ours<'_>,
    peers: &Peers<'_>,
) -> Result<()> {
    println!("\nOne file of {} MiB, GB/s (medians of {} rounds)", work.mebibytes, work.rounds);
    let target = Target::start()?;
    let tunnel = Programs::start(harness, &target)?;
    let bytes = mebibytes(work.mebibytes);
    let mut rates = Table::default();
    for _ in 0..work.rounds {
        let file = places.big();
        let mut timed = |name: &'static str, command: Command| -> Result<()> {
            places.clear_goals()?;
            let seconds = time(command)?;
            ensure!(same_trees(&file, &places.arrived("big"))?, "{name}: other bytes have arrived");
            rates.add(name, bytes / seconds);
            Ok(())
        };
        timed("put", ours.put(&file, None)?)?;
        timed("scp", peers.scp(&file)?)?;
        timed("sftp", peers.sftp(&file)?)?;
        timed("rsync", peers.rsync(&file, None)?)?;
        places.clear_goals()?;
        timed("get", ours.get("big", None)?)?;
        places.clear_goals()?;
        rates.add("tunnel", bulk(tunnel.address(), 1, Duration::from_secs(4))?.per_second());
    }
    rates.print(&[
        ("put", "scp"),
        ("get", "scp"),
        ("put", "tunnel"),
        ("get", "tunnel"),
        ("put", "sftp"),
        ("put", "rsync"),
    ]);
    Ok(())
}

fn small_files(work: &Work<'_>, places: &Places, ours: &Ours<'_>, peers: &Peers<'_>) -> Result<()> {
    println!("\n{} files of 1 KiB, seconds (medians of {} rounds)", work.files, work.rounds);
    let tree = places.small();
    let mut seconds = Table::default();
    let slow_ours = Tap::with_fault(&ours.address(), Fault::Delay(ONE_WAY))?;
    let slow_ssh = Tap::with_fault(&peers.address(), Fault::Delay(ONE_WAY))?;
    for _ in 0..work.rounds {
        let mut timed = |name: &'static str, command: Command| -> Result<()> {
            let taken = time(command)?;
            ensure!(same_trees(&tree, &places.arrived("small"))?, "{name}: the trees differ");
            seconds.add(name, taken);
            Ok(())
        };
        places.clear_goals()?;
        timed("put", ours.put(&tree, None)?)?;
        timed("put again", ours.put(&tree, None)?)?;
        timed("put again, 100 ms", ours.put(&tree, Some(&slow_ours))?)?;
        places.clear_goals()?;
        timed("get", ours.get("small", None)?)?;
        timed("get again", ours.get("small", None)?)?;
        places.clear_goals()?;
        timed("scp", peers.scp(&tree)?)?;
        places.clear_goals()?;
        timed("sftp", peers.sftp(&tree)?)?;
        places.clear_goals()?;
        timed("rsync", peers.rsync(&tree, None)?)?;
        timed("rsync again", peers.rsync(&tree, None)?)?;
        timed("rsync again, 100 ms", peers.rsync(&tree, Some(&slow_ssh))?)?;
        places.clear_goals()?;
        timed("put, 100 ms", ours.put(&tree, Some(&slow_ours))?)?;
        places.clear_goals()?;
        timed("get, 100 ms", ours.get("small", Some(&slow_ours))?)?;
    }
    seconds.print(&[
        ("scp", "put"),
        ("sftp", "put"),
        ("rsync", "put"),
        ("rsync", "get"),
        ("rsync again", "put again"),
        ("rsync again", "get again"),
        ("rsync again, 100 ms", "put again, 100 ms"),
    ]);
    Ok(())
}

/// Runs a command to its good end, and gives the seconds that this took.
fn time(mut command: Command) -> Result<f64> {
    let shown = workspace::shown(&command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = Instant::now();
    let output = command.output().with_context(|| format!("{shown} did not start"))?;
    let seconds = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{shown}: {}\n{said}", output.status);
    Ok(seconds)
}

fn mebibytes(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) * 1_048_576.0 / 1e9
}

/// Figures by name, in the order in which they were measured first.
#[derive(Default)]
struct Table(Vec<(&'static str, Vec<f64>)>);

impl Table {
    fn add(&mut self, name: &'static str, value: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => self.0.push((name, vec![value])),
        }
    }

    fn median(&self, name: &str) -> f64 {
        let mut values =
            self.0.iter().find(|(known, _)| *known == name).map_or(Vec::new(), |(_, v)| v.clone());
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Prints each figure's median, and the ratios of these pairs.
    fn print(&self, ratios: &[(&'static str, &'static str)]) {
        for (name, _) in &self.0 {
            println!("  {name:<24} {:>9.3}", self.median(name));
        }
        for (one, other) in ratios {
            println!("  {:<42} {:>9.2}", format!("{one} / {other}"), self.median(one) / self.median(other));
        }
    }
}

/// Half of a round-trip time of 100 ms.
const ONE_WAY: Duration = Duration::from_millis(50);
