//! The stage on which the real programs meet: their homes, their processes, and the wire between them.

mod balancer;
mod client;
mod datagrams;
mod forward;
mod home;
mod hosts;
mod load;
pub(crate) mod part;
mod patience;
mod payload;
mod plug;
mod port;
mod process;
mod recording;
mod server;
mod site;
pub(crate) mod socks;
mod stranger;
mod tap;
mod target;
mod tool;
mod vitals;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

pub(crate) use self::balancer::Balancer;
pub(crate) use self::client::Run;
pub(crate) use self::datagrams::{Datagrams, RESOLVED, datagram_echoed, datagrams_to};
pub(crate) use self::forward::Forward;
pub(crate) use self::home::{Home, Key, set_mode};
pub(crate) use self::hosts::Hosts;
pub(crate) use self::load::{Done, Load};
pub(crate) use self::patience::{PATIENCE, throughout, until};
pub(crate) use self::payload::{Lines, PHRASE, digest, digest_of};
pub(crate) use self::plug::{End, Exchange, Plug, dial, echoed, end_behind, read_to_end_of, reset};
pub(crate) use self::port::Port;
pub(crate) use self::process::{Exit, Outcome, Process};
pub(crate) use self::recording::Recording;
pub(crate) use self::server::Server;
pub(crate) use self::site::{Site, wrapped};
pub(crate) use self::stranger::{Impostor, Then, Visitor};
pub(crate) use self::tap::{Fault, Side, Tap, Way};
pub(crate) use self::target::{Gate, Target, echo, serve_unix};
pub(crate) use self::tool::{Tool, printed};
pub(crate) use self::vitals::{Program, Vitals};
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
