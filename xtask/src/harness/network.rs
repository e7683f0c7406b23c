//! A network of its own for a client and a server: two machines with a router between them, each in a network namespace.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::geteuid;

use crate::harness::deadline::DEADLINE;
use crate::harness::missing::Missing;
use crate::harness::process::{Process, wrapped};
use crate::harness::tool::{Tool, printed};

/// The network, which lasts as long as this does.
///
/// ```text
///  client, 10.77.1.2  wire ---- inside, 10.77.1.1  router  10.77.2.1, outside ---- wire  10.77.2.2, server
/// ```
pub(crate) struct Network {
    pub(crate) client: Machine,
    pub(crate) router: Machine,
    pub(crate) server: Machine,
}

impl Network {
    /// # Errors
    /// [`Missing`] where namespaces are not available, as in some containers, and without the tool `ip`.
    pub(crate) fn new() -> Result<Self> {
        let router = Machine::new(None)?;
        let [client, server] = [Machine::new(Some(&router))?, Machine::new(Some(&router))?];
        for (machine, port, net) in [(&client, "inside", "10.77.1"), (&server, "outside", "10.77.2")] {
            let id = machine.holder.id();
            router.ip(&format!("link add {port} type veth peer name wire netns {id}"))?;
            router.ip(&format!("address add {net}.1/24 dev {port}"))?;
            router.ip(&format!("link set {port} up"))?;
            machine.ip(&format!("address add {net}.2/24 dev wire"))?;
            machine.plug_in(&format!("{net}.1"))?;
        }
        router.run(Path::new("/bin/sh"), &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        Ok(Self { client, router, server })
    }
}

/// A network namespace.
pub(crate) struct Machine {
    /// Keeps the namespace.
    holder: Process,
    entrance: Vec<String>,
}

impl Machine {
    /// Makes a machine, in the user namespace of another one where it needs one.
    fn new(other: Option<&Self>) -> Result<Self> {
        let (ip, nsenter) = (Tool::IP.find()?, Tool::NSENTER.find()?);
        let mut command = Tool::UNSHARE.command()?;
        // Root needs no user namespace, while another user becomes root in one.
        if other.is_none() && !geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let script = format!("{} link set lo up && echo ready && exec cat", ip.display());
        command.args(["--net", "sh", "-c", &script]);
        let outer = other.map_or_else(Vec::new, |other| entrance(&nsenter, &user_of(other.holder.id())));
        let holder = Process::start(wrapped(&outer, command))?;
        if holder.stdout.wait_line(DEADLINE, |line| line == "ready").is_err() {
            let reason = holder.stderr.text().trim().to_owned();
            return Err(Missing { tool: "network namespace", reason }.into());
        }
        let id = holder.id();
        let namespaces = [user_of(id), vec![format!("--net=/proc/{id}/ns/net")]].concat();
        let entrance = entrance(&nsenter, &namespaces);
        Ok(Self { holder, entrance })
    }

    /// The command line prefix that starts a program on this machine.
    pub(crate) fn wrapper(&self) -> &[String] {
        &self.entrance
    }

    /// Runs `ip` with these arguments.
    pub(crate) fn ip(&self, arguments: &str) -> Result<()> {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        self.run(&Tool::IP.find()?, &arguments)
    }

    /// Replaces the address, as after a move to another network.
    pub(crate) fn readdress(&self, port: &str, from: &str, to: &str) -> Result<()> {
        self.ip(&format!("address del {from}/24 dev {port}"))?;
        self.ip(&format!("address add {to}/24 dev {port}"))
    }

    pub(crate) fn pull_plug(&self) -> Result<()> {
        self.ip("link set wire down")
    }

    /// Undoes [`Self::pull_plug`], with `router` as the way to all other networks.
    pub(crate) fn plug_in(&self, router: &str) -> Result<()> {
        self.ip("link set wire up")?;
        self.ip(&format!("route replace default via {router}"))
    }

    /// Has this machine, a router, send all that comes from inside in its own name.
    ///
    /// # Errors
    /// [`Missing`] without the tool `nft`.
    pub(crate) fn hide_inside(&self) -> Result<()> {
        let nft = Tool::NFT.find()?;
        let chain = "add chain ip nat leaving { type nat hook postrouting priority 100 ; }";
        for rule in ["add table ip nat", chain, "add rule ip nat leaving oifname outside masquerade"] {
            self.run(&nft, &[rule])?;
        }
        Ok(())
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(program);
        command.args(arguments);
        let said = printed(&mut wrapped(&self.entrance, command)).context("a machine of the network")?;
        ensure!(said.is_empty(), "{said}");
        Ok(())
    }
}

/// The command line prefix that starts a program in these namespaces, which is empty without any.
fn entrance(nsenter: &Path, namespaces: &[String]) -> Vec<String> {
    if namespaces.is_empty() {
        return Vec::new();
    }
    [&[nsenter.display().to_string()], namespaces].concat()
}

/// The options by which `nsenter` enters the user namespace of a process, if it may have one.
fn user_of(id: u32) -> Vec<String> {
    if geteuid().is_root() {
        return Vec::new();
    }
    vec![format!("--user=/proc/{id}/ns/user"), "--preserve-credentials".to_owned()]
}
