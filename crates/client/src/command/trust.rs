//! `client trust`: the servers that this client knows, and the names that they have here.

use cli_support::home::Home;
use cli_support::invocation::{Naming, Program};
use cli_support::output::{self, say};
use crypto_core::identity::KeyId;
use serde::Serialize;
use tunnel::address::Address;

use crate::cli::TrustCommand;
use crate::error::Error;
use crate::named_servers::{MAX_ADDRESSES, NamedServer, NamedServers, find};
use crate::server_spec::{ServerName, ServerSpec};
use crate::trust::{KnownServer, KnownServers};

/// Does what the command line says.
///
/// # Errors
/// [`Error::Trust`] where it does not say enough, [`Error::UnknownName`], [`Error::NameTaken`], [`Error::TooManyAddresses`],
/// [`Error::ServerKeyContradicts`]; those of `known_servers` and `servers.toml`.
pub fn trust(home: &Home, options: TrustCommand) -> Result<(), Error> {
    let files = Files { known: KnownServers::new(home.clone()), named: NamedServers::new(home.clone()) };
    let TrustCommand { servers, server_key, name, forget, list, names, json } = options;
    if names {
        files.named.all()?.iter().try_for_each(|server| Ok(output::print(&server.name)?))
    } else if list {
        files.list(json)
    } else if forget {
        servers.iter().try_for_each(|server| files.forget(server))
    } else {
        match &servers[..] {
            [ServerSpec::Name(called)] => files.change(called, server_key, name),
            _ => {
                let addresses = servers.into_iter().map(address_of).collect::<Result<Vec<_>, _>>()?;
                match name {
                    Some(name) => files.name(name, addresses, server_key),
                    None => files.remember(&addresses, server_key.ok_or(Error::Trust(NO_KEY))?),
                }
            }
        }
    }
}

fn address_of(spec: ServerSpec) -> Result<Address, Error> {
    match spec {
        // What a name stands for must not depend on the working directory.
        ServerSpec::Address(Address::Unix(path)) => {
            let absolute = std::path::absolute(&path);
            let failed = |source| cli_support::Error::File { action: "find", path, source };
            Ok(Address::Unix(absolute.map_err(failed)?))
        }
        ServerSpec::Address(address) => Ok(address),
        ServerSpec::Name(_) => Err(Error::Trust(MIXED)),
    }
}

/// The two files of servers.
struct Files {
    known: KnownServers,
    named: NamedServers,
}

impl Files {
    /// Makes the server at each of `addresses` known under a key.
    fn remember(&self, addresses: &[Address], key: KeyId) -> Result<(), Error> {
        for address in addresses {
            self.known.remember(address, &KnownServer { id: key, key: None })?;
        }
        for server in self.named.all()?.iter().filter(|server| server.key != key) {
            if let Some(address) = addresses.iter().find(|address| server.addresses.contains(address)) {
                let NamedServer { name, key: old, .. } = server;
                let client = Naming::of_process().name(Program::Client);
                say(format_args!(
                    "warning: {name} has the address {address} too, and stands for the key {old}: {client} trust {name} \
                     --server-key {key} changes that"
                ));
            }
        }
        Ok(())
    }

    /// Gives a server with these addresses a name, or the one that has the name these addresses as well.
    fn name(&self, name: ServerName, addresses: Vec<Address>, given: Option<KeyId>) -> Result<(), Error> {
        let key = self.named.edit(|servers| {
            let at = servers.iter().position(|server| server.name == name);
            let key = match given {
                Some(key) => key,
                None => self.key_of(&addresses, at.map(|at| servers[at].key))?,
            };
            let most = MAX_ADDRESSES;
            let mut server = match at {
                Some(at) if servers[at].key != key => {
                    return Err(Error::NameTaken { name: name.to_string(), known: servers[at].key });
                }
                Some(at) => servers[at].clone(),
                None => NamedServer { name: name.clone(), key, addresses: Vec::new() },
            };
            if !server.add(addresses.iter().cloned()) {
                return Err(Error::TooManyAddresses { name: name.to_string(), most });
            }
            match at {
                Some(at) => servers[at] = server,
                None => servers.push(server),
            }
            Ok(key)
        })?;
        self.remember(&addresses, key)
    }

    /// The one key that is known at these addresses, or else belongs to the name.
    fn key_of(&self, addresses: &[Address], of_name: Option<KeyId>) -> Result<KeyId, Error> {
        let mut key = of_name;
        for address in addresses {
            let Some(known) = self.known.find(address)? else { continue };
            let given = *key.get_or_insert(known.id);
            if given != known.id {
                let (server, address) = (address.to_string(), address.to_string());
                return Err(Error::ServerKeyContradicts { address, server, known: known.id, given });
            }
        }
        key.ok_or(Error::Trust(NO_KEY))
    }

    /// Gives the server of a name another key or another name.
    fn change(&self, name: &ServerName, key: Option<KeyId>, other: Option<ServerName>) -> Result<(), Error> {
        if key.is_none() && other.is_none() {
            return Err(Error::Trust(NO_CHANGE));
        }
        let addresses = self.named.edit(|servers| {
            let mut server = find(servers.clone(), name)?;
            if let Some(other) = other {
                if let Some(taken) = servers.iter().find(|server| server.name == other && other != *name) {
                    return Err(Error::NameTaken { name: other.to_string(), known: taken.key });
                }
                server.name = other;
            }
            server.key = key.unwrap_or(server.key);
            let addresses = server.addresses.clone();
            for place in servers.iter_mut().filter(|server| server.name == *name) {
                *place = server.clone();
            }
            Ok(addresses)
        })?;
        key.map_or(Ok(()), |key| self.remember(&addresses, key))
    }

    fn forget(&self, spec: &ServerSpec) -> Result<(), Error> {
        let forgotten = match spec {
            ServerSpec::Name(name) => self.named.edit(|servers| {
                let server = find(servers.clone(), name)?;
                servers.retain(|server| server.name != *name);
                let is_left =
                    |address: &Address| servers.iter().any(|other| other.addresses.contains(address));
                Ok(server.addresses.into_iter().filter(|address| !is_left(address)).collect())
            })?,
            ServerSpec::Address(address) => {
                let absolute = address_of(spec.clone())?;
                self.named.edit(|servers| {
                    for server in servers.iter_mut().filter(|server| server.addresses.contains(&absolute)) {
                        server.addresses.retain(|known| *known != absolute);
                        let name = &server.name;
                        match server.addresses.len() {
                            0 => say(format_args!("{name} was its name, which is forgotten, too")),
                            _ => say(format_args!("{name} has one address less")),
                        }
                    }
                    servers.retain(|server| !server.addresses.is_empty());
                    Ok(())
                })?;
                vec![absolute, address.clone()]
            }
        };
        forgotten.iter().try_for_each(|address| self.known.forget(address))
    }

    /// Prints those that have a name, and then those that are known by an address alone.
    fn list(&self, is_json: bool) -> Result<(), Error> {
        let named = self.named.all()?;
        let known = self.known.all()?;
        let has_name = |address: &str, key: KeyId| {
            let has = |server: &NamedServer| {
                server.key == key && server.addresses.iter().any(|known| known.to_string() == address)
            };
            named.iter().any(has)
        };
        let with_name = named.iter().map(|NamedServer { name, key, addresses }| Listed {
            name: Some(name.as_str()),
            server_key: key.to_string(),
            addresses: addresses.iter().map(Address::to_string).collect(),
        });
        let without = known.into_iter().filter(|(address, key)| !has_name(address, *key));
        let without = without.map(|(address, key)| Listed {
            name: None,
            server_key: key.to_string(),
            addresses: vec![address],
        });
        for listed in with_name.chain(without) {
            if is_json {
                output::print_json(&listed)?;
            } else {
                let Listed { name, server_key, addresses } = &listed;
                let name = name.unwrap_or("-");
                output::print_row([name, server_key, &addresses.join(" ")])?;
            }
        }
        Ok(())
    }
}

/// A server as `--list` prints it.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: Option<&'a str>,
    server_key: String,
    addresses: Vec<String>,
}

const NO_KEY: &str = "the key of this server is not known: give its fingerprint with --server-key";
const MIXED: &str = "a name that a server has already stands alone: give addresses in front of --name";
const NO_CHANGE: &str = "nothing is to be changed: give --server-key, --name or --forget";

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn home(&self) -> Home {
            Home::resolve(Some(self.0.path().into())).unwrap()
        }

        fn trust(&self, servers: &str, key: Option<u8>, name: Option<&str>) -> Result<(), Error> {
            trust(
                &self.home(),
                TrustCommand {
                    servers: servers.split(' ').map(|server| server.parse().unwrap()).collect(),
                    server_key: key.map(|key| KeyId([key; 32])),
                    name: name.map(|name| name.parse().unwrap()),
                    forget: false,
                    list: false,
                    names: false,
                    json: false,
                },
            )
        }

        fn forget(&self, servers: &str) -> Result<(), Error> {
            let servers = servers.split(' ').map(|server| server.parse().unwrap()).collect();
            trust(
                &self.home(),
                TrustCommand {
                    servers,
                    server_key: None,
                    name: None,
                    forget: true,
                    list: false,
                    names: false,
                    json: false,
                },
            )
        }

        /// Names with their key and addresses, and addresses with their key.
        #[track_caller]
        fn check(&self, names: &[(&str, u8, &str)], known: &[(&str, u8)]) {
            let all = NamedServers::new(self.home()).all().unwrap();
            let shown = |server: &NamedServer| {
                let addresses: Vec<_> = server.addresses.iter().map(Address::to_string).collect();
                (server.name.to_string(), server.key.0[0], addresses.join(" "))
            };
            let expected =
                |&(name, key, addresses): &(&str, u8, &str)| (name.to_owned(), key, addresses.to_owned());
            assert_eq!(
                all.iter().map(shown).collect::<Vec<_>>(),
                names.iter().map(expected).collect::<Vec<_>>()
            );
            let all = KnownServers::new(self.home()).all().unwrap();
            let all: Vec<_> = all.iter().map(|(address, key)| (address.as_str(), key.0[0])).collect();
            assert_eq!(all, known);
        }
    }

    #[test]
    fn names_are_given_extended_changed_and_forgotten() {
        let place = Place::new();
        place.trust("a:1 b:1", Some(1), Some("gate")).unwrap();
        place.check(&[("gate", 1, "a:1 b:1")], &[("a:1", 1), ("b:1", 1)]);
        // The key is that of the name.
        place.trust("c:1", None, Some("gate")).unwrap();
        place.check(&[("gate", 1, "a:1 b:1 c:1")], &[("a:1", 1), ("b:1", 1), ("c:1", 1)]);
        // Or that of the address.
        place.trust("d:1", Some(2), None).unwrap();
        place.trust("d:1", None, Some("door")).unwrap();
        assert!(matches!(place.trust("d:1", None, Some("gate")), Err(Error::ServerKeyContradicts { .. })));
        assert!(matches!(place.trust("e:1", Some(3), Some("gate")), Err(Error::NameTaken { .. })));
        assert!(matches!(place.trust("gate", None, Some("door")), Err(Error::NameTaken { .. })));
        assert!(matches!(place.trust("e:1", None, None), Err(Error::Trust(_))));
        assert!(matches!(place.trust("e:1", None, Some("new")), Err(Error::Trust(_))));
        assert!(matches!(place.trust("gate e:1", Some(1), None), Err(Error::Trust(_))));
        assert!(matches!(place.trust("gate", None, None), Err(Error::Trust(_))));
        assert!(matches!(place.trust("none", Some(1), None), Err(Error::UnknownName { .. })));
        place.check(
            &[("gate", 1, "a:1 b:1 c:1"), ("door", 2, "d:1")],
            &[("a:1", 1), ("b:1", 1), ("c:1", 1), ("d:1", 2)],
        );
        place.trust("gate", Some(4), Some("tor")).unwrap();
        place.check(
            &[("tor", 4, "a:1 b:1 c:1"), ("door", 2, "d:1")],
            &[("d:1", 2), ("a:1", 4), ("b:1", 4), ("c:1", 4)],
        );
        place.forget("b:1").unwrap();
        place.forget("d:1").unwrap();
        place.check(&[("tor", 4, "a:1 c:1")], &[("a:1", 4), ("c:1", 4)]);
        assert!(matches!(place.forget("gate"), Err(Error::UnknownName { .. })));
        // What another name has stays known.
        place.trust("c:1 x:1", Some(4), Some("second")).unwrap();
        place.forget("tor").unwrap();
        place.check(&[("second", 4, "c:1 x:1")], &[("c:1", 4), ("x:1", 4)]);
    }

    #[test]
    fn a_name_has_only_so_many_addresses() {
        let place = Place::new();
        let many: Vec<String> = (1..=MAX_ADDRESSES).map(|port| format!("a:{port}")).collect();
        place.trust(&many.join(" "), Some(1), Some("gate")).unwrap();
        assert!(matches!(place.trust("b:1", None, Some("gate")), Err(Error::TooManyAddresses { .. })));
        assert!(place.trust(&format!("b:1 {}", many.join(" ")), Some(1), Some("x")).is_err());
        assert_eq!(NamedServers::new(place.home()).all().unwrap().len(), 1);
        assert_eq!(KnownServers::new(place.home()).all().unwrap().len(), MAX_ADDRESSES);
    }
}
