//! The output of a starting server: its addresses, and a command to paste that works unchanged.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cli_support::invocation::{Naming, Program};
use cli_support::output::say;
use tunnel::address::Address;

use crate::accept::Listeners;
use crate::error::Error;
use crate::file_share::FileShare;
use crate::services::Services;
use crate::settings::Identity;

/// The parts of the command to paste.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The path or name that the program was started by.
    pub(crate) program: &'a OsStr,
    /// The home folder, where the command line gave one.
    pub(crate) home: Option<&'a Path>,
    /// The files of pre-shared keys.
    pub(crate) psks: &'a [PathBuf],
    /// The directories whose files clients can have.
    pub(crate) shares: &'a [FileShare],
    /// Where the status page is, if anywhere.
    pub(crate) status: &'a [String],
    /// Whether no client has been allowed yet, and anonymous clients are refused.
    pub(crate) admits_nobody: bool,
}

/// Prints the server's addresses, and a command to paste. Returns the addresses.
pub(crate) fn announce(
    listeners: &Listeners,
    identity: &Identity,
    services: &Services,
    start: &Start<'_>,
) -> Result<Vec<String>, Error> {
    let addresses: Vec<Vec<Address>> = listeners
        .iter()
        .map(|(_, listener)| listener.addresses())
        .collect::<Result<_, _>>()
        .map_err(Error::Runtime)?;
    let addresses = addresses.concat();
    for address in &addresses {
        say(format_args!("listening on {address}"));
    }
    match identity {
        Identity::Key(key) => say(format_args!("server key  {}", key.public().id())),
        Identity::Psk(psks) => {
            let names: Vec<&str> = psks.keys().map(String::as_str).collect();
            say(format_args!("server id   psk:{}", names.join(",")));
        }
    }
    for url in start.status {
        say(format_args!("status      {url}"));
    }
    for FileShare { name, dir, mode, .. } in start.shares {
        say(format_args!("share       {name} ({mode}): {}", dir.display()));
    }
    if let Some(address) = addresses.first() {
        let task = if services.takes_messages() {
            Task::Send
        } else if services.has_pipe() {
            Task::Pipe
        } else {
            Task::Ping
        };
        let key = match identity {
            Identity::Key(key) => Some(key.public().id().to_string()),
            Identity::Psk(_) => None,
        };
        // The line contains words of the user's own, paths above all, and none of a peer.
        say(format_args!("try:        {}", start.command(task, address, key.as_deref())));
        if !start.shares.is_empty() {
            say(format_args!("try:        {}", start.command(Task::Files, address, key.as_deref())));
        }
    }
    Ok(addresses.iter().map(ToString::to_string).collect())
}

/// The action of the command to paste.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Send,
    Ping,
    Pipe,
    Files,
}

impl Start<'_> {
    /// A command for a shell on this machine. `key` is the server's fingerprint, if it has one.
    fn command(&self, task: Task, address: &Address, key: Option<&str>) -> String {
        let client = self.client();
        let address = word(&reachable(address).to_string());
        let trust = match (key, self.psks.first()) {
            (Some(key), _) => format!("--server-key {key}"),
            (None, Some(file)) => format!("--psk {}", word(&file.display().to_string())),
            (None, None) => String::new(),
        };
        match task {
            Task::Send => format!("{client} send {address} \"Hello, World!\" {trust}"),
            Task::Ping => format!("{client} ping {address} {trust}"),
            // Anonymous clients may only send messages from this machine.
            Task::Pipe if self.admits_nobody => {
                format!("{} && {client} pipe {address} {trust}", self.allow(&client, ""))
            }
            Task::Pipe => format!("{client} pipe {address} {trust}"),
            Task::Files if self.admits_nobody => {
                let shares: Vec<String> =
                    self.shares.iter().map(|share| format!(" --files {}", word(&share.name))).collect();
                let allow = self.allow(&client, &format!(" --messages{}", shares.concat()));
                format!("{allow} && {client} ls {address} {trust}")
            }
            Task::Files => format!("{client} ls {address} {trust}"),
        }
    }

    /// The command that allows the user of this machine, with these `rights`.
    fn allow(&self, client: &str, rights: &str) -> String {
        let home = self.home.map(|home| format!(" --home {}", word(&home.display().to_string())));
        format!(
            "{} allow \"$({client} fingerprint 2>/dev/null || {client} keygen)\" --name me{rights}{}",
            self.server(),
            home.unwrap_or_default()
        )
    }

    /// The beginning of a command of this program.
    fn server(&self) -> String {
        let program = word(&self.program.to_string_lossy());
        if Naming::of(self.program) == Naming::Front { format!("{program} server") } else { program }
    }

    /// The beginning of a command of the client. The front program, started by this name, is that too.
    fn client(&self) -> String {
        match Naming::of(self.program) {
            Naming::Front => word(&self.program.to_string_lossy()),
            naming => word(&self.neighbor(naming.name(Program::Client))),
        }
    }

    /// The command for the program `name`: beside this program where that was started by its path.
    fn neighbor(&self, name: &str) -> String {
        let beside = Path::new(self.program).parent().map(|folder| folder.join(name));
        match beside {
            Some(path) if path.components().count() > 1 && path.is_file() => path.display().to_string(),
            _ => name.to_owned(),
        }
    }
}

/// An address at which a client on this machine can connect, also where the server listens on all addresses.
fn reachable(address: &Address) -> Address {
    match address {
        Address::Tcp { host, port } => {
            let host = match host.parse() {
                Ok(IpAddr::V4(ip)) if ip.is_unspecified() => "127.0.0.1",
                Ok(IpAddr::V6(ip)) if ip.is_unspecified() => "::1",
                _ => host,
            };
            Address::Tcp { host: host.into(), port: *port }
        }
        Address::Unix(_) | Address::Passed(_) => address.clone(),
    }
}

/// Quotes `text` as one word of a shell.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.:_-+@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start<'a>(program: &'a str, psks: &'a [PathBuf]) -> Start<'a> {
        Start {
            program: OsStr::new(program),
            home: None,
            psks,
            shares: &[],
            status: &[],
            admits_nobody: false,
        }
    }

    #[test]
    fn the_address_is_one_that_a_client_reaches() {
        for (listening, tried) in [
            ("0.0.0.0:5000", "127.0.0.1:5000"),
            ("[::]:5000", "'[::1]:5000'"),
            ("192.0.2.7:5000", "192.0.2.7:5000"),
            ("unix:/tmp/it's here", r"'unix:/tmp/it'\''s here'"),
        ] {
            let command = start("server", &[]).command(Task::Ping, &listening.parse().unwrap(), Some("K"));
            assert_eq!(command, format!("client ping {tried} --server-key K"));
        }
    }

    #[test]
    fn a_pipe_that_nobody_may_use_is_allowed_first() {
        let home = Path::new("/home/a b");
        let address = "127.0.0.1:1".parse().unwrap();
        let fresh = Start { admits_nobody: true, home: Some(home), ..start("server", &[]) };
        assert_eq!(
            fresh.command(Task::Pipe, &address, Some("K")),
            "server allow \"$(client fingerprint 2>/dev/null || client keygen)\" --name me --home '/home/a b' && \
             client pipe 127.0.0.1:1 --server-key K"
        );
        assert_eq!(
            start("server", &[]).command(Task::Pipe, &address, Some("K")),
            "client pipe 127.0.0.1:1 --server-key K"
        );
    }

    #[test]
    fn files_that_nobody_may_have_are_allowed_first() {
        let address = "127.0.0.1:1".parse().unwrap();
        let shares = ["docs=/srv/docs", "in=/srv/in:drop"].map(|share| share.parse().unwrap());
        let fresh = Start { admits_nobody: true, shares: &shares, ..start("server", &[]) };
        assert_eq!(
            fresh.command(Task::Files, &address, Some("K")),
            "server allow \"$(client fingerprint 2>/dev/null || client keygen)\" --name me --messages --files docs \
             --files in && client ls 127.0.0.1:1 --server-key K"
        );
        assert_eq!(
            start("server", &[]).command(Task::Files, &address, Some("K")),
            "client ls 127.0.0.1:1 --server-key K"
        );
    }

    #[test]
    fn programs_are_named_as_they_are_started() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server").display().to_string();
        let address = "127.0.0.1:1".parse().unwrap();
        let psks = [PathBuf::from("a.psk")];
        // Without a client beside the server, the name is looked up in the path.
        assert_eq!(
            start(&path, &psks).command(Task::Ping, &address, None),
            "client ping 127.0.0.1:1 --psk a.psk"
        );
        let installed = start("/usr/bin/sockseal-server", &psks).command(Task::Ping, &address, None);
        assert_eq!(installed, "sockseal-client ping 127.0.0.1:1 --psk a.psk");
        let front = Start { admits_nobody: true, ..start("/opt/x/sockseal", &psks) };
        assert_eq!(
            front.command(Task::Pipe, &address, None),
            "/opt/x/sockseal server allow \"$(/opt/x/sockseal fingerprint 2>/dev/null || /opt/x/sockseal keygen)\" --name me && \
             /opt/x/sockseal pipe 127.0.0.1:1 --psk a.psk"
        );
        std::fs::write(folder.path().join("client"), "").unwrap();
        let client = folder.path().join("client").display().to_string();
        let command = start(&path, &psks).command(Task::Send, &address, None);
        assert_eq!(command, format!("{client} send 127.0.0.1:1 \"Hello, World!\" --psk a.psk"));
    }
}
