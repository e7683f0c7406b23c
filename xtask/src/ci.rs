//! `cargo xtask ci`: every check that a change must pass, with those that fail soonest first.

use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::flags::TestFlags;
use crate::{no_std, test, tidy, venv, workspace};

pub(crate) fn run() -> Result<()> {
    let steps = [
        Step { name: "format", check: format },
        Step { name: "tidy", check: tidy::run },
        Step { name: "lints", check: lints },
        Step { name: "fuzz targets", check: fuzz_targets },
        Step { name: "documentation", check: documentation },
        Step { name: "no std", check: no_std::run },
        Step { name: "dependency policy", check: policy },
        Step { name: "tests", check: tests },
    ];
    let mut failed = Vec::new();
    for Step { name, check } in steps {
        eprintln!("\n{name}");
        if let Err(error) = check() {
            eprintln!("error: {name}: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

struct Step {
    name: &'static str,
    check: fn() -> Result<()>,
}

fn format() -> Result<()> {
    workspace::run(workspace::cargo()?.args(["fmt", "--all", "--check"]))?;
    workspace::run(workspace::cargo()?.args(["fmt", "--manifest-path", FUZZ, "--check"]))
}

fn lints() -> Result<()> {
    let mut command = workspace::cargo()?;
    command.args(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]);
    workspace::run(&mut command)
}

/// Checks that the fuzz targets still build. Any toolchain can do that without libFuzzer. The workflow in
/// `.github` runs the targets.
fn fuzz_targets() -> Result<()> {
    let mut command = workspace::cargo()?;
    command.args(["clippy", "--manifest-path", FUZZ, "--no-default-features", "--locked"]);
    command.arg("--target-dir").arg(workspace::target()?.join("xtask-fuzz"));
    workspace::run(command.args(["--", "-D", "warnings"]))
}

fn documentation() -> Result<()> {
    let mut command = workspace::cargo()?;
    command.args(["doc", "--workspace", "--no-deps", "--all-features", "--document-private-items"]);
    // A program and a library of the same name would be documented in one folder, so only libraries are documented.
    command
        .args(["--lib", "--exclude", "xtask", "--exclude", "sockseal-programs"])
        .env("RUSTDOCFLAGS", "-D warnings");
    workspace::run(&mut command)
}

/// Runs the checks of the dependency policy that need no network. Advisories change from day to day, so the
/// workflow in `.github` checks them.
fn policy() -> Result<()> {
    let programs = match venv::POLICY.programs() {
        Ok(programs) => programs,
        Err(error) if !workspace::in_ci() => {
            eprintln!("skipped: no cargo-deny: {error:#}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    // The policy covers the crates of every platform, not only those that were built on this one.
    workspace::run(workspace::cargo()?.args(["fetch", "--locked"]))?;
    let mut command = Command::new(programs.join("cargo-deny"));
    command.current_dir(workspace::root()?);
    workspace::run(command.args(["--offline", "--all-features", "check", "bans", "licenses", "sources"]))
}

fn tests() -> Result<()> {
    let tally = test::run(&TestFlags::default());
    ensure!(tally.is_good(), "{tally}");
    Ok(())
}

/// The fuzz targets are a workspace of their own.
const FUZZ: &str = "crates/record-kernels/fuzz/Cargo.toml";
