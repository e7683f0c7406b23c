//! The line of an established channel in hostile hands, and its key updates.

use crypto_core::record::ContentType;
use crypto_core::schedule::Side;
use wire_protocol::channel::{Event, KeyLimits, Receiver};
use wire_protocol::message::{ControlMessage, ResetCode, Target};
use wire_protocol::record::SendBuffer;
use wire_protocol::{Error, InvalidMessage, PeerMisbehaved};

use super::line::{End, Heard, START, ends, hear, pattern, seal, seal_control, sealer, streaming_ends};
use super::pair::messages;

/// A receiver in a stream, and the records that are said to it: data, a key update, a Ping, padding, the end.
fn recorded() -> (Receiver, Vec<Vec<u8>>) {
    let mut sealer = sealer(1);
    let mut receiver = End::listening(Side::Server).receiver;
    let open = seal_control(&mut sealer, &ControlMessage::Open { target: Target::Pipe });
    hear(&mut receiver, &open).unwrap();
    let mut records = vec![
        seal(&mut sealer, ContentType::Data, b"first", 0),
        seal(&mut sealer, ContentType::Data, b"first", 0),
        seal(&mut sealer, ContentType::Data, b"", 30),
        seal_control(&mut sealer, &ControlMessage::Ping { nonce: 1 }),
        seal_control(&mut sealer, &ControlMessage::KeyUpdate),
    ];
    sealer.update_key();
    records.extend([
        seal(&mut sealer, ContentType::Data, b"under the next key", 3),
        seal(&mut sealer, ContentType::Data, b"and more", 0),
        seal_control(&mut sealer, &ControlMessage::EndOfStream),
    ]);
    (receiver, records)
}

#[track_caller]
fn heard(records: &[Vec<u8>]) -> Result<Vec<Heard>, Error> {
    let (mut receiver, _) = recorded();
    hear(&mut receiver, &records.concat())
}

#[test]
fn every_flipped_bit_of_every_record_is_refused() {
    let (_, records) = recorded();
    let honest = heard(&records).unwrap();
    let mut flips = 0;
    for index in 0..records.len() {
        for bit in 0..records[index].len() * 8 {
            let mut flipped = records.clone();
            flipped[index][bit / 8] ^= 1 << (bit % 8);
            let (mut receiver, _) = recorded();
            let outcome = hear(&mut receiver, &flipped.concat());
            match outcome {
                // A changed length swallows what follows, or waits for bytes that never come.
                Ok(heard) => {
                    assert!(bit < 16, "record {index} bit {bit}");
                    assert!(heard.len() < honest.len());
                    assert_eq!(receiver.handle_end(), Err(Error::Truncated));
                }
                Err(error) => {
                    let impossible = InvalidMessage::RecordLength.into();
                    assert!(error == Error::Authentication || bit < 16 && error == impossible);
                }
            }
            flips += 1;
        }
    }
    assert_eq!(flips, records.concat().len() * 8);
}

/// Not even a prefix of what a changed record holds gets out.
#[test]
fn nothing_of_a_changed_record_is_released() {
    let (_, records) = recorded();
    for index in 0..records.len() {
        let mut changed = records.clone();
        let last = changed[index].len() - 1;
        changed[index][last] ^= 0x40;
        let (mut receiver, _) = recorded();
        let mut data = Vec::new();
        let bytes = changed.concat();
        receiver.spare()[..bytes.len()].copy_from_slice(&bytes);
        receiver.handle_input(bytes.len());
        while let Ok(Some(event)) = receiver.poll_event(START) {
            if event == Event::Data {
                data.extend_from_slice(receiver.data());
                receiver.consume(receiver.data().len());
            }
        }
        let genuine: Vec<u8> = heard(&records[..index])
            .unwrap()
            .into_iter()
            .filter_map(|heard| if let Heard::Data(data) = heard { Some(data) } else { None })
            .flatten()
            .collect();
        assert!(genuine.starts_with(&data), "record {index}");
        assert!(receiver.poll_event(START).is_err());
    }
}

#[test]
fn dropped_doubled_swapped_and_reflected_records_are_refused() {
    let (_, records) = recorded();
    let refused = Err(Error::Authentication);
    for index in 0..records.len() {
        let mut dropped = records.clone();
        dropped.remove(index);
        if index + 1 < records.len() {
            assert_eq!(heard(&dropped), refused, "dropped {index}");
        } else {
            let (mut receiver, _) = recorded();
            assert!(hear(&mut receiver, &dropped.concat()).is_ok());
            assert_eq!(receiver.handle_end(), Err(Error::Truncated), "the last one was dropped");
        }
        let mut doubled = records.clone();
        doubled.insert(index, records[index].clone());
        // Behind a key update its own double is a record under the old key that does not even open there.
        assert_eq!(heard(&doubled), refused, "doubled {index}");
        for other in index + 1..records.len() {
            let mut swapped = records.clone();
            swapped.swap(index, other);
            assert_eq!(heard(&swapped), refused, "swapped {index} and {other}");
            let mut replayed = records.clone();
            replayed.insert(other + 1, records[index].clone());
            assert_eq!(heard(&replayed), refused, "replayed {index} behind {other}");
        }
    }

    let (mut client, _) = streaming_ends();
    for own in [
        client.data(b"data"),
        client.control(&ControlMessage::Ping { nonce: 0 }),
        client.control(&ControlMessage::EndOfStream),
    ] {
        let (mut twin, _) = streaming_ends();
        assert_eq!(twin.hear(&own), refused, "reflected");
    }
}

#[test]
fn a_record_of_another_channel_is_refused() {
    let mut other = sealer(3);
    let record = seal(&mut other, ContentType::Data, b"data", 0);
    let (mut receiver, _) = recorded();
    assert_eq!(hear(&mut receiver, &record), Err(Error::Authentication));
}

#[test]
fn cut_records_wait_and_then_are_truncated() {
    let (_, records) = recorded();
    let bytes = records.concat();
    for len in 0..bytes.len() {
        let (mut receiver, _) = recorded();
        assert!(hear(&mut receiver, &bytes[..len]).is_ok(), "{len} genuine bytes");
        assert_eq!(receiver.handle_end(), Err(Error::Truncated), "{len} bytes");
    }
}

#[test]
fn impossible_lengths_are_refused_before_the_record_arrives() {
    for header in [[0, 0], [0x41, 0x01], [0x80, 0x00], [0xFF, 0xFF]] {
        let (mut receiver, _) = recorded();
        assert_eq!(hear(&mut receiver, &header), Err(InvalidMessage::RecordLength.into()));
    }
    for header in [[0, 1], [0x41, 0x00]] {
        let (mut receiver, _) = recorded();
        assert_eq!(hear(&mut receiver, &header), Ok(vec![]));
    }
}

#[test]
fn records_of_nothing_but_padding_or_of_no_known_type_are_refused() {
    // There is no way to seal these through the record layer, so they are made of its parts.
    use crypto_core::cipher::CtrKey;
    use crypto_core::kdf::expand_label;
    use crypto_core::mac::MacKey;
    use crypto_core::secret::Secret;

    let secret = Secret::new([1; 32]);
    let encryption = CtrKey::new(&expand_label(&secret, "enc", &[]));
    let mac = MacKey::new(expand_label::<32>(&secret, "mac", &[]).expose());
    let forge = |plaintext: &[u8]| {
        let mut ciphertext = plaintext.to_vec();
        encryption.apply(0, &mut ciphertext);
        let header = u16::try_from(ciphertext.len()).unwrap().to_be_bytes();
        let tag = mac.tag(&[&0u64.to_be_bytes(), &header, &ciphertext]);
        [&header[..], &ciphertext, &tag].concat()
    };
    let fresh = || End::listening(Side::Server).receiver;
    assert_eq!(
        hear(&mut fresh(), &forge(b"\0\0\0\x08\x02\0")),
        Ok(vec![Heard::Event(Event::Close)]),
        "the parts are right"
    );
    for plaintext in
        [&[0][..], &[0; 300], b"data\x00\x00", b"data\x04", b"data\xFF", b"data\x80\0\0", &[0; 16640]]
    {
        assert!(hear(&mut fresh(), &forge(plaintext)).is_err(), "{plaintext:?}");
    }
    // A payload of 16385 bytes: one more than a record may hold, though its ciphertext is within the limit.
    let long = [vec![7; 16385], vec![3]].concat();
    assert_eq!(hear(&mut fresh(), &forge(&long)), Err(Error::Authentication));
}

#[test]
fn data_is_byte_exact_over_thousands_of_key_updates() {
    let (mut client, mut server) = streaming_ends();
    client.sender.set_key_limits(KeyLimits { records: 1, bytes: u64::MAX });
    server.sender.set_key_limits(KeyLimits { records: u64::MAX, bytes: 1000 });
    let data = pattern(1_000_003);
    for piece in data.chunks(331) {
        let there = client.data(piece);
        assert_eq!(messages(&there).len(), 2, "a KeyUpdate and the data");
        assert_eq!(server.hear(&there), Ok(vec![Heard::Data(piece.to_vec())]));
        let back = server.data(piece);
        assert_eq!(client.hear(&back), Ok(vec![Heard::Data(piece.to_vec())]));
    }
    let end = client.control(&ControlMessage::EndOfStream);
    assert_eq!(server.hear(&end), Ok(vec![Heard::Event(Event::EndOfStream)]));
}

/// Many updates within one read: each is found in the middle of a batch.
#[test]
fn key_updates_in_the_middle_of_a_read_are_followed() {
    let (mut client, mut server) = streaming_ends();
    client.sender.set_key_limits(KeyLimits { records: 1, bytes: u64::MAX });
    let data = pattern(60_000);
    let mut said = Vec::new();
    for piece in data.chunks(100) {
        said.extend(client.data(piece));
    }
    assert_eq!(messages(&said).len(), 1200);
    assert_eq!(server.hear(&said), Ok(vec![Heard::Data(data)]));
}

#[test]
fn the_two_directions_update_by_themselves() {
    let (mut client, mut server) = streaming_ends();
    for _ in 0..10 {
        client.sender.request_key_update();
        let there = client.data(b"there");
        assert_eq!(messages(&there).len(), 2);
        assert_eq!(server.hear(&there), Ok(vec![Heard::Data(b"there".to_vec())]));
        let back = server.data(b"back");
        assert_eq!(messages(&back).len(), 1);
        assert_eq!(client.hear(&back), Ok(vec![Heard::Data(b"back".to_vec())]));
    }
}

#[test]
fn a_request_updates_once() {
    let (mut client, _) = ends();
    client.sender.request_key_update();
    client.sender.request_key_update();
    let pings: Vec<usize> =
        (0..3).map(|nonce| messages(&client.control(&ControlMessage::Ping { nonce })).len()).collect();
    assert_eq!(pings, [2, 1, 1]);
}

#[test]
fn records_under_the_old_key_behind_a_key_update_are_refused() {
    let (mut receiver, _) = recorded();
    let (_, records) = recorded();
    let mut old = sealer(1);
    seal_control(&mut old, &ControlMessage::Open { target: Target::Pipe });
    let mut said = seal_control(&mut old, &ControlMessage::KeyUpdate);
    said.extend(seal(&mut old, ContentType::Data, b"old", 0));
    assert_eq!(hear(&mut receiver, &said), Err(PeerMisbehaved::RecordsBehindKeyUpdate.into()));

    // The same in two reads: the old key is gone by then.
    let (mut receiver, _) = recorded();
    let (first, second) = said.split_at(said.len() - records[0].len() + 2);
    assert_eq!(hear(&mut receiver, first), Ok(vec![]));
    assert_eq!(hear(&mut receiver, second), Err(Error::Authentication));
}

#[test]
fn records_under_the_next_key_without_a_key_update_are_refused() {
    let mut sealer = sealer(1);
    seal_control(&mut sealer, &ControlMessage::Open { target: Target::Pipe });
    sealer.update_key();
    let (mut receiver, _) = recorded();
    let record = seal(&mut sealer, ContentType::Data, b"too soon", 0);
    assert_eq!(hear(&mut receiver, &record), Err(Error::Authentication));
}

#[test]
fn a_channel_of_many_streams_and_updates_stays_in_step() {
    let (mut client, mut server) = ends();
    let limits = KeyLimits { records: 3, bytes: 5000 };
    client.sender.set_key_limits(limits);
    server.sender.set_key_limits(limits);
    for round in 0..500usize {
        let mut said = client.control(&ControlMessage::Open { target: Target::Message });
        said.extend(client.data(&pattern(round * 37 % 6000 + 1)));
        said.extend(client.control(&ControlMessage::EndOfStream));
        let heard = server.hear(&said).unwrap();
        assert_eq!(heard.len(), 3, "round {round}");
        let mut answer = server.control(&ControlMessage::Opened);
        answer.extend(server.control(&ControlMessage::EndOfStream));
        let expected = [Event::Opened, Event::EndOfStream].map(Heard::Event);
        assert_eq!(client.hear(&answer).unwrap(), expected);
    }
    fn close(from: &mut End, to: &mut End) {
        let close = from.control(&ControlMessage::Close);
        assert_eq!(to.hear(&close), Ok(vec![Heard::Event(Event::Close)]));
    }
    close(&mut client, &mut server);
    close(&mut server, &mut client);
}

/// Empty records are skipped in a stream of bytes before and after one of datagrams.
#[test]
fn empty_records_count_only_where_they_are_datagrams() {
    let (mut client, mut server) = streaming_ends();
    let records = |client: &mut End| {
        let mut out = SendBuffer::default();
        for datagram in [&b""[..], b"one", b"", b""] {
            client.sender.send_datagram(datagram, START, &mut out).unwrap();
        }
        client.sender.send_control(&ControlMessage::EndOfStream, START, &mut out).unwrap();
        out.to_vec()
    };
    let as_bytes = Ok(vec![Heard::Data(b"one".to_vec()), Heard::Event(Event::EndOfStream)]);
    let reopen = |client: &mut End, server: &mut End| {
        let end = server.control(&ControlMessage::EndOfStream);
        client.hear(&end).unwrap();
        let open = client.control(&ControlMessage::Open { target: Target::Pipe });
        server.hear(&open).unwrap();
        let opened = server.control(&ControlMessage::Opened);
        client.hear(&opened).unwrap();
    };
    assert_eq!(server.hear(&records(&mut client)), as_bytes);
    reopen(&mut client, &mut server);

    server.receiver.expect_datagrams();
    let bytes = records(&mut client);
    server.receiver.spare()[..bytes.len()].copy_from_slice(&bytes);
    server.receiver.handle_input(bytes.len());
    for datagram in [&b""[..], b"one", b"", b""] {
        assert_eq!(server.receiver.poll_event(START), Ok(Some(Event::Data)));
        assert_eq!(server.receiver.poll_event(START), Ok(Some(Event::Data)), "until it is consumed");
        assert_eq!(server.receiver.data(), datagram);
        server.receiver.consume_datagram();
    }
    server.receiver.consume_datagram();
    assert_eq!(server.receiver.poll_event(START), Ok(Some(Event::EndOfStream)));
    assert_eq!(server.receiver.poll_event(START), Ok(None));
    reopen(&mut client, &mut server);
    assert_eq!(server.hear(&records(&mut client)), as_bytes);
}

/// What the receiver makes of records of these lengths on a stream of datagrams: the lengths of the datagrams.
fn datagrams_of(receiver: &mut Receiver, records: &[u8]) -> Result<Vec<usize>, Error> {
    let mut lens = Vec::new();
    let mut rest = records;
    loop {
        while let Some(event) = receiver.poll_event(START)? {
            assert_eq!(event, Event::Data);
            let datagram = receiver.data();
            assert!(
                datagram == pattern(datagram.len()),
                "a datagram of {} bytes was changed",
                datagram.len()
            );
            lens.push(datagram.len());
            receiver.consume_datagram();
        }
        if rest.is_empty() {
            return Ok(lens);
        }
        let spare = receiver.spare();
        let len = rest.len().min(spare.len());
        spare[..len].copy_from_slice(&rest[..len]);
        rest = &rest[len..];
        receiver.handle_input(len);
    }
}

#[test]
fn a_datagram_of_several_records_arrives_as_one() {
    let (mut client, mut server) = streaming_ends();
    server.receiver.expect_datagrams();
    // A key update in the middle of a datagram is none of its business.
    client.sender.set_key_limits(KeyLimits { records: 3, bytes: u64::MAX });
    let lens = [16383, 16384, 0, 16385, 32741, 32768, 1, 49151, 49152, 49153, 65506, 65507, 7];
    let mut out = SendBuffer::default();
    for len in lens {
        client.sender.send_datagram(&pattern(len), START, &mut out).unwrap();
    }
    assert_eq!(datagrams_of(&mut server.receiver, &out), Ok(lens.into()));
    assert_eq!(server.receiver.unfinished_len(), 0);
    // As records: three full ones and what is left, and an empty one behind a full one.
    for (len, records) in [(65507, 4), (16384, 2), (49152, 4), (16383, 1), (0, 1)] {
        client.sender.set_key_limits(KeyLimits::default());
        let mut out = SendBuffer::default();
        client.sender.send_datagram(&pattern(len), START, &mut out).unwrap();
        assert_eq!(out.len(), len + records * 35, "{len}");
    }
}

#[test]
fn a_datagram_beyond_the_limit_is_not_sent_and_not_received() {
    let (mut client, _) = streaming_ends();
    let too_long = Error::ApiMisuse("the datagram is longer than 65507 bytes");
    assert_eq!(
        client.sender.send_datagram(&pattern(65508), START, &mut SendBuffer::default()),
        Err(too_long)
    );
    client.control(&ControlMessage::EndOfStream);
    let no_stream = Error::ApiMisuse("no stream is open");
    assert_eq!(client.sender.send_datagram(b"", START, &mut SendBuffer::default()), Err(no_stream));

    let out_of_turn = Error::PeerMisbehaved(PeerMisbehaved::UnexpectedMessage);
    for (last, expected) in [(16354, None), (16355, Some(49152 + 16355)), (16356, None), (16384, None)] {
        let (mut client, mut server) = streaming_ends();
        server.receiver.expect_datagrams();
        let mut records = Vec::new();
        for start in [0, 16384, 32768] {
            records.extend(client.data(&pattern(65536)[start..start + 16384]));
        }
        assert_eq!(datagrams_of(&mut server.receiver, &records), Ok(vec![]));
        assert_eq!(server.receiver.unfinished_len(), 49152);
        let end = client.data(&pattern(65536)[49152..49152 + last]);
        let received = datagrams_of(&mut server.receiver, &end);
        match expected {
            Some(len) => assert_eq!(received, Ok(vec![len])),
            None if last < 16355 => assert_eq!(received, Ok(vec![49152 + last])),
            None => assert_eq!(received, Err(out_of_turn), "{last}"),
        }
    }
}

/// The `Debug` form of a channel does not show what the channel carries.
#[test]
fn a_datagram_that_is_not_whole_is_not_shown() {
    let (mut client, mut server) = streaming_ends();
    server.receiver.expect_datagrams();
    let first = client.data(&[77; 16384]);
    assert_eq!(datagrams_of(&mut server.receiver, &first), Ok(vec![]));
    assert_eq!(server.receiver.unfinished_len(), 16384);
    let shown = format!("{:?}", server.receiver);
    assert!(shown.contains("16384") && !shown.contains("77, 77"), "the content is shown");
}

#[test]
fn only_a_key_update_or_a_reset_may_stand_within_a_datagram() {
    let out_of_turn = Error::PeerMisbehaved(PeerMisbehaved::UnexpectedMessage);
    for (message, expected) in [
        (ControlMessage::Ping { nonce: 1 }, out_of_turn),
        (ControlMessage::Pong { nonce: 1 }, out_of_turn),
        (ControlMessage::EndOfStream, out_of_turn),
        (ControlMessage::Close, Error::Truncated),
        (ControlMessage::Reset { code: ResetCode::Input }, Error::Reset(ResetCode::Input)),
    ] {
        let mut sealer = sealer(1);
        let mut receiver = End::listening(Side::Server).receiver;
        let open = seal_control(&mut sealer, &ControlMessage::Open { target: Target::Pipe });
        hear(&mut receiver, &open).unwrap();
        receiver.expect_datagrams();
        let first = seal(&mut sealer, ContentType::Data, &pattern(16384), 0);
        assert_eq!(datagrams_of(&mut receiver, &first), Ok(vec![]));
        let within = seal_control(&mut sealer, &message);
        assert_eq!(datagrams_of(&mut receiver, &within), Err(expected), "{message:?}");
    }
}
