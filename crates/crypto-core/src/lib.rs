//! Sockseal's cryptography: RSA identities and key files, key exchange, key schedule and record encryption.
//!
#![doc = include_str!("../README.md")]
//!
//! The crate has no I/O, no clock, no async, no serde and no global randomness: a function that needs random bytes
//! takes a [`rand_core::TryCryptoRng`] as an argument. It is `#![no_std]` with `alloc`.
//!
//! ```text
//! identity  RSA keys that decrypt secrets (servers) or sign (clients)
//! exchange  a fresh X25519 + ML-KEM-768 secret for every handshake
//!     \      /
//!    schedule        secrets -> traffic secrets, in an order that the types enforce
//!        |
//!     record         traffic secret -> sealed records -> opened records
//! ```
//!
//! Further modules are [`psk`] (pre-shared keys), [`invite`] (invites by which clients are enrolled), [`ticket`] (tickets for
//! resumption, sealed by a server), [`stream_secret`] (what proves that a stream may be taken over), [`pem`] (key files) and [`classic`] (the two tutorial exchanges that the project began
//! with).
//!
//! Most applications use `wire-protocol`. This crate is for those that need one piece of it, such as sealing a file
//! to an RSA key (see `examples/seal_file.rs`).
//!
//! Section numbers in these docs are those of `wire-protocol/PROTOCOL.md`.

#![no_std]

extern crate alloc;

pub mod classic;
pub mod exchange;
pub mod identity;
pub mod invite;
pub mod pem;
pub mod psk;
pub mod record;
pub mod schedule;
pub mod ticket;

pub mod cipher;
mod error;
pub mod hash;
pub mod kdf;
pub mod mac;
mod rsa_key;
pub mod secret;
mod side;
pub mod stream_secret;

pub use error::{Error, KeyProblem};
