//! The list of all crates in the programs, as CycloneDX has it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::dist::stamp::Stamp;
use crate::dist::tools::CargoTool;
use crate::workspace;

/// Writes `sockseal-VERSION.cdx.json` in `out`.
pub(super) fn write(root: &Path, stamp: &Stamp, out: &Path) -> Result<()> {
    let mut command = Command::new(CargoTool::CYCLONEDX.find()?);
    command.current_dir(root).env("SOURCE_DATE_EPOCH", &stamp.epoch);
    command.args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--quiet", "--no-build-deps"]);
    command.args(["--target", "x86_64-unknown-linux-gnu", "--override-filename", NAME]);
    workspace::run(command.arg("--manifest-path").arg(root.join("crates/programs/Cargo.toml")))?;
    // It writes one beside each manifest of the workspace.
    let written = root.join("crates/programs").join(format!("{NAME}.json"));
    let text = fs::read_to_string(&written).with_context(|| written.display().to_string())?;
    for entry in
        fs::read_dir(root.join("crates"))?.flatten().map(|entry| entry.path()).chain([root.join("xtask")])
    {
        fs::remove_file(entry.join(format!("{NAME}.json"))).ok();
    }
    let mut list: serde_json::Value = serde_json::from_str(&text)?;
    // A number that is drawn anew each time, and paths of this machine.
    if let Some(object) = list.as_object_mut() {
        object.remove("serialNumber");
    }
    let text = serde_json::to_string_pretty(&list)?.replace(&root.display().to_string(), "/sockseal");
    Ok(fs::write(out.join(format!("sockseal-{}.cdx.json", stamp.version)), text + "\n")?)
}

/// The name that cargo-cyclonedx is to write by.
const NAME: &str = "sbom.cdx";
