//! A hosts file that one program alone sees.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::harness::environment::Harness;
use crate::harness::home::Home;
use crate::harness::missing::Missing;
use crate::harness::tool::Tool;

/// Takes the place of `/etc/hosts` in a mount namespace of the program's own.
pub(crate) struct Hosts {
    _place: Home,
    path: PathBuf,
    words: Vec<String>,
}

impl Hosts {
    /// # Errors
    /// [`Missing`] where namespaces are not to be had, as in some containers.
    pub(crate) fn new(harness: &Harness) -> Result<Self> {
        let place = harness.home()?;
        Self::mounted(place, &[], "true")
    }

    /// All other names are asked for at a resolver that swallows the question, in a network where there is nothing else.
    /// A unix socket leads out of it.
    ///
    /// # Errors
    /// As those of [`Self::new`]; also without `ip`.
    pub(crate) fn before_a_silent_resolver(harness: &Harness) -> Result<Self> {
        let ip = Tool::IP.find()?.display().to_string();
        let place = harness.home()?;
        // The longest that the system's resolver can be told to wait.
        let resolver = format!("nameserver {NOBODY}\noptions timeout:30 attempts:1\n");
        let resolver = place.write("resolv.conf", resolver)?.display().to_string();
        let order = place.write("nsswitch.conf", "hosts: files dns\n")?.display().to_string();
        // What the loopback interface is to route to another machine is dropped without a word.
        let script = format!(
            "mount --bind {resolver} /etc/resolv.conf && \
             {{ ! test -e /etc/nsswitch.conf || mount --bind {order} /etc/nsswitch.conf; }} && \
             {ip} link set lo up && {ip} route add {NOBODY} dev lo"
        );
        Self::mounted(place, &["--net"], &script)
    }

    /// In mount namespaces and these, once a script has changed more in them.
    fn mounted(place: Home, namespaces: &[&str], script: &str) -> Result<Self> {
        let path = place.file("hosts");
        fs::write(&path, "127.0.0.1 localhost\n")?;
        let script = format!("mount --bind {} /etc/hosts && {script} && exec \"$0\" \"$@\"", path.display());
        // Root needs no user namespace; anybody else becomes root in one.
        let user = if rustix::process::geteuid().is_root() { "--mount" } else { "--map-root-user" };
        let words = [&["unshare", user, "--mount"], namespaces, &["sh", "-c", &script]].concat();
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
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

/// An address of the documentation's network (RFC 5737).
const NOBODY: &str = "192.0.2.53";
