//! The paths of the workspace and its build output, and commands for cargo.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// The folder with the top-level `Cargo.toml`.
pub(crate) fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().context("xtask has no parent folder")?;
    ensure!(root.join("Cargo.toml").is_file(), "no Cargo.toml in {}", root.display());
    Ok(root.to_path_buf())
}

/// Prepares the cargo that runs this program, which keeps the chosen toolchain.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}

/// The folder of cargo's build output, as all its settings determine it.
pub(crate) fn target() -> Result<PathBuf> {
    let output = cargo()?
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cargo metadata did not start")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    Ok(PathBuf::from(target))
}

/// Builds the release versions of the two programs and of the front, and returns their folder.
pub(crate) fn build_programs() -> Result<PathBuf> {
    let mut build = cargo()?;
    build.args(["build", "--release", "-p", "server", "-p", "client", "-p", "sockseal-programs"]);
    run(build.args(["--bin", "server", "--bin", "client", "--bin", "sockseal"]))?;
    Ok(target()?.join("release"))
}

/// Runs a command with its output on our own, and fails if the command does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let status = command.status().with_context(|| format!("{shown} did not start"))?;
    if !status.success() {
        bail!("{shown} failed with {status}");
    }
    Ok(())
}

/// Formats a command line as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Returns whether this runs in CI. There a missing tool fails the run, while it is only reported on a
/// contributor's machine.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}
