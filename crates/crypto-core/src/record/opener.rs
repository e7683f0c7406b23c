//! Opening records in place.

use core::fmt;
use core::ops::ControlFlow;

use super::format::{ContentType, HEADER_LEN, MAX_PAYLOAD_LEN, record_len};
use super::keys::RecordKeys;
use crate::Error;
use crate::mac::{TAG_LEN, is_equal};
use crate::schedule::TrafficSecret;

/// The content of an opened record, which is in its buffer at `HEADER_LEN..HEADER_LEN + payload_len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a result")]
pub struct Opened {
    /// Length of the payload in bytes.
    pub payload_len: usize,
    /// The type of the payload.
    pub content_type: ContentType,
}

/// Opens records in one direction.
pub struct Opener {
    pub(super) keys: RecordKeys,
}

impl Opener {
    /// Starts at sequence number 0 under `secret`.
    #[must_use]
    pub fn new(secret: TrafficSecret) -> Self {
        Self { keys: RecordKeys::new(secret) }
    }

    /// Opens `records` in place, in order, and appends what they carry to `opened`.
    ///
    /// Every tag is checked before the first byte is decrypted. When one is wrong, the records before it are opened
    /// and the rest is left unchanged, as at a key update in the middle of a batch. The caller then switches to the
    /// next key and opens the rest, or gives up.
    ///
    /// # Errors
    /// [`Error::Authentication`] when the first record's tag is wrong or a record carries no valid type,
    /// [`Error::BufferLength`] when a buffer is not one whole record, [`Error::KeyExhausted`] when there is no
    /// sequence number left. The channel must end then.
    pub fn open(
        &mut self,
        records: &mut [&mut [u8]],
        opened: &mut impl Extend<Opened>,
    ) -> Result<usize, Error> {
        let first = self.keys.check_sequences(records.len())?;
        for record in records.iter() {
            let header = record.first_chunk().ok_or(Error::BufferLength)?;
            if record_len(*header)? != record.len() {
                return Err(Error::BufferLength);
            }
        }
        let with_tags = records.iter().map(|record| record.split_at(record.len() - TAG_LEN));
        let mut valid = 0;
        self.keys.mac.tags(first, with_tags, |tag, expected| {
            if !is_equal(&expected, tag) {
                return ControlFlow::Break(());
            }
            valid += 1;
            ControlFlow::Continue(())
        });
        if valid == 0 && !records.is_empty() {
            return Err(Error::Authentication);
        }

        self.keys.take_sequences(valid)?;
        for (record, sequence) in records.iter_mut().take(valid).zip(first..) {
            let end = record.len() - TAG_LEN;
            let plaintext = &mut record[HEADER_LEN..end];
            self.keys.encryption.apply(sequence, plaintext);
            opened.extend([parse(plaintext)?]);
        }
        Ok(valid)
    }

    /// Switches to the next key, at sequence number 0.
    pub fn update_key(&mut self) {
        self.keys.update();
    }
}

/// Finds the type byte, which is the last byte that is not padding.
pub(super) fn parse(plaintext: &[u8]) -> Result<Opened, Error> {
    let payload_len = plaintext.iter().rposition(|&byte| byte != 0).ok_or(Error::Authentication)?;
    let content_type = ContentType::from_byte(plaintext[payload_len]).ok_or(Error::Authentication)?;
    if payload_len > MAX_PAYLOAD_LEN {
        return Err(Error::Authentication);
    }
    Ok(Opened { payload_len, content_type })
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("sequence", &self.keys.sequence).finish_non_exhaustive()
    }
}
