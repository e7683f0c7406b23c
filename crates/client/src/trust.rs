//! Which server key belongs to which address: the file `known_servers`.
//!
//! A line is `ADDRESS SHA256:... [KEY]`, the key itself in base64 where it has been seen: with it the first
//! message can be sealed at once, which saves a round trip. The fingerprint alone decides.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

use base64ct::{Base64, Encoding as _};
use clap::ValueEnum;
use crypto_core::identity::{KeyId, PublicKey};
use program::address::Address;
use program::home::Home;
use program::private_file;

use crate::Error;

/// What to do about a server that is not known. One that is known with another key is refused in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TrustPolicy {
    /// Show its fingerprint and ask; without a terminal, fail
    Ask,
    /// Take its key and remember it
    AcceptNew,
    /// Fail
    Strict,
}

/// A server that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownServer {
    /// The id of its key.
    pub id: KeyId,
    /// The key, where it has been seen.
    pub key: Option<PublicKey>,
}

/// The file of known servers of a home.
#[derive(Debug)]
pub struct KnownServers {
    home: Home,
    path: PathBuf,
}

impl KnownServers {
    /// The file of this home.
    #[must_use]
    pub fn new(home: Home) -> Self {
        Self { path: home.file(NAME), home }
    }

    /// The server known at `address`.
    ///
    /// # Errors
    /// [`Error::KnownServers`] names the line that does not make sense.
    pub fn find(&self, address: &Address) -> Result<Option<KnownServer>, Error> {
        let address = address.to_string();
        let mut lines = self.read()?.into_iter();
        Ok(lines.find(|(known, _)| *known == address).map(|(_, server)| server))
    }

    /// Makes a server known, in place of another one at the same address.
    ///
    /// # Errors
    /// As [`KnownServers::find`], and those of the file.
    pub fn remember(&self, address: &Address, server: KnownServer) -> Result<(), Error> {
        self.edit(address, Some(server))
    }

    /// Forgets the server at an address.
    ///
    /// # Errors
    /// As [`KnownServers::remember`].
    pub fn forget(&self, address: &Address) -> Result<(), Error> {
        self.edit(address, None)
    }

    fn edit(&self, address: &Address, server: Option<KnownServer>) -> Result<(), Error> {
        let _lock = self.home.lock(NAME)?;
        let address = address.to_string();
        let mut lines = self.read()?;
        match (lines.iter_mut().find(|(known, _)| *known == address), server) {
            (Some((_, known)), Some(server)) => *known = server,
            (Some(_), None) => lines.retain(|(known, _)| *known != address),
            (None, Some(server)) => lines.push((address, server)),
            (None, None) => {}
        }
        let mut text = String::new();
        for (address, KnownServer { id, key }) in &lines {
            let key = key.as_ref().map(|key| format!(" {}", Base64::encode_string(key.spki_der())));
            // Writing to a String does not fail.
            writeln!(text, "{address} {id}{}", key.unwrap_or_default()).ok();
        }
        Ok(private_file::replace(&self.path, text.as_bytes())?)
    }

    fn read(&self) -> Result<Vec<(String, KnownServer)>, Error> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(|source| program::Error::File {
                action: "read",
                path: self.path.clone(),
                source,
            })?,
        };
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        lines
            .map(|(index, line)| {
                let path = self.path.display().to_string();
                parse(line).ok_or(Error::KnownServers { path, line: index + 1 })
            })
            .collect()
    }
}

fn parse(line: &str) -> Option<(String, KnownServer)> {
    let mut fields = line.split_ascii_whitespace();
    let address: Address = fields.next()?.parse().ok()?;
    let id: KeyId = fields.next()?.parse().ok()?;
    let key = match fields.next() {
        Some(encoded) => {
            let key = PublicKey::from_spki_der(&Base64::decode_vec(encoded).ok()?).ok()?;
            if key.id() != id {
                return None;
            }
            Some(key)
        }
        None => None,
    };
    fields.next().is_none().then(|| (address.to_string(), KnownServer { id, key }))
}

const NAME: &str = "known_servers";

#[cfg(test)]
mod tests {
    use super::*;

    fn known(id: u8) -> KnownServer {
        KnownServer { id: KeyId([id; 32]), key: None }
    }

    #[test]
    fn servers_are_remembered_replaced_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let file = KnownServers::new(Home::resolve(Some(folder.path().into())).unwrap());
        let [a, b]: [Address; 2] = ["a:1", "unix:/b"].map(|address| address.parse().unwrap());
        assert_eq!(file.find(&a).unwrap(), None);
        file.remember(&a, known(1)).unwrap();
        file.remember(&b, known(2)).unwrap();
        file.remember(&a, known(3)).unwrap();
        assert_eq!(file.find(&a).unwrap(), Some(known(3)));
        file.forget(&a).unwrap();
        assert_eq!(file.find(&a).unwrap(), None);
        assert_eq!(file.find(&b).unwrap(), Some(known(2)));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = KnownServers::new(Home::resolve(Some(folder.path().into())).unwrap());
        let good = format!("a:1 {}", KeyId([1; 32]));
        for bad in ["a:1", "a:1 MD5:x", &format!("{good} AAAA"), &format!("a {}", KeyId([1; 32]))] {
            fs::write(folder.path().join(NAME), format!("# comment\n{good}\n{bad}\n")).unwrap();
            let result = file.find(&"a:1".parse().unwrap());
            assert!(matches!(result, Err(Error::KnownServers { line: 3, .. })), "{bad}");
        }
    }
}
