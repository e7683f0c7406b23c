//! The keys of the records of one direction, and the sequence number of the next one.

use crate::Error;
use crate::cipher::CtrKey;
use crate::mac::MacKey;
use crate::schedule::TrafficSecret;
use crate::secret::Secret;

/// The keys of one direction, and how many records they have sealed or opened.
pub(super) struct RecordKeys {
    /// The present secret; `None` only while an update replaces it.
    secret: Option<TrafficSecret>,
    pub(super) encryption: CtrKey,
    pub(super) mac: MacKey,
    /// Sequence number of the next record.
    pub(super) sequence: u64,
}

impl RecordKeys {
    pub(super) fn new(secret: TrafficSecret) -> Self {
        Self {
            encryption: CtrKey::new(&secret.encryption_key()),
            mac: MacKey::new(secret.mac_key().expose()),
            secret: Some(secret),
            sequence: 0,
        }
    }

    /// The present encryption key once more.
    pub(super) fn encryption_key(&self) -> Secret<32> {
        self.secret.as_ref().expect("an update puts the next secret in at once").encryption_key()
    }

    pub(super) fn update(&mut self) {
        if let Some(secret) = self.secret.take() {
            *self = Self::new(secret.into_next());
        }
    }

    /// Reserves `count` sequence numbers. No number is reserved twice, since that would encrypt two records with
    /// the same key stream.
    pub(super) fn take_sequences(&mut self, count: usize) -> Result<u64, Error> {
        let first = self.check_sequences(count)?;
        self.sequence += u64::try_from(count).map_err(|_| Error::KeyExhausted)?;
        Ok(first)
    }

    /// Returns the next sequence number if `count` of them are left.
    pub(super) fn check_sequences(&self, count: usize) -> Result<u64, Error> {
        let count = u64::try_from(count).map_err(|_| Error::KeyExhausted)?;
        self.sequence.checked_add(count).map(|_| self.sequence).ok_or(Error::KeyExhausted)
    }
}
