//! The messages of the handshake, and what a ticket holds (sections 3 and 5).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crypto_core::identity::KeyId;
use crypto_core::invite::InviteId;
use serde::{Deserialize, Serialize};
use serde_big_array::BigArray;

use super::key_id;

/// Most bytes of a client's name in Joined.
pub const MAX_JOINED_NAME_LEN: usize = 256;
/// Most bytes of the grant in Joined.
pub const MAX_GRANT_LEN: usize = 2048;
/// The one suite there is: see section 2.
pub const SUITE: u16 = 0x0001;
/// Stands among the suites of a hello, and is none: the client wants to know the reason where it is denied.
pub const ASKS_REASON: u16 = 0xff01;

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
    #[serde(with = "key_id")]
    pub server_id: KeyId,
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
        /// The key's id.
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
    /// The kind of authentication that was taken.
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

/// Frame kind 5: a server gives up a handshake. It is not authenticated, so the reason is only a hint.
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
    /// Client: the invite that it uses, behind its ClientAuth.
    Invite(Invite),
    /// Server: the channel stands, in answer to an invite.
    Joined {
        /// What has come of the invite.
        joined: Joined,
        /// For the next channel.
        ticket: Option<Ticket>,
    },
}

/// What a client says to use an invite (section 5.1).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Names the invite.
    pub id: [u8; 16],
    /// The half of the invite that only this server gets to see.
    pub reveal: [u8; 32],
    /// HMAC under the other half, over this handshake.
    pub proof: [u8; 32],
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite").field("id", &InviteId(self.id)).finish_non_exhaustive()
    }
}

/// What has come of an invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Whether the client was enrolled by it.
    pub outcome: JoinOutcome,
    /// The name under which the server knows the client.
    pub name: String,
    /// What the client may do, as text for a person, who is all that reads it.
    pub grant: String,
}

/// Whether a client was enrolled by its invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinOutcome {
    /// Now.
    Enrolled,
    /// At an earlier attempt, of which the client may not have got the answer.
    EnrolledBefore,
    /// It was known already: the invite was not looked at, and is as good as before.
    Known,
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

/// The limits of a server, which it tells a client so that the client can keep to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLimits {
    /// Seconds that a channel may stay idle before the server closes it.
    pub idle_timeout_seconds: u32,
}

/// A ticket, with which the client can resume this channel once.
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

/// The reason why a server denies a client the channel at the end of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeniedCode {
    /// The server wants to know who the client is.
    ClientKeyRequired,
    /// The server knows who the client is, and that is not enough.
    NotAllowed,
    /// The client has too many channels open.
    TooManyChannels,
    /// The client's rights have expired. This and what follows is said only to a client whose hello asks for the reason.
    Expired {
        /// From when on it is refused, in seconds since the Unix epoch.
        at: u64,
        /// The time by the server's clock, likewise.
        now: u64,
    },
    /// The client may come in, but not from where it is.
    Elsewhere {
        /// The address that the server sees the client at: that of IPv6, or of IPv4 mapped to it; zeros on a unix socket.
        source: [u8; 16],
    },
    /// The client's pre-shared key was revoked.
    Revoked,
}

impl DeniedCode {
    /// What a client is told that has not asked for the reason, and that a server of any age may say.
    #[must_use]
    pub fn without_reason(self) -> Self {
        match self {
            Self::Expired { .. } | Self::Elsewhere { .. } | Self::Revoked => Self::NotAllowed,
            Self::ClientKeyRequired | Self::NotAllowed | Self::TooManyChannels => self,
        }
    }
}

impl fmt::Display for DeniedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientKeyRequired => "it takes only clients with a key that it knows",
            Self::NotAllowed => "this client is not allowed in",
            Self::TooManyChannels => "this client has too many channels open",
            Self::Expired { .. } => "the rights of this client have expired",
            Self::Elsewhere { .. } => "this client is not allowed in from where it is",
            Self::Revoked => "the pre-shared key of this client was revoked",
        })
    }
}

/// The content of a ticket, which only the server can read (section 5).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketContent {
    /// The server that minted it: another one refuses it.
    #[serde(with = "key_id")]
    pub server_id: KeyId,
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
    Key(#[serde(with = "key_id")] KeyId),
    /// The holder of the pre-shared key with this id.
    Psk(String),
}

/// Shown as `anonymous`, as the fingerprint of a key, or as `psk:` and the id of a pre-shared key.
impl fmt::Display for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Key(id) => id.fmt(f),
            Self::Psk(id) => write!(f, "psk:{id}"),
        }
    }
}
