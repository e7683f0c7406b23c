//! The file `servers.toml`: the servers that have a name here, each with its key and its addresses.
//!
//! ```toml
//! version = 1
//!
//! [[server]]
//! name = "gate"
//! key = "SHA256:..."
//! addresses = ["gate.example.org:5000", "192.0.2.7:5000"]
//! ```

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use cli_support::config;
use cli_support::home::Home;
use cli_support::private_file;
use crypto_core::identity::KeyId;
use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tunnel::address::Address;

use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::server_spec::ServerName;

/// A server that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the three things that a name stands for")]
pub struct NamedServer {
    /// Its name.
    pub name: ServerName,
    /// The id of its key.
    pub key: KeyId,
    /// Where it is, in the order in which they are tried: 1 to 8 addresses, each one once.
    pub addresses: Vec<Address>,
}

impl NamedServer {
    /// Adds those of `addresses` that are not there yet, as far as there is room. Returns whether there was for all.
    pub fn add(&mut self, addresses: impl IntoIterator<Item = Address>) -> bool {
        for address in addresses {
            if !self.addresses.contains(&address) {
                if self.addresses.len() >= MAX_ADDRESSES {
                    return false;
                }
                self.addresses.push(address);
            }
        }
        true
    }
}

/// The file of servers with names of a home.
#[derive(Debug)]
pub struct NamedServers {
    home: Home,
    path: PathBuf,
}

impl NamedServers {
    /// The file of this home.
    #[must_use]
    pub fn new(home: Home) -> Self {
        Self { path: home.file(NAME), home }
    }

    /// All of them, in the order of the file.
    ///
    /// # Errors
    /// [`Error::Program`] names the file, and the line where something in it does not make sense.
    pub fn all(&self) -> Result<Vec<NamedServer>, Error> {
        // Taken for empty, the file would have names given away anew.
        if private_file::is_absent(&self.path)? {
            return Ok(Vec::new());
        }
        let _: Version = config::read(&self.path)?;
        let File { server: Servers(servers), .. } = config::read(&self.path)?;
        Ok(servers)
    }

    /// The one of this name.
    ///
    /// # Errors
    /// [`Error::UnknownName`]; those of [`NamedServers::all`].
    pub fn find(&self, name: &ServerName) -> Result<NamedServer, Error> {
        find(self.all()?, name)
    }

    /// Changes the file, which is replaced as a whole. Nothing else changes it meanwhile.
    ///
    /// # Errors
    /// Those of `change` and of [`NamedServers::all`], after which the file is as before; those of writing.
    pub fn edit<T>(
        &self,
        change: impl FnOnce(&mut Vec<NamedServer>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _lock = self.home.lock(NAME)?;
        let mut servers = self.all()?;
        let before = servers.clone();
        let changed = change(&mut servers)?;
        // A file that nobody could read again would take all names away.
        if servers.len() > MAX_SERVERS {
            return Err(Error::Trust(TOO_MANY));
        }
        if servers != before {
            private_file::replace_long(&self.path, text(&servers)?.as_bytes())?;
        }
        Ok(changed)
    }
}

/// The one of this name.
///
/// # Errors
/// [`Error::UnknownName`] names those that there are.
pub(crate) fn find(mut servers: Vec<NamedServer>, name: &ServerName) -> Result<NamedServer, Error> {
    match servers.iter().position(|server| server.name == *name) {
        Some(at) => Ok(servers.swap_remove(at)),
        None => {
            let known = servers.into_iter().map(|server| server.name.to_string()).collect();
            Err(Error::UnknownName { name: name.to_string(), known })
        }
    }
}

fn text(servers: &[NamedServer]) -> Result<String, Error> {
    let server = servers.iter().map(|server| Written {
        name: server.name.to_string(),
        key: server.key.to_string(),
        addresses: server.addresses.iter().map(Address::to_string).collect(),
    });
    let file = WrittenFile { version: VERSION, server: server.collect() };
    toml::to_string(&file).map_err(|error| Error::Runtime(std::io::Error::other(error)))
}

/// The file as it is written.
#[derive(Serialize)]
struct WrittenFile {
    version: u64,
    server: Vec<Written>,
}

#[derive(Serialize)]
struct Written {
    name: String,
    key: String,
    addresses: Vec<String>,
}

/// What is read first: a file of a later version may have anything else in it.
#[derive(Deserialize)]
struct Version {
    #[serde(rename = "version", deserialize_with = "version")]
    _version: (),
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    struct Known;

    impl Visitor<'_> for Known {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number")
        }

        fn visit_i64<E: serde::de::Error>(self, version: i64) -> Result<(), E> {
            match u64::try_from(version) {
                Ok(VERSION) => Ok(()),
                Ok(newer) if newer > VERSION => Err(E::custom(
                    "it was written by a newer version of this program, which is needed to read it",
                )),
                _ => Err(E::custom("there is no such version")),
            }
        }
    }

    deserializer.deserialize_i64(Known)
}

/// The file as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version", deserialize_with = "version")]
    _version: (),
    #[serde(default)]
    server: Servers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    #[serde(deserialize_with = "config::text")]
    name: ServerName,
    #[serde(deserialize_with = "config::text")]
    key: Fingerprint,
    #[serde(deserialize_with = "config::texts")]
    addresses: Vec<Address>,
}

/// The servers of the file, no two of which have the same name.
#[derive(Default)]
struct Servers(Vec<NamedServer>);

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Servers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tables of servers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<Servers, A::Error> {
                let (mut names, mut servers) = (HashSet::new(), Vec::new());
                while let Some(server) = tables.next_element_seed(Next { names: &mut names })? {
                    if servers.len() >= MAX_SERVERS {
                        return Err(A::Error::custom("there are too many servers"));
                    }
                    servers.push(server);
                }
                Ok(Servers(servers))
            }
        }

        deserializer.deserialize_seq(All)
    }
}

/// The next server of the file. What is wrong with it is found while it is read, so that the error has its line.
struct Next<'a> {
    names: &'a mut HashSet<ServerName>,
}

impl<'de> DeserializeSeed<'de> for Next<'_> {
    type Value = NamedServer;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<NamedServer, D::Error> {
        config::table(deserializer, |Row { name, key: Fingerprint(key), addresses }| {
            let mut seen = HashSet::new();
            if !self.names.insert(name.clone()) {
                Err(format!("the name {name} is there twice"))
            } else if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
                Err(format!("{name} has {} addresses: 1 to {MAX_ADDRESSES} are possible", addresses.len()))
            } else if let Some(twice) = addresses.iter().find(|address| !seen.insert(*address)) {
                Err(format!("{name} has the address {twice} twice"))
            } else {
                Ok(NamedServer { name, key, addresses })
            }
        })
    }
}

/// Most addresses of one server, as in an invite.
pub(crate) const MAX_ADDRESSES: usize = 8;
/// Most servers that have names: a list of more is for a name server.
const MAX_SERVERS: usize = 10_000;
const TOO_MANY: &str = "no more than 10,000 servers can have a name: forget one first";
const NAME: &str = "servers.toml";
const VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: Option<&str>) -> (tempfile::TempDir, NamedServers) {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            std::fs::write(folder.path().join(NAME), text).unwrap();
        }
        let servers = NamedServers::new(Home::resolve(Some(folder.path().into())).unwrap());
        (folder, servers)
    }

    fn server(name: &str, key: u8, addresses: &[&str]) -> NamedServer {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        NamedServer { name: name.parse().unwrap(), key: KeyId([key; 32]), addresses }
    }

    fn edit(file: &NamedServers, change: impl FnOnce(&mut Vec<NamedServer>)) -> Result<(), Error> {
        file.edit(|servers| {
            change(servers);
            Ok(())
        })
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (_folder, file) = file(None);
        assert_eq!(file.all().unwrap(), []);
        let servers = [
            server("gate", 1, &["gate.example.org:5000", "[fe80::1%eth0]:5000"]),
            server("Tür", 2, &["unix:/a \"b\"\n'c"]),
        ];
        edit(&file, |all| all.extend(servers.clone())).unwrap();
        assert_eq!(file.all().unwrap(), servers);
        assert_eq!(file.find(&"Tu\u{308}r".parse().unwrap()).unwrap(), servers[1]);
        let error = file.find(&"gat".parse().unwrap()).unwrap_err();
        assert!(
            matches!(&error, Error::UnknownName { known, .. } if known[..] == ["gate", "Tür"]),
            "{error}"
        );
        edit(&file, |all| all.retain(|server| server.name.as_str() != "gate")).unwrap();
        assert_eq!(file.all().unwrap(), servers[1..]);
    }

    #[test]
    fn addresses_are_added_once_and_as_far_as_there_is_room() {
        let mut gate = server("gate", 1, &["a:1"]);
        assert!(gate.add(["b:1", "a:1", "b:1"].map(|address| address.parse().unwrap())));
        assert_eq!(gate, server("gate", 1, &["a:1", "b:1"]));
        assert!(!gate.add((2..20).map(|port| format!("a:{port}").parse().unwrap())));
        assert_eq!(gate.addresses.len(), MAX_ADDRESSES);
    }

    #[test]
    fn no_more_are_written_than_can_be_read_again() {
        let (_folder, file) = file(None);
        let new = |number| server(&format!("server-{number}"), 1, &["a:1"]);
        let error = edit(&file, |all| all.extend((0..=MAX_SERVERS).map(new))).unwrap_err();
        assert!(matches!(error, Error::Trust(_)), "{error}");
        edit(&file, |all| all.push(server("gate", 1, &["a:1"]))).unwrap();
        assert_eq!(file.all().unwrap().len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_line_and_not_overwritten() {
        let key = KeyId([7; 32]);
        let table = |name: &str, rest: &str| format!("[[server]]\nname = '{name}'\nkey = '{key}'\n{rest}\n");
        let good = table("gate", "addresses = ['a:1']");
        let many: Vec<String> = (1..10).map(|port| format!("'a:{port}'")).collect();
        for (text, line, what) in [
            (String::new(), 1, "missing field `version`"),
            (good.clone(), 1, "missing field `version`"),
            ("version = 2\nfuture = true\n".into(), 1, "newer version"),
            (format!("# new\nfuture = true\nversion = 9\n{good}"), 3, "newer version"),
            ("version = 0\n".into(), 1, "no such version"),
            ("version = -1\n".into(), 1, "no such version"),
            ("version = '1'\n".into(), 1, "a number"),
            ("version = 1\nservers = []\n".into(), 2, "unknown field"),
            ("version = 1\nserver = 'gate'\n".into(), 2, "tables of servers"),
            (format!("version = 1\n{good}{good}"), 6, "the name gate is there twice"),
            (format!("version = 1\n{}", table("a b", "addresses = ['a:1']")), 3, "no name for a server"),
            (format!("version = 1\n{}", table("a", "addresses = ['a']")), 5, "not an address"),
            (format!("version = 1\n{}", table("a", "addresses = ['gate']")), 5, "not an address"),
            (format!("version = 1\n{}", table("a", "addresses = []")), 2, "0 addresses"),
            (format!("version = 1\n{}", table("a", "addresses = ['a:1', 'a:1']")), 2, "a:1 twice"),
            (
                format!("version = 1\n{}", table("a", &format!("addresses = [{}]", many.join(", ")))),
                2,
                "9 addresses",
            ),
            (format!("version = 1\n{}", table("a", "")), 2, "missing field `addresses`"),
            ("version = 1\n[[server]]\nname = 'a'\nkey = 'MD5:x'\naddresses = ['a:1']\n".into(), 4, "MD5:x"),
            (format!("version = 1\n{good}trust = true\n"), 6, "unknown field"),
            ("version = 1\n[[server]\n".into(), 2, ""),
        ] {
            let (folder, file) = file(Some(&text));
            let errors = [
                file.all().map(drop),
                file.find(&"gate".parse().unwrap()).map(drop),
                edit(&file, |all| all.push(server("new", 1, &["a:1"]))),
            ];
            for error in errors {
                let error = error.unwrap_err().to_string();
                assert!(
                    error.contains(&format!("servers.toml: TOML parse error at line {line},")),
                    "{text}: {error}"
                );
                assert!(error.contains(what), "{text}: {error}");
            }
            assert_eq!(std::fs::read_to_string(folder.path().join(NAME)).unwrap(), text);
        }
    }

    #[test]
    fn a_file_that_is_not_certainly_absent_is_not_empty() {
        let (folder, file) = file(None);
        std::os::unix::fs::symlink("/no/such/place", folder.path().join(NAME)).unwrap();
        assert!(file.all().is_err());
        assert!(edit(&file, |all| all.push(server("new", 1, &["a:1"]))).is_err());
    }

    #[test]
    fn of_many_that_write_at_once_none_is_lost() {
        let (_folder, file) = file(None);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let file = &file;
                scope.spawn(move || {
                    let name = format!("server-{number}");
                    edit(file, |all| all.push(server(&name, number, &["a:1"]))).unwrap();
                });
            }
        });
        assert_eq!(file.all().unwrap().len(), 8);
    }
}
