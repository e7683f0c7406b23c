//! Goal: a transfer that was stopped, by a signal or by the end of the other side, goes on where it was with the same command.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{DEADLINE, Exit, Harness, Process, Tap, Way, noise, until};
use crate::scenario::files_share::{Shared, lines, number, summary, text};
use crate::scenario::registration::scenarios;

scenarios![
    put_goes_on_after_ctrl_c,
    get_goes_on_after_ctrl_c,
    put_goes_on_after_the_server_was_killed,
    source_that_has_changed_is_not_spliced,
];

const SIZE: usize = 24 * 1024 * 1024;
/// So slow that a part of it is under way for seconds.
const SLOW: [&str; 2] = ["--limit", "6MiB"];

/// A file of [`SIZE`] bytes.
fn large(path: &PathBuf) -> Result<Vec<u8>> {
    let bytes = noise(SIZE)?;
    fs::write(path, &bytes)?;
    Ok(bytes)
}

/// Waits until a transfer with `--json` has moved a third of the file.
fn is_under_way(transfer: &Process) -> Result<()> {
    until(DEADLINE, "a third of the file", || {
        let text = transfer.stdout.text();
        let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let last = events.iter().rev().find(|event| event["event"] == "progress").context("no progress")?;
        ensure!(number(last, "moved_bytes")? >= 8 * 1024 * 1024, "{last}");
        Ok(())
    })
}

/// Runs the command again through a tap, and checks that no more than the rest has moved.
fn goes_on(shared: &Shared<'_>, way: Way, command: &str, words: &[&str]) -> Result<()> {
    let tap = Tap::unrecorded(&shared.fixture.address())?;
    let words = [words, &["--json"]].concat();
    let outcome = shared.command_through(&tap.address(), command, &words).run()?.expect(Exit::Done)?;
    let events = lines(&outcome)?;
    let started = events.iter().find(|event| event["event"] == "started").context("nothing has begun")?;
    let held = number(started, "held")?;
    ensure!(held >= 4 * 1024 * 1024, "only {held} bytes were there");
    let rest = u64::try_from(SIZE)? - held;
    ensure!(number(&summary(&outcome)?, "moved_bytes")? <= rest, "more than the rest has moved");
    let crossed = u64::try_from(tap.last()?.passed(way))?;
    ensure!(crossed <= rest + rest / 100 + 64 * 1024, "{crossed} bytes for a rest of {rest}");
    Ok(())
}

fn is_interrupted(transfer: Process) -> Result<()> {
    transfer.signal(Signal::INT)?;
    let outcome = transfer.finish()?;
    // The one that waits for it learns that it was a signal.
    ensure!(outcome.ended_by_signal(), "it ended by itself: {}", outcome.stderr);
    outcome.error_names(&["stopped"])?.hint_names(&["same command"])?;
    Ok(())
}

fn put_goes_on_after_ctrl_c(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let bytes = large(&shared.here("large"))?;
    let file = shared.here("large");
    let words = [text(&file)?, "data:"];
    let slow = [&words[..], &SLOW, &["--json"]].concat();
    let transfer = shared.command_through(&shared.fixture.address(), "put", &slow).start()?;
    is_under_way(&transfer)?;
    is_interrupted(transfer)?;
    ensure!(!shared.there("large").exists(), "a part stands under the final name");
    // The server learns of it a moment later.
    until(DEADLINE, "the end of the first one", || goes_on(&shared, Way::Up, "put", &words))?;
    ensure!(fs::read(shared.there("large"))? == bytes, "other bytes arrived");
    Ok(())
}

fn get_goes_on_after_ctrl_c(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let bytes = large(&shared.there("large"))?;
    let back = shared.here("back");
    let words = ["data:large", text(&back)?];
    let slow = [&words[..], &SLOW, &["--json"]].concat();
    let transfer = shared.command_through(&shared.fixture.address(), "get", &slow).start()?;
    is_under_way(&transfer)?;
    is_interrupted(transfer)?;
    ensure!(!back.exists(), "a part stands under the final name");
    goes_on(&shared, Way::Down, "get", &words)?;
    ensure!(fs::read(&back)? == bytes, "other bytes arrived");
    Ok(())
}

fn put_goes_on_after_the_server_was_killed(harness: &Harness) -> Result<()> {
    let mut shared = Shared::open(harness)?;
    let bytes = large(&shared.here("large"))?;
    let file = shared.here("large");
    let words = [text(&file)?, "data:"];
    let slow = [&words[..], &SLOW, &["--json"]].concat();
    let transfer = shared.command_through(&shared.fixture.address(), "put", &slow).start()?;
    is_under_way(&transfer)?;
    shared.fixture.kill()?;
    let outcome = transfer.finish()?.expect_any(&[Exit::Network, Exit::Integrity])?;
    outcome.error_names(&[])?.hint_names(&["same command"])?;
    shared.fixture.start()?;
    goes_on(&shared, Way::Up, "put", &words)?;
    ensure!(fs::read(shared.there("large"))? == bytes, "other bytes arrived");
    Ok(())
}

/// What is the same is compared, and not sent again.
fn source_that_has_changed_is_not_spliced(harness: &Harness) -> Result<()> {
    let shared = Shared::open(harness)?;
    let file = shared.here("large");
    let mut bytes = large(&file)?;
    let words = [text(&file)?, "data:"];
    let slow = [&words[..], &SLOW, &["--json"]].concat();
    let transfer = shared.command_through(&shared.fixture.address(), "put", &slow).start()?;
    is_under_way(&transfer)?;
    is_interrupted(transfer)?;
    bytes[1_500_000] ^= 1;
    fs::write(&file, &bytes)?;
    let outcome = until(DEADLINE, "the end of the first one", || {
        shared.run("put", &[&words[..], &["--json"]].concat())?.expect(Exit::Done)
    })?;
    ensure!(fs::read(shared.there("large"))? == bytes, "old and new are mixed");
    let moved = number(&summary(&outcome)?, "moved_bytes")?;
    ensure!(moved < u64::try_from(SIZE)? - 4 * 1024 * 1024, "{moved} bytes moved: nothing was compared");
    Ok(())
}
