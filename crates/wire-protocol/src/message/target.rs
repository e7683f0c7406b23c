//! What is at the other end of a stream (sections 7.1 and 7.3).

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::files::FilesAccess;

/// The target of a stream, which the side that opens it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The stream is one message to the server. Its EndOfStream says that the message has been handed on.
    Message,
    /// The stream is a pipe: whatever the program at the other end makes of it.
    Pipe,
    /// A TCP service.
    Tcp {
        /// A name, resolved where the stream ends, or an address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix {
        /// Its absolute path.
        path: String,
    },
    /// A UDP service: each record of data is one datagram.
    Udp {
        /// A name, resolved where the stream ends, or an address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// What the server has under this name; the client does not learn where that is.
    Service {
        /// 1 to 64 characters out of `A-Z a-z 0-9 . _ -`.
        name: String,
    },
    /// Client: the server is to listen for it. Answered with Listening; the stream carries no data and stands for
    /// the lease.
    Listen {
        /// Where.
        address: ListenAddress,
        /// For what.
        kind: ListenKind,
        /// Random, made by the client: what its parked channels refer to.
        lease: [u8; LEASE_LEN],
    },
    /// Server, on a parked channel: somebody has connected where it listens for this client.
    Forwarded {
        /// From where, as text: `192.0.2.1:4711`, `[2001:db8::1]:4711`, `unix:/path`.
        origin: String,
        /// To which address, likewise: the one that somebody has connected to, also where the server listens on all.
        destination: String,
    },
    /// Client: files below a directory that the server shares under a name (section 7.5).
    Files {
        /// The share: 1 to 64 characters out of `A-Z a-z 0-9 . _ -`.
        share: String,
        /// What for.
        access: FilesAccess,
    },
    /// Client: which shares there are for it (section 7.5).
    Shares,
    /// Client: a question about itself (section 7.6).
    Diagnosis {
        /// What it wants to know.
        question: Question,
    },
}

/// Bytes of a lease's id.
pub const LEASE_LEN: usize = 16;

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message => f.write_str("messages"),
            Self::Pipe => f.write_str("the pipe"),
            Self::Tcp { host, port } => HostPort(host, *port).fmt(f),
            Self::Unix { path } => write!(f, "unix:{path}"),
            Self::Udp { host, port } => write!(f, "{}/udp", HostPort(host, *port)),
            Self::Service { name } => write!(f, "@{name}"),
            Self::Listen { address, kind, .. } => match kind {
                ListenKind::Stream => write!(f, "listening on {address}"),
                ListenKind::Datagram => write!(f, "listening on {address}/udp"),
                ListenKind::Socks => write!(f, "a SOCKS proxy on {address}"),
            },
            Self::Forwarded { origin, .. } => write!(f, "a connection from {origin}"),
            Self::Files { share, .. } => write!(f, "files of {share}"),
            Self::Shares => f.write_str("the list of shares"),
            Self::Diagnosis { .. } => f.write_str("a question about itself"),
        }
    }
}

/// What a client wants to know about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Who it is to the server.
    Client,
    /// Whether the server could listen for it, without listening.
    Listen {
        /// Where.
        address: ListenAddress,
        /// For what.
        kind: ListenKind,
    },
}

/// Where a server is to listen for a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ListenAddress {
    /// A TCP or UDP port.
    Port {
        /// The address or name to bind, without brackets.
        host: String,
        /// The port; 0 lets the server choose.
        port: u16,
    },
    /// A unix socket.
    Unix {
        /// Its absolute path.
        path: String,
    },
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { host, port } => HostPort(host, *port).fmt(f),
            Self::Unix { path } => write!(f, "unix:{path}"),
        }
    }
}

/// What a server listens for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ListenKind {
    /// Connections, each for the client.
    Stream,
    /// Datagrams, each for the client.
    Datagram,
    /// Connections that speak to a proxy, in SOCKS or with CONNECT of HTTP: each names a target that the client is to reach.
    Socks,
}

/// A host and a port as they are written.
struct HostPort<'a>(&'a str, u16);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}
