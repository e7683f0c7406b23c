//! Changes of the list of allowed clients: allowing, adding and removing rights, and revoking.

use crate::access::client_name::ClientName;
use crate::access::clients::{Access, Client, Psk};
use crate::access::credential::Credential;
use crate::access::grant::Grant;
use crate::access::name::Name;
use crate::access::rights::Rights;
use crate::error::Error;

impl Access {
    /// Grants a client these rights in place of its earlier ones. A client with a key gets the name `name`, or
    /// keeps its name; a pre-shared key has its own name.
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

    /// Grants a client these rights in addition to its earlier ones. New limits replace the earlier limits, and
    /// networks are added.
    ///
    /// # Errors
    /// Those of [`Access::allow`], and [`Error::UnknownClient`].
    pub fn add(
        &mut self,
        client: &Credential,
        name: Option<&ClientName>,
        grant: &Grant,
    ) -> Result<Allowed, Error> {
        self.change(client, name, |before| Ok(known_before(client, before)?.with(grant)))
    }

    /// Removes these rights and networks from a client. All others stay.
    ///
    /// # Errors
    /// Those of [`Access::add`], and [`Error::NotHeld`] for a right that the client does not have.
    pub fn remove(
        &mut self,
        client: &Credential,
        name: Option<&ClientName>,
        grant: &Grant,
    ) -> Result<Allowed, Error> {
        self.change(client, name, |before| known_before(client, before)?.without(grant))
    }

    /// Changes a client's rights to what `grant` makes of its earlier rights, which are `None` for a new client.
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
                let invite = known.and_then(|client| client.invite);
                let client = Client { name: name.clone(), key: *key, invite, grant };
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

    /// Records a pre-shared key that was made or is used here, so that it can be revoked, or be given other rights,
    /// by its name. A new one gets the usual rights.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::NameTaken`].
    pub fn note_psk(&mut self, name: &str) -> Result<(), Error> {
        let name: Name = name.parse()?;
        // A revoked name stays reserved, since reusing it would let the revoked key in again.
        if self.psk(name.as_str()).is_some_and(|psk| !psk.revoked) {
            return Ok(());
        }
        self.check_is_free(name.as_str())?;
        self.psks.push(Psk { name, revoked: false, grant: Grant::unlimited(Rights::usual()) });
        Ok(())
    }

    /// Revokes the client with this name, fingerprint or `psk:NAME`.
    ///
    /// # Errors
    /// [`Error::UnknownClient`].
    pub fn revoke(&mut self, name: &str) -> Result<(), Error> {
        // The name is compared in its normal form, as the list keeps it.
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

/// The result of a change of rights.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allowed {
    /// The name of the client.
    pub name: String,
    /// The rights of the client after the change.
    pub grant: Grant,
    /// The rights that the client has lost, in the words of the options of `server allow`.
    pub taken: Vec<String>,
    /// The limits that the client has gained, in the same words.
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
        // A client keeps its name where no name is given.
        let again = access.allow(&Credential::Key(ALICE), None, Grant::unlimited(narrow)).unwrap();
        assert_eq!((again.name.as_str(), again.taken.len()), ("alice", 0));
        // The key is still listed, and recording it again changes nothing.
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
            // A change is neither made in part, nor left out without an error.
            let before = access.clone();
            let error = access.remove(&client, None, &tcp(&["a:1", "b:2"])).unwrap_err();
            assert!(matches!(&error, Error::NotHeld { right } if right == "--tcp b:2"), "{error}");
            assert_eq!(access, before);
            // `allow` reports the rights that it removes, and the limits that it adds.
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
