//! The file `known_servers`, which holds the server key that belongs to each address.
//!
//! A line is `ADDRESS SHA256:... [KEY]`, the key itself in base64 where it has been seen: with it the first
//! message can be sealed at once, which saves a round trip. The fingerprint alone decides.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use base64ct::{Base64, Encoding as _};
use clap::ValueEnum;
use cli_support::home::Home;
use cli_support::private_file;
use crypto_core::identity::{KeyId, PublicKey};
use tunnel::address::Address;

use crate::error::Error;

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

/// The key of a known server.
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
    last: Mutex<Option<Lookup>>,
}

/// What was found last, and in what: parsing a key costs as much as half a handshake.
#[derive(Debug)]
struct Lookup {
    text: String,
    wanted: Vec<String>,
    found: Vec<Option<KnownServer>>,
}

impl KnownServers {
    /// The file of this home.
    #[must_use]
    pub fn new(home: Home) -> Self {
        Self { path: home.file(NAME), home, last: Mutex::default() }
    }

    /// The server known at `address`.
    ///
    /// # Errors
    /// [`Error::KnownServers`] names the line that does not make sense.
    pub fn find(&self, address: &Address) -> Result<Option<KnownServer>, Error> {
        self.find_all(&[address]).map(|mut found| found.pop().flatten())
    }

    /// The servers known at each of `addresses`.
    ///
    /// # Errors
    /// As [`KnownServers::find`].
    pub(crate) fn find_all(&self, addresses: &[&Address]) -> Result<Vec<Option<KnownServer>>, Error> {
        let wanted: Vec<String> = addresses.iter().map(|address| field(address)).collect();
        let text = self.read()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref().filter(|last| last.text == text && last.wanted == wanted) {
            return Ok(last.found.clone());
        }
        let mut found = vec![None; wanted.len()];
        for (known, server) in self.entries(&text)? {
            for (wanted, found) in wanted.iter().zip(&mut found) {
                if *wanted == known {
                    found.get_or_insert_with(|| server.clone());
                }
            }
        }
        *last = Some(Lookup { text, wanted, found: found.clone() });
        Ok(found)
    }

    /// All known servers: an address as it is written, and the id of the key.
    ///
    /// # Errors
    /// As [`KnownServers::find`].
    pub(crate) fn all(&self) -> Result<Vec<(String, KeyId)>, Error> {
        let entries = self.entries(&self.read()?)?;
        let shown = |field: String| unescaped(&field).unwrap_or(field);
        Ok(entries.into_iter().map(|(field, server)| (shown(field), server.id)).collect())
    }

    /// Every line is read, wherever the wanted one is: a file that is damaged is not half trusted.
    fn entries(&self, text: &str) -> Result<Vec<(String, KnownServer)>, Error> {
        let lines = text.lines().enumerate().filter(|(_, line)| is_entry(line));
        let path = || self.path.display().to_string();
        let parse =
            |(index, line)| parse(line).ok_or_else(|| Error::KnownServers { path: path(), line: index + 1 });
        lines.map(parse).collect()
    }

    /// Makes a server known, in place of another one at the same address.
    ///
    /// # Errors
    /// Those of the file.
    pub fn remember(&self, address: &Address, server: &KnownServer) -> Result<(), Error> {
        self.edit(address, Some(server), || Ok(()))
    }

    /// Makes a server known that has proven its key, unless another one has become known at the address meanwhile: what a person
    /// says during a handshake counts.
    ///
    /// # Errors
    /// [`Error::ServerKeyContradicts`]; those of the file.
    pub(crate) fn remember_proven(&self, address: &Address, server: &KnownServer) -> Result<(), Error> {
        self.edit(address, Some(server), || match self.find(address)? {
            Some(known) if known.id != server.id => Err(Error::ServerKeyContradicts {
                address: address.to_string(),
                server: address.to_string(),
                known: known.id,
                given: server.id,
            }),
            _ => Ok(()),
        })
    }

    /// Forgets the server at an address.
    ///
    /// # Errors
    /// Those of the file.
    pub fn forget(&self, address: &Address) -> Result<(), Error> {
        self.edit(address, None, || Ok(()))
    }

    /// Changes the lines of one address. All others stay as they are, comments included.
    fn edit(
        &self,
        address: &Address,
        server: Option<&KnownServer>,
        check: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _lock = self.home.lock(NAME)?;
        check()?;
        let address = field(address);
        let mut text = String::new();
        for line in self.read()?.lines() {
            let is_of_address = is_entry(line) && line.split_ascii_whitespace().next() == Some(&address);
            if !is_of_address {
                text.push_str(line);
                text.push('\n');
            }
        }
        if let Some(KnownServer { id, key }) = server {
            let key = key.as_ref().map(|key| format!(" {}", Base64::encode_string(key.spki_der())));
            text.push_str(&format!("{address} {id}{}\n", key.unwrap_or_default()));
        }
        Ok(private_file::replace(&self.path, text.as_bytes())?)
    }

    fn read(&self) -> Result<String, Error> {
        // Taken for empty, it would have every server trusted anew.
        if private_file::is_absent(&self.path)? {
            return Ok(String::new());
        }
        Ok(private_file::read_public_text(&self.path)?)
    }
}

fn is_entry(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

/// An address as the first field of a line: a path may have blanks, or worse, in it.
fn field(address: &Address) -> String {
    let mut field = String::new();
    for c in address.to_string().chars() {
        if c.is_whitespace() || c.is_control() || c == '%' {
            let mut bytes = [0; 4];
            field.extend(c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02x}")));
        } else {
            field.push(c);
        }
    }
    field
}

/// The address that [`field`] has made a field of; `None` for what it makes of none.
fn unescaped(field: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut parts = field.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

fn parse(line: &str) -> Option<(String, KnownServer)> {
    let mut fields = line.split_ascii_whitespace();
    let address = fields.next()?;
    unescaped(address).as_deref().unwrap_or(address).parse::<Address>().ok()?;
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
    fields.next().is_none().then(|| (address.to_owned(), KnownServer { id, key }))
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
        let [a, b] = ["a:1", "unix:/b %20c\nd:1 \u{a0}x"].map(|address| address.parse::<Address>().unwrap());
        assert_eq!(file.find(&a).unwrap(), None);
        std::fs::write(folder.path().join(NAME), "# a comment\n").unwrap();
        file.remember(&a, &known(1)).unwrap();
        file.remember(&b, &known(2)).unwrap();
        file.remember(&a, &known(3)).unwrap();
        assert_eq!(file.find(&a).unwrap(), Some(known(3)));
        let refused = file.remember_proven(&a, &known(1));
        assert!(matches!(refused, Err(Error::ServerKeyContradicts { .. })), "{refused:?}");
        file.remember_proven(&a, &known(3)).unwrap();
        assert_eq!(file.find(&a).unwrap(), Some(known(3)));
        file.forget(&a).unwrap();
        assert_eq!(file.find(&a).unwrap(), None);
        assert_eq!(file.find(&b).unwrap(), Some(known(2)));
        let text = std::fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert!(text.starts_with("# a comment\n") && text.lines().count() == 2, "{text}");
    }

    /// The escaped percent sign made the interface's name too long for one, and the whole file unreadable.
    #[test]
    fn a_link_local_server_is_known_behind_the_longest_name_of_an_interface() {
        let folder = tempfile::tempdir().unwrap();
        let file = KnownServers::new(Home::resolve(Some(folder.path().into())).unwrap());
        for address in ["[fe80::1%enx001122334455]:5000", "[fe80::1%eth0]:5000"] {
            let address = address.parse().unwrap();
            file.remember(&address, &known(1)).unwrap();
            assert_eq!(file.find(&address).unwrap(), Some(known(1)));
        }
    }

    #[test]
    fn a_file_that_is_not_certainly_absent_is_not_empty() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("home");
        std::fs::create_dir(&folder).unwrap();
        let file = KnownServers::new(Home::resolve(Some(folder.clone())).unwrap());
        let address = "a:1".parse().unwrap();
        let check = |is_good: bool| {
            assert_eq!(file.find(&address).is_ok(), is_good);
            assert_eq!(file.remember(&address, &known(1)).is_ok(), is_good);
            std::fs::remove_file(folder.join(NAME)).ok();
        };
        check(true);
        symlink("/no/such/place", folder.join(NAME)).unwrap();
        check(false);
        // Another user who can write to the folder may have taken the file away.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        check(false);
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        check(true);
        // What the home stands on is not mounted.
        std::fs::remove_dir_all(&folder).unwrap();
        symlink("/no/such/place", &folder).unwrap();
        check(false);
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = KnownServers::new(Home::resolve(Some(folder.path().into())).unwrap());
        let good = format!("a:1 {}", KeyId([1; 32]));
        for bad in ["a:1", "a:1 MD5:x", &format!("{good} AAAA"), &format!("a {}", KeyId([1; 32]))] {
            std::fs::write(folder.path().join(NAME), format!("# comment\n{good}\n{bad}\n")).unwrap();
            let result = file.find(&"a:1".parse().unwrap());
            assert!(matches!(result, Err(Error::KnownServers { line: 3, .. })), "{bad}");
        }
    }
}
