//! `client trust`.

use cli_support::home::Home;
use crypto_core::identity::KeyId;
use tunnel::address::Address;

use crate::trust::KnownServer;
use crate::{Error, KnownServers};

/// Makes a server known under the key with this id, or with `None` forgets it.
///
/// # Errors
/// Those of `known_servers`.
pub fn trust(home: Home, address: &Address, key: Option<KeyId>) -> Result<(), Error> {
    let known_servers = KnownServers::new(home);
    match key {
        Some(id) => known_servers.remember(address, &KnownServer { id, key: None }),
        None => known_servers.forget(address),
    }
}
