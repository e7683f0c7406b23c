//! A running `client forward`, and the addresses that it has printed.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::harness::connection::dial;
use crate::harness::deadline::{DEADLINE, until};
use crate::harness::environment::Harness;
use crate::harness::home::Home;
use crate::harness::process::{Outcome, Process, wrapped};
use crate::harness::resources::{Program, Resources};

/// A client whose local listeners are open.
pub(crate) struct Forward<'a> {
    pub(crate) process: Process,
    harness: &'a Harness,
    home: Arc<Home>,
}

impl<'a> Forward<'a> {
    /// Starts `client forward ADDRESS --server-key KEY ARGUMENTS` and waits for its local and dynamic lines.
    pub(crate) fn start(
        harness: &'a Harness,
        home: &Arc<Home>,
        address: &str,
        key: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        Self::wrapped(harness, home, address, key, arguments, &[])
    }

    /// Starts the client through another program, which has to become the client by `exec`.
    pub(crate) fn wrapped(
        harness: &'a Harness,
        home: &Arc<Home>,
        address: &str,
        key: &str,
        arguments: &[&str],
        wrapper: &[String],
    ) -> Result<Self> {
        let arguments = [&["forward", address, "--server-key", key], arguments].concat();
        let command = harness.client(home, &arguments).into_command();
        Self::from_process(harness, home, Process::start(wrapped(wrapper, command))?, &arguments)
    }

    /// Takes over a client that was started in another way. `arguments` determine the lines to wait for.
    pub(crate) fn from_process(
        harness: &'a Harness,
        home: &Arc<Home>,
        process: Process,
        arguments: &[&str],
    ) -> Result<Self> {
        let forward = Self { process, harness, home: Arc::clone(home) };
        let count = |option: &str| arguments.iter().filter(|&&argument| argument == option).count();
        for (option, kind) in [("-L", "local"), ("-D", "dynamic")] {
            if let Some(last) = count(option).checked_sub(1) {
                forward.said(kind, last)?;
            }
        }
        Ok(forward)
    }

    /// The printed address of the `index`th `-L`: `127.0.0.1:PORT`, or with `/udp` or `unix:`.
    pub(crate) fn local(&self, index: usize) -> Result<String> {
        self.said("local", index)
    }

    pub(crate) fn dynamic(&self, index: usize) -> Result<String> {
        self.said("dynamic", index)
    }

    /// The address of the `index`th `-R` at the server, once the server listens there.
    pub(crate) fn remote(&self, index: usize) -> Result<String> {
        self.said("remote", index)
    }

    /// Connects to the address of the first `-L`.
    pub(crate) fn dial(&self) -> Result<TcpStream> {
        dial(&self.local(0)?)
    }

    /// Waits until the first channel is established.
    pub(crate) fn connected(&self) -> Result<()> {
        self.logged(&["connected to "]).map(drop)
    }

    /// Waits until the client has this many idle channels.
    pub(crate) fn has_idle(&self, channels: u64) -> Result<()> {
        until(DEADLINE, "idle channels", || {
            let idle = self.resources()?.idle_channels;
            ensure!(idle >= channels, "{idle} channels are idle");
            Ok(())
        })
    }

    /// Waits for a log line that contains all `names`.
    pub(crate) fn logged(&self, names: &[&str]) -> Result<String> {
        let matches = |line: &str| names.iter().all(|name| line.contains(name));
        self.process
            .stderr
            .wait_line(DEADLINE, matches)
            .with_context(|| format!("the client's line with {names:?}"))
    }

    fn said(&self, kind: &str, index: usize) -> Result<String> {
        let mut seen = 0;
        let line = self.process.stderr.wait_line(DEADLINE, |line| {
            let is_one = line.trim_start().starts_with(&format!("{kind} "));
            seen += usize::from(is_one);
            is_one && seen == index + 1
        });
        let line = line.with_context(|| format!("the client's `{kind}` line {index}"))?;
        let address = line.split_whitespace().nth(1).with_context(|| format!("no address in {line:?}"))?;
        Ok(address.to_owned())
    }

    pub(crate) fn kill(self) -> Result<()> {
        self.process.signal(Signal::KILL)?;
        self.process.finish()?;
        Ok(())
    }

    /// Sends SIGTERM to the client, and waits for its end.
    pub(crate) fn stop(self) -> Result<Outcome> {
        self.process.signal(Signal::TERM)?;
        self.process.finish()
    }

    pub(crate) fn finish_within(self, within: Duration) -> Result<Outcome> {
        self.process.finish_within(within)
    }

    pub(crate) fn resources(&self) -> Result<Resources> {
        Resources::of(self.harness, Program::Client, &self.home, &self.process)
    }

    /// The resources of the client, once it has no open stream.
    pub(crate) fn at_rest(&self) -> Result<Resources> {
        Resources::at_rest(self.harness, Program::Client, &self.home, &self.process)
    }

    /// Checks that the client holds no more resources than `before`.
    pub(crate) fn expect_again(&self, before: &Resources) -> Result<()> {
        before.expect_again(self.harness, Program::Client, &self.home, &self.process)
    }
}
