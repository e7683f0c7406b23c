//! The forms of `-L`, `-R`, `-D` and `-W`, which say what to forward, much as in ssh.
//!
//! ```text
//! -L  listen:target   listen: [bind:]port, unix:/path, /path
//! -R  listen:target   target: host:port, host:port/udp, unix:/path, /path, and with -L and -W also @service
//! -R  listen          a proxy (SOCKS, HTTP CONNECT)
//! -D  listen          a proxy (SOCKS, HTTP CONNECT)
//! -W  target          without /udp; a host of any kind may stand in brackets
//! ```
//!
//! The default of `bind` is 127.0.0.1. `*` stands for all addresses of both families, and a name for all of its
//! addresses. IPv6 addresses are written in brackets. The path of a listening socket ends at the next colon, that
//! of a target at the end of the text.

mod error;
mod parser;

use std::fmt;

use tunnel::address::Address;
use wire_protocol::message::{ListenAddress, ListenKind, Target};

pub use error::{ForwardError, ForwardProblem};

/// `-L`: the client listens, the server connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalForward {
    /// The address on which the client listens.
    pub listen: ListenSpec,
    /// The target to which the server connects.
    pub target: TargetSpec,
}

/// `-R`: the server listens, the client connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteForward {
    /// The address on which the server listens.
    pub listen: ListenSpec,
    /// The target to which the client connects; `None` where each connection names its own, in SOCKS or HTTP.
    pub target: Option<TargetSpec>,
}

/// `-D`: the client listens for SOCKS and HTTP CONNECT, the server connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicForward {
    /// The address on which the client listens.
    pub listen: Address,
}

/// `-W`: standard input and output become the connection, and the server connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdioForward {
    /// The target to which the server connects. It is never [`TargetSpec::Udp`], since a pipe does not separate
    /// datagrams.
    pub target: TargetSpec,
}

/// The address on which one side listens, and the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSpec {
    /// The address. With port 0 the system chooses the port.
    pub address: Address,
    /// The transport that is accepted.
    pub transport: Transport,
}

/// The kind of traffic that is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Connections, over TCP or a unix socket.
    Stream,
    /// Datagrams, over UDP.
    Datagram,
}

/// The target to which one side connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetSpec {
    /// A TCP port of a host.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port, never 0.
        port: u16,
    },
    /// A UDP port of a host.
    Udp {
        /// A name or an address, without brackets.
        host: String,
        /// The port, never 0.
        port: u16,
    },
    /// A unix socket, by its absolute path.
    Unix(String),
    /// A target that the server's configuration defines under this name.
    Service(String),
}

impl TargetSpec {
    /// Converts to the target of an Open message.
    #[must_use]
    pub fn to_wire(&self) -> Target {
        match self.clone() {
            Self::Tcp { host, port } => Target::Tcp { host, port },
            Self::Udp { host, port } => Target::Udp { host, port },
            Self::Unix(path) => Target::Unix { path },
            Self::Service(name) => Target::Service { name },
        }
    }
}

impl ListenSpec {
    /// Converts to the address and the transport on which a server is to listen, for forwards that have a target.
    #[must_use]
    pub fn to_wire(&self) -> (ListenAddress, ListenKind) {
        let address = match &self.address {
            Address::Tcp { host, port } => ListenAddress::Port { host: host.clone(), port: *port },
            // The parser made the path from text, so the conversion loses nothing.
            Address::Unix(path) => ListenAddress::Unix { path: path.to_string_lossy().into_owned() },
            // The parser makes none of these.
            Address::Passed(name) => ListenAddress::Unix { path: name.clone() },
        };
        let kind = match self.transport {
            Transport::Stream => ListenKind::Stream,
            Transport::Datagram => ListenKind::Datagram,
        };
        (address, kind)
    }
}

impl RemoteForward {
    /// Converts to the address and the transport on which the server is to listen.
    #[must_use]
    pub fn to_wire(&self) -> (ListenAddress, ListenKind) {
        let (address, kind) = self.listen.to_wire();
        (address, if self.target.is_some() { kind } else { ListenKind::Socks })
    }
}

impl fmt::Display for LocalForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.listen.address, self.target)
    }
}

impl fmt::Display for RemoteForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listen.address.fmt(f)?;
        self.target.as_ref().map_or(Ok(()), |target| write!(f, ":{target}"))
    }
}

impl fmt::Display for DynamicForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listen.fmt(f)
    }
}

impl fmt::Display for StdioForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_wire().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reaches_the_wire() {
        let udp = "[::1]:53:ns:5353/udp".parse::<LocalForward>().unwrap();
        assert_eq!(
            udp.listen,
            ListenSpec { address: "[::1]:53".parse().unwrap(), transport: Transport::Datagram }
        );
        assert_eq!(udp.target.to_wire(), Target::Udp { host: "ns".into(), port: 5353 });

        let unix = "/run/there:h:80".parse::<RemoteForward>().unwrap();
        assert_eq!(unix.to_wire(), (ListenAddress::Unix { path: "/run/there".into() }, ListenKind::Stream));
        assert_eq!(unix.target.unwrap().to_wire(), Target::Tcp { host: "h".into(), port: 80 });

        let everywhere = |port| ListenAddress::Port { host: "*".into(), port };
        let socks = "*:1080".parse::<RemoteForward>().unwrap();
        assert_eq!((socks.to_wire(), socks.target), ((everywhere(1080), ListenKind::Socks), None));
        let datagrams = "*:0:h:53/udp".parse::<RemoteForward>().unwrap();
        assert_eq!(datagrams.to_wire(), (everywhere(0), ListenKind::Datagram));

        let path = "/a:b".parse::<StdioForward>().unwrap().target;
        assert_eq!(path.to_wire(), Target::Unix { path: "/a:b".into() });
        let service = "@db".parse::<StdioForward>().unwrap().target;
        assert_eq!(service.to_wire(), Target::Service { name: "db".into() });
    }
}
