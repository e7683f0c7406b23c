//! Making, ending and taking invites. Each holds the lock of the files, and what is written is on the disk before it
//! counts.
//!
//! A key is let in for good in four steps, of which each may be the last one that the server lives to see: the invite is
//! noted as taken by it, the key is written to the file of clients, the client is told, and the invite is noted as used.
//! [`AccessFile::lock`] goes on where a server has stopped. So an invite never lets a second key in, and no client is
//! told that it is in when it is not.

use std::sync::Arc;

use crypto_core::identity::KeyId;
use crypto_core::invite::{InviteId, InviteVerifier};
use jiff::Timestamp;

use crate::access::attempt::{Attempt, Refusal};
use crate::access::client_name::ClientName;
use crate::access::file::{AccessFile, Locked};
use crate::access::grant::Grant;
use crate::access::invite::{Invite, InviteState, InviteUse};
use crate::access::invites::Invites;
use crate::access::snapshot::Snapshot;
use crate::error::Error;

/// An invite that is to be made.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "all of it has to be said")]
pub struct NewInvite {
    /// The id of the invite.
    pub id: InviteId,
    /// What the server keeps of its secret.
    pub verifier: InviteVerifier,
    /// The name that the client gets.
    pub name: ClientName,
    /// The rights that the client gets.
    pub grant: Grant,
    /// The time from which the invite is worth nothing.
    pub expires: Timestamp,
}

/// What has come of taking an invite.
pub(crate) enum Taken<'a> {
    /// The key was enrolled.
    Enrolled(Unfinished<'a>),
    /// The key is on the list by now, without this attempt.
    Known,
}

/// An invite whose key is enrolled, which is on the disk, and that is not noted as used yet. Nobody else changes the files
/// meanwhile.
#[must_use]
pub(crate) struct Unfinished<'a> {
    locked: Locked<'a>,
    id: InviteId,
    used: InviteUse,
}

impl Unfinished<'_> {
    /// Notes that the invite is used. Where that fails, the next change of the files makes up for it.
    pub(crate) fn finish(mut self) {
        self.locked.invites.finish(self.id, self.used);
        if let Err(error) = self.locked.store_invites() {
            tracing::warn!(%error, "it could not be noted that an invite is used");
        }
    }
}

impl AccessFile {
    /// Makes an invite.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::NameInvited`], [`Error::TooManyInvites`], and those of reading and writing the
    /// files.
    pub fn invite(&self, new: NewInvite, now: Timestamp) -> Result<(), Error> {
        let NewInvite { id, verifier, name, grant, expires } = new;
        let state = InviteState::Pending(verifier.into());
        let mut locked = self.lock()?;
        let created = Timestamp::from_second(now.as_second()).unwrap_or(now);
        locked.invites.add(Invite { id, name, grant, created, expires, state }, &locked.access, now)?;
        locked.store_invites()
    }

    /// Ends the pending invite with this name, id or beginning of an id, and returns its id.
    ///
    /// # Errors
    /// [`Error::UnknownInvite`], [`Error::InviteOver`], and those of reading and writing the files.
    pub fn revoke_invite(&self, which: &str, now: Timestamp) -> Result<InviteId, Error> {
        let mut locked = self.lock()?;
        let id = locked.invites.revoke(which, now)?;
        locked.store_invites()?;
        Ok(id)
    }

    /// Ends all pending invites, as for a new key of the server, and returns how many there were.
    ///
    /// # Errors
    /// Those of reading and writing the files.
    pub fn revoke_all_invites(&self, now: Timestamp) -> Result<usize, Error> {
        // Without the file there is nothing to end, and a list of clients that is damaged is no matter of this.
        if !self.invites().read()?.has_pending(now) {
            return Ok(0);
        }
        let mut locked = self.lock()?;
        let count = locked.invites.revoke_all(now);
        locked.store_invites()?;
        Ok(count)
    }

    /// Judges an attempt by what is in memory, so that one that comes to nothing costs no disk. Returns the name and the
    /// grant that the client would get.
    pub(crate) fn judge(
        &self,
        attempt: &Attempt<'_>,
        snapshot: &Snapshot,
    ) -> Result<(ClientName, Grant), Refusal> {
        let (Snapshot::Known(access), Some(invites)) = (snapshot, self.invites().consult()) else {
            (attempt.check)(None);
            return Err(Refusal::NoFile);
        };
        let access = access.clone().unwrap_or_default();
        let invite = invites.judge(attempt, &access, Timestamp::now())?;
        Ok((invite.name.clone(), invite.grant.clone()))
    }

    /// Returns whether the key has taken the invite, and may be missing in the file of clients.
    pub(crate) fn is_taken_by(&self, id: InviteId, key: KeyId) -> bool {
        let Some(invites) = self.invites().consult() else { return false };
        invites.taken().any(|(invite, used)| invite.id == id && used.key == key)
    }

    /// Takes an invite, and enrols the client of `attempt` by it.
    ///
    /// # Errors
    /// The reason why the files could not be written: it is unknown then whether the client is enrolled, and it must
    /// not be told anything.
    pub(crate) fn take_invite(&self, attempt: &Attempt<'_>) -> Result<Result<Taken<'_>, Refusal>, Error> {
        let mut locked = self.lock()?;
        let now = Timestamp::now();
        let (id, key) = (attempt.id, attempt.key);
        if locked.access.live_client(key, now).is_some() {
            return Ok(Ok(Taken::Known));
        }
        let Invite { name, grant, .. } = match locked.invites.judge(attempt, &locked.access, now) {
            Ok(invite) => invite.clone(),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let used = InviteUse { key, at, from: attempt.peer.to_owned() };
        locked.invites.take(id, used.clone());
        locked.store_invites()?;
        locked.access.enrol(key, id, &name, &grant, now)?;
        locked.store_access()?;
        // Here, where it counts from now on: the client may have given up, and nobody be there to be told.
        used.log(id, &name, self.audit());
        Ok(Ok(Taken::Enrolled(Unfinished { locked, id, used })))
    }

    /// The invites for a person to look at: one that a key has taken just now is used, once nobody changes the files.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn settled_invites(&self) -> Result<Arc<Invites>, Error> {
        let invites = self.invites().read()?;
        if invites.taken().next().is_none() {
            return Ok(invites);
        }
        // Where that is not possible, as on a disk that is full, the list says so.
        Ok(self.lock().map_or(invites, |locked| Arc::new(locked.invites)))
    }
}

#[cfg(test)]
mod tests;
