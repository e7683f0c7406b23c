//! The two exchanges that the project began with (section 9), byte for byte compatible with the tutorial's
//! programs: one connection, one message.
//!
//! Neither is authenticated or forward-secret: an attacker in the middle of an rsa-oaep exchange can replace the
//! key, and an attacker who learns a key later can read all messages.

mod aes_eax;
mod connection;
mod exchange;
mod rsa_oaep;

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use crypto_core::classic::OaepHash;

use crate::classic::exchange::{Exchange, warn};
use crate::error::Error;
use crate::home::Home;

/// `classic`: the tutorial's exchanges.
#[derive(Debug, Subcommand)]
pub enum Classic {
    /// RSA-OAEP (SHA-1): the receiver sends its public key, the sender one ciphertext
    RsaOaep {
        /// The peer, the direction and the time limit.
        #[command(flatten)]
        exchange: Exchange,
        /// The receiver's key (PEM); made in the home on first use
        #[arg(long, value_name = "FILE", conflicts_with_all = ["send", "private_key"])]
        key: Option<PathBuf>,
        /// The hash of OAEP, and of MGF1 with it; the default is PyCryptodome's
        #[arg(long, value_name = "HASH", value_enum, default_value_t)]
        oaep_hash: Hash,
        /// The private key (PEM) of the public key that the sender itself sends first, as the tutorial's program does
        #[arg(long, value_name = "FILE", conflicts_with = "send")]
        private_key: Option<PathBuf>,
    },
    /// AES-EAX: the sender sends nonce, tag and ciphertext
    AesEax {
        /// The peer, the direction and the time limit.
        #[command(flatten)]
        exchange: Exchange,
        /// The key, and the lengths of nonce and tag.
        #[command(flatten)]
        agreement: aes_eax::Agreement,
    },
}

/// A hash that OAEP is used with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Hash {
    /// SHA-1, for OAEP and for MGF1.
    #[default]
    Sha1,
    /// SHA-256, for OAEP and for MGF1 (Java has to be told so with an OAEPParameterSpec).
    Sha256,
}

impl From<Hash> for OaepHash {
    fn from(hash: Hash) -> Self {
        match hash {
            Hash::Sha1 => Self::Sha1,
            Hash::Sha256 => Self::Sha256,
        }
    }
}

/// Runs a classic exchange.
///
/// # Errors
/// [`Error`].
pub fn run(command: &Classic, home: &Home) -> Result<(), Error> {
    warn("this exchange is neither authenticated nor forward-secret; `client send` and `server` are both");
    let exchange = match command {
        Classic::RsaOaep { exchange, key, oaep_hash, private_key } => {
            rsa_oaep::run(exchange, (*oaep_hash).into(), key.as_deref(), private_key.as_deref(), home)?;
            exchange
        }
        Classic::AesEax { exchange, agreement } => {
            aes_eax::run(exchange, agreement)?;
            exchange
        }
    };
    exchange.tell_sent()
}
