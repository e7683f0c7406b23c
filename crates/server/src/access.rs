//! Who may come in: the file of allowed clients, looked at afresh for every connection.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crypto_core::identity::KeyId;
use crypto_core::psk::is_valid_id;
use program::home::Home;
use program::private_file;
use serde::{Deserialize, Serialize};
use wire_protocol::message::{ClientIdentity, DeniedCode};

use crate::Error;
use crate::settings::Strangers;

/// The allowed clients, as they stand in `clients.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Clients with a key.
    #[serde(default, rename = "client", skip_serializing_if = "Vec::is_empty")]
    clients: Vec<Client>,
    /// Pre-shared keys that were made here.
    #[serde(default, rename = "psk", skip_serializing_if = "Vec::is_empty")]
    psks: Vec<Psk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    name: String,
    key: Fingerprint,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Psk {
    name: String,
    #[serde(default)]
    revoked: bool,
}

/// A key id that is checked as the file is read, so that the error has its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Fingerprint(KeyId);

impl TryFrom<String> for Fingerprint {
    type Error = crypto_core::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0.to_string()
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This machine: loopback or a unix socket.
    Local,
    /// Anywhere else.
    Remote,
}

/// A client that may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guest {
    /// What it is called in front of its messages.
    pub(crate) name: String,
    /// Its key's fingerprint, if it has one.
    pub(crate) key: Option<String>,
    pub(crate) rights: Rights,
    pub(crate) standing: Standing,
}

/// Whether somebody has allowed a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Somebody has.
    Allowed,
    /// Nobody has; strangers are let in.
    Stranger,
}

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// All there is.
    All,
    /// Messages alone: nobody has been allowed yet, and it comes from this machine.
    Messages,
}

impl Access {
    /// Allows the holder of `key`, under `name`.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::NameTaken`].
    pub fn allow(&mut self, key: KeyId, name: &str) -> Result<(), Error> {
        if !is_valid_id(name) {
            return Err(Error::BadName { name: name.into() });
        }
        let taken = self.clients.iter().any(|client| client.name == name && client.key.0 != key)
            || self.psks.iter().any(|psk| psk.name == name);
        if taken {
            return Err(Error::NameTaken { name: name.into() });
        }
        self.clients.retain(|client| client.key.0 != key);
        self.clients.push(Client { name: name.into(), key: Fingerprint(key) });
        Ok(())
    }

    /// Notes a pre-shared key that was made here, so that it can be revoked by its name.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::NameTaken`].
    pub fn note_psk(&mut self, name: &str) -> Result<(), Error> {
        if !is_valid_id(name) {
            return Err(Error::BadName { name: name.into() });
        }
        // A revoked name stays taken: the key that was revoked would be let in again with it.
        let taken = self.clients.iter().any(|client| client.name == name) || self.is_revoked(name);
        if taken {
            return Err(Error::NameTaken { name: name.into() });
        }
        if self.psks.iter().all(|psk| psk.name != name) {
            self.psks.push(Psk { name: name.into(), revoked: false });
        }
        Ok(())
    }

    /// Whether a pre-shared key of this name was noted.
    #[must_use]
    pub fn knows_psk(&self, name: &str) -> bool {
        self.psks.iter().any(|psk| psk.name == name)
    }

    /// Revokes whoever has this name or fingerprint.
    ///
    /// # Errors
    /// [`Error::UnknownClient`].
    pub fn revoke(&mut self, name: &str) -> Result<(), Error> {
        let before = self.clients.len();
        self.clients.retain(|client| client.name != name && client.key.0.to_string() != name);
        let mut found = self.clients.len() < before;
        for psk in self.psks.iter_mut().filter(|psk| psk.name == name) {
            found |= !psk.revoked;
            psk.revoked = true;
        }
        if found { Ok(()) } else { Err(Error::UnknownClient { name: name.into() }) }
    }

    /// A line for each client, with a tab between name and key.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let clients = self.clients.iter().map(|client| format!("{}\t{}", client.name, client.key.0));
        let psks = self.psks.iter().filter(|psk| !psk.revoked);
        clients.chain(psks.map(|psk| format!("{}\tpre-shared key", psk.name)))
    }

    fn name_of(&self, key: KeyId) -> Option<&str> {
        self.clients.iter().find(|client| client.key.0 == key).map(|client| client.name.as_str())
    }

    fn is_revoked(&self, psk: &str) -> bool {
        self.psks.iter().any(|known| known.name == psk && known.revoked)
    }
}

/// `clients.toml` of a home.
#[derive(Debug)]
pub struct AccessFile {
    home: Home,
    path: PathBuf,
    /// What was read last, and the state of the file then.
    cached: Mutex<Option<(Stamp, Arc<Access>)>>,
}

/// Tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    len: u64,
    inode: u64,
}

impl AccessFile {
    /// The file of this home.
    #[must_use]
    pub fn new(home: Home) -> Self {
        Self { path: home.file(NAME), home, cached: Mutex::new(None) }
    }

    /// What the file says now; `None` where there is none, which is how it begins.
    ///
    /// # Errors
    /// [`Error::AccessFile`] when it does not make sense, [`Error::Program`] when it cannot be read.
    pub fn read(&self) -> Result<Option<Arc<Access>>, Error> {
        let Some(stamp) = stamp(&self.path)? else { return Ok(None) };
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cached {
            Some((known, access)) if *known == stamp => Ok(Some(Arc::clone(access))),
            _ => {
                let access = Arc::new(parse(&self.path)?);
                *cached = Some((stamp, Arc::clone(&access)));
                Ok(Some(access))
            }
        }
    }

    /// Changes the file. A running server sees it with its next connection.
    ///
    /// # Errors
    /// Those of `change`, and as [`AccessFile::read`].
    pub fn edit(&self, change: impl FnOnce(&mut Access) -> Result<(), Error>) -> Result<(), Error> {
        let _lock = self.home.lock(NAME)?;
        let mut access = if self.path.exists() { parse(&self.path)? } else { Access::default() };
        change(&mut access)?;
        let text = toml::to_string(&access).map_err(|error| Error::Print(io::Error::other(error)))?;
        let text = format!("{HEADER}{text}");
        Ok(private_file::replace(&self.path, text.as_bytes())?)
    }

    /// Decides on a client. A file that cannot be read lets nobody in.
    pub(crate) fn authorize(
        &self,
        client: &ClientIdentity,
        origin: Origin,
        strangers: Strangers,
    ) -> Result<Guest, DeniedCode> {
        let access = self.read().map_err(|error| {
            tracing::error!(%error, "nobody is let in");
            DeniedCode::NotAllowed
        })?;
        let (name, key) = match client {
            ClientIdentity::Psk(id) => {
                let revoked = access.is_some_and(|access| access.is_revoked(id));
                return if revoked {
                    Err(DeniedCode::NotAllowed)
                } else {
                    Ok(Guest {
                        name: id.clone(),
                        key: None,
                        rights: Rights::All,
                        standing: Standing::Allowed,
                    })
                };
            }
            ClientIdentity::Key(id) => {
                let key = KeyId(*id);
                if let Some(name) = access.as_ref().and_then(|access| access.name_of(key)) {
                    let key = Some(key.to_string());
                    return Ok(Guest {
                        name: name.into(),
                        key,
                        rights: Rights::All,
                        standing: Standing::Allowed,
                    });
                }
                (key.to_string(), Some(key.to_string()))
            }
            ClientIdentity::Anonymous => ("anonymous".into(), None),
        };
        match (strangers, access, origin) {
            (Strangers::Welcome, _, _) => {
                Ok(Guest { name, key, rights: Rights::All, standing: Standing::Stranger })
            }
            (Strangers::Refused, None, Origin::Local) => {
                Ok(Guest { name, key, rights: Rights::Messages, standing: Standing::Stranger })
            }
            _ if key.is_none() => Err(DeniedCode::ClientKeyRequired),
            _ => Err(DeniedCode::NotAllowed),
        }
    }

    /// Whether a client without a key could be let in at all.
    pub(crate) fn admits_anonymous(&self, origin: Origin, strangers: Strangers) -> bool {
        self.authorize(&ClientIdentity::Anonymous, origin, strangers).is_ok()
    }
}

fn stamp(path: &Path) -> Result<Option<Stamp>, Error> {
    use std::os::unix::fs::MetadataExt as _;

    let read = |source| program::Error::File { action: "read", path: path.into(), source };
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(Stamp {
            modified: metadata.modified().map_err(read)?,
            len: metadata.len(),
            inode: metadata.ino(),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(read(error).into()),
    }
}

fn parse(path: &Path) -> Result<Access, Error> {
    let text = private_file::read_public_text(path)?;
    toml::from_str(&text).map_err(|source| Error::AccessFile { path: path.into(), source: Box::new(source) })
}

const NAME: &str = "clients.toml";
const HEADER: &str = "# Written by `server allow` and `server revoke`, which do not keep comments.\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, AccessFile) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path().into())).unwrap();
        (folder, AccessFile::new(home))
    }

    const ALICE: KeyId = KeyId([1; 32]);

    #[test]
    fn closed_once_somebody_was_allowed_even_when_nobody_is_any_more() {
        let (_folder, file) = file();
        let anonymous = |origin| file.authorize(&ClientIdentity::Anonymous, origin, Strangers::Refused);
        assert_eq!(anonymous(Origin::Local).unwrap().rights, Rights::Messages);
        assert_eq!(anonymous(Origin::Remote), Err(DeniedCode::ClientKeyRequired));

        file.edit(|access| access.allow(ALICE, "alice")).unwrap();
        assert_eq!(anonymous(Origin::Local), Err(DeniedCode::ClientKeyRequired));
        let alice = || file.authorize(&ClientIdentity::Key(ALICE.0), Origin::Remote, Strangers::Refused);
        assert_eq!(alice().unwrap().name, "alice");

        file.edit(|access| access.revoke("alice")).unwrap();
        assert_eq!(alice(), Err(DeniedCode::NotAllowed));
        assert_eq!(anonymous(Origin::Local), Err(DeniedCode::ClientKeyRequired));
    }

    #[test]
    fn a_file_that_makes_no_sense_lets_nobody_in_and_names_the_line() {
        let (_folder, file) = file();
        let text = "[[client]]\nname = \"a\"\nkeys = \"SHA256:x\"\n";
        private_file::replace(&file.path, text.as_bytes()).unwrap();
        assert!(file.read().unwrap_err().to_string().contains("line 3"));
        let denied = file.authorize(&ClientIdentity::Psk("x".into()), Origin::Local, Strangers::Welcome);
        assert_eq!(denied, Err(DeniedCode::NotAllowed));
    }

    #[test]
    fn names_belong_to_one_client_and_a_revoked_psk_keeps_its_own() {
        let (_folder, file) = file();
        file.edit(|access| access.allow(ALICE, "alice")).unwrap();
        file.edit(|access| access.note_psk("laptop")).unwrap();
        file.edit(|access| access.note_psk("laptop")).unwrap();
        for (taken, result) in [
            ("alice", file.edit(|access| access.allow(KeyId([2; 32]), "alice"))),
            ("alice", file.edit(|access| access.note_psk("alice"))),
            ("laptop", file.edit(|access| access.allow(KeyId([2; 32]), "laptop"))),
        ] {
            assert!(matches!(result, Err(Error::NameTaken { .. })), "{taken}");
        }
        file.edit(|access| access.revoke("laptop")).unwrap();
        assert!(matches!(file.edit(|access| access.note_psk("laptop")), Err(Error::NameTaken { .. })));
        assert!(matches!(file.edit(|access| access.revoke("laptop")), Err(Error::UnknownClient { .. })));
        let laptop = file.authorize(&ClientIdentity::Psk("laptop".into()), Origin::Local, Strangers::Welcome);
        assert_eq!(laptop, Err(DeniedCode::NotAllowed));
        file.edit(|access| access.allow(ALICE, "alice2")).unwrap();
        assert_eq!(file.read().unwrap().unwrap().lines().collect::<Vec<_>>(), [format!("alice2\t{ALICE}")]);
    }
}
