//! The answers to what a client asks the server about itself (section 7.6). An answer is the data of a stream to a
//! [`Target::Diagnosis`](super::Target::Diagnosis), and no control message.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::control::RefusedCode;

/// The answer to a [`Question`](super::Question).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Diagnosis {
    /// Who the client is to the server.
    Client {
        /// The time by the server's clock, in seconds since the Unix epoch.
        now: u64,
        /// The name under which the server knows the client.
        name: String,
        /// When the client's rights end, likewise.
        expires: Option<u64>,
        /// The address that the server sees the client at: that of IPv6, or of IPv4 mapped to it; zeros on a unix socket.
        source: [u8; 16],
    },
    /// Whether the server could listen.
    Listen {
        /// The state of the address.
        state: ListenState,
    },
}

/// The state of an address that a client may have the server listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenState {
    /// The server could listen there just now.
    Free,
    /// The server listens there for this client already, and a listen target would take that over.
    Own,
    /// The server listens for this client where it overlaps with this, which keeps it from listening there.
    OwnOther,
    /// The server cannot listen there.
    Refused {
        /// The reason.
        code: RefusedCode,
    },
}
