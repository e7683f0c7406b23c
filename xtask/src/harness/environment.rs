//! What all scenarios share: the programs under test, a folder for their homes, and Python.

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

/// What all scenarios share: the programs, a folder for their homes, keys that took a while to make.
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

    /// One of the two programs, deaf to the settings of the person who runs the tests.
    pub(crate) fn program(&self, name: &str) -> Command {
        self.deaf(Command::new(self.programs.join(name)))
    }

    /// A command that starts one of them, as deaf.
    pub(crate) fn deaf(&self, mut command: Command) -> Command {
        for setting in ["RUST_LOG", "SOCKSEAL_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
            command.env_remove(setting);
        }
        command.env("HOME", self.scratch.path()).env("NO_COLOR", "1");
        command
    }

    /// A Python with PyCryptodome, made on first use.
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

    /// One of the programs in `xtask/peers`.
    pub(crate) fn peer(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(self.python()?);
        command.arg("-u").arg(venv::peer_program(name)).current_dir(self.scratch.path());
        // The source tree stays as it is.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }
}

/// A crowd has two ends, and both are here: as many descriptors as the system gives.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // What is given without asking is enough for all but the crowd, which says what it lacks.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok();
}
