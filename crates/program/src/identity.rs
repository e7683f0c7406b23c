//! Key files: read with a passphrase where they need one, made, and made up on first use.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use crypto_core::identity::{ClientKey, ServerKey};
use crypto_core::psk::PreSharedKey;
use crypto_core::{KeyProblem, pem};
use getrandom::SysRng;
use zeroize::Zeroizing;

use crate::{Error, private_file};

/// Whether a new key file may replace one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// It may not.
    Refuse,
    /// It may.
    Replace,
}

/// Reads a server's key, asking for its passphrase where it has one.
///
/// # Errors
/// [`Error`] that names the file.
pub fn read_server_key(path: &Path) -> Result<ServerKey, Error> {
    with_passphrase(path, |text, passphrase| pem::read_server_key(&mut SysRng, text, passphrase))
}

/// Reads a client's key, asking for its passphrase where it has one.
///
/// # Errors
/// [`Error`] that names the file.
pub fn read_client_key(path: &Path) -> Result<ClientKey, Error> {
    with_passphrase(path, pem::read_client_key)
}

/// Reads a pre-shared key.
///
/// # Errors
/// [`Error`] that names the file.
pub fn read_psk(path: &Path) -> Result<PreSharedKey, Error> {
    let text = private_file::read_text(path)?;
    PreSharedKey::from_text(&text).map_err(|source| Error::Key { path: path.into(), source })
}

/// Writes a server's key.
///
/// # Errors
/// [`Error`] that names the file.
pub fn write_server_key(
    path: &Path,
    key: &ServerKey,
    passphrase: Option<&[u8]>,
    overwrite: Overwrite,
) -> Result<(), Error> {
    write(path, &pem::write_server_key(&mut SysRng, key, passphrase)?, overwrite)
}

/// Writes a client's key.
///
/// # Errors
/// [`Error`] that names the file.
pub fn write_client_key(
    path: &Path,
    key: &ClientKey,
    passphrase: Option<&[u8]>,
    overwrite: Overwrite,
) -> Result<(), Error> {
    write(path, &pem::write_client_key(&mut SysRng, key, passphrase)?, overwrite)
}

/// Asks for a new passphrase, twice.
///
/// # Errors
/// [`Error::NoTerminal`], [`Error::PassphraseMismatch`], [`Error::Stdio`].
pub fn ask_new_passphrase(path: &Path) -> Result<Zeroizing<String>, Error> {
    let first = ask(path, &format!("New passphrase for {}: ", path.display()))?;
    let second = ask(path, "The same again: ")?;
    if *first == *second { Ok(first) } else { Err(Error::PassphraseMismatch) }
}

/// Reads a key file with `parse`, asking for a passphrase if that says it needs one.
pub(crate) fn with_passphrase<K>(
    path: &Path,
    mut parse: impl FnMut(&str, Option<&[u8]>) -> Result<K, crypto_core::Error>,
) -> Result<K, Error> {
    let text = private_file::read_text(path)?;
    let parsed = match parse(&text, None) {
        Err(crypto_core::Error::Key(KeyProblem::NeedsPassphrase)) => {
            let passphrase = ask(path, &format!("Passphrase for {}: ", path.display()))?;
            parse(&text, Some(passphrase.as_bytes()))
        }
        parsed => parsed,
    };
    parsed.map_err(|source| Error::Key { path: path.into(), source })
}

fn write(path: &Path, pem: &str, overwrite: Overwrite) -> Result<(), Error> {
    match overwrite {
        Overwrite::Refuse => private_file::create_new(path, pem.as_bytes()),
        Overwrite::Replace => private_file::replace(path, pem.as_bytes()),
    }
}

fn ask(path: &Path, prompt: &str) -> Result<Zeroizing<String>, Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::NoTerminal { path: path.into() });
    }
    rpassword::prompt_password(prompt)
        .map(Zeroizing::new)
        .map_err(|source| Error::Stdio { stream: "the terminal", source })
}
