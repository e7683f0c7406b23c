//! `client keygen` and `client fingerprint`.

use cli_support::home::Home;
use cli_support::identity::{self, Keygen};
use cli_support::output;
use crypto_core::identity::ClientKey;

use crate::Error;
use crate::command::outcome::Outcome;

/// Makes the client's key and prints its fingerprint.
///
/// # Errors
/// [`Error::Program`] when there is a key already, or it cannot be written.
pub fn keygen(home: &Home, options: &Keygen) -> Result<(), Error> {
    print(&identity::make(home, options)?)
}

/// Prints the fingerprint of the client's key.
///
/// # Errors
/// [`Error::Program`] when there is none, or it cannot be used.
pub fn fingerprint(home: &Home) -> Result<(), Error> {
    print(&identity::read(home)?)
}

fn print(key: &ClientKey) -> Result<(), Error> {
    let id = key.public().id();
    if output::is_json() {
        return Outcome::Key { fingerprint: &id.to_string() }.tell();
    }
    Ok(output::print(id)?)
}
