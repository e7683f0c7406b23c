//! A hosts file that one program alone sees.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::stage::{Home, Missing, Stage};

/// Takes the place of `/etc/hosts` in a mount namespace of the program's own.
pub(crate) struct Hosts {
    _place: Home,
    path: PathBuf,
    words: Vec<String>,
}

impl Hosts {
    /// # Errors
    /// [`Missing`] where namespaces are not to be had, as in some containers.
    pub(crate) fn new(stage: &Stage) -> Result<Self> {
        let place = stage.home()?;
        let path = place.file("hosts");
        fs::write(&path, "127.0.0.1 localhost\n")?;
        let script = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", path.display());
        // Root needs no user namespace; anybody else becomes root in one.
        let namespaces = if rustix::process::geteuid().is_root() { "--mount" } else { "--map-root-user" };
        let words = ["unshare", namespaces, "--mount", "sh", "-c", &script].map(str::to_owned).to_vec();
        let tried = Command::new(&words[0]).args(&words[1..]).arg("true").output();
        let reason = match tried {
            Ok(output) if output.status.success() => return Ok(Self { _place: place, path, words }),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        Err(Missing { tool: "mount namespace", reason }.into())
    }

    /// Changes what the program finds, from its next look on.
    pub(crate) fn write(&self, entries: &str) -> Result<()> {
        // In place: the program sees this very file.
        fs::write(&self.path, format!("127.0.0.1 localhost\n{entries}")).context("the hosts file")
    }

    /// What the program has to be started by.
    pub(crate) fn wrapper(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }
}
