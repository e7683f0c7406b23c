//! The settings of a server, which [`crate::serve()`] takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crypto_core::identity::ServerKey;
use crypto_core::psk::PreSharedKey;
use crypto_core::ticket::TicketKey;
use tunnel::network::Network;
use wire_protocol::message::ClientIdentity;

use crate::access::AccessFile;
use crate::accounts::Accounts;
use crate::reloadable_config::ReloadableConfig;
use crate::services::Services;

/// The settings of a server, except for its sockets.
#[derive(Debug)]
pub struct Settings {
    /// The identity of the server.
    pub identity: Identity,
    /// The key that seals tickets.
    pub tickets: Arc<TicketKey>,
    /// The file of allowed clients.
    pub access: AccessFile,
    /// The accounts of clients; `None` where nothing is kept, and no traffic quota counts.
    pub accounts: Option<Accounts>,
    /// The services that clients may use.
    pub services: Services,
    /// The settings that can be changed while the server runs.
    pub config: ReloadableConfig,
    /// Where targets are connected to, and where it listens for its clients.
    pub network: Network,
}

/// The identity of a server, which decides how clients authenticate it.
#[derive(Debug)]
pub enum Identity {
    /// An RSA key.
    Key(Arc<ServerKey>),
    /// Pre-shared keys, by their ids, without any RSA.
    Psk(BTreeMap<String, Arc<PreSharedKey>>),
}

impl Identity {
    /// Returns whether this server can verify an identity of the kind of `client`.
    pub(crate) fn could_name(&self, client: &ClientIdentity) -> bool {
        match (self, client) {
            (Self::Psk(psks), ClientIdentity::Psk(id)) => psks.contains_key(id),
            (Self::Key(_), ClientIdentity::Key(_) | ClientIdentity::Anonymous) => true,
            (Self::Key(_), ClientIdentity::Psk(_)) | (Self::Psk(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use crypto_core::identity::KeyId;

    use super::*;

    #[test]
    fn only_a_key_that_is_in_use_names_a_client() {
        let psk = |id: &str| ClientIdentity::Psk(id.into());
        let laptop = PreSharedKey::generate(&mut getrandom::SysRng, "laptop", KeyId([1; 32])).unwrap();
        let with_psks = Identity::Psk(BTreeMap::from([("laptop".to_owned(), Arc::new(laptop))]));
        assert!(with_psks.could_name(&psk("laptop")));
        for other in [psk("nobody"), ClientIdentity::Anonymous, ClientIdentity::Key(KeyId([1; 32]))] {
            assert!(!with_psks.could_name(&other), "{other:?}");
        }
        let with_key = Identity::Key(Arc::new(ServerKey::generate(&mut getrandom::SysRng, 2048).unwrap()));
        assert!(!with_key.could_name(&psk("laptop")));
        assert!(with_key.could_name(&ClientIdentity::Key(KeyId([1; 32]))));
    }
}
