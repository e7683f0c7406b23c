//! The list of allowed clients.

use crypto_core::identity::KeyId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::client_name::ClientName;
use crate::access::credential::Credential;
use crate::access::entry::{ClientEntry, PskEntry};
use crate::access::grant::Grant;
use crate::access::name::Name;
use crate::access::rights::Rights;
use crate::access::text::Text;
use crate::error::Error;

/// The allowed clients, as they stand in `clients.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Entries", into = "Entries")]
pub struct Access {
    /// Clients with a key.
    clients: Vec<Client>,
    /// Pre-shared keys that were made or used here.
    psks: Vec<Psk>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) name: ClientName,
    key: KeyId,
    pub(super) grant: Grant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Psk {
    name: Name,
    pub(super) revoked: bool,
    pub(super) grant: Grant,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    client: Vec<ClientEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    psk: Vec<PskEntry>,
}

impl TryFrom<Entries> for Access {
    type Error = Error;

    fn try_from(entries: Entries) -> Result<Self, Error> {
        let mut access = Self::default();
        for entry in entries.client {
            let Text(name) = entry.name.clone();
            let Text(key) = entry.key;
            access.check_is_free(name.as_str())?;
            if access.client(key).is_some() {
                return Err(Error::DuplicateKey { key });
            }
            access.clients.push(Client { name, key, grant: entry.grant() });
        }
        for entry in entries.psk {
            let Text(name) = entry.name.clone();
            access.check_is_free(name.as_str())?;
            access.psks.push(Psk { name, revoked: entry.revoked, grant: entry.grant() });
        }
        Ok(access)
    }
}

impl From<Access> for Entries {
    fn from(access: Access) -> Self {
        let clients = access.clients.into_iter();
        let psks = access.psks.into_iter();
        Self {
            client: clients
                .map(|client| ClientEntry::new(client.name, Text(client.key), &client.grant))
                .collect(),
            psk: psks.map(|psk| PskEntry::new(psk.name, psk.revoked, &psk.grant)).collect(),
        }
    }
}

impl Access {
    /// Grants a client these rights in place of those that it had. A holder of a key goes by `name` from now on, or by the
    /// name that it has; a pre-shared key has its own.
    ///
    /// # Errors
    /// [`Error::NoName`], [`Error::NameTaken`]; for a pre-shared key [`Error::UnknownPsk`], [`Error::RevokedPsk`],
    /// [`Error::PskName`].
    pub fn allow(
        &mut self,
        client: &Credential,
        name: Option<&ClientName>,
        grant: Grant,
    ) -> Result<Allowed, Error> {
        self.change(client, name, |_| Ok(grant))
    }

    /// Grants a client these rights beside those that it has. Limits go in the place of those that it has, and networks
    /// beside them.
    ///
    /// # Errors
    /// As [`Access::allow`]; [`Error::UnknownClient`].
    pub fn add(
        &mut self,
        client: &Credential,
        name: Option<&ClientName>,
        grant: &Grant,
    ) -> Result<Allowed, Error> {
        self.change(client, name, |before| Ok(known_before(client, before)?.with(grant)))
    }

    /// Takes these rights, and networks, of a client away. All others stay.
    ///
    /// # Errors
    /// As [`Access::add`]; [`Error::NotHeld`] for one that the client does not have.
    pub fn remove(
        &mut self,
        client: &Credential,
        name: Option<&ClientName>,
        grant: &Grant,
    ) -> Result<Allowed, Error> {
        self.change(client, name, |before| known_before(client, before)?.without(grant))
    }

    /// `grant` gives what a client may do from what it could do before; `None` where it is new.
    fn change(
        &mut self,
        client: &Credential,
        name: Option<&ClientName>,
        grant: impl FnOnce(Option<&Grant>) -> Result<Grant, Error>,
    ) -> Result<Allowed, Error> {
        match client {
            Credential::Key(key) => {
                let known = self.client(*key);
                let grant = grant(known.map(|client| &client.grant))?;
                let name = name.or(known.map(|client| &client.name)).ok_or(Error::NoName)?;
                if known.is_none_or(|client| client.name != *name) {
                    self.check_is_free(name.as_str())?;
                }
                let allowed = Allowed::new(name.as_str(), known.map(|client| &client.grant), &grant);
                let client = Client { name: name.clone(), key: *key, grant };
                match self.clients.iter_mut().find(|known| known.key == *key) {
                    Some(known) => *known = client,
                    None => self.clients.push(client),
                }
                Ok(allowed)
            }
            Credential::Psk(id) => {
                let id_text = || id.to_string();
                if name.is_some_and(|name| name.as_str() != id.as_str()) {
                    return Err(Error::PskName { id: id_text() });
                }
                let known = self.psks.iter_mut().find(|psk| psk.name == *id);
                let psk = known.ok_or_else(|| Error::UnknownPsk { id: id_text() })?;
                if psk.revoked {
                    return Err(Error::RevokedPsk { id: id_text() });
                }
                let grant = grant(Some(&psk.grant))?;
                let allowed = Allowed::new(id.as_str(), Some(&psk.grant), &grant);
                psk.grant = grant;
                Ok(allowed)
            }
        }
    }

    /// Notes a pre-shared key that was made or is used here, so that it can be revoked, and given other rights, by its
    /// name. One that is new has the usual rights.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::NameTaken`].
    pub fn note_psk(&mut self, name: &str) -> Result<(), Error> {
        let name: Name = name.parse()?;
        // A revoked name stays taken: the key that was revoked would be let in again with it.
        if self.psk(name.as_str()).is_some_and(|psk| !psk.revoked) {
            return Ok(());
        }
        self.check_is_free(name.as_str())?;
        self.psks.push(Psk { name, revoked: false, grant: Grant::unlimited(Rights::usual()) });
        Ok(())
    }

    /// Whether a pre-shared key of this name was noted.
    #[must_use]
    pub fn knows_psk(&self, name: &str) -> bool {
        self.psk(name).is_some()
    }

    /// Whether a pre-shared key of this name was noted, and not revoked since.
    #[must_use]
    pub fn has_psk(&self, name: &str) -> bool {
        self.psk(name).is_some_and(|psk| !psk.revoked)
    }

    /// Revokes whoever has this name, fingerprint or `psk:NAME`.
    ///
    /// # Errors
    /// [`Error::UnknownClient`].
    pub fn revoke(&mut self, name: &str) -> Result<(), Error> {
        // As it is kept, however it was typed.
        let normal = name.parse::<ClientName>().map_or_else(|_| name.to_owned(), |name| name.to_string());
        let name = normal.as_str();
        let before = self.clients.len();
        self.clients.retain(|client| client.name.as_str() != name && client.key.to_string() != name);
        let mut found = self.clients.len() < before;
        let psk_name = name.strip_prefix("psk:").unwrap_or(name);
        for psk in self.psks.iter_mut().filter(|psk| psk.name.as_str() == psk_name) {
            found |= !psk.revoked;
            psk.revoked = true;
        }
        if found { Ok(()) } else { Err(Error::UnknownClient { name: name.into() }) }
    }

    /// A line for each client: its name, its key and its rights in the words of the options of `server allow`, with
    /// tabs between.
    pub fn lines(&self, now: Timestamp) -> impl Iterator<Item = String> {
        let clients = self.clients.iter();
        let psks = self.psks.iter().filter(|psk| !psk.revoked);
        clients
            .map(move |client| format!("{}\t{}\t{}", client.name, client.key, client.grant.options(now)))
            .chain(psks.map(move |psk| format!("{}\tpre-shared key\t{}", psk.name, psk.grant.options(now))))
    }

    /// As [`Access::lines`], but a JSON object for each client, with the keys of `clients.toml`, and with `kind` (`key` or `psk`) and
    /// `expired`.
    ///
    /// # Panics
    /// Never: names and rules can always be written.
    pub fn objects(&self, now: Timestamp) -> impl Iterator<Item = serde_json::Value> {
        let entry = |name: &ClientName, client: &Client| {
            json(ClientEntry::new(name.clone(), Text(client.key), &client.grant))
        };
        let clients =
            self.clients.iter().map(move |client| (entry(&client.name, client), "key", &client.grant));
        let psks = self.psks.iter().filter(|psk| !psk.revoked);
        let psks =
            psks.map(|psk| (json(PskEntry::new(psk.name.clone(), false, &psk.grant)), "psk", &psk.grant));
        clients.chain(psks).map(move |(mut line, kind, grant)| {
            line["kind"] = kind.into();
            line["expired"] = grant.has_expired(now).into();
            line
        })
    }

    /// What each client that was not revoked has been granted, by its name.
    pub fn grants(&self) -> impl Iterator<Item = (&str, &Grant)> {
        let clients = self.clients.iter().map(|client| (client.name.as_str(), &client.grant));
        let psks = self.psks.iter().filter(|psk| !psk.revoked);
        clients.chain(psks.map(|psk| (psk.name.as_str(), &psk.grant)))
    }

    pub(super) fn client(&self, key: KeyId) -> Option<&Client> {
        self.clients.iter().find(|client| client.key == key)
    }

    pub(super) fn psk(&self, name: &str) -> Option<&Psk> {
        self.psks.iter().find(|psk| psk.name.as_str() == name)
    }

    fn check_is_free(&self, name: &str) -> Result<(), Error> {
        let is_taken = self.clients.iter().any(|client| client.name.as_str() == name) || self.knows_psk(name);
        if is_taken { Err(Error::NameTaken { name: name.to_string() }) } else { Ok(()) }
    }
}

/// What a change of rights has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allowed {
    /// What the client is called.
    pub name: String,
    /// What it may do now.
    pub grant: Grant,
    /// The rights that it had and has no longer, in the words of the options of `server allow`.
    pub taken: Vec<String>,
    /// The limits that it has and had not, likewise.
    pub limits: Vec<String>,
}

impl Allowed {
    fn new(name: &str, before: Option<&Grant>, after: &Grant) -> Self {
        let lacking = |words: Vec<String>, others: &[String]| -> Vec<String> {
            words.into_iter().filter(|word| !others.contains(word)).collect()
        };
        let (taken, limits) = before.map_or_else(Default::default, |before| {
            (
                lacking(before.rights.words(), &after.rights.words()),
                lacking(after.limit_words(), &before.limit_words()),
            )
        });
        Self { name: name.into(), grant: after.clone(), taken, limits }
    }
}

fn known_before<'a>(client: &Credential, before: Option<&'a Grant>) -> Result<&'a Grant, Error> {
    before.ok_or_else(|| Error::UnknownClient { name: client.to_string() })
}

fn json(entry: impl Serialize) -> serde_json::Value {
    serde_json::to_value(entry).expect("names and rules can be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: KeyId = KeyId([1; 32]);

    fn credential(text: &str) -> Credential {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = format!(
            r#"[[client]]
name = "alice"
key = "{ALICE}"
messages = true
pipe = true
tcp = ["db.example.org:5432", "[fd00::/8]:8000-8100", "*:443"]
udp = ["10.0.0.53:53"]
unix = ["/run/db.sock"]
service = ["db"]
listen = ["8080", "0.0.0.0:9000-9010", "unix:/run/web.sock"]
max_channels = 8
max_rate = "10MiB"
expires = "2027-02-22T10:00:00Z"
from = ["10.0.0.0/8", "::1"]

[[client]]
name = "bob"
key = "{}"
messages = false

[[psk]]
name = "laptop"
revoked = true
pipe = true
"#,
            KeyId([2; 32])
        );
        let access: Access = toml::from_str(&text).unwrap();
        assert_eq!(toml::to_string(&access).unwrap(), text);
    }

    #[test]
    fn moments_are_read_in_each_way_that_people_write_them() {
        for (written, meant) in [
            ("2027-01-31T00:00:00Z", "2027-01-31T00:00:00Z"),
            ("\"2027-01-31T00:00:00Z\"", "2027-01-31T00:00:00Z"),
            ("2027-01-31 01:00:00+01:00", "2027-01-31T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-30T22:00:00Z"),
            ("\"9999-12-31T23:59:59Z\"", "9999-12-30T22:00:00Z"),
        ] {
            let text = format!("[[psk]]\nname = \"a\"\nexpires = {written}\n");
            let access: Access = toml::from_str(&text).unwrap();
            let line = access.lines(Timestamp::UNIX_EPOCH).next().unwrap();
            assert!(line.ends_with(&format!(" --expires {meant}")), "{written}: {line}");
            assert_eq!(toml::from_str::<Access>(&toml::to_string(&access).unwrap()).unwrap(), access);
        }
    }

    #[test]
    fn the_list_speaks_in_options_and_says_who_has_expired() {
        let text = format!(
            r#"[[client]]
name = "alice"
key = "{ALICE}"
messages = true
tcp = ["*:443", "10.0.0.1:80"]
unix = ["/run/it's.sock"]
service = ["db"]
listen = ["[::]:80"]
max_channels = 8
max_rate = "10MiB"
expires = "2027-02-22T10:00:00Z"
from = ["10.0.0.0/8"]
[[psk]]
name = "gone"
revoked = true
[[psk]]
name = "old"
expires = "2026-01-01T00:00:00Z"
[[psk]]
name = "useless"
messages = false
from = []
"#
        );
        let access: Access = toml::from_str(&text).unwrap();
        let lines: Vec<String> = access.lines("2026-11-24T00:00:00Z".parse().unwrap()).collect();
        assert_eq!(
            lines,
            [
                format!(
                    "alice\t{ALICE}\t--messages --tcp '*:443' --tcp 10.0.0.1:80 --unix '/run/it'\\''s.sock' \
                     --service db --listen '[::]:80' --max-channels 8 --max-rate 10MiB --from 10.0.0.0/8 \
                     --expires 2027-02-22T10:00:00Z"
                ),
                "old\tpre-shared key\t--messages --pipe --expires 2026-01-01T00:00:00Z (expired)".into(),
                "useless\tpre-shared key\t(no rights) (from nowhere)".into(),
            ]
        );
    }

    #[test]
    fn allowing_again_replaces_all_rights() {
        let mut access = Access::default();
        access.note_psk("laptop").unwrap();
        let narrow = Rights { service: vec!["db".parse().unwrap()], ..Rights::none() };
        let name: ClientName = "alice".parse().unwrap();
        for (client, name) in [(Credential::Key(ALICE), Some(&name)), (credential("psk:laptop"), None)] {
            access.allow(&client, name, Grant::unlimited(Rights::usual())).unwrap();
            access.allow(&client, name, Grant::unlimited(narrow.clone())).unwrap();
        }
        // The key goes by the name that it has where none is given.
        let again = access.allow(&Credential::Key(ALICE), None, Grant::unlimited(narrow)).unwrap();
        assert_eq!((again.name.as_str(), again.taken.len()), ("alice", 0));
        // It is still noted, and noting it once more takes nothing back.
        access.note_psk("laptop").unwrap();
        let rights =
            access.lines(Timestamp::UNIX_EPOCH).map(|line| line.rsplit('\t').next().map(str::to_owned));
        assert_eq!(rights.collect::<Vec<_>>(), vec![Some("--service db".to_owned()); 2]);
    }

    #[test]
    fn rights_are_for_clients_that_are_known_and_have_one_name() {
        let mut access = Access::default();
        for name in ["laptop", "lost"] {
            access.note_psk(name).unwrap();
        }
        access.revoke("psk:lost").unwrap();
        let before = access.clone();
        let name: ClientName = "x".parse().unwrap();
        for (client, name, expected) in [
            (format!("{ALICE}"), None, "needs a name"),
            ("psk:desktop".into(), None, "\"desktop\" was made or used here"),
            ("psk:lost".into(), None, "was revoked"),
            ("psk:laptop".into(), Some(&name), "cannot have another name"),
        ] {
            let result = access.allow(&credential(&client), name, Grant::unlimited(Rights::usual()));
            let error = result.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(cli_support::report::Report::hint(&error).is_some(), "{error}");
        }
        assert_eq!(access, before);
    }

    #[test]
    fn single_rights_are_added_and_removed_and_what_is_taken_is_said() {
        let mut access = Access::default();
        access.note_psk("laptop").unwrap();
        let name: ClientName = "алиса".parse().unwrap();
        let key = Credential::Key(ALICE);
        let tcp = |rules: &[&str]| {
            let tcp = rules.iter().map(|rule| rule.parse().unwrap()).collect();
            Grant::unlimited(Rights { tcp, ..Rights::none() })
        };
        let unknown = access.add(&key, Some(&name), &tcp(&["a:1"])).unwrap_err();
        assert!(matches!(unknown, Error::UnknownClient { .. }));
        access.allow(&key, Some(&name), tcp(&["a:1", "b:2"])).unwrap();
        for client in [key.clone(), credential("psk:laptop")] {
            access.allow(&client, None, tcp(&["a:1", "b:2"])).unwrap();
            let added = access.add(&client, None, &tcp(&["b:2", "c:3"])).unwrap();
            assert_eq!(added.grant.rights.words(), ["--tcp a:1", "--tcp b:2", "--tcp c:3"]);
            assert_eq!((added.taken.len(), added.limits.len()), (0, 0));
            let messages = Grant::unlimited(Rights::messages_alone());
            assert!(access.add(&client, None, &messages).unwrap().grant.rights.messages);
            let removed = access.remove(&client, None, &tcp(&["b:2"])).unwrap();
            assert_eq!(removed.taken, ["--tcp b:2"]);
            assert_eq!(removed.grant.rights.words(), ["--messages", "--tcp a:1", "--tcp c:3"]);
            // Neither half a change, nor one that changes nothing without a word.
            let before = access.clone();
            let error = access.remove(&client, None, &tcp(&["a:1", "b:2"])).unwrap_err();
            assert!(matches!(&error, Error::NotHeld { right } if right == "--tcp b:2"), "{error}");
            assert_eq!(access, before);
            // All at once, as it has always been, says what it takes; and so do limits.
            let expires = Some("2040-01-01T00:00:00Z".parse().unwrap());
            let replaced = access.allow(&client, None, Grant { expires, ..tcp(&["c:3"]) }).unwrap();
            assert_eq!(replaced.taken, ["--messages", "--tcp a:1"]);
            assert_eq!(replaced.limits, ["--expires 2040-01-01T00:00:00Z"]);
            let network =
                Grant { from: Some(vec!["10.0.0.0/8".parse().unwrap()]), ..Grant::unlimited(Rights::none()) };
            let limited = access.add(&client, None, &network).unwrap();
            assert_eq!(limited.grant.expires, expires);
            assert_eq!(limited.limits, ["--from 10.0.0.0/8"]);
            assert_eq!(access.remove(&client, None, &network).unwrap().grant.from, Some(Vec::new()));
        }
        access.revoke("алиса").unwrap();
    }

    #[test]
    fn the_list_in_json_says_what_the_file_says() {
        let text = format!(
            "[[client]]\nname = \"Jürgen\"\nkey = \"{ALICE}\"\ntcp = [\"10.0.0.1:80,proxy\"]\nmax_rate = \"10MiB\"\n\
             [[psk]]\nname = \"gone\"\nrevoked = true\n\
             [[psk]]\nname = \"old\"\nexpires = \"2026-01-01T00:00:00Z\"\nfrom = [\"::1\"]\n"
        );
        let access: Access = toml::from_str(&text).unwrap();
        let lines: Vec<serde_json::Value> = access.objects("2026-11-24T00:00:00Z".parse().unwrap()).collect();
        let expected = [
            serde_json::json!({
                "kind": "key", "name": "Jürgen", "key": ALICE.to_string(), "tcp": ["10.0.0.1:80,proxy"],
                "max_rate": "10MiB", "expired": false
            }),
            serde_json::json!({
                "kind": "psk", "name": "old", "messages": true, "pipe": true, "expires": "2026-01-01T00:00:00Z",
                "from": ["::1"], "expired": true
            }),
        ];
        assert_eq!(lines, expected);
    }
}
