//! The library for applications: an encrypted and authenticated stream over any transport.
//!
#![cfg_attr(feature = "tokio", doc = include_str!("../README.md"))]
//!
//! # Where to look
//!
//! | to | use |
//! | --- | --- |
//! | say which server is meant, and who the client is | [`ClientConfig`] |
//! | say how a server proves itself, and what it asks of clients | [`ServerConfig`] |
#![cfg_attr(feature = "tokio", doc = "| have a stream, with tokio | [`connect()`], [`accept()`] |")]
//! | have a stream, with threads | [`blocking::connect`], [`blocking::accept`] |
//! | enrol a client by a line that is good once | [`InviteLine`], [`ClientConfig::invited`], [`blocking::authenticate`] |
//! | make keys | [`ServerKey`], [`ClientKey`], [`PreSharedKey`], [`TicketKey`], all with [`SysRng`] |
//! | keep RSA keys in files | [`pem`] |
//! | tell what went wrong | [`Error`] |
//! | use the programs: recipes to copy | [`docs`] |
//!
//! What goes over the wire, and the sections that these pages name, is in [PROTOCOL.md](wire_protocol::protocol).
//!
//! Feature `tokio` (default): the asynchronous stream. Without it, what is in [`blocking`] is all there is.

mod client_config;
mod error;
mod server_config;

#[cfg(feature = "tokio")]
mod asynchronous;
pub mod blocking;
pub mod docs;

pub use client_config::ClientConfig;
pub use error::Error;
pub use server_config::ServerConfig;

#[cfg(feature = "tokio")]
pub use asynchronous::{PendingClient, SecureStream, accept, authenticate, connect};

pub use crypto_core::identity::{ClientKey, DEFAULT_BITS, KeyId, PublicKey, ServerKey};
pub use crypto_core::invite::{InviteId, InviteSecret, InviteVerifier};
pub use crypto_core::psk::PreSharedKey;
pub use crypto_core::secret::Secret;
pub use crypto_core::ticket::TicketKey;
pub use getrandom::SysRng;
pub use wire_protocol::handshake::client::ResumptionTicket;
pub use wire_protocol::handshake::server::{InviteAttempt, InviteVerdict};
pub use wire_protocol::invite::{InviteLine, InviteLineError};
pub use wire_protocol::message::{ClientIdentity, DeniedCode, JoinOutcome, Joined, Mode};
pub use wire_protocol::stream::{CLOSE_DEADLINE, HANDSHAKE_DEADLINE, Peer, SILENCE};

/// RSA keys as text: PEM, in any layout that OpenSSL writes.
pub mod pem {
    pub use crypto_core::pem::{
        read_client_key, read_public_key, read_server_key, write_client_key, write_public_key,
        write_server_key,
    };
}

/// What is inside an [`Error`], for whoever has to tell one reason from another.
pub mod reason {
    pub use crypto_core::{Error as KeyError, KeyProblem};
    pub use wire_protocol::message::{AbortCode, RefusedCode, ResetCode};
    pub use wire_protocol::{Error as ProtocolError, Foreign, InvalidMessage, PeerMisbehaved};
}
