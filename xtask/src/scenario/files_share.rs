//! A server with a share and a client with files, for scenarios that move some, and what their `--json` says.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{Fixture, Harness, Home, Outcome, Process, Run, plant, wrapped};

/// A server with the share `data`, and a place for files of the client.
pub(super) struct Shared<'a> {
    pub(super) harness: &'a Harness,
    pub(super) fixture: Fixture<'a>,
    pub(super) folder: Home,
    here: Home,
}

impl<'a> Shared<'a> {
    pub(super) fn open(harness: &'a Harness) -> Result<Self> {
        Self::with_rights(harness, "rw", &["--files", "data:rw"])
    }

    pub(super) fn with_rights(harness: &'a Harness, mode: &str, rights: &[&str]) -> Result<Self> {
        let folder = harness.home()?;
        let share = format!("data={}:{mode}", text(folder.path())?);
        let fixture = Fixture::with_arguments(harness, rights, &["run", "--files", &share])?;
        Ok(Self { harness, fixture, folder, here: harness.home()? })
    }

    /// A path in the share, as the server has it.
    pub(super) fn there(&self, path: &str) -> PathBuf {
        self.folder.file(path)
    }

    /// A path of the client.
    pub(super) fn here(&self, path: &str) -> PathBuf {
        self.here.file(path)
    }

    /// A client's command at an address.
    pub(super) fn command_through(&self, address: &str, command: &str, words: &[&str]) -> Run {
        let words = [&[command, address, "--server-key", self.fixture.key()], words].concat();
        self.harness.client(self.fixture.alice(), &words)
    }

    pub(super) fn run(&self, command: &str, words: &[&str]) -> Result<Outcome> {
        self.command_through(&self.fixture.address(), command, words).run()
    }

    /// A client's command that cannot write a file of more than 1 MiB.
    pub(super) fn limited(&self, command: &str, words: &[&str]) -> Result<Outcome> {
        let command = self.command_through(&self.fixture.address(), command, words).into_command();
        Process::start(wrapped(&LIMITED.map(str::to_owned), command))?.finish()
    }

    /// A tree of the client, by the name `tree`.
    pub(super) fn planted(&self) -> Result<PathBuf> {
        let tree = self.here("tree");
        plant(&tree)?;
        Ok(tree)
    }
}

/// Starts a program that cannot write a file of more than 1 MiB: the system says so.
pub(super) const LIMITED: [&str; 3] = ["sh", "-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""];

/// A path as a word of a command line.
pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

/// The lines of an output in JSON.
pub(super) fn lines(outcome: &Outcome) -> Result<Vec<Value>> {
    outcome.text().lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// The number that an event has under a key.
pub(super) fn number(event: &Value, key: &str) -> Result<u64> {
    event[key].as_u64().with_context(|| format!("no {key} in {event}"))
}

/// The events of one kind.
pub(super) fn of_kind<'v>(events: &'v [Value], kind: &'v str) -> impl Iterator<Item = &'v Value> {
    events.iter().filter(move |event| event["event"] == kind)
}

/// The last event of an output in JSON but for an error, which sums it up.
pub(super) fn summary(outcome: &Outcome) -> Result<Value> {
    let mut all = lines(outcome)?;
    let last = all.pop().context("no line")?;
    let last = if last["event"] == "error" { all.pop().context("an error alone")? } else { last };
    ensure!(last["event"] == "summary", "the last line is {last}");
    Ok(last)
}
