//! The environment that all scenarios share: the programs under test, a folder for their homes, and Python.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::harness::key::Key;
use crate::harness::missing::Missing;
use crate::venv;

/// The programs under test, a folder for their homes, and keys that took a while to make.
pub(crate) struct Harness {
    pub(super) programs: PathBuf,
    pub(super) scratch: TempDir,
    pub(super) keys: Mutex<BTreeMap<Key, Vec<u8>>>,
    python: Mutex<Option<Result<PathBuf, String>>>,
}

impl Harness {
    pub(crate) fn new(programs: PathBuf) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("sockseal-").tempdir().context("a scratch folder")?;
        Ok(Self { programs, scratch, keys: Mutex::default(), python: Mutex::default() })
    }

    /// A command for one of the two programs, without the environment variables of the person who runs the tests.
    pub(crate) fn program(&self, name: &str) -> Command {
        self.without_settings(Command::new(self.programs.join(name)))
    }

    /// Removes the environment variables that configure our programs from a command that starts one of them.
    pub(crate) fn without_settings(&self, mut command: Command) -> Command {
        for setting in ["RUST_LOG", "SOCKSEAL_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
            command.env_remove(setting);
        }
        command.env("HOME", self.scratch.path()).env("NO_COLOR", "1");
        command
    }

    /// Returns a Python with PyCryptodome, which is installed on first use.
    pub(crate) fn python(&self) -> Result<PathBuf> {
        let mut python = self.python.lock().unwrap_or_else(PoisonError::into_inner);
        let made = python.get_or_insert_with(|| {
            venv::PEERS
                .programs()
                .map(|programs| programs.join("python"))
                .map_err(|error| format!("{error:#}"))
        });
        made.clone().map_err(|reason| Missing { tool: "python3 with venv and PyPI", reason }.into())
    }

    /// A command for one of the Python programs in `xtask/peers`.
    pub(crate) fn peer(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(self.python()?);
        command.arg("-u").arg(venv::peer_program(name)).current_dir(self.scratch.path());
        // Python must not write its caches into the source tree.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }
}

/// Raises the limit of descriptors to the system's maximum, since this process may hold both ends of
/// thousands of connections.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // The default limit is enough for all scenarios but those of a crowd, which report what they lack.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok();
}
