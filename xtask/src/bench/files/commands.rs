//! The commands that move files: ours, and those of OpenSSH and rsync, with the same ciphers.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::bench::files::trees::Places;
use crate::harness::services::Sshd;
use crate::harness::{Fixture, Harness, Tap, Tool, printed};

/// A server of ours with shares for the source and the goal, and a client that may use both.
pub(super) struct Ours<'a> {
    harness: &'a Harness,
    fixture: Fixture<'a>,
    goal: String,
}

impl<'a> Ours<'a> {
    pub(super) fn start(harness: &'a Harness, places: &Places) -> Result<Self> {
        let share = |name: &str, path: &Path, mode: &str| format!("{name}={}:{mode}", path.display());
        let (source, goal) = (share("source", &places.source(), "ro"), share("goal", &places.goal(), "rw"));
        let rights = ["--files", "source", "--files", "goal"];
        let fixture = Fixture::with_arguments(harness, &rights, &["--files", &source, "--files", &goal])?;
        let goal = places.goal().display().to_string();
        Ok(Self { harness, fixture, goal })
    }

    pub(super) fn address(&self) -> String {
        self.fixture.address()
    }

    /// Puts this path, through a tap where there is one.
    pub(super) fn put(&self, path: &Path, tap: Option<&Tap>) -> Result<Command> {
        let path = path.to_str().context("a path in UTF-8")?;
        Ok(self.client("put", tap, &[path, "goal:"]))
    }

    /// Gets what has this name in the source.
    pub(super) fn get(&self, name: &str, tap: Option<&Tap>) -> Result<Command> {
        Ok(self.client("get", tap, &[&format!("source:{name}"), &format!("{}/", self.goal)]))
    }

    fn client(&self, command: &str, tap: Option<&Tap>, paths: &[&str]) -> Command {
        let address = tap.map_or_else(|| self.fixture.address(), Tap::address);
        let arguments = [&[command, &address, "--server-key", self.fixture.key(), "--quiet"], paths].concat();
        self.harness.client(self.fixture.alice(), &arguments).into_command()
    }

    /// The most memory that the server has had in use, in KiB.
    pub(super) fn peak_memory(&self) -> Result<u64> {
        self.fixture.server()?.process.peak_memory()
    }
}

/// Tools that go through an sshd.
pub(super) struct Peers<'a> {
    sshd: &'a Sshd,
    user: String,
    goal: String,
}

impl<'a> Peers<'a> {
    pub(super) fn of(sshd: &'a Sshd, places: &Places) -> Result<Self> {
        let user = printed(Tool::ID.command()?.arg("-un"))?.trim().to_owned();
        Ok(Self { sshd, user, goal: places.goal().display().to_string() })
    }

    pub(super) fn address(&self) -> String {
        self.sshd.address()
    }

    fn options(&self) -> Vec<String> {
        let mut options = self.sshd.options();
        options.extend(["-c", CIPHER, "-o", MAC].map(str::to_owned));
        options
    }

    pub(super) fn scp(&self, path: &Path) -> Result<Command> {
        let mut command = Tool::SCP.command()?;
        command.args(self.options()).args(["-q", "-r", "-p", "-P", port(&self.address())?]);
        command.arg(path).arg(format!("{}@127.0.0.1:{}/", self.user, self.goal));
        Ok(command)
    }

    pub(super) fn sftp(&self, path: &Path) -> Result<Command> {
        // sftp reads its commands from a file, which lies beside the goal.
        let batch = format!("{}-batch", self.goal);
        std::fs::write(&batch, format!("put -r -p {} {}/\n", path.display(), self.goal))?;
        let mut command = Tool::SFTP.command()?;
        command.args(self.options()).args(["-q", "-P", port(&self.address())?, "-b", &batch]);
        command.arg(format!("{}@127.0.0.1", self.user));
        Ok(command)
    }

    /// Through a tap where there is one.
    pub(super) fn rsync(&self, path: &Path, tap: Option<&Tap>) -> Result<Command> {
        let address = tap.map_or_else(|| self.address(), Tap::address);
        let ssh = format!("ssh {} -p {}", self.options().join(" "), port(&address)?);
        let mut command = Tool::RSYNC.command()?;
        command.args(["-a", "-e", &ssh]).arg(path);
        command.arg(format!("{}@127.0.0.1:{}/", self.user, self.goal));
        Ok(command)
    }
}

fn port(address: &str) -> Result<&str> {
    Ok(address.rsplit_once(':').context("an address without a port")?.1)
}

const CIPHER: &str = "aes256-ctr";
const MAC: &str = "MACs=hmac-sha2-256-etm@openssh.com";
