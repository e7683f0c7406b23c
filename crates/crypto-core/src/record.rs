//! Records (section 6): sealing and opening the bytes of a channel, several records side by side.
//!
//! ```text
//! length u16 BE | ciphertext | tag[32]
//! plaintext  = payload (0..=16384) | type u8 | zero or more 0x00 of padding
//! ciphertext = AES-256-CTR(enc key, counter block = sequence u64 BE | block index u64 BE)
//! tag        = HMAC-SHA-256(mac key, sequence u64 BE | length u16 BE | ciphertext)
//! ```
//!
//! Records are sealed and opened in place: a batch is a slice of buffers, each as long as one whole record.

use core::fmt;
use core::ops::ControlFlow;

use record_kernels::sha256::lanes;

use crate::Error;
use crate::cipher::CtrKey;
use crate::mac::{MacKey, TAG_LEN, is_equal};
use crate::schedule::TrafficSecret;

/// Length of the record header in bytes.
pub const HEADER_LEN: usize = 2;
/// Most bytes of payload in a record.
pub const MAX_PAYLOAD_LEN: usize = 16384;
/// Most bytes of ciphertext in a record: payload, type and padding.
pub const MAX_CIPHERTEXT_LEN: usize = 16640;
/// Length of the longest record in bytes.
pub const MAX_RECORD_LEN: usize = HEADER_LEN + MAX_CIPHERTEXT_LEN + TAG_LEN;
/// Bytes that a record without padding adds to its payload: header, type and tag.
pub const OVERHEAD: usize = HEADER_LEN + 1 + TAG_LEN;

/// The type of a record's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentType {
    /// A message of the handshake.
    Handshake,
    /// A message about the channel or its stream.
    Control,
    /// Bytes of the stream.
    Data,
}

impl ContentType {
    fn to_byte(self) -> u8 {
        match self {
            Self::Handshake => 1,
            Self::Control => 2,
            Self::Data => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Handshake),
            2 => Some(Self::Control),
            3 => Some(Self::Data),
            _ => None,
        }
    }
}

/// Returns the length in bytes of the whole record that starts with `header`, after checking it against the limits.
///
/// # Errors
/// [`Error::BufferLength`] when the header announces no ciphertext at all or more than [`MAX_CIPHERTEXT_LEN`].
pub fn record_len(header: [u8; HEADER_LEN]) -> Result<usize, Error> {
    match usize::from(u16::from_be_bytes(header)) {
        ciphertext_len @ 1..=MAX_CIPHERTEXT_LEN => Ok(HEADER_LEN + ciphertext_len + TAG_LEN),
        _ => Err(Error::BufferLength),
    }
}

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
    keys: RecordKeys,
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

    /// Switches to the next key, at sequence number 0. The caller must have announced it to the peer under the old
    /// key.
    pub fn update_key(&mut self) {
        self.keys.update();
        self.usage = KeyUsage::default();
    }
}

/// The number of records that are sealed or opened side by side on this processor, 1 to 16. Larger batches are no
/// faster.
#[must_use]
pub fn side_by_side() -> usize {
    lanes()
}

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
    keys: RecordKeys,
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
fn parse(plaintext: &[u8]) -> Result<Opened, Error> {
    let payload_len = plaintext.iter().rposition(|&byte| byte != 0).ok_or(Error::Authentication)?;
    let content_type = ContentType::from_byte(plaintext[payload_len]).ok_or(Error::Authentication)?;
    if payload_len > MAX_PAYLOAD_LEN {
        return Err(Error::Authentication);
    }
    Ok(Opened { payload_len, content_type })
}

struct RecordKeys {
    /// The present secret; `None` only while an update replaces it.
    secret: Option<TrafficSecret>,
    encryption: CtrKey,
    mac: MacKey,
    /// Sequence number of the next record.
    sequence: u64,
}

impl RecordKeys {
    fn new(secret: TrafficSecret) -> Self {
        Self {
            encryption: CtrKey::new(&secret.encryption_key()),
            mac: MacKey::new(secret.mac_key().expose()),
            secret: Some(secret),
            sequence: 0,
        }
    }

    fn update(&mut self) {
        if let Some(secret) = self.secret.take() {
            *self = Self::new(secret.into_next());
        }
    }

    /// Reserves `count` sequence numbers. No number is reserved twice, since that would encrypt two records with
    /// the same key stream.
    fn take_sequences(&mut self, count: usize) -> Result<u64, Error> {
        let first = self.check_sequences(count)?;
        self.sequence += u64::try_from(count).map_err(|_| Error::KeyExhausted)?;
        Ok(first)
    }

    /// Returns the next sequence number if `count` of them are left.
    fn check_sequences(&self, count: usize) -> Result<u64, Error> {
        let count = u64::try_from(count).map_err(|_| Error::KeyExhausted)?;
        self.sequence.checked_add(count).map(|_| self.sequence).ok_or(Error::KeyExhausted)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("usage", &self.usage).finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("sequence", &self.keys.sequence).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::secret::Secret;

    fn pair() -> (Sealer, Opener) {
        let secret = || TrafficSecret::new(Secret::new([7; 32]));
        (Sealer::new(secret()), Opener::new(secret()))
    }

    fn seal(sealer: &mut Sealer, payload: &[u8], padding: usize) -> Vec<u8> {
        let mut buffer = vec![0xEE; payload.len() + OVERHEAD + padding];
        buffer[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(payload);
        let record =
            Outgoing { buffer: &mut buffer, payload_len: payload.len(), content_type: ContentType::Data };
        sealer.seal(&mut [record]).unwrap();
        buffer
    }

    fn open(opener: &mut Opener, record: &mut [u8]) -> Result<Vec<u8>, Error> {
        let mut opened = Vec::new();
        opener.open(&mut [record], &mut opened)?;
        Ok(record[HEADER_LEN..HEADER_LEN + opened[0].payload_len].to_vec())
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_refused() {
        let sealed = seal(&mut pair().0, b"attack at dawn", 3);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&mut pair().1, &mut flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_opens_once_and_in_its_place_only() {
        let (mut sealer, mut opener) = pair();
        let [mut first, mut second] = [b"1", b"2"].map(|payload| seal(&mut sealer, payload, 0));
        let mut again = first.clone();
        assert_eq!(open(&mut opener, &mut second.clone()), Err(Error::Authentication), "reordered");
        assert_eq!(open(&mut opener, &mut first).unwrap(), b"1");
        assert_eq!(open(&mut opener, &mut again), Err(Error::Authentication), "replayed");
        assert_eq!(open(&mut opener, &mut second).unwrap(), b"2");
    }

    #[test]
    fn a_batch_stops_at_the_key_update_and_goes_on_under_the_next_key() {
        let (mut sealer, mut opener) = pair();
        let mut records = vec![seal(&mut sealer, b"a", 0), seal(&mut sealer, b"b", 0)];
        sealer.update_key();
        records.push(seal(&mut sealer, b"c", 0));
        let untouched = records[2].clone();

        let mut batch: Vec<&mut [u8]> = records.iter_mut().map(Vec::as_mut_slice).collect();
        let mut opened = Vec::new();
        assert_eq!(opener.open(&mut batch, &mut opened), Ok(2));
        assert_eq!(opened.len(), 2);
        assert_eq!(*batch[2], untouched);
        assert_eq!(opener.open(&mut batch[2..], &mut opened), Err(Error::Authentication));
        opener.update_key();
        assert_eq!(opener.open(&mut batch[2..], &mut opened), Ok(1));
    }

    #[test]
    fn lengths_out_of_range_are_refused_before_anything_is_done() {
        assert_eq!(record_len([0, 0]), Err(Error::BufferLength));
        assert_eq!(record_len(16640u16.to_be_bytes()), Ok(MAX_RECORD_LEN));
        assert_eq!(record_len(16641u16.to_be_bytes()), Err(Error::BufferLength));

        let (mut sealer, mut opener) = pair();
        let mut buffer = vec![0; MAX_RECORD_LEN + 1];
        for (buffer_len, payload_len) in
            [(OVERHEAD + 4, 5), (MAX_RECORD_LEN + 1, 5), (MAX_RECORD_LEN, MAX_PAYLOAD_LEN + 1)]
        {
            let record =
                Outgoing { buffer: &mut buffer[..buffer_len], payload_len, content_type: ContentType::Data };
            assert!(sealer.seal(&mut [record]).is_err(), "{buffer_len} {payload_len}");
        }
        assert_eq!(sealer.usage(), KeyUsage::default());
        let mut sealed = seal(&mut sealer, b"x", 0);
        sealed.push(0);
        assert_eq!(open(&mut opener, &mut sealed), Err(Error::BufferLength));
    }

    #[test]
    fn a_record_of_padding_alone_or_of_unknown_type_is_refused() {
        for plaintext in [&[0; 8][..], &[1, 2, 4], &[1, 2, 255]] {
            let keys = RecordKeys::new(TrafficSecret::new(Secret::new([7; 32])));
            let header = u16::try_from(plaintext.len()).unwrap().to_be_bytes();
            let mut ciphertext = plaintext.to_vec();
            keys.encryption.apply(0, &mut ciphertext);
            let tag = keys.mac.tag(&[&0u64.to_be_bytes(), &header, &ciphertext]);
            let mut record = [&header[..], &ciphertext, &tag].concat();
            assert_eq!(open(&mut pair().1, &mut record), Err(Error::Authentication));
        }
    }

    #[test]
    fn the_last_sequence_number_ends_the_key() {
        let (mut sealer, mut opener) = pair();
        opener.keys.sequence = u64::MAX;
        let mut record = seal(&mut sealer, b"x", 0);
        assert_eq!(open(&mut opener, &mut record), Err(Error::KeyExhausted));
        sealer.keys.sequence = u64::MAX;
        let mut buffer = vec![0; OVERHEAD];
        let record = Outgoing { buffer: &mut buffer, payload_len: 0, content_type: ContentType::Data };
        assert_eq!(sealer.seal(&mut [record]), Err(Error::KeyExhausted));
    }

    proptest! {
        #[test]
        fn any_batch_comes_back(payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..600), 0usize..200), 1..6)) {
            let (mut sealer, mut opener) = pair();
            let mut buffers: Vec<Vec<u8>> = payloads
                .iter()
                .map(|(payload, padding)| {
                    let mut buffer = vec![0xEE; payload.len() + OVERHEAD + padding];
                    buffer[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(payload);
                    buffer
                })
                .collect();
            let mut records: Vec<Outgoing<'_>> = buffers
                .iter_mut()
                .zip(&payloads)
                .map(|(buffer, (payload, _))| Outgoing {
                    buffer,
                    payload_len: payload.len(),
                    content_type: ContentType::Control,
                })
                .collect();
            sealer.seal(&mut records).unwrap();
            let mut batch: Vec<&mut [u8]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
            let mut opened = Vec::new();
            prop_assert_eq!(opener.open(&mut batch, &mut opened), Ok(payloads.len()));
            for ((record, (payload, _)), opened) in batch.iter().zip(&payloads).zip(&opened) {
                prop_assert_eq!(opened.content_type, ContentType::Control);
                prop_assert_eq!(&record[HEADER_LEN..HEADER_LEN + opened.payload_len], payload.as_slice());
            }
        }
    }
}
