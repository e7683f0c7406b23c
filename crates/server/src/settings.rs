//! What a server is to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use crypto_core::identity::ServerKey;
use crypto_core::psk::PreSharedKey;
use crypto_core::ticket::TicketKey;

use wire_protocol::message::ClientIdentity;

use crate::access::AccessFile;
use crate::reloadable_config::ReloadableConfig;
use crate::services::Services;

/// Everything that [`crate::serve()`] needs but the sockets.
#[derive(Debug)]
pub struct Settings {
    /// Who the server is.
    pub identity: Identity,
    /// Seals tickets.
    pub tickets: Arc<TicketKey>,
    /// Who may come in.
    pub access: AccessFile,
    /// What there is for them.
    pub services: Services,
    /// What can be given anew while it runs.
    pub config: ReloadableConfig,
}

/// Who a server is, and so how clients prove that they mean it.
#[derive(Debug)]
pub enum Identity {
    /// The holder of an RSA key.
    Key(Arc<ServerKey>),
    /// The holder of pre-shared keys, by their ids. No RSA at all.
    Psk(BTreeMap<String, Arc<PreSharedKey>>),
}

impl Identity {
    /// Whether a client of this server can go by `client`.
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
    use super::*;

    #[test]
    fn only_a_key_that_is_in_use_names_a_client() {
        let psk = |id: &str| ClientIdentity::Psk(id.into());
        let laptop = PreSharedKey::generate(&mut getrandom::SysRng, "laptop", [1; 32]).unwrap();
        let with_psks = Identity::Psk(BTreeMap::from([("laptop".to_owned(), Arc::new(laptop))]));
        assert!(with_psks.could_name(&psk("laptop")));
        for other in [psk("nobody"), ClientIdentity::Anonymous, ClientIdentity::Key([1; 32])] {
            assert!(!with_psks.could_name(&other), "{other:?}");
        }
        let with_key = Identity::Key(Arc::new(ServerKey::generate(&mut getrandom::SysRng, 2048).unwrap()));
        assert!(!with_key.could_name(&psk("laptop")));
        assert!(with_key.could_name(&ClientIdentity::Key([1; 32])));
    }
}
