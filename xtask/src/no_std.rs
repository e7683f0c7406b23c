//! The proof that crypto-core and wire-protocol need no operating system: no clock, no socket, no global
//! randomness.
//!
//! It builds a library without std that contains both crates and a panic handler. If any of their
//! dependencies linked std, there would be two panic handlers, and rustc would refuse the build. No other
//! target is needed.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};

use crate::workspace;

pub(crate) fn run() -> Result<()> {
    if let Err(output) = build("without-std", "")? {
        bail!("crypto-core and wire-protocol do not build without std:\n{output}");
    }
    // The proof has to be able to fail: the same build with std has to be refused, for the second panic handler.
    let refusal = build("with-std", "std-io")?.err().context("a build with std passed as one without it")?;
    ensure!(refusal.contains("panic_impl"), "the build with std failed for another reason:\n{refusal}");
    for package in ["crypto-core", "wire-protocol"] {
        without_operating_system(package)?;
    }
    Ok(())
}

/// Builds the proof with one feature of wire-protocol, or none. The inner error is cargo's output.
fn build(name: &str, feature: &str) -> Result<Result<(), String>> {
    let root = workspace::root()?;
    let target = workspace::target()?;
    let folder = target.join("xtask-no-std").join(name);
    fs::create_dir_all(&folder)?;
    let features = if feature.is_empty() { String::new() } else { format!("{feature:?}") };
    let crates = root.join("crates");
    let crates = crates.to_str().context("a path that is not UTF-8")?;
    let manifest = format!(
        "[package]\nname = \"no-std-proof\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [lib]\npath = \"lib.rs\"\ncrate-type = [\"staticlib\"]\n\n\
         [dependencies]\n\
         crypto-core = {{ path = \"{crates}/crypto-core\", default-features = false }}\n\
         wire-protocol = {{ path = \"{crates}/wire-protocol\", default-features = false, features = [{features}] }}\n\n\
         [profile.dev]\npanic = \"abort\"\n\n[workspace]\n",
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(folder.join("lib.rs"), include_str!("../no-std/lib.rs"))?;
    // The lockfile makes the build use the same versions as the workspace.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    let output = workspace::cargo()?
        .current_dir(&folder)
        .args(["build", "--quiet", "--target-dir"])
        .arg(target.join("xtask-no-std").join("target"))
        .output()
        .context("cargo build did not start")?;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(if output.status.success() { Ok(()) } else { Err(printed) })
}

/// Checks that no dependency of `package` is a crate, known by name, that asks the operating system for
/// randomness, time or sockets.
fn without_operating_system(package: &str) -> Result<()> {
    let output = workspace::cargo()?
        .args(["tree", "-p", package, "-e", "normal", "--no-default-features", "--prefix", "none"])
        .args(["--format", "{lib}"])
        .output()
        .context("cargo tree did not start")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8_lossy(&output.stdout);
    for forbidden in
        ["getrandom", "tokio", "rand", "mio", "socket2", "rustix", "libc", "web_time", "chrono", "time"]
    {
        let found = tree.lines().any(|library| library.trim() == forbidden);
        ensure!(!found, "{package} depends on {forbidden} without any feature");
    }
    Ok(())
}
