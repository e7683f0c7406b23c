//! The message schema: everything that is serialized, and nothing else is (sections 3, 5 and 7).
//!
//! These are the only types of the protocol that derive `Serialize`. Bulk data never passes through here.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use serde_big_array::BigArray;

/// The one suite there is: see section 2.
pub const SUITE: u16 = 0x0001;

/// Frame kind 2: a server's public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOffer {
    /// SubjectPublicKeyInfo DER.
    pub spki: Vec<u8>,
}

/// Frame kind 3: a client starts a handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHello {
    /// Fresh random bytes.
    pub random: [u8; 32],
    /// The suites that the client speaks, best first.
    pub suites: Vec<u16>,
    /// X25519 public value.
    pub x25519: [u8; 32],
    /// ML-KEM-768 encapsulation key.
    #[serde(with = "BigArray")]
    pub encapsulation_key: [u8; 1184],
    /// The server that is meant; no other answers.
    pub server_id: [u8; 32],
    /// How the channel is authenticated. Last, so that a binder ends the frame.
    pub auth: HelloAuth,
}

/// How a hello starts the authentication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloAuth {
    /// A fresh secret under the server's RSA key.
    Rsa {
        /// RSAES-OAEP ciphertext, as long as the modulus.
        sealed: Vec<u8>,
    },
    /// A key that both sides have.
    Psk {
        /// Which one.
        id: String,
        /// HMAC over the frame before it.
        binder: [u8; 32],
    },
    /// A ticket from an earlier channel.
    Ticket {
        /// As the server sealed it.
        ticket: Vec<u8>,
        /// HMAC over the frame before it.
        binder: [u8; 32],
    },
}

/// Frame kind 4: a server answers a hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHello {
    /// Fresh random bytes.
    pub random: [u8; 32],
    /// The suite that was picked.
    pub suite: u16,
    /// X25519 public value.
    pub x25519: [u8; 32],
    /// ML-KEM-768 ciphertext.
    #[serde(with = "BigArray")]
    pub ciphertext: [u8; 1088],
    /// Which authentication was taken.
    pub mode: Mode,
}

/// How a channel was authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The server by its RSA key, the client by a signature or not at all.
    Rsa,
    /// Both by a pre-shared key.
    Psk,
    /// Both by a ticket of an earlier channel.
    Resumption,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "rsa",
            Self::Psk => "psk",
            Self::Resumption => "resumption",
        })
    }
}

/// Frame kind 5: why there will be no channel. Not authenticated, so only a hint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// The reason.
    pub code: AbortCode,
}

/// The reasons that a server gives before there are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AbortCode {
    /// Too many handshakes at once.
    Busy,
    /// Not a version that the server speaks.
    Version,
    /// None of the suites is one that the server speaks.
    Suite,
    /// No such pre-shared key, a wrong binder, or a server that is not this one.
    UnknownPsk,
    /// The server has no RSA key: it is to be reached with a pre-shared key.
    PskOnly,
}

impl fmt::Display for AbortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "it is busy",
            Self::Version => "it does not speak this version of the protocol",
            Self::Suite => "it does not speak this suite",
            Self::UnknownPsk => "it does not know this pre-shared key",
            Self::PskOnly => "it takes pre-shared keys only",
        })
    }
}

/// A message of the handshake that travels in a record (section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandshakeMessage {
    /// Server: what it wants of the client.
    ServerReady {
        /// Whether the client has to say who it is.
        client_auth: ClientAuthPolicy,
        /// What the server will put up with.
        limits: ServerLimits,
    },
    /// Both: a MAC over the transcript so far.
    Finished {
        /// HMAC under the finished key of the sender's handshake secret.
        mac: [u8; 32],
    },
    /// Client: who it is.
    ClientAuth {
        /// SubjectPublicKeyInfo DER of the client's key.
        spki: Vec<u8>,
        /// RSASSA-PSS over the text of section 5.
        signature: Vec<u8>,
    },
    /// Client: it does not say who it is.
    Anonymous,
    /// Server: the channel stands.
    Welcome {
        /// For the next channel.
        ticket: Option<Ticket>,
    },
    /// Server: the client may not come in.
    Denied {
        /// The reason.
        code: DeniedCode,
    },
}

/// Whether a server wants to know who the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuthPolicy {
    /// Strangers are refused.
    Required,
    /// Strangers may come in, for some purposes.
    Optional,
    /// The hello has settled it: pre-shared key or ticket.
    Settled,
}

/// What a server will put up with, so that a client can keep to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLimits {
    /// Seconds that a channel may stay idle before the server closes it.
    pub idle_timeout_seconds: u32,
}

/// What resumes this channel, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Seconds from now until the server will not take it any more.
    pub lifetime_seconds: u32,
    /// Makes the ticket's secret out of the resumption secret.
    pub nonce: [u8; 16],
    /// To be sent back as it is.
    pub ticket: Vec<u8>,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("lifetime_seconds", &self.lifetime_seconds).finish_non_exhaustive()
    }
}

/// Why a client may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeniedCode {
    /// The server wants to know who the client is.
    ClientKeyRequired,
    /// The server knows who the client is, and that is not enough.
    NotAllowed,
    /// The client has too many channels open.
    TooManyChannels,
}

impl fmt::Display for DeniedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientKeyRequired => "it takes only clients with a key that it knows",
            Self::NotAllowed => "this client is not allowed in",
            Self::TooManyChannels => "this client has too many channels open",
        })
    }
}

/// What a ticket holds, for the server's eyes alone (section 5).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketContent {
    /// The server that minted it: another one refuses it.
    pub server_id: [u8; 32],
    /// The secret of the ticket.
    pub secret: [u8; 32],
    /// When it was minted, in seconds since the Unix epoch.
    pub issued_at: u64,
    /// When the full handshake that it descends from took place, in seconds since the Unix epoch.
    pub full_handshake_at: u64,
    /// Who the client is.
    pub client: ClientIdentity,
}

impl fmt::Debug for TicketContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketContent").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Who a client is, as far as the server knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ClientIdentity {
    /// It did not say.
    Anonymous,
    /// The holder of the key with this id.
    Key([u8; 32]),
    /// The holder of the pre-shared key with this id.
    Psk(String),
}

/// A message about the channel (section 7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlMessage {
    /// Client: starts a stream. Data may follow at once.
    Open {
        /// What is at the other end of it.
        target: Target,
    },
    /// Server: the stream stands.
    Opened,
    /// Server: there will be no stream; the channel is idle again.
    Refused {
        /// The reason.
        code: RefusedCode,
    },
    /// Both: no more data from this side. Both having said so, the channel is idle again.
    EndOfStream,
    /// Both: the stream has failed, data may be lost, and with it the channel ends.
    Reset {
        /// The reason.
        code: ResetCode,
    },
    /// Both: asks for a Pong.
    Ping {
        /// Comes back as it was.
        nonce: u64,
    },
    /// Both: answers a Ping.
    Pong {
        /// That of the Ping.
        nonce: u64,
    },
    /// Both: the sender's next record is under its next key.
    KeyUpdate,
    /// Both: the channel has ended well, and all that was received has reached its place.
    Close,
    /// Server: answers an Open of [`Target::Listen`]. The stream stands as long as the listening does.
    Listening {
        /// The port that is listened on; 0 for a unix socket.
        port: u16,
    },
    /// Client, idle: from now on it is the server that opens streams on this channel, for what comes in where it
    /// listens for this client.
    Park {
        /// The lease of the listening.
        lease: [u8; LEASE_LEN],
    },
}

/// What is at the other end of a stream.
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
        }
    }
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

/// Why there will be no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusedCode {
    /// There is nothing of the kind here.
    NotOffered,
    /// There is, but not for this client.
    NotAllowed,
    /// There is, but there is no room for another stream now.
    Busy,
    /// The target refuses connections.
    TargetRefused,
    /// There is no way to the target.
    TargetUnreachable,
    /// The name of the target, or of what is to be listened on, has no address.
    UnknownHost,
    /// The target does not answer.
    TargetTimedOut,
    /// The server is about to end: another one, or the same one later, may do.
    Stopping,
    /// Another client, or another program, listens on the address.
    AddressInUse,
    /// The address to listen on is none of the server's machine.
    AddressNotAvailable,
    /// The system does not let the server listen on the address, such as on a port below 1024.
    ListenDenied,
    /// There is no socket under the target's path.
    NoSuchSocket,
    /// The system does not let the side that connects reach the target.
    TargetDenied,
}

impl fmt::Display for RefusedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOffered => "it does not offer that",
            Self::NotAllowed => "this client is not allowed to use that",
            Self::Busy => "it has no room for that now",
            Self::TargetRefused => "the target refused the connection",
            Self::TargetUnreachable => "the target cannot be reached",
            Self::UnknownHost => "it finds no address for the name",
            Self::TargetTimedOut => "the target did not answer in time",
            Self::Stopping => "it is stopping",
            Self::AddressInUse => "another client or program listens on that address",
            Self::AddressNotAvailable => "its machine has no such address",
            Self::ListenDenied => "its system does not let it listen there",
            Self::NoSuchSocket => "there is no socket at the target's path",
            Self::TargetDenied => "its system does not let it connect to the target",
        })
    }
}

/// Why a stream has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetCode {
    /// What the data goes to has failed, or is gone.
    Output,
    /// What the data comes from has failed.
    Input,
    /// The message is longer than the server takes.
    TooLong,
    /// The client has lost the right to what it had open.
    NotAllowed,
    /// Another connection of the same client has taken over the address that was listened on.
    Replaced,
    /// The client has as much under way as the server keeps for it.
    Busy,
}

impl fmt::Display for ResetCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Output => "it could not hand the data on",
            Self::Input => "its source of data failed",
            Self::TooLong => "the message is longer than it takes",
            Self::NotAllowed => "the client has lost the right to this",
            Self::Replaced => "another connection of this client has taken over the address",
            Self::Busy => "too much of this client is under way",
        })
    }
}
