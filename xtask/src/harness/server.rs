//! A running server that has printed its addresses and its key.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::harness::deadline::DEADLINE;
use crate::harness::environment::Harness;
use crate::harness::home::Home;
use crate::harness::process::{Exit, Outcome, Process};

/// A server that has printed its addresses and its key.
pub(crate) struct Server {
    pub(crate) process: Process,
    addresses: Vec<String>,
    key: Option<String>,
}

impl Server {
    /// Starts `server --home HOME ARGUMENTS`. The system picks the port unless `arguments` give one.
    pub(crate) fn start(harness: &Harness, home: &Home, arguments: &[&str]) -> Result<Self> {
        let mut command = harness.program("server");
        command.arg("--home").arg(home).args(arguments);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::from_process(Process::start(command)?)
    }

    pub(crate) fn from_process(process: Process) -> Result<Self> {
        let is_identity = |line: &str| {
            let line = notice(line);
            line.starts_with("server key") || line.starts_with("server id")
        };
        let identity = process.stderr.wait_line(DEADLINE, is_identity).context("the server's banner")?;
        let key = notice(&identity).strip_prefix("server key").map(|key| key.trim().to_owned());
        let banner = process.stderr.text();
        let addresses: Vec<String> = banner
            .lines()
            .filter_map(|line| Some(notice(line).strip_prefix("listening on ")?.trim().to_owned()))
            .collect();
        ensure!(!addresses.is_empty(), "the banner names no address:\n{banner}");
        Ok(Self { process, addresses, key })
    }

    /// The first address that the server listens on.
    pub(crate) fn address(&self) -> &str {
        &self.addresses[0]
    }

    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The fingerprint that the server printed at its start.
    pub(crate) fn key(&self) -> Result<&str> {
        self.key.as_deref().context("the banner has no `server key` line")
    }

    /// Waits until the server has printed exactly this line.
    pub(crate) fn printed(&self, line: &str) -> Result<()> {
        let seen = self.process.stdout.wait_line(DEADLINE, |printed| printed.trim_end() == line);
        seen.map(drop).with_context(|| format!("the server's line {line:?}"))
    }

    /// Waits for a log line that contains all `names`.
    pub(crate) fn logged(&self, names: &[&str]) -> Result<String> {
        self.logged_within(DEADLINE, names)
    }

    pub(crate) fn logged_within(&self, within: Duration, names: &[&str]) -> Result<String> {
        let seen = self.process.stderr.wait_line(within, |line| names.iter().all(|name| line.contains(name)));
        seen.with_context(|| format!("the server's log line with {names:?}"))
    }

    /// Checks that the server serves another client.
    pub(crate) fn still_serves(&self, harness: &Harness) -> Result<()> {
        let mark = format!("still here after {} bytes of log", self.process.stderr.len());
        let home = harness.home()?;
        let arguments = ["send", self.address(), &mark, "--server-key", self.key()?];
        harness.client(&home, &arguments).run()?.expect(Exit::Done)?;
        self.printed(&format!("[anonymous] {mark}"))
    }

    /// Sends SIGTERM to the server, and waits for its end.
    pub(crate) fn stop(self) -> Result<Outcome> {
        self.process.signal(rustix::process::Signal::TERM)?;
        self.process.finish()
    }

    /// Waits until the server ends by itself, as `server pipe` does.
    pub(crate) fn finish(self) -> Result<Outcome> {
        self.process.finish()
    }
}

/// The text of a notice, which is JSON where the log is.
fn notice(line: &str) -> String {
    let object: Option<serde_json::Value> = serde_json::from_str(line).ok();
    let message = object.as_ref().and_then(|object| object["message"].as_str());
    message.unwrap_or(line).trim_start().to_owned()
}
