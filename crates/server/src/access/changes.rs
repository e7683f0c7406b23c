//! Changes of the list of allowed clients: who is allowed, what is added and removed, who is revoked.

use crate::access::client_name::ClientName;
use crate::access::clients::{Access, Client, Psk};
use crate::access::credential::Credential;
use crate::access::grant::Grant;
use crate::access::name::Name;
use crate::access::rights::Rights;
use crate::error::Error;

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

#[cfg(test)]
mod tests {
    use crypto_core::identity::KeyId;
    use jiff::Timestamp;

    use super::*;

    const ALICE: KeyId = KeyId([1; 32]);

    fn credential(text: &str) -> Credential {
        text.parse().unwrap()
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
}
