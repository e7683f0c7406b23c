//! Sealing records in place.

use core::fmt;
use core::ops::ControlFlow;

use record_kernels::sha256::lanes;

use super::format::{ContentType, HEADER_LEN, MAX_PAYLOAD_LEN, MAX_RECORD_LEN, OVERHEAD};
use super::kept::KeptKey;
use super::keys::RecordKeys;
use crate::Error;
use crate::mac::TAG_LEN;
use crate::schedule::TrafficSecret;

/// One record to seal: `buffer` is the whole record, with the payload already at `HEADER_LEN..HEADER_LEN +
/// payload_len`. Bytes of the buffer beyond the payload and [`OVERHEAD`] become padding.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "an argument")]
pub struct Outgoing<'a> {
    /// The buffer of the whole record.
    pub buffer: &'a mut [u8],
    /// Length of the payload in bytes.
    pub payload_len: usize,
    /// The type of the payload.
    pub content_type: ContentType,
}

/// The use of a key so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyUsage {
    /// Records sealed.
    pub records: u64,
    /// Bytes of ciphertext sealed.
    pub bytes: u64,
}

/// Seals records in one direction.
pub struct Sealer {
    pub(super) keys: RecordKeys,
    usage: KeyUsage,
}

impl Sealer {
    /// Starts at sequence number 0 under `secret`.
    #[must_use]
    pub fn new(secret: TrafficSecret) -> Self {
        Self { keys: RecordKeys::new(secret), usage: KeyUsage::default() }
    }

    /// Seals `records` in place, in order.
    ///
    /// # Errors
    /// [`Error::TooLong`] or [`Error::BufferLength`] when a payload or buffer is out of range,
    /// [`Error::KeyExhausted`] when there is no sequence number left. Nothing has been sealed then.
    pub fn seal(&mut self, records: &mut [Outgoing<'_>]) -> Result<(), Error> {
        for record in records.iter() {
            if record.payload_len > MAX_PAYLOAD_LEN {
                return Err(Error::TooLong { limit: MAX_PAYLOAD_LEN });
            }
            if !(record.payload_len + OVERHEAD..=MAX_RECORD_LEN).contains(&record.buffer.len()) {
                return Err(Error::BufferLength);
            }
        }
        self.keys.check_sequences(records.len())?;

        // The tags of a group are computed while its ciphertexts are still in the cache.
        for group in records.chunks_mut(lanes()) {
            let first = self.keys.take_sequences(group.len())?;
            for (record, sequence) in group.iter_mut().zip(first..) {
                self.encrypt(record, sequence)?;
            }
            let with_places = group.iter_mut().map(|record| {
                let (message, place) = record.buffer.split_at_mut(record.buffer.len() - TAG_LEN);
                (&*message, place)
            });
            self.keys.mac.tags(first, with_places, |place, tag| {
                place.copy_from_slice(&tag);
                ControlFlow::Continue(())
            });
        }
        Ok(())
    }

    /// Does everything for a record except its tag.
    fn encrypt(&mut self, record: &mut Outgoing<'_>, sequence: u64) -> Result<(), Error> {
        let length = record.buffer.len() - HEADER_LEN - TAG_LEN;
        let header = u16::try_from(length).map_err(|_| Error::BufferLength)?;
        let (header_place, rest) = record.buffer.split_at_mut(HEADER_LEN);
        let plaintext = &mut rest[..length];
        header_place.copy_from_slice(&header.to_be_bytes());
        plaintext[record.payload_len] = record.content_type.to_byte();
        plaintext[record.payload_len + 1..].fill(0);
        self.keys.encryption.apply(sequence, plaintext);
        self.usage.records = self.usage.records.saturating_add(1);
        self.usage.bytes = self.usage.bytes.saturating_add(u64::from(header));
        Ok(())
    }

    /// The use of the present key so far.
    #[must_use]
    pub fn usage(&self) -> KeyUsage {
        self.usage
    }

    /// The sequence number of the next record.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.keys.sequence
    }

    /// What opens the records again that are sealed under the present key, for a sender that keeps them.
    ///
    /// # Panics
    /// Never: there is always a present key.
    #[must_use]
    pub fn kept_key(&self) -> KeptKey {
        KeptKey::new(self.keys.encryption_key())
    }

    /// Switches to the next key, at sequence number 0. The caller must have announced it to the peer under the old
    /// key.
    pub fn update_key(&mut self) {
        self.keys.update();
        self.usage = KeyUsage::default();
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("usage", &self.usage).finish_non_exhaustive()
    }
}
