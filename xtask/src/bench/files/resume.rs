//! A transfer of the big file that is cut in the middle and made again: what moves then, and how soon.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::bench::files::commands::Ours;
use crate::bench::files::trees::Places;
use crate::harness::{DEADLINE, Exit, Process, Tap, Way, same_trees, until};

pub(super) fn measure(mebibytes: u64, places: &Places, ours: &Ours<'_>) -> Result<()> {
    let size = usize::try_from(mebibytes)? * 1024 * 1024;
    places.clear_goals()?;
    let tap = Tap::unrecorded(&ours.address())?;
    let first = Process::start(ours.put(&places.big(), Some(&tap))?)?;
    until(LONG, "half of the file", || {
        ensure!(tap.count() > 0 && tap.last()?.passed(Way::Up) >= size / 2, "less has passed");
        Ok(())
    })?;
    let before = tap.last()?.passed(Way::Up);
    tap.cut();
    first.finish()?.expect_failure()?;

    let count = tap.count();
    let begun = Instant::now();
    let second = Process::start(ours.put(&places.big(), Some(&tap))?)?;
    // A handshake and the offer are far less than this.
    until(DEADLINE, "new bytes", || {
        ensure!(tap.count() > count && tap.last()?.passed(Way::Up) >= 256 * 1024, "fewer have passed");
        Ok(())
    })?;
    let soon = begun.elapsed();
    second.finish_within(LONG)?.expect(Exit::Done)?;
    let again: usize = tap.last()?.passed(Way::Up);
    ensure!(same_trees(&places.big(), &places.arrived("big"))?, "other bytes have arrived");
    let missing = size.saturating_sub(before);
    println!("\nResume of {mebibytes} MiB, cut after {} MiB", before / 1024 / 1024);
    println!("  first new bytes after    {:>9.3} s", soon.as_secs_f64());
    println!("  bytes / missing bytes    {:>9.4}", ratio(again, missing));
    println!("  more, of the whole file  {:>9.4}", ratio(again.saturating_sub(missing), size));
    Ok(())
}

/// How long a transfer of the big file may take.
const LONG: Duration = Duration::from_secs(120);

fn ratio(one: usize, other: usize) -> f64 {
    let mebibytes = |bytes: usize| f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX));
    mebibytes(one) / mebibytes(other)
}
