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

mod format;
mod kept;
mod keys;
mod opener;
mod sealer;

use record_kernels::sha256::lanes;

pub use self::format::{
    ContentType, HEADER_LEN, MAX_CIPHERTEXT_LEN, MAX_PAYLOAD_LEN, MAX_RECORD_LEN, OVERHEAD, record_len,
};
pub use self::kept::KeptKey;
pub use self::opener::{Opened, Opener};
pub use self::sealer::{KeyUsage, Outgoing, Sealer};

/// The number of records that are sealed or opened side by side on this processor, 1 to 16. Larger batches are no
/// faster.
#[must_use]
pub fn side_by_side() -> usize {
    lanes()
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::keys::RecordKeys;
    use super::*;
    use crate::Error;
    use crate::schedule::TrafficSecret;
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
    fn what_was_sealed_and_kept_comes_back_without_its_tag() {
        let (mut sealer, _) = pair();
        let first = seal(&mut sealer, b"before", 0);
        let (sequence, key) = (sealer.next_sequence(), sealer.kept_key());
        assert_eq!(sequence, 1);
        let mut kept = seal(&mut sealer, b"kept", 5);
        sealer.update_key();
        let opened = key.open(sequence, &mut kept).unwrap();
        assert_eq!((opened.payload_len, opened.content_type), (4, ContentType::Data));
        assert_eq!(kept[HEADER_LEN..][..4], *b"kept");
        assert_eq!(key.open(0, &mut first.clone()).unwrap().payload_len, 6);
        assert_eq!(sealer.next_sequence(), 0);
        for cut in [0, 1, HEADER_LEN, first.len() - 1] {
            assert_eq!(key.open(0, &mut first[..cut].to_vec()), Err(Error::BufferLength), "{cut}");
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
