//! Programs of other people that this machine may have.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::stage::Missing;
use crate::workspace;

/// A program by its name, and where it is when no path leads there.
pub(crate) struct Tool {
    name: &'static str,
    package: &'static str,
}

impl Tool {
    pub(crate) const DIG: Self = Self { name: "dig", package: "dnsutils" };
    pub(crate) const PRLIMIT: Self = Self { name: "prlimit", package: "util-linux" };

    /// Where it is.
    ///
    /// # Errors
    /// [`Missing`], with the Debian package that has it.
    pub(crate) fn find(&self) -> Result<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
        let found = folders.map(|folder| folder.join(self.name)).find(|program| program.is_file());
        let reason = format!("not installed; Debian has it in the package {}", self.package);
        Ok(found.ok_or(Missing { tool: self.name, reason })?)
    }
}

/// Runs a program to its end and gives what it printed.
pub(crate) fn printed(command: &mut Command) -> Result<String> {
    let shown = workspace::shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{shown} did not start"))?;
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    ensure!(output.status.success(), "{shown}: {}\n{stdout}\n{stderr}", output.status);
    Ok(stdout)
}

/// Where daemons are, which not everybody's path has.
const FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
