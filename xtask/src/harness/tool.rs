//! Programs from other projects that scenarios use where this machine has them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::harness::missing::Missing;
use crate::workspace;

/// A program by its name, and the Debian package that contains it.
pub(crate) struct Tool {
    name: &'static str,
    package: &'static str,
}

impl Tool {
    pub(crate) const BASH: Self = Self { name: "bash", package: "bash" };
    pub(crate) const CHROMIUM: Self = Self { name: "chromium", package: "chromium" };
    pub(crate) const CURL: Self = Self { name: "curl", package: "curl" };
    pub(crate) const DIG: Self = Self { name: "dig", package: "dnsutils" };
    pub(crate) const FAIL2BAN_REGEX: Self = Self { name: "fail2ban-regex", package: "fail2ban" };
    pub(crate) const FISH: Self = Self { name: "fish", package: "fish" };
    pub(crate) const GIT: Self = Self { name: "git", package: "git" };
    pub(crate) const HAPROXY: Self = Self { name: "haproxy", package: "haproxy" };
    pub(crate) const ID: Self = Self { name: "id", package: "coreutils" };
    pub(crate) const INITDB: Self = Self { name: "initdb", package: "postgresql" };
    pub(crate) const IP: Self = Self { name: "ip", package: "iproute2" };
    pub(crate) const IPERF: Self = Self { name: "iperf3", package: "iperf3" };
    pub(crate) const LINTIAN: Self = Self { name: "lintian", package: "lintian" };
    pub(crate) const NC: Self = Self { name: "nc", package: "netcat-openbsd" };
    pub(crate) const NFT: Self = Self { name: "nft", package: "nftables" };
    pub(crate) const NSENTER: Self = Self { name: "nsenter", package: "util-linux" };
    pub(crate) const NGINX: Self = Self { name: "nginx", package: "nginx" };
    pub(crate) const OPENSSL: Self = Self { name: "openssl", package: "openssl" };
    pub(crate) const PGBENCH: Self = Self { name: "pgbench", package: "postgresql-contrib" };
    pub(crate) const POSTGRES: Self = Self { name: "postgres", package: "postgresql" };
    pub(crate) const PRLIMIT: Self = Self { name: "prlimit", package: "util-linux" };
    pub(crate) const PSQL: Self = Self { name: "psql", package: "postgresql-client" };
    pub(crate) const PROMETHEUS: Self = Self { name: "prometheus", package: "prometheus" };
    pub(crate) const PROMTOOL: Self = Self { name: "promtool", package: "prometheus" };
    pub(crate) const PUTTYGEN: Self = Self { name: "puttygen", package: "putty-tools" };
    pub(crate) const REDIS: Self = Self { name: "redis-server", package: "redis-server" };
    pub(crate) const REDIS_BENCHMARK: Self = Self { name: "redis-benchmark", package: "redis-tools" };
    pub(crate) const REDIS_CLI: Self = Self { name: "redis-cli", package: "redis-tools" };
    pub(crate) const RSYNC: Self = Self { name: "rsync", package: "rsync" };
    pub(crate) const SCP: Self = Self { name: "scp", package: "openssh-client" };
    pub(crate) const SETPRIV: Self = Self { name: "setpriv", package: "util-linux" };
    pub(crate) const SFTP: Self = Self { name: "sftp", package: "openssh-client" };
    pub(crate) const SSH: Self = Self { name: "ssh", package: "openssh-client" };
    pub(crate) const SSHD: Self = Self { name: "sshd", package: "openssh-server" };
    pub(crate) const SSH_KEYGEN: Self = Self { name: "ssh-keygen", package: "openssh-client" };
    pub(crate) const STRACE: Self = Self { name: "strace", package: "strace" };
    pub(crate) const SYSTEMD_ANALYZE: Self = Self { name: "systemd-analyze", package: "systemd" };
    pub(crate) const SOCKET_ACTIVATE: Self = Self { name: "systemd-socket-activate", package: "systemd" };
    pub(crate) const UNSHARE: Self = Self { name: "unshare", package: "util-linux" };
    pub(crate) const VALGRIND: Self = Self { name: "valgrind", package: "valgrind" };
    pub(crate) const ZSH: Self = Self { name: "zsh", package: "zsh" };
    pub(crate) const WRK: Self = Self { name: "wrk", package: "wrk" };

    /// The path of the program.
    ///
    /// # Errors
    /// [`Missing`], with the name of the Debian package that contains the program.
    pub(crate) fn find(&self) -> Result<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from)).chain(postgres());
        let found = folders.map(|folder| folder.join(self.name)).find(|program| program.is_file());
        let reason = format!("not installed; Debian has it in the package {}", self.package);
        Ok(found.ok_or(Missing { tool: self.name, reason })?)
    }

    pub(crate) fn command(&self) -> Result<Command> {
        Ok(Command::new(self.find()?))
    }
}

/// Runs a program to its end and returns its output.
pub(crate) fn printed(command: &mut Command) -> Result<String> {
    let shown = workspace::shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{shown} did not start"))?;
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    ensure!(output.status.success(), "{shown}: {}\n{stdout}\n{stderr}", output.status);
    Ok(stdout)
}

/// Debian's folders for the programs of each PostgreSQL version, which are in no `PATH`, with the newest first.
fn postgres() -> Vec<PathBuf> {
    let versions = std::fs::read_dir(Path::new("/usr/lib/postgresql"));
    let mut folders: Vec<PathBuf> =
        versions.into_iter().flatten().flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}

/// Folders of daemons, which are not in the `PATH` of every user.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
