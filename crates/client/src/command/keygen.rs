//! `client keygen` and `client fingerprint`.

use std::io::{self, Write as _};

use crypto_core::identity::ClientKey;
use getrandom::SysRng;
use program::home::Home;
use program::identity::{self, Overwrite};

use crate::Error;
use crate::cli::Keygen;
use crate::connect::KEY_FILE;

/// Makes the client's key and prints its fingerprint.
///
/// # Errors
/// [`Error::Program`] when there is a key already, or it cannot be written.
pub fn keygen(home: &Home, options: &Keygen) -> Result<(), Error> {
    let path = home.file(KEY_FILE);
    let overwrite = if options.force { Overwrite::Replace } else { Overwrite::Refuse };
    home.create()?;
    if path.exists() && overwrite == Overwrite::Refuse {
        return Err(program::Error::Exists { path }.into());
    }
    let passphrase =
        if options.passphrase_prompt { Some(identity::ask_new_passphrase(&path)?) } else { None };
    let key = ClientKey::generate(&mut SysRng, options.bits).map_err(program::Error::from)?;
    let passphrase = passphrase.as_ref().map(|passphrase| passphrase.as_bytes());
    identity::write_client_key(&path, &key, passphrase, overwrite)?;
    print(&key)
}

/// Prints the fingerprint of the client's key.
///
/// # Errors
/// [`Error::Program`] when there is none, or it cannot be used.
pub fn fingerprint(home: &Home) -> Result<(), Error> {
    print(&identity::read_client_key(&home.file(KEY_FILE))?)
}

fn print(key: &ClientKey) -> Result<(), Error> {
    writeln!(io::stdout(), "{}", key.public().id())
        .map_err(|source| Error::Stdio { stream: "standard output", source })
}
