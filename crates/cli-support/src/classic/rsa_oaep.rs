//! The rsa-oaep exchange: the receiver sends its public key, and the sender one ciphertext.

use std::path::Path;

use crypto_core::classic::{self, ClassicKey, OaepHash};
use crypto_core::identity::MIN_BITS;
use crypto_core::{KeyProblem, pem};
use getrandom::SysRng;

use super::connection::Connection;
use super::exchange::{Exchange, print, warn};
use crate::error::Error;
use crate::home::Home;
use crate::identity::with_passphrase;
use crate::private_file;

pub(super) fn run(
    exchange: &Exchange,
    hash: OaepHash,
    key: Option<&Path>,
    private_key: Option<&Path>,
    home: &Home,
) -> Result<(), Error> {
    match (exchange.message()?, private_key) {
        (Some(message), _) => send(&mut exchange.connection()?, hash, &message),
        (None, Some(path)) => {
            let key = read_key(path)?;
            receive_with_announced_key(&mut exchange.connection()?, hash, path, &key)
        }
        (None, None) => {
            let key = match key {
                Some(path) => read_key(path)?,
                None => own_key(home)?,
            };
            receive(&mut exchange.connection()?, hash, &key)
        }
    }
}

fn send(connection: &mut Connection, hash: OaepHash, message: &[u8]) -> Result<(), Error> {
    let (pem, _) = receive_public_key(connection)?;
    let key = pem::read_public_key(&pem).map_err(Error::ClassicPeerKey)?;
    let limit = classic::max_message_len(&key, hash);
    if message.len() > limit {
        return Err(Error::ClassicTooLong { len: message.len(), limit });
    }
    connection.send(&classic::encrypt(&mut SysRng, &key, hash, message)?)
}

fn receive(connection: &mut Connection, hash: OaepHash, key: &ClassicKey) -> Result<(), Error> {
    connection.send(key.public_pem().as_bytes())?;
    let mut ciphertext = Vec::new();
    receive_ciphertext(connection, &mut ciphertext, key.ciphertext_len())?;
    let message = key.decrypt(&mut SysRng, hash, &ciphertext).map_err(|_| Error::ClassicRefused)?;
    print(&message)
}

/// The tutorial's program sends its own public key and then a ciphertext made with that same key.
fn receive_with_announced_key(
    connection: &mut Connection,
    hash: OaepHash,
    path: &Path,
    key: &ClassicKey,
) -> Result<(), Error> {
    let expected = key.id();
    let (announced, mut ciphertext) = receive_public_key(connection)?;
    let offered = classic::public_key_id(&announced).map_err(Error::ClassicPeerKey)?;
    if offered != expected {
        return Err(Error::ClassicKeyMismatch { path: path.into(), expected, offered });
    }
    let len = key.ciphertext_len();
    // Some programs end their PEM with a line end. A ciphertext may begin with these bytes too, so it is tried
    // without a line end first.
    for line_end in [&b""[..], b"\n", b"\r\n"] {
        if !ciphertext.starts_with(line_end) {
            continue;
        }
        receive_ciphertext(connection, &mut ciphertext, line_end.len() + len)?;
        let candidate = &ciphertext[line_end.len()..][..len];
        if let Ok(message) = key.decrypt(&mut SysRng, hash, candidate) {
            return print(&message);
        }
    }
    Err(Error::ClassicRefused)
}

/// Reads the other side's public key in PEM, and returns it and the bytes after it.
fn receive_public_key(connection: &mut Connection) -> Result<(String, Vec<u8>), Error> {
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = end_of_pem(&received) {
            let rest = received.split_off(end);
            return Ok((String::from_utf8_lossy(&received).into_owned(), rest));
        }
        let form = if find(&received, PEM_BEGIN).is_none() { pem::identify(&received) } else { None };
        match form {
            // The bytes are of another format than PEM, so that no end of a PEM block would ever come.
            Some(form) if form != pem::Form::Empty => {
                return Err(Error::ClassicPeerKey(KeyProblem::from(form).into()));
            }
            _ if received.len() > MAX_PEM_LEN => return Err(Error::ClassicPeer(NO_KEY)),
            _ => {}
        }
        match connection.receive(&mut chunk, "sent no public key")? {
            0 => return Err(Error::ClassicPeer(NO_KEY)),
            len => received.extend_from_slice(&chunk[..len]),
        }
    }
}

/// Reads until `bytes` has at least `len` bytes.
fn receive_ciphertext(connection: &mut Connection, bytes: &mut Vec<u8>, len: usize) -> Result<(), Error> {
    let mut filled = bytes.len();
    bytes.resize(filled.max(len), 0);
    while filled < len {
        match connection.receive(&mut bytes[filled..], "sent no whole ciphertext")? {
            0 => return Err(Error::ClassicPeer("a whole ciphertext")),
            read => filled += read,
        }
        // A ciphertext begins like this once in 10^24.
        if bytes.starts_with(PEM_BEGIN) {
            return Err(Error::ClassicPeer("a ciphertext (a public key came: it wants to receive, too)"));
        }
    }
    Ok(())
}

/// The end of the first PEM block with any label.
fn end_of_pem(received: &[u8]) -> Option<usize> {
    let label = find(received, PEM_END)?;
    Some(label + find(&received[label..], b"-----")?)
}

/// The end of the first `needle` in `haystack`.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle).map(|start| start + needle.len())
}

fn read_key(path: &Path) -> Result<ClassicKey, Error> {
    let key = with_passphrase(path, ClassicKey::from_pem)?;
    if key.bits() < MIN_BITS {
        warn(&format!(
            "the key in {} has {} bits: whoever records what is received with it may read it",
            path.display(),
            key.bits()
        ));
    }
    Ok(key)
}

fn own_key(home: &Home) -> Result<ClassicKey, Error> {
    let path = home.file("classic.key");
    if !private_file::is_absent(&path)? {
        return read_key(&path);
    }
    home.create()?;
    let key = ClassicKey::generate(&mut SysRng, classic::DEFAULT_BITS)?;
    private_file::create_new(&path, key.to_pem()?.as_bytes())?;
    Ok(key)
}

const PEM_BEGIN: &[u8] = b"-----BEGIN";
const PEM_END: &[u8] = b"-----END ";
const NO_KEY: &str = "a public key in PEM";
/// Most bytes that are read before the end of a PEM block: four times the PEM of the longest key.
const MAX_PEM_LEN: usize = 8192;
