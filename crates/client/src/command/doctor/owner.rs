//! The commands that the server's owner would give to allow this client something.

use std::fmt::Display;

use wire_protocol::message::{FilesAccess, ListenAddress, Target};

/// Commands about this client, for the server's owner.
#[derive(Debug)]
pub(super) struct Owner {
    /// The fingerprint of this client's key, or `psk:NAME`; `None` where it has neither.
    client: Option<String>,
}

impl Owner {
    pub(super) fn new(client: Option<String>) -> Self {
        Self { client }
    }

    /// Lets the client in.
    pub(super) fn let_in(&self) -> String {
        match &self.client {
            Some(client) => format!("server allow {client} --name NAME"),
            None => "client keygen makes a key; then: server allow SHA256:... --name NAME".into(),
        }
    }

    /// Widens what the client may do by an option of `server allow`.
    pub(super) fn add(&self, option: &str, value: impl Display) -> String {
        let client = self.client.as_deref().unwrap_or("SHA256:...");
        format!("server allow {client} --add {option} {}", quoted(&value.to_string()))
    }

    /// Permits a target.
    pub(super) fn permit(&self, target: &Target) -> String {
        let host_port = |host: &str, port: u16| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        match target {
            Target::Tcp { host, port } => self.add("--tcp", host_port(host, *port)),
            Target::Udp { host, port } => self.add("--udp", host_port(host, *port)),
            Target::Unix { path } => self.add("--unix", path),
            Target::Service { name } => self.add("--service", name),
            Target::Files { share, access } => {
                let mode = match access {
                    FilesAccess::Read => "ro",
                    FilesAccess::Add => "drop",
                    FilesAccess::Replace => "rw",
                };
                self.add("--files", format!("{share}:{mode}"))
            }
            Target::Listen { address: ListenAddress::Unix { path }, .. } => {
                self.add("--listen", format!("unix:{path}"))
            }
            Target::Listen { address: ListenAddress::Port { host, port }, .. } => {
                let port = if *port == 0 { "*".to_owned() } else { port.to_string() };
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let is_name = host.contains(|c: char| c.is_ascii_alphabetic()) && !host.starts_with('[');
                self.add("--listen", if is_name { port } else { format!("{host}:{port}") })
            }
            Target::Message => self.add_flag("--messages"),
            Target::Pipe => self.add_flag("--pipe"),
            Target::Shares | Target::Forwarded { .. } | Target::Diagnosis { .. } => self.let_in(),
        }
    }

    fn add_flag(&self, option: &str) -> String {
        let client = self.client.as_deref().unwrap_or("SHA256:...");
        format!("server allow {client} --add {option}")
    }

    /// Asks what the policy says to the client, and why.
    pub(super) fn explain(&self, wanted: &str) -> String {
        format!("server explain {} {wanted}", self.client.as_deref().unwrap_or("anonymous"))
    }
}

/// As a word of a shell.
pub(super) fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:/@,".contains(c);
    if value.chars().all(is_plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}
