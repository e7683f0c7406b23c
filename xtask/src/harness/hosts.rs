//! A hosts file that only one program sees.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::harness::environment::Harness;
use crate::harness::home::Home;
use crate::harness::missing::Missing;
use crate::harness::tool::Tool;

/// A file that replaces `/etc/hosts` in a mount namespace of the program.
pub(crate) struct Hosts {
    _place: Home,
    path: PathBuf,
    words: Vec<String>,
}

impl Hosts {
    /// Prepares a hosts file with an entry for localhost alone.
    ///
    /// # Errors
    /// [`Missing`] where namespaces are not available, as in some containers.
    pub(crate) fn new(harness: &Harness) -> Result<Self> {
        let place = harness.home()?;
        Self::mounted(place, &[], "true")
    }

    /// Sends lookups of all other names to a resolver that never answers, in a network namespace of the
    /// program without any other network. Only unix sockets lead out of it.
    ///
    /// # Errors
    ///
    /// Those of [`Self::new`], and [`Missing`] without the tool `ip`.
    pub(crate) fn before_a_silent_resolver(harness: &Harness) -> Result<Self> {
        let ip = Tool::IP.find()?.display().to_string();
        let place = harness.home()?;
        // 30 seconds are the longest time-out that the system's resolver accepts.
        let resolver = format!("nameserver {RESOLVER}\noptions timeout:30 attempts:1\n");
        let resolver = place.write("resolv.conf", resolver)?.display().to_string();
        let order = place.write("nsswitch.conf", "hosts: files dns\n")?.display().to_string();
        // The kernel drops packets for another machine that are routed to the loopback interface, without an answer.
        let script = format!(
            "mount --bind {resolver} /etc/resolv.conf && \
             {{ ! test -e /etc/nsswitch.conf || mount --bind {order} /etc/nsswitch.conf; }} && \
             {ip} link set lo up && {ip} route add {RESOLVER} dev lo"
        );
        Self::mounted(place, &["--net"], &script)
    }

    /// Prepares a wrapper that enters a mount namespace and `namespaces`, and runs `script` there first.
    fn mounted(place: Home, namespaces: &[&str], script: &str) -> Result<Self> {
        let path = place.file("hosts");
        fs::write(&path, "127.0.0.1 localhost\n")?;
        let script = format!("mount --bind {} /etc/hosts && {script} && exec \"$0\" \"$@\"", path.display());
        // Root needs no user namespace, while another user becomes root in one.
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

    /// Replaces the entries that the program finds on its next lookup.
    pub(crate) fn write(&self, entries: &str) -> Result<()> {
        // The file is written in place, since its inode is the one that is mounted.
        fs::write(&self.path, format!("127.0.0.1 localhost\n{entries}")).context("the hosts file")
    }

    /// The command line prefix that starts a program in the namespaces.
    pub(crate) fn wrapper(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }
}

/// The address of the silent resolver, from a network for documentation (RFC 5737).
const RESOLVER: &str = "192.0.2.53";
