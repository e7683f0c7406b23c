//! Tickets between one connection and the next: a file each, for their owner alone, used once.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding as _};
use cli_support::home::Home;
use cli_support::private_file;
use crypto_core::hash::sha256;
use crypto_core::identity::KeyId;
use crypto_core::secret::Secret;
use getrandom::SysRng;
use wire_protocol::handshake::client::{MAX_TICKET_LEN, ResumptionTicket};
use zeroize::Zeroizing;

/// The tickets that one client, as one identity, has of one server.
#[derive(Debug)]
pub(crate) struct Tickets {
    folder: PathBuf,
    /// What the names of the files begin with.
    prefix: String,
}

impl Tickets {
    /// `client` is `None` for an anonymous client. A ticket says who somebody is, so that one identity must not
    /// use another's.
    pub(crate) fn new(home: &Home, server: KeyId, client: Option<KeyId>) -> Self {
        let both = [server.0, client.map_or([0; 32], |id| id.0)].concat();
        let prefix = Base64UrlUnpadded::encode_string(&sha256(&both)[..15]);
        Self { folder: home.file("tickets"), prefix }
    }

    /// Takes a ticket that is still good. It is gone from the disk then: whoever removes the file has it, so
    /// that no two connections use the same one.
    pub(crate) fn take(&self) -> Option<ResumptionTicket> {
        self.files().into_iter().find_map(|path| {
            let text = private_file::read_text(&path);
            fs::remove_file(&path).ok()?;
            parse(&text.ok()?)
        })
    }

    /// Keeps tickets in memory from now on, as well as the ones that are there: a program that makes many channels
    /// must not wait for the disk with each.
    pub(crate) fn cached(self) -> TicketCache {
        TicketCache { tickets: self, fresh: Mutex::default() }
    }

    /// Keeps a ticket. That it cannot be kept costs the next connection a full handshake and is no error.
    pub(crate) fn keep(&self, ticket: &ResumptionTicket) {
        if let Err(error) = self.try_keep(ticket) {
            tracing::debug!(%error, "cannot keep a ticket");
        }
    }

    fn try_keep(&self, ticket: &ResumptionTicket) -> Result<(), cli_support::Error> {
        let folder = Home::resolve(Some(self.folder.clone()))?;
        folder.create()?;
        if self.files().len() >= MAX_KEPT {
            return Ok(());
        }
        let expires = unix_seconds().saturating_add(u64::from(ticket.lifetime_seconds));
        let secret = Zeroizing::new(Base64Unpadded::encode_string(ticket.secret.expose()));
        let sealed = Base64Unpadded::encode_string(&ticket.ticket);
        let text = Zeroizing::new(format!("{TAG} {expires} {} {sealed}\n", *secret));
        let random = Base64UrlUnpadded::encode_string(Secret::<12>::random(&mut SysRng)?.expose());
        private_file::create_new(&folder.file(&format!("{}{random}", self.prefix)), text.as_bytes())
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&self.prefix));
        ours.map(|entry| entry.path()).collect()
    }
}

/// Tickets of a program that makes one channel after another. What is left goes to the disk with [`Drop`].
#[derive(Debug)]
pub(crate) struct TicketCache {
    tickets: Tickets,
    fresh: Mutex<Vec<(Instant, ResumptionTicket)>>,
}

impl TicketCache {
    /// Takes a ticket that is still good; from the disk where none is in memory.
    pub(crate) fn take(&self) -> Option<ResumptionTicket> {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((kept, ticket)) = fresh.pop() {
            if kept.elapsed().as_secs() < u64::from(ticket.lifetime_seconds) {
                return Some(ticket);
            }
        }
        drop(fresh);
        self.tickets.take()
    }

    pub(crate) fn keep(&self, ticket: ResumptionTicket) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        if fresh.len() < MAX_FRESH {
            fresh.push((Instant::now(), ticket));
        }
    }
}

impl Drop for TicketCache {
    fn drop(&mut self) {
        let fresh = self.fresh.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (kept, mut ticket) in fresh.drain(..).rev().take(MAX_KEPT) {
            let age = u32::try_from(kept.elapsed().as_secs()).unwrap_or(u32::MAX);
            ticket.lifetime_seconds = ticket.lifetime_seconds.saturating_sub(age);
            self.tickets.keep(&ticket);
        }
    }
}

/// `None` for a ticket that is damaged or too old: it is as good as none.
fn parse(text: &str) -> Option<ResumptionTicket> {
    let mut fields = text.split_ascii_whitespace();
    let (Some(TAG), expires, secret, ticket, None) =
        (fields.next(), fields.next()?, fields.next()?, fields.next()?, fields.next())
    else {
        return None;
    };
    let left = expires.parse::<u64>().ok()?.checked_sub(unix_seconds()).filter(|left| *left > 0)?;
    Some(ResumptionTicket {
        ticket: Base64Unpadded::decode_vec(ticket).ok().filter(|ticket| ticket.len() <= MAX_TICKET_LEN)?,
        secret: Secret::from_slice(&Zeroizing::new(Base64Unpadded::decode_vec(secret).ok()?))?,
        lifetime_seconds: u32::try_from(left).ok()?,
    })
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

const TAG: &str = "sockseal-ticket-v1";
/// More than a client uses side by side; the others would only grow old.
const MAX_KEPT: usize = 8;
/// As many as channels are made side by side; each is some hundred bytes.
const MAX_FRESH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_taken_once_and_belong_to_one_identity() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path().into())).unwrap();
        let tickets = |client| Tickets::new(&home, KeyId([1; 32]), client);
        for lifetime_seconds in [60, 0] {
            let secret = Secret::new([7; 32]);
            tickets(None).keep(&ResumptionTicket { ticket: vec![1, 2, 3], secret, lifetime_seconds });
        }
        assert!(tickets(Some(KeyId([2; 32]))).take().is_none());
        let taken = tickets(None).take().unwrap();
        assert_eq!((taken.ticket.as_slice(), taken.secret.expose()), (&[1, 2, 3][..], &[7; 32]));
        assert!(tickets(None).take().is_none());
    }

    #[test]
    fn tickets_that_pile_up_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let tickets = Tickets::new(&Home::resolve(Some(folder.path().into())).unwrap(), KeyId([1; 32]), None);
        for _ in 0..20 {
            let secret = Secret::new([7; 32]);
            tickets.keep(&ResumptionTicket { ticket: vec![1], secret, lifetime_seconds: 60 });
        }
        assert_eq!(tickets.files().len(), MAX_KEPT);
    }
}
