//! Records against `vectors/record.json`, which a Python script computed from section 6 alone, and batches against
//! single records.

use crypto_core::Error;
use crypto_core::record::{
    ContentType, HEADER_LEN, MAX_PAYLOAD_LEN, MAX_RECORD_LEN, OVERHEAD, Opened, Opener, Outgoing, Sealer,
};
use crypto_core::schedule::TrafficSecret;
use crypto_core::secret::Secret;
use serde_json::Value;

use super::vector;

#[test]
fn known_answers() {
    let vectors = vector::parse(include_str!("../vectors/record.json"));
    let secret = || TrafficSecret::new(Secret::new(vector::array(&vectors["secret"])));
    let (mut sealer, mut opener) = (Sealer::new(secret()), Opener::new(secret()));
    let records = vector::list(&vectors["records"]);
    assert_eq!(records.len(), 7);
    for record in records {
        check(&mut sealer, &mut opener, record);
    }
    assert_eq!(sealer.usage().records, 7);
}

#[test]
fn a_batch_seals_to_the_same_bytes_as_records_one_by_one() {
    let mut one_by_one = buffers();
    let mut sealer = sealer();
    for (buffer, payload_len) in &mut one_by_one {
        sealer.seal(&mut [outgoing(buffer, *payload_len)]).unwrap();
    }

    for batch_len in 1..=one_by_one.len() {
        let mut batched = buffers();
        let mut sealer = self::sealer();
        for batch in batched.chunks_mut(batch_len) {
            let mut records: Vec<Outgoing<'_>> =
                batch.iter_mut().map(|(buffer, payload_len)| outgoing(buffer, *payload_len)).collect();
            sealer.seal(&mut records).unwrap();
        }
        assert!(batched == one_by_one, "batches of {batch_len}");
    }
}

#[test]
fn a_batch_opens_to_the_same_bytes_as_records_one_by_one() {
    let mut sealed = buffers();
    let mut sealer = sealer();
    for (buffer, payload_len) in &mut sealed {
        sealer.seal(&mut [outgoing(buffer, *payload_len)]).unwrap();
    }

    for batch_len in 1..=sealed.len() {
        let mut records = sealed.clone();
        let mut opener = opener();
        let mut opened: Vec<Opened> = Vec::new();
        for batch in records.chunks_mut(batch_len) {
            let mut buffers: Vec<&mut [u8]> =
                batch.iter_mut().map(|(buffer, _)| buffer.as_mut_slice()).collect();
            assert_eq!(opener.open(&mut buffers, &mut opened), Ok(buffers.len()));
        }
        for (((buffer, payload_len), (plain, _)), opened) in records.iter().zip(buffers()).zip(&opened) {
            assert_eq!(opened, &Opened { payload_len: *payload_len, content_type: ContentType::Data });
            let payload = HEADER_LEN..HEADER_LEN + payload_len;
            assert!(buffer[payload.clone()] == plain[payload], "batches of {batch_len}");
        }
        assert_eq!(opened.len(), records.len());
    }
}

/// Every fault in the second record lets the first be opened and leaves the rest unchanged.
#[test]
fn what_follows_a_broken_record_is_not_touched() {
    let mut sealed = buffers();
    let mut sealer = sealer();
    for (buffer, payload_len) in &mut sealed {
        sealer.seal(&mut [outgoing(buffer, *payload_len)]).unwrap();
    }
    sealed[1].0[HEADER_LEN] ^= 0x80;

    let mut records = sealed.clone();
    let mut batch: Vec<&mut [u8]> = records.iter_mut().map(|(buffer, _)| buffer.as_mut_slice()).collect();
    let mut opener = opener();
    let mut opened: Vec<Opened> = Vec::new();
    assert_eq!(opener.open(&mut batch, &mut opened), Ok(1));
    assert_eq!(opened.len(), 1);
    assert_eq!(opener.open(&mut batch[1..], &mut opened), Err(Error::Authentication));
    assert!(records[1..] == sealed[1..]);
}

#[test]
fn an_empty_batch_is_nothing() {
    let (mut sealer, mut opener) = (sealer(), opener());
    assert_eq!(sealer.seal(&mut []), Ok(()));
    assert_eq!(opener.open(&mut [], &mut Vec::new()), Ok(0));
    assert_eq!(sealer.usage().records, 0);
}

#[test]
fn a_key_update_starts_the_next_secret_at_sequence_0() {
    let mut updated = sealer();
    updated.update_key();
    updated.update_key();
    let secret = TrafficSecret::new(Secret::new([0x11; 32])).into_next().into_next();
    let mut fresh = Sealer::new(secret);
    let (mut a, mut b) = (vec![0; OVERHEAD + 5], vec![0; OVERHEAD + 5]);
    updated.seal(&mut [outgoing(&mut a, 5)]).unwrap();
    fresh.seal(&mut [outgoing(&mut b, 5)]).unwrap();
    assert_eq!(a, b);
}

/// Payloads of every interesting length, some with padding: the whole buffers and the payload lengths.
fn buffers() -> Vec<(Vec<u8>, usize)> {
    [(0, 0), (1, 0), (15, 0), (16, 100), (17, 1), (1000, 0), (4096, 33), (MAX_PAYLOAD_LEN, 0), (9, 16)]
        .into_iter()
        .chain([(MAX_PAYLOAD_LEN, MAX_RECORD_LEN - MAX_PAYLOAD_LEN - OVERHEAD), (3, 0)])
        // The batch is more than twice as large as any processor's group.
        .cycle()
        .take(35)
        .map(|(payload_len, padding)| {
            let mut buffer = vec![0xee; payload_len + OVERHEAD + padding];
            for (byte, i) in buffer[HEADER_LEN..HEADER_LEN + payload_len].iter_mut().zip((0..=250).cycle()) {
                *byte = i;
            }
            (buffer, payload_len)
        })
        .collect()
}

fn outgoing(buffer: &mut [u8], payload_len: usize) -> Outgoing<'_> {
    Outgoing { buffer, payload_len, content_type: ContentType::Data }
}

fn sealer() -> Sealer {
    Sealer::new(TrafficSecret::new(Secret::new([0x11; 32])))
}

fn opener() -> Opener {
    Opener::new(TrafficSecret::new(Secret::new([0x11; 32])))
}

#[track_caller]
fn check(sealer: &mut Sealer, opener: &mut Opener, vector: &Value) {
    let name = vector::text(&vector["name"]);
    let payload = vector::bytes(&vector["payload"]);
    let padding = usize::try_from(vector["padding"].as_u64().unwrap()).unwrap();
    let content_type = match vector::text(&vector["type"]) {
        "handshake" => ContentType::Handshake,
        "control" => ContentType::Control,
        "data" => ContentType::Data,
        other => panic!("no such type: {other}"),
    };

    let mut buffer = vec![0xee; payload.len() + OVERHEAD + padding];
    buffer[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(&payload);
    sealer.seal(&mut [Outgoing { buffer: &mut buffer, payload_len: payload.len(), content_type }]).unwrap();
    assert_eq!(buffer, vector::bytes(&vector["record"]), "{name}");

    let mut opened = Vec::new();
    assert_eq!(opener.open(&mut [&mut buffer], &mut opened), Ok(1), "{name}");
    assert_eq!(opened, [Opened { payload_len: payload.len(), content_type }], "{name}");
    assert_eq!(buffer[HEADER_LEN..HEADER_LEN + payload.len()], payload, "{name}");
}
