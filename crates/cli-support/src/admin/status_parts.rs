//! The members of a [`Status`](super::Status).

use serde::{Deserialize, Serialize};

use crate::metrics::count::Count;
use crate::metrics::label::Label;

/// Numbers of things that a running program has open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Number of established channels.
    pub channels: usize,
    /// Number of streams that are open on them.
    pub streams: usize,
    /// Number of addresses that the server listens on for clients.
    pub leases: usize,
    /// Number of channels without a stream.
    pub idle_channels: usize,
    /// Number of datagrams that the program has dropped since it started.
    #[serde(default)]
    pub dropped_datagrams: u64,
}

/// What streams have carried since the program started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficState {
    /// Bytes from the other side of channels.
    pub received: u64,
    /// Bytes to the other side.
    pub sent: u64,
    /// Bytes of the last second; absent where no status page is served, which looks every second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_per_second: Option<u64>,
    /// As above, to the other side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_per_second: Option<u64>,
}

/// How it is with streams that outlive their channels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumptionState {
    /// Number of streams that have lost their channel, and wait for another one.
    pub held: usize,
    /// Bytes that are kept of streams, or set aside for them.
    pub kept: u64,
    /// How often a stream has gone on on another channel since the program started.
    pub resumed: u64,
    /// Number of streams that were lost while they waited.
    pub lost: u64,
    /// The longest time that a stream was without a channel and went on then, in milliseconds.
    pub longest_pause_ms: u64,
}

/// How a server proves itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityState {
    /// `rsa`, or `psk` for pre-shared keys without any RSA.
    pub mode: String,
    /// The fingerprint of the key, or the ids of the pre-shared keys.
    pub fingerprint: String,
    /// The suite of primitives, by its number in PROTOCOL.md.
    pub suite: String,
    /// Seconds since the file of the key was written; absent where that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_age_seconds: Option<u64>,
}

/// A client that is in, with all its channels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientIn {
    /// Its name.
    pub name: String,
    /// What it has proved to have: the fingerprint of its key, the id of a pre-shared key, or `anonymous`.
    pub identity: String,
    /// The address that its last channel came from.
    pub from: String,
    /// The start of its oldest channel.
    pub since: String,
    /// Number of its channels.
    pub channels: usize,
    /// Number of its open streams, and of channels that wait for one.
    pub streams: usize,
    /// Bytes from it, on the channels that it has now.
    pub received: u64,
    /// Bytes to it, on the channels that it has now.
    pub sent: u64,
}

/// The open streams of one client to one target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The client's name.
    pub client: String,
    /// The target, as the client names it.
    pub target: String,
    /// Number of open streams, and of channels that wait for one.
    pub streams: usize,
    /// Bytes that have passed, both directions together.
    pub bytes: u64,
    /// The start of the oldest of the streams, as in RFC 3339.
    pub since: String,
}

/// What was refused, or has failed, for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What it was: `connection`, `handshake`, `stream`, `target`, `invite`.
    pub what: String,
    /// The reason, as the metrics have it.
    pub reason: String,
    /// How often.
    pub count: u64,
}

impl Refused {
    /// Those of `count` that there were, as many as there are reasons.
    pub fn of<L: Label>(what: &'static str, count: &Count<L>) -> impl Iterator<Item = Self> {
        let each = L::ALL.iter().map(|label| (label.text(), count.get(*label)));
        each.filter_map(move |(reason, count)| Self::new(what, reason, count))
    }

    /// `None` where there were none.
    #[must_use]
    pub fn new(what: &str, reason: &str, count: u64) -> Option<Self> {
        (count > 0).then(|| Self { what: what.into(), reason: reason.into(), count })
    }
}

/// How many invites there are, by how they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteCounts {
    /// Those that can be used.
    pub open: u64,
    /// Those that were used.
    pub used: u64,
    /// Those that can be used no longer.
    pub expired: u64,
    /// Those that were revoked.
    pub revoked: u64,
}

/// Attempts of one key to use an invite that another key has used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteTried {
    /// The id of the invite, as a whole.
    pub id: String,
    /// The fingerprint of the key.
    pub key: String,
    /// The address that it came from last.
    pub from: String,
    /// The time of the last attempt, as in RFC 3339.
    pub at: String,
    /// Number of attempts.
    pub count: u64,
}

/// An address that a server listens on for a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseHeld {
    /// The address, with the port that the system chose.
    pub address: String,
    /// What the client has proved to have.
    pub client: String,
}

/// One way in which a process can be protected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// What it is, as `core dumps off`.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
}

/// A server that a client forwards through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// The address.
    pub address: String,
    /// Whether it can be reached, as far as is known.
    pub is_connected: bool,
    /// How often it could be reached again after it was out of reach.
    pub reconnects: u64,
}

/// A forward of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardState {
    /// `local`, `remote` or `dynamic`.
    pub kind: String,
    /// The server that it goes through.
    pub server: String,
    /// Where connections are taken, as it was given.
    pub listen: String,
    /// Where they go; absent where each names that itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}
