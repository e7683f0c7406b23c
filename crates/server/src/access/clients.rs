//! The list of allowed clients: its form in `clients.toml`, and its lines in `server list`.

use crypto_core::identity::KeyId;
use crypto_core::invite::InviteId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wire_protocol::message::ClientIdentity;

use crate::access::client_name::ClientName;
use crate::access::entry::{ClientEntry, PskEntry, WholeId};
use crate::access::grant::Grant;
use crate::access::name::Name;
use crate::access::text::Text;
use crate::error::Error;

/// The allowed clients, as listed in `clients.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Entries", into = "Entries")]
pub struct Access {
    /// Clients with a key.
    pub(super) clients: Vec<Client>,
    /// Pre-shared keys that were made or used here.
    pub(super) psks: Vec<Psk>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) name: ClientName,
    pub(super) key: KeyId,
    /// The invite that enrolled it.
    pub(super) invite: Option<InviteId>,
    pub(super) grant: Grant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Psk {
    pub(super) name: Name,
    pub(super) revoked: bool,
    pub(super) grant: Grant,
}

impl Client {
    fn entry(&self) -> ClientEntry {
        ClientEntry::new(Text(self.name.clone()), Text(self.key), self.invite.map(WholeId), &self.grant)
    }
}

/// The form of the file.
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
            let invite = entry.invite.map(|WholeId(invite)| invite);
            access.clients.push(Client { name, key, invite, grant: entry.grant() });
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
            client: clients.map(|client| client.entry()).collect(),
            psk: psks.map(|psk| PskEntry::new(Text(psk.name), psk.revoked, &psk.grant)).collect(),
        }
    }
}

impl Access {
    /// Returns whether a pre-shared key of this name was recorded, revoked or not.
    #[must_use]
    pub fn knows_psk(&self, name: &str) -> bool {
        self.psk(name).is_some()
    }

    /// Returns whether a pre-shared key of this name was recorded and not revoked.
    #[must_use]
    pub fn has_psk(&self, name: &str) -> bool {
        self.psk(name).is_some_and(|psk| !psk.revoked)
    }

    /// One line for each client: its name, its key and its rights in the words of the options of `server allow`,
    /// separated by tabs.
    pub fn lines(&self, now: Timestamp) -> impl Iterator<Item = String> {
        let clients = self.clients.iter();
        let psks = self.psks.iter().filter(|psk| !psk.revoked);
        clients
            .map(move |client| format!("{}\t{}\t{}", client.name, client.key, client.grant.options(now)))
            .chain(psks.map(move |psk| format!("{}\tpre-shared key\t{}", psk.name, psk.grant.options(now))))
    }

    /// The identity of each client, as accounts have it, and its grant: in the order of the other lists.
    pub(crate) fn identities(&self) -> impl Iterator<Item = (String, &Grant)> {
        let clients = self.clients.iter().map(|client| (client.key.to_string(), &client.grant));
        let psks = self.psks.iter().filter(|psk| !psk.revoked);
        clients.chain(psks.map(|psk| (ClientIdentity::Psk(psk.name.to_string()).to_string(), &psk.grant)))
    }

    /// One JSON object for each client, with the keys of `clients.toml`, and with `kind` (`key` or `psk`) and
    /// `expired`.
    ///
    /// # Panics
    /// Never: names and rules can always be encoded.
    pub fn objects(&self, now: Timestamp) -> impl Iterator<Item = serde_json::Value> {
        let clients = self.clients.iter().map(|client| (json(client.entry()), "key", &client.grant));
        let psks = self.psks.iter().filter(|psk| !psk.revoked);
        let psks = psks
            .map(|psk| (json(PskEntry::new(Text(psk.name.clone()), false, &psk.grant)), "psk", &psk.grant));
        clients.chain(psks).map(move |(mut line, kind, grant)| {
            line["kind"] = kind.into();
            line["expired"] = grant.has_expired(now).into();
            line
        })
    }

    /// The grant of each client that was not revoked, by the client's name.
    pub fn grants(&self) -> impl Iterator<Item = (&str, &Grant)> {
        let clients = self.clients.iter().map(|client| (client.name.as_str(), &client.grant));
        let psks = self.psks.iter().filter(|psk| !psk.revoked);
        clients.chain(psks.map(|psk| (psk.name.as_str(), &psk.grant)))
    }

    /// The key of the client with this name, which may have expired.
    #[must_use]
    pub fn key_called(&self, name: &ClientName) -> Option<KeyId> {
        self.clients.iter().find(|client| client.name == *name).map(|client| client.key)
    }

    pub(super) fn client(&self, key: KeyId) -> Option<&Client> {
        self.clients.iter().find(|client| client.key == key)
    }

    pub(super) fn psk(&self, name: &str) -> Option<&Psk> {
        self.psks.iter().find(|psk| psk.name.as_str() == name)
    }

    /// Returns whether a client has this name, or a pre-shared key that may have been revoked.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.clients.iter().any(|client| client.name.as_str() == name) || self.knows_psk(name)
    }

    pub(super) fn check_is_free(&self, name: &str) -> Result<(), Error> {
        if self.has_name(name) { Err(Error::NameTaken { name: name.to_string() }) } else { Ok(()) }
    }
}

fn json(entry: impl Serialize) -> serde_json::Value {
    serde_json::to_value(entry).expect("names and rules can be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: KeyId = KeyId([1; 32]);

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
files = ["docs", "in:drop"]
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
