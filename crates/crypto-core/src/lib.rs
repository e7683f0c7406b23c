//! Sockseal's cryptography: bytes in, bytes out.
//!
//! No I/O, no clock, no async, no serde, no global randomness: whatever needs random bytes takes a
//! [`rand_core::TryCryptoRng`] as an argument. `#![no_std]` with `alloc`.
//!
//! ```text
//! identity  who is who: RSA keys that open secrets (servers) or sign (clients)
//! exchange  a fresh X25519 + ML-KEM-768 secret for every handshake
//!     \      /
//!    schedule        secrets -> traffic secrets, in an order that the types enforce
//!        |
//!     record         traffic secret -> sealed records -> opened records
//! ```
//!
//! Beside them stand [`psk`] (pre-shared keys), [`ticket`] (what a server hands out for resumption),
//! [`pem`] (key files) and [`classic`] (the two tutorial exchanges that the project began with).
//!
//! The paved path is in `wire-protocol`; this crate is for those who want one piece of it, such as
//! sealing a file to an RSA key (see `examples/seal_file.rs`).
//!
//! Section numbers in these docs are those of `wire-protocol/PROTOCOL.md`.

#![no_std]

extern crate alloc;

pub mod classic;
pub mod exchange;
pub mod identity;
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

pub use error::{Error, KeyProblem};
