//! RSA-OAEP: the receiver's public key one way, one ciphertext the other.

use std::path::Path;

use crypto_core::classic::{self, ClassicKey};
use crypto_core::identity::PublicKey;
use crypto_core::pem;
use getrandom::SysRng;

use super::{Connection, Exchange, print};
use crate::home::Home;
use crate::identity::with_passphrase;
use crate::{Error, private_file};

pub(super) fn run(
    exchange: &Exchange,
    key: Option<&Path>,
    private_key: Option<&Path>,
    home: &Home,
) -> Result<(), Error> {
    match (exchange.message()?, private_key) {
        (Some(message), _) => send(&mut exchange.connection()?, &message),
        (None, Some(path)) => {
            let key = read_key(path)?;
            receive_with_announced_key(&mut exchange.connection()?, path, &key)
        }
        (None, None) => {
            let key = match key {
                Some(path) => read_key(path)?,
                None => own_key(home)?,
            };
            receive(&mut exchange.connection()?, &key)
        }
    }
}

fn send(connection: &mut Connection, message: &[u8]) -> Result<(), Error> {
    let (key, _) = receive_public_key(connection)?;
    let limit = classic::max_message_len(&key);
    if message.len() > limit {
        return Err(Error::ClassicTooLong { len: message.len(), limit });
    }
    connection.send(&classic::encrypt(&mut SysRng, &key, message)?)
}

fn receive(connection: &mut Connection, key: &ClassicKey) -> Result<(), Error> {
    let public = key.public()?;
    connection.send(pem::write_public_key(&public).as_bytes())?;
    let mut ciphertext = Vec::new();
    receive_ciphertext(connection, &mut ciphertext, classic::ciphertext_len(&public))?;
    let message = key.decrypt(&mut SysRng, &ciphertext).map_err(|_| Error::ClassicRefused)?;
    print(&message)
}

/// The tutorial's program sends its own public key and then a ciphertext made with that same key.
fn receive_with_announced_key(
    connection: &mut Connection,
    path: &Path,
    key: &ClassicKey,
) -> Result<(), Error> {
    let expected = key.public()?;
    let (announced, mut ciphertext) = receive_public_key(connection)?;
    if announced != expected {
        let (expected, offered) = (expected.id(), announced.id());
        return Err(Error::ClassicKeyMismatch { path: path.into(), expected, offered });
    }
    let len = classic::ciphertext_len(&expected);
    receive_ciphertext(connection, &mut ciphertext, len)?;
    if let Ok(message) = key.decrypt(&mut SysRng, &ciphertext[..len]) {
        return print(&message);
    }
    // Some programs end their PEM with a newline; a ciphertext may begin with that byte too, so this comes second.
    if ciphertext.first() == Some(&b'\n') {
        receive_ciphertext(connection, &mut ciphertext, len + 1)?;
        if let Ok(message) = key.decrypt(&mut SysRng, &ciphertext[1..]) {
            return print(&message);
        }
    }
    Err(Error::ClassicRefused)
}

/// Reads the other side's public key. Also gives what came behind it.
fn receive_public_key(connection: &mut Connection) -> Result<(PublicKey, Vec<u8>), Error> {
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = find(&received, PEM_END) {
            let rest = received.split_off(end);
            let text = std::str::from_utf8(&received).map_err(|_| Error::ClassicPeer(NO_KEY))?;
            return Ok((pem::read_public_key(text).map_err(Error::ClassicPeerKey)?, rest));
        }
        if received.len() > MAX_PEM_LEN {
            return Err(Error::ClassicPeer(NO_KEY));
        }
        match connection.receive(&mut chunk, "sent no public key")? {
            0 => return Err(Error::ClassicPeer(NO_KEY)),
            len => received.extend_from_slice(&chunk[..len]),
        }
    }
}

/// Reads until `bytes` is `len` long.
fn receive_ciphertext(connection: &mut Connection, bytes: &mut Vec<u8>, len: usize) -> Result<(), Error> {
    let mut filled = bytes.len();
    bytes.resize(filled.max(len), 0);
    while filled < len {
        match connection.receive(&mut bytes[filled..], "sent no whole ciphertext")? {
            0 => return Err(Error::ClassicPeer("a whole ciphertext")),
            read => filled += read,
        }
        // No ciphertext begins like that, but for one in 10^24.
        if bytes.starts_with(PEM_BEGIN) {
            return Err(Error::ClassicPeer("a ciphertext (a public key came: it wants to receive, too)"));
        }
    }
    Ok(())
}

/// Where `needle` ends in `haystack`.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle).map(|start| start + needle.len())
}

fn read_key(path: &Path) -> Result<ClassicKey, Error> {
    with_passphrase(path, ClassicKey::from_pem)
}

fn own_key(home: &Home) -> Result<ClassicKey, Error> {
    let path = home.file("classic.key");
    if path.exists() {
        return read_key(&path);
    }
    home.create()?;
    let key = ClassicKey::generate(&mut SysRng, classic::DEFAULT_BITS)?;
    private_file::create_new(&path, key.to_pem()?.as_bytes())?;
    Ok(key)
}

const PEM_BEGIN: &[u8] = b"-----BEGIN";
const PEM_END: &[u8] = b"-----END PUBLIC KEY-----";
const NO_KEY: &str = "a public key in PEM";
/// Four times the PEM of the longest key.
const MAX_PEM_LEN: usize = 8192;
