//! An OpenSSH server that accepts one key.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::geteuid;

use crate::harness::services::running::{listens, word};
use crate::harness::{Harness, Home, Port, Process, Tool, printed, set_mode};

/// An sshd that accepts the user who runs the tests.
pub(crate) struct Sshd {
    _process: Process,
    place: Home,
    port: Port,
}

impl Sshd {
    pub(crate) fn start(harness: &Harness) -> Result<Self> {
        let program = Tool::SSHD.find()?;
        let place = harness.home()?;
        let port = Port::hold()?;
        for key in ["host", "user"] {
            let mut command = Tool::SSH_KEYGEN.command()?;
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(place.file(key));
            printed(&mut command)?;
        }
        fs::copy(place.file("user.pub"), place.file("authorized_keys"))?;
        set_mode(&place.file("authorized_keys"), 0o600)?;
        // An sshd of root needs this folder for privilege separation, and a system that has never started one lacks it.
        if geteuid().is_root() {
            fs::create_dir_all("/run/sshd").context("/run/sshd")?;
        }
        let configuration = format!(
            "ListenAddress {}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n",
            port.address(),
            word(&place.file("host")),
            word(&place.file("authorized_keys")),
        );
        let file = place.write("sshd_config", configuration)?;
        let mut command = Command::new(program);
        command.args(["-D", "-e", "-f"]).arg(file);
        let mut process = Process::start(command)?;
        listens(&mut process, &port.address())?;
        Ok(Self { _process: process, place, port })
    }

    pub(crate) fn address(&self) -> String {
        self.port.address()
    }

    /// Options with which any program of OpenSSH gets in, without the user's own configuration.
    pub(crate) fn options(&self) -> Vec<String> {
        let mut options = ["-F", "none", "-i"].map(str::to_owned).to_vec();
        options.push(word(&self.place.file("user")));
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ] {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    /// Prepares an `ssh` to this server through `proxy_command`, with the host's key known and without the
    /// user's own configuration.
    pub(crate) fn client(&self, proxy_command: &str) -> Result<Command> {
        let host = fs::read_to_string(self.place.file("host.pub"))?;
        let known = self.place.write("known_hosts", format!("[127.0.0.1]:{} {host}", self.port.number()))?;
        let user = printed(Tool::ID.command()?.arg("-un"))?;
        let mut command = Tool::SSH.command()?;
        command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]);
        command.arg("-o").arg(format!("UserKnownHostsFile={}", word(&known)));
        command.arg("-o").arg(format!("ProxyCommand={proxy_command}"));
        command.arg("-i").arg(self.place.file("user"));
        command.args(["-p", &self.port.number().to_string(), "-l", user.trim(), "127.0.0.1"]);
        Ok(command)
    }
}
