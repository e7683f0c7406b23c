//! The two exchanges that the project began with (section 9), byte for byte with the tutorial's programs: one
//! connection, one message.
//!
//! Neither authenticated nor forward-secret: whoever stands in the middle of an rsa-oaep exchange swaps the key,
//! and whoever learns a key later reads everything.

mod aes_eax;
mod connection;
mod rsa_oaep;

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use crypto_core::classic::OaepHash;
use tunnel::address::Address;
use tunnel::escape::escape;
use zeroize::Zeroizing;

use crate::classic::connection::Connection;
use crate::duration;
use crate::home::Home;
use crate::output::say;
use crate::{Error, hardening};

/// `classic`: the tutorial's exchanges.
#[derive(Debug, Subcommand)]
pub enum Classic {
    /// RSA-OAEP (SHA-1): the receiver sends its public key, the sender one ciphertext
    RsaOaep {
        /// With whom, and what.
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
        /// With whom, and what.
        #[command(flatten)]
        exchange: Exchange,
        /// The key and the lengths.
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

/// What both exchanges have in common.
#[derive(Debug, Args)]
pub struct Exchange {
    /// Wait for one connection at this address; * is all of this machine, as in *:5000
    #[arg(long, value_name = "ADDR", value_parser = Address::listening, required_unless_present = "connect", conflicts_with = "connect")]
    listen: Option<Address>,
    /// Connect to this address
    #[arg(long, value_name = "ADDR")]
    connect: Option<Address>,
    /// Send this text, or standard input for -
    #[arg(long, value_name = "TEXT", required_unless_present = "receive", conflicts_with = "receive")]
    send: Option<String>,
    /// Receive a message to standard output
    #[arg(long)]
    receive: bool,
    /// Give up when nobody connects, or the other side sends or takes nothing, for this long
    #[arg(long, value_name = "DURATION", default_value = DEFAULT_TIMEOUT, value_parser = timeout)]
    timeout: Duration,
}

/// Runs a classic exchange.
///
/// # Errors
/// [`Error`].
pub fn run(command: &Classic, home: &Home) -> Result<(), Error> {
    warn("this exchange is neither authenticated nor forward-secret; `client send` and `server` are both");
    match command {
        Classic::RsaOaep { exchange, key, oaep_hash, private_key } => {
            rsa_oaep::run(exchange, (*oaep_hash).into(), key.as_deref(), private_key.as_deref(), home)
        }
        Classic::AesEax { exchange, agreement } => aes_eax::run(exchange, agreement),
    }
}

impl Exchange {
    /// The message to send, if this side sends.
    fn message(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        match self.send.as_deref() {
            None => Ok(None),
            Some("-") => {
                let mut message = Zeroizing::new(Vec::new());
                io::stdin()
                    .take(MAX_MESSAGE_LEN + 1)
                    .read_to_end(&mut message)
                    .map_err(|source| Error::Stdio { stream: "standard input", source })?;
                check_len(message.len())?;
                Ok(Some(message))
            }
            Some(text) => Ok(Some(Zeroizing::new(text.as_bytes().to_vec()))),
        }
    }

    /// The one connection of the exchange.
    fn connection(&self) -> Result<Connection, Error> {
        Connection::open(self.listen.as_ref(), self.connect.as_ref(), self.timeout)
    }
}

fn warn(text: &str) {
    say(format_args!("warning: {text}"));
}

fn print(message: &[u8]) -> Result<(), Error> {
    let mut output = hardening::standard_output()?;
    // Whoever sent it is not known: to a file it goes as it is, to a terminal it must not do anything.
    let written = if output.is_terminal() {
        writeln!(output, "{}", escape(message.strip_suffix(b"\n").unwrap_or(message)))
    } else {
        output.write_all(message)
    };
    written.map_err(|source| Error::Stdio { stream: "standard output", source })
}

/// Reads the time limit. A socket takes no time at all for no limit at all.
fn timeout(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(timeout) if timeout >= SHORTEST_TIMEOUT => Ok(timeout),
        Ok(_) => Err("less than 1ms".into()),
        Err(error) => Err(format!("{error}: write 30s, 2m or 12h")),
    }
}

fn check_len(len: usize) -> Result<(), Error> {
    match u64::try_from(len) {
        Ok(len) if len <= MAX_MESSAGE_LEN => Ok(()),
        _ => Err(Error::ClassicPeer("a message of 256 MiB at most")),
    }
}

/// A message has to be whole in memory before its tag can be checked, so it cannot be of any length.
const MAX_MESSAGE_LEN: u64 = 256 << 20;
/// Long enough for somebody who starts the other side by hand in another window.
const DEFAULT_TIMEOUT: &str = "2m";
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
