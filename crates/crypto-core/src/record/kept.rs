//! Opening records that a sender has sealed itself and kept, to send what is in them once more (section 7.7).

use super::format::{HEADER_LEN, record_len};
use super::opener::{Opened, parse};
use crate::Error;
use crate::cipher::CtrKey;
use crate::mac::TAG_LEN;
use crate::secret::Secret;

/// The encryption key of records that were sealed under one key. It checks no tag, so it is for records alone that have not
/// left the memory of their sender. Wiped when dropped.
#[derive(Debug)]
pub struct KeptKey(CtrKey);

impl KeptKey {
    pub(super) fn new(key: Secret<32>) -> Self {
        Self(CtrKey::new(&key))
    }

    /// Opens one whole `record` in place, which was sealed as number `sequence` under this key.
    ///
    /// # Errors
    /// [`Error::BufferLength`] where it is not one whole record, [`Error::Authentication`] where it was sealed under another
    /// key, as far as that can be seen: it has no type then, or an unknown one.
    pub fn open(&self, sequence: u64, record: &mut [u8]) -> Result<Opened, Error> {
        let header = record.first_chunk().ok_or(Error::BufferLength)?;
        if record_len(*header)? != record.len() {
            return Err(Error::BufferLength);
        }
        let end = record.len() - TAG_LEN;
        let plaintext = &mut record[HEADER_LEN..end];
        self.0.apply(sequence, plaintext);
        parse(plaintext)
    }
}
