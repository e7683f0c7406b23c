//! Enrolling a client by an invite: adding it to the list of clients under a name that is free for it.

use crypto_core::identity::KeyId;
use crypto_core::invite::InviteId;
use jiff::Timestamp;

use crate::access::client_name::ClientName;
use crate::access::clients::{Access, Client};
use crate::access::grant::Grant;
use crate::error::Error;

impl Access {
    /// The client with this key, unless its rights have expired: by an invite it may come back.
    pub(super) fn live_client(&self, key: KeyId, now: Timestamp) -> Option<&Client> {
        self.client(key).filter(|client| !client.grant.has_expired(now))
    }

    /// Checks that an invite may be for this name. A client that has expired may come back under its own.
    ///
    /// # Errors
    /// [`Error::NameTaken`].
    pub(super) fn check_can_be_invited(&self, name: &ClientName, now: Timestamp) -> Result<(), Error> {
        let is_taken = |client: &Client| client.name == *name && !client.grant.has_expired(now);
        if self.knows_psk(name.as_str()) || self.clients.iter().any(is_taken) {
            return Err(Error::NameTaken { name: name.to_string() });
        }
        Ok(())
    }

    /// Returns whether the client with the key `key`, which is not listed or has expired, may have this name.
    pub(super) fn is_free_for(&self, name: &ClientName, key: KeyId) -> bool {
        let is_another = |client: &Client| client.name == *name && client.key != key;
        !self.knows_psk(name.as_str()) && !self.clients.iter().any(is_another)
    }

    /// Lists a client with exactly this name and grant, in place of an entry that has expired. One that is listed
    /// keeps what it has. Returns whether the list has changed.
    ///
    /// # Errors
    /// [`Error::NameTaken`].
    pub(super) fn enrol(
        &mut self,
        key: KeyId,
        invite: InviteId,
        name: &ClientName,
        grant: &Grant,
        now: Timestamp,
    ) -> Result<bool, Error> {
        if self
            .client(key)
            .is_some_and(|client| client.invite == Some(invite) || !client.grant.has_expired(now))
        {
            return Ok(false);
        }
        if !self.is_free_for(name, key) {
            return Err(Error::NameTaken { name: name.to_string() });
        }
        let client = Client { name: name.clone(), key, invite: Some(invite), grant: grant.clone() };
        match self.clients.iter_mut().find(|known| known.key == key) {
            Some(known) => *known = client,
            None => self.clients.push(client),
        }
        Ok(true)
    }
}
