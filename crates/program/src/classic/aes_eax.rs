//! AES-EAX: nonce, tag and ciphertext to the end of the connection.

use std::path::Path;

use crypto_core::classic::{EaxKey, NONCE_LEN, TAG_LEN};
use getrandom::SysRng;
use zeroize::Zeroizing;

use super::{Exchange, check_len, print};
use crate::{Error, private_file};

pub(super) fn run(exchange: &Exchange, key_file: &Path) -> Result<(), Error> {
    let key = read_key(key_file)?;
    let message = exchange.message()?;
    let mut connection = exchange.connection()?;
    match message {
        Some(message) => connection.send(&key.seal(&mut SysRng, &message)?),
        None => {
            let overhead = NONCE_LEN + TAG_LEN;
            let sealed = connection.receive_all(32)?;
            check_len(sealed.len().saturating_sub(overhead))?;
            print(&key.open(&sealed).map_err(|_| Error::ClassicRefused)?)
        }
    }
}

/// Raw bytes, or as many in hex with a newline or not.
fn read_key(path: &Path) -> Result<EaxKey, Error> {
    let content = private_file::read(path)?;
    let key = match std::str::from_utf8(&content).ok().and_then(|text| decode_hex(text.trim())) {
        Some(decoded) => EaxKey::from_slice(&decoded),
        None => EaxKey::from_slice(&content),
    };
    key.map_err(|source| Error::Key { path: path.into(), source })
}

/// Hex of a whole key; `None` where it is anything else, so that 32 raw bytes that look like hex of 16 are hex.
fn decode_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if !matches!(text.len(), 32 | 48 | 64) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect::<Option<Vec<u8>>>()
        .map(Zeroizing::new)
}
