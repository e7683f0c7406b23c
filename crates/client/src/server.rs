//! The server that a client connects to: its addresses, and how it proves itself.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cli_support::home::Home;
use cli_support::identity;
use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use tunnel::address::Address;
use tunnel::network::Network;

use crate::cli;
use crate::error::Error;
use crate::named_servers::NamedServers;
use crate::server_spec::{ServerName, ServerSpec};
use crate::trust::TrustPolicy;

/// The server to connect to, and how it is authenticated.
#[derive(Debug)]
pub struct Server {
    name: Option<ServerName>,
    addresses: Vec<Address>,
    /// The index of the address that has answered last.
    last_reached: AtomicUsize,
    /// The fingerprint of its key, where that is given.
    pub pinned: Option<KeyId>,
    /// What to do where it is not, and none is known.
    pub policy: TrustPolicy,
    /// The key shared with it, in place of all this.
    pub psk: Option<Arc<PreSharedKey>>,
    /// By which network it is reached.
    pub network: Network,
}

impl Server {
    /// The one at an address, by the network of the system. Its key has to be known or asked for.
    #[must_use]
    pub fn at(address: Address) -> Self {
        Self::of(None, vec![address], None)
    }

    /// The one that has this key, at one of several addresses.
    pub(crate) fn with_key(addresses: Vec<Address>, key: KeyId) -> Self {
        Self { policy: TrustPolicy::Strict, ..Self::of(None, addresses, Some(key)) }
    }

    fn of(name: Option<ServerName>, addresses: Vec<Address>, pinned: Option<KeyId>) -> Self {
        let (last_reached, policy) = (AtomicUsize::new(0), TrustPolicy::Ask);
        Self { name, addresses, last_reached, pinned, policy, psk: None, network: Network::System }
    }

    /// The one that the command line says, by the network of the system. Where it has a name, what the name stands for is
    /// looked up in `home`.
    ///
    /// # Errors
    /// [`Error::UnknownName`]; [`Error::ServerKeyContradicts`] where the name stands for another key than is given;
    /// [`Error::Program`] when a file cannot be used.
    pub fn from_options(spec: &ServerSpec, options: &cli::Trust, home: &Home) -> Result<Self, Error> {
        let psk: Option<&PathBuf> = options.psk.as_ref();
        let psk = psk.map(|path| identity::read_psk(path).map(Arc::new)).transpose()?;
        let server = match spec {
            ServerSpec::Address(address) => Self::of(None, vec![address.clone()], options.server_key),
            ServerSpec::Name(name) => {
                let named = NamedServers::new(home.clone()).find(name)?;
                if let Some(given) = options.server_key.filter(|given| *given != named.key) {
                    let server = name.to_string();
                    let address = server.clone();
                    return Err(Error::ServerKeyContradicts { address, server, known: named.key, given });
                }
                Self::of(Some(named.name), named.addresses, Some(named.key))
            }
        };
        Ok(Self { policy: options.trust, psk, ..server })
    }

    /// Its addresses, of which there is at least one, in the order in which they are to be tried: the one that has answered last
    /// comes first.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        let last = self.last_reached.load(Ordering::Relaxed);
        let others = self.addresses.iter().enumerate().filter(move |(index, _)| *index != last);
        self.addresses.get(last).into_iter().chain(others.map(|(_, address)| address))
    }

    /// Notes that the server has answered at one of its addresses.
    pub(crate) fn note_reached(&self, address: &Address) {
        if let Some(index) = self.addresses.iter().position(|known| known == address) {
            self.last_reached.store(index, Ordering::Relaxed);
        }
    }

    /// One of its addresses, as it is shown: with the name, where the server was called by that.
    pub(crate) fn shown_at(&self, address: &Address) -> String {
        match &self.name {
            Some(name) => format!("{address} ({name})"),
            None => address.to_string(),
        }
    }

    /// The name that it was called by.
    #[must_use]
    pub fn name(&self) -> Option<&ServerName> {
        self.name.as_ref()
    }
}

/// As it was called: by its name or its address.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, &*self.addresses) {
            (Some(name), _) => name.fmt(f),
            (None, addresses) => addresses.iter().enumerate().try_for_each(|(index, address)| {
                if index > 0 {
                    f.write_str(", ")?;
                }
                address.fmt(f)
            }),
        }
    }
}
