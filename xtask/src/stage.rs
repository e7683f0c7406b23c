//! The stage on which the real programs meet: their homes, their processes, and the wire between them.

mod client;
mod home;
mod payload;
mod process;
mod recording;
mod server;
mod stranger;
mod tap;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

pub(crate) use self::client::Run;
pub(crate) use self::home::{Home, Key, set_mode};
pub(crate) use self::payload::{Lines, PHRASE, digest, digest_of};
pub(crate) use self::process::{Exit, Outcome, Process};
pub(crate) use self::recording::Recording;
pub(crate) use self::server::Server;
pub(crate) use self::stranger::{Impostor, Then, Visitor};
pub(crate) use self::tap::{Fault, Tap, Way};
use crate::venv;

/// What all scenarios share: the programs, a folder for their homes, keys that took a while to make.
pub(crate) struct Stage {
    programs: PathBuf,
    scratch: TempDir,
    keys: Mutex<BTreeMap<Key, Vec<u8>>>,
    python: Mutex<Option<Result<PathBuf, String>>>,
}

impl Stage {
    pub(crate) fn new(programs: PathBuf) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("sockseal-").tempdir().context("a scratch folder")?;
        Ok(Self { programs, scratch, keys: Mutex::default(), python: Mutex::default() })
    }

    /// One of the two programs, deaf to the settings of the person who runs the tests.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
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

/// A tool that this machine lacks: the scenario is skipped, in CI it fails.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) tool: &'static str,
    pub(crate) reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {}: {}", self.tool, self.reason)
    }
}

impl std::error::Error for Missing {}

/// No step of a scenario takes this long on a machine that is busy with something else as well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
