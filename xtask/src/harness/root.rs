//! A copy of this machine's system in a mount namespace of its own: packages are installed there, and nothing of it stays.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::harness::deadline::DEADLINE;
use crate::harness::missing::Missing;
use crate::harness::process::Process;
use crate::harness::tool::{Tool, printed};

/// The copy, which lasts as long as this does: what is written there is in memory.
pub(crate) struct Root {
    /// Keeps the namespace.
    holder: Process,
    folder: PathBuf,
}

impl Root {
    /// Makes a copy, with `scratch` as the place for its mounts.
    ///
    /// # Errors
    /// [`Missing`] where this user may not mount, or the system has no overlays.
    pub(crate) fn new(scratch: &Path) -> Result<Self> {
        let folder = scratch.join("root");
        std::fs::create_dir_all(&folder)?;
        let script = "mount -t tmpfs tmpfs \"$1\" && mkdir \"$1/upper\" \"$1/work\" \"$1/all\" && \
                      mount -t overlay -o lowerdir=/,upperdir=\"$1/upper\",workdir=\"$1/work\" overlay \"$1/all\" && \
                      mount --rbind /dev \"$1/all/dev\" && mount -t proc proc \"$1/all/proc\" && \
                      mount -t tmpfs tmpfs \"$1/all/tmp\" && mount -t tmpfs tmpfs \"$1/all/run\" && \
                      chmod 1777 \"$1/all/tmp\" && echo ready && exec cat";
        let mut command = Tool::UNSHARE.command()?;
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&folder);
        let holder = Process::start(command)?;
        let ready = holder.stdout.wait_line(DEADLINE, |line| line.trim() == "ready");
        if ready.is_err() {
            let reason = holder.stderr.text();
            return Err(Missing {
                tool: "mount namespace with an overlay",
                reason: reason.trim().to_owned(),
            }
            .into());
        }
        Ok(Self { holder, folder })
    }

    /// A command that runs in the copy, in a folder of its own and with nothing in its environment but a path.
    pub(crate) fn command(&self, program: &str) -> Result<Command> {
        let mut command = Tool::NSENTER.command()?;
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        command.arg("chroot").arg(self.folder.join("all")).arg(program).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive").env("HOME", "/tmp");
        Ok(command)
    }

    /// Runs a command in the copy to its end and returns its output.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        printed(self.command(program)?.args(arguments))
    }

    /// Copies a file of this machine into the folder /tmp of the copy, and returns its path there.
    pub(crate) fn bring(&self, file: &Path) -> Result<String> {
        let name = file.file_name().context("a file")?.to_string_lossy().into_owned();
        let mut command = self.command("tee")?;
        command.arg(format!("/tmp/{name}")).stdin(std::fs::File::open(file)?).stdout(Stdio::null());
        let status = command.status()?;
        ensure!(status.success(), "{name} was not copied: {status}");
        Ok(format!("/tmp/{name}"))
    }
}
