//! Tickets (section 5): the state that a server needs to resume a channel, sealed under a key that only servers
//! have, so that the server stores nothing.
//!
//! ```text
//! ticket = epoch u64 BE | nonce[16] | ciphertext | tag[32]
//! key    = Expand-Label(master, "ticket key", epoch u64 BE | nonce)
//! ```
//!
//! Every ticket has its own keys, so that the random nonce may be short and CTR always starts at 0. Keys rotate
//! without a new master key: the epoch is part of their derivation, and a ticket of an old epoch is refused.
//! Servers that share the master key accept one another's tickets.

use alloc::vec::Vec;
use core::time::Duration;

use rand_core::TryCryptoRng;

use crate::Error;
use crate::cipher::CtrKey;
use crate::kdf::expand_label;
use crate::mac::{MacKey, TAG_LEN};
use crate::secret::Secret;

/// Length of an epoch (section 5). A ticket is valid for its own epoch and the two that follow.
pub const EPOCH: Duration = Duration::from_hours(12);
/// Bytes that a ticket adds to its content.
pub const OVERHEAD: usize = 8 + NONCE_LEN + TAG_LEN;

/// The master key that one or several servers seal tickets under.
#[derive(Debug)]
pub struct TicketKey(Secret<32>);

impl TicketKey {
    /// Makes a master key.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `rng` fails.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, Error> {
        Secret::random(rng).map(Self)
    }

    /// Takes over the bytes of the master key.
    #[must_use]
    pub fn new(master: Secret<32>) -> Self {
        Self(master)
    }

    /// The bytes of the master key, to be written to a file.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Seals `content` under the epoch of `now`, the time since the Unix epoch.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `rng` fails.
    pub fn seal<R: TryCryptoRng + ?Sized>(
        &self,
        rng: &mut R,
        now: Duration,
        content: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let nonce = Secret::<NONCE_LEN>::random(rng)?;
        let mut ticket = Vec::with_capacity(OVERHEAD + content.len());
        ticket.extend_from_slice(&epoch(now).to_be_bytes());
        ticket.extend_from_slice(nonce.expose());
        let (encryption, mac) = self.keys(&ticket);
        ticket.extend_from_slice(content);
        encryption.apply(0, &mut ticket[8 + NONCE_LEN..]);
        let tag = mac.tag(&[&ticket]);
        ticket.extend_from_slice(&tag);
        Ok(ticket)
    }

    /// Opens a ticket of the present epoch or of one of the two before it, which is more than a day. The content
    /// holds the exact time of issue, for the caller to check.
    ///
    /// # Errors
    /// [`Error::Authentication`] when the ticket was not sealed under this key, or is too old.
    pub fn open(&self, now: Duration, ticket: &[u8]) -> Result<Vec<u8>, Error> {
        let (body, tag) = ticket.split_last_chunk::<TAG_LEN>().ok_or(Error::Authentication)?;
        let (head, ciphertext) = body.split_at_checked(8 + NONCE_LEN).ok_or(Error::Authentication)?;
        let sealed_in = head.first_chunk().copied().map(u64::from_be_bytes).ok_or(Error::Authentication)?;
        let present = epoch(now);
        if sealed_in > present || present - sealed_in > 2 {
            return Err(Error::Authentication);
        }
        let (encryption, mac) = self.keys(head);
        mac.verify(&[body], tag)?;
        let mut content = ciphertext.to_vec();
        encryption.apply(0, &mut content);
        Ok(content)
    }

    fn keys(&self, head: &[u8]) -> (CtrKey, MacKey) {
        let key = expand_label::<32>(&self.0, "ticket key", head);
        (
            CtrKey::new(&expand_label(&key, "enc", &[])),
            MacKey::new(expand_label::<32>(&key, "mac", &[]).expose()),
        )
    }
}

fn epoch(now: Duration) -> u64 {
    now.as_secs() / EPOCH.as_secs()
}

const NONCE_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use getrandom::SysRng;

    use super::*;

    #[test]
    fn tickets_open_until_their_epoch_is_over() {
        let key = TicketKey::new(Secret::random(&mut SysRng).unwrap());
        let now = EPOCH * 1000;
        let ticket = key.seal(&mut SysRng, now, b"content").unwrap();
        assert_eq!(ticket.len(), OVERHEAD + 7);
        for (then, opens) in [
            (now, true),
            (now + EPOCH * 3 - Duration::from_secs(1), true),
            (now + EPOCH * 3, false),
            (now - Duration::from_secs(1), false),
        ] {
            assert_eq!(key.open(then, &ticket).is_ok(), opens, "{then:?}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_shorter_ticket_is_refused() {
        let key = TicketKey::new(Secret::random(&mut SysRng).unwrap());
        let now = EPOCH * 1000;
        let ticket = key.seal(&mut SysRng, now, b"content").unwrap();
        for bit in 0..ticket.len() * 8 {
            let mut flipped = ticket.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(now, &flipped), Err(Error::Authentication), "bit {bit}");
        }
        for len in 0..ticket.len() {
            assert_eq!(key.open(now, &ticket[..len]), Err(Error::Authentication), "length {len}");
        }
    }

    #[test]
    fn another_server_s_ticket_is_refused() {
        let (ours, theirs) = [(); 2].map(|()| TicketKey::new(Secret::random(&mut SysRng).unwrap())).into();
        let ticket = ours.seal(&mut SysRng, EPOCH, b"content").unwrap();
        assert_eq!(theirs.open(EPOCH, &ticket), Err(Error::Authentication));
    }
}
