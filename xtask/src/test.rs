//! `cargo xtask test`: runs all tests, and prints the counts and one result line at the end.

mod kernels;
pub(crate) mod tally;

use std::time::Instant;

use anyhow::Result;

use crate::flags::{Part, TestFlags, VectorsMode};
use crate::test::tally::{Tally, counting};
use crate::{scenario, vectors, workspace};

/// Runs the tests that the flags select. The result line is the last output.
pub(crate) fn run(flags: &TestFlags) -> Tally {
    eprintln!("{}", plan(flags));
    let mut parts = Vec::new();
    if flags.wants(Part::Units) {
        parts.push(part("units", || units(flags)));
    }
    // A filter usually selects a single test, which should not run four times unless the kernels are asked for.
    if flags.wants(Part::Kernels) && (flags.filter.is_none() || !flags.parts.is_empty()) {
        parts.push(part("kernels", || kernels::run(flags)));
    }
    // Vectors have no names that a filter could select.
    if flags.wants(Part::Vectors) && flags.filter.is_none() {
        parts.push(part("vectors", || vectors::run(VectorsMode::Check).map(|()| Tally::PASSED)));
    }
    if flags.wants(Part::Scenarios) {
        parts.push(part("scenarios", || scenario::run(flags)));
    }
    let mut total = Tally::default();
    println!("\nwhat was counted:");
    for (name, tally) in parts {
        println!("  {name:<10} {tally:<24} {}", counted(name));
        total += tally;
    }
    if total.passed == 0 && total.failed == 0 {
        eprintln!("error: no test ran");
    }
    println!("{total}");
    total
}

/// Describes the tests and their duration before anything is built.
fn plan(flags: &TestFlags) -> &'static str {
    if flags.filter.is_some() || !flags.parts.is_empty() || flags.programs.is_some() {
        "building, then running the tests that were asked for"
    } else {
        "all tests: units, record kernels, vectors, scenarios with the real programs.\n\
         About 20 minutes on two cores where nothing is built yet, about 10 the next time."
    }
}

/// Returns the unit of a part's counts.
fn counted(part: &str) -> &'static str {
    match part {
        "units" => "unit, property, API and documentation tests, and each bench run once",
        "kernels" => "those of what seals and opens records, again over three implementations",
        "vectors" => "the test vectors are what the code produces",
        _ => "plays of the real programs, most with a real tool at the other end",
    }
}

/// Runs one part. A part that cannot run counts as one failure, and the next part still runs.
fn part(name: &'static str, run: impl FnOnce() -> Result<Tally>) -> (&'static str, Tally) {
    eprintln!("\n{name}");
    let started = Instant::now();
    let tally = run().unwrap_or_else(|error| {
        eprintln!("error: {name}: {error:#}");
        Tally::FAILED
    });
    eprintln!("{name}: {tally}, in {} s", started.elapsed().as_secs());
    (name, tally)
}

fn units(flags: &TestFlags) -> Result<Tally> {
    let mut command = workspace::cargo()?;
    command.args(["test", "--workspace", "--all-features", "--no-fail-fast"]);
    if let Some(filter) = &flags.filter {
        command.args(["--", filter]);
    }
    counting(command)
}
