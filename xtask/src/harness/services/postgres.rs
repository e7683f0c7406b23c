//! A PostgreSQL with an empty database.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::harness::services::running::{end, listens, word};
use crate::harness::{Port, Process, Tool, printed};

/// A server that accepts every connection as user `postgres`, without a password.
pub(crate) struct Postgres {
    process: Process,
    _place: TempDir,
    port: Port,
}

impl Postgres {
    pub(crate) fn start() -> Result<Self> {
        let [initdb, postgres] = [Tool::INITDB.find()?, Tool::POSTGRES.find()?];
        // PostgreSQL gets a folder of its own, since other users cannot enter the folder of the scenarios.
        let place = tempfile::Builder::new().prefix("sockseal-postgres-").tempdir()?;
        if geteuid().is_root() {
            let user: u32 = printed(Tool::ID.command()?.args(["-u", "postgres"]))?.trim().parse()?;
            chown(place.path(), Some(user), None)?;
        }
        let port = Port::hold()?;
        let data = place.path().join("data");
        let mut command = unprivileged(&initdb)?;
        command.current_dir(place.path()).arg("-D").arg(&data);
        command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync"]);
        printed(&mut command)?;
        let mut command = unprivileged(&postgres)?;
        command.current_dir(place.path()).arg("-D").arg(&data);
        let [number, folder] = [port.number().to_string(), word(place.path())];
        command.args(["-h", "127.0.0.1", "-p", &number, "-k", &folder, "-F", "-c", "max_connections=50"]);
        let mut process = Process::start(command)?;
        listens(&mut process, &port.address())?;
        Ok(Self { process, _place: place, port })
    }

    pub(crate) fn address(&self) -> String {
        self.port.address()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A server that is killed leaves shared memory behind, so it is asked to end.
        end(&mut self.process, Signal::INT);
    }
}

/// Runs `program` as Debian's user for PostgreSQL, which refuses to run as root.
fn unprivileged(program: &Path) -> Result<Command> {
    if !geteuid().is_root() {
        return Ok(Command::new(program));
    }
    let mut command = Tool::SETPRIV.command()?;
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    let program = fs::canonicalize(program).with_context(|| program.display().to_string())?;
    command.arg(program);
    Ok(command)
}
