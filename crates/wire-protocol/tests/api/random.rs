//! Random bytes, and honest messages spoilt at random, at everything that takes bytes from a peer: typed errors,
//! no panic, and no more memory than the limits say.

use std::fmt::Debug;

use chacha20::ChaCha20Rng;
use crypto_core::record::ContentType;
use crypto_core::schedule::Side;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use rand_core::{SeedableRng as _, TryRng as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire_protocol::Error;
use wire_protocol::channel::{Receiver, Sender};
use wire_protocol::codec::{MAX_MESSAGE_LEN, decode, encode};
use wire_protocol::frame::{HEADER_LEN, frame_len, parse};
use wire_protocol::handshake::Handshake;
use wire_protocol::message::{
    Abort, ClientHello, ControlMessage, HandshakeMessage, InviteContent, KeyOffer, ServerHello, Ticket,
    TicketContent,
};

use super::keys;
use super::line::{End, START, hear, opener, seal, seal_control, sealer};
use super::pair::{self, NOW, Peer, Scene, knows_id, knows_psk, server_config};
use super::rogue::{Rogue, RogueHello};

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_of_random_bytes(bytes in vec(any::<u8>(), 0..64), header in header()) {
        for bytes in [bytes.clone(), [&header[..], &bytes].concat()] {
            match frame_len(&bytes) {
                Ok(Some(len)) => prop_assert!((HEADER_LEN..=HEADER_LEN + MAX_MESSAGE_LEN).contains(&len)),
                Ok(None) => prop_assert!(bytes.len() < HEADER_LEN),
                Err(_) => {}
            }
            if let Ok((_, body)) = parse(&bytes) {
                prop_assert_eq!(body.len() + HEADER_LEN, bytes.len());
            }
        }
    }

    #[test]
    fn messages_of_random_bytes(bytes in vec(any::<u8>(), 0..400), tag in 0u8..12) {
        decodes_to_itself(&bytes)?;
        // A variant that exists, so that more than the tag gets read.
        let tagged = [&[0, 0, 0, tag][..], &bytes].concat();
        decodes_to_itself(&tagged)?;
    }

    #[test]
    fn handshakes_of_random_bytes(bytes in vec(any::<u8>(), 0..3000), header in header()) {
        let framed = [&header[..], &bytes].concat();
        for bytes in [&bytes, &framed] {
            never_done(pair::server(server_config(), NOW), bytes)?;
            never_done(pair::client(knows_id()).0, bytes)?;
            never_done(pair::client(knows_psk()).0, bytes)?;
        }
    }

    #[test]
    fn records_of_random_bytes(bytes in vec(any::<u8>(), 35..2000)) {
        let mut record = bytes;
        let len = u16::try_from(record.len() - 34).unwrap().to_be_bytes();
        record[..2].copy_from_slice(&len);
        let mut receiver = End::listening(Side::Server).receiver;
        prop_assert_eq!(hear(&mut receiver, &record), Err(Error::Authentication));
    }

    /// Anything at all under the right keys, at the server and at the client.
    #[test]
    fn sealed_random_bytes(payload in vec(any::<u8>(), 0..200), tag in 0u8..8, kind in content_type()) {
        let payload = [&[0, 0, 0, tag][..], &payload].concat();
        let (hello, said) = RogueHello::psk(&keys::psk(), |_| {});
        let mut server = pair::server(server_config(), NOW);
        let flight = pair::messages(&server.feed(&said));
        let mut client = hello.hear(&flight[0]);
        never_done(server, &client.seal(kind, &payload))?;

        let (mut client, hello) = pair::client(knows_psk());
        let (mut server, answer) = Rogue::server(&hello, |_| {});
        client.feed(&answer);
        never_done(client, &server.seal(kind, &payload))?;

        let mut sealer = sealer(1);
        let mut receiver = End::listening(Side::Server).receiver;
        hear(&mut receiver, &seal(&mut sealer, kind, &payload, 0)).ok();
        hear(&mut receiver, &seal(&mut sealer, kind, &payload, 9)).ok();
    }

    #[test]
    fn channels_of_random_messages(said in vec((control(), any::<bool>()), 0..30)) {
        let mut sealer = sealer(1);
        let mut receiver = End::listening(Side::Server).receiver;
        let mut failed = None;
        for (message, data) in said {
            let mut bytes = seal_control(&mut sealer, &message);
            if message == ControlMessage::KeyUpdate {
                sealer.update_key();
            }
            if data {
                bytes.extend(seal(&mut sealer, ContentType::Data, b"data", 0));
            }
            let outcome = hear(&mut receiver, &bytes).err();
            prop_assert!(failed.is_none() || outcome == failed, "an error stays");
            failed = outcome;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A whole honest handshake, with several bytes of one side's flight replaced, inserted and taken away.
    #[test]
    fn spoilt_transcripts(
        scene in prop::sample::select(vec![Scene::Psk, Scene::Resumption, Scene::Anonymous, Scene::Invited]),
        at_server in any::<bool>(),
        changes in vec((any::<Index>(), any::<u8>(), 0u8..3), 1..6),
    ) {
        let mut honest = scene.pair();
        honest.run();
        let side = if at_server { Side::Client } else { Side::Server };
        let genuine: Vec<u8> =
            honest.tape.iter().filter(|(from, _)| *from == side).flat_map(|(_, m)| m.clone()).collect();
        let mut spoilt = genuine.clone();
        for (place, byte, how) in changes {
            let place = place.index(spoilt.len());
            match how {
                0 => spoilt[place] = byte,
                1 => spoilt.insert(place, byte),
                _ => {
                    spoilt.remove(place);
                }
            }
        }
        prop_assume!(spoilt != genuine);
        if at_server {
            never_done(pair::server(server_config(), NOW), &spoilt)?;
        } else {
            let (mut client, _) = pair::client(scene.client());
            client.feed(&spoilt);
            // A client may be done with a Welcome that nothing but bytes of the channel come behind.
            prop_assert!(!client.is_done() || spoilt.starts_with(&genuine));
        }
    }
}

/// One MiB of noise at whoever listens: it ends at the first bytes, and holds none of the rest.
#[test]
fn a_mebibyte_of_noise() {
    let mut noise = vec![0; 1 << 20];
    ChaCha20Rng::seed_from_u64(5).try_fill_bytes(&mut noise).unwrap();
    let mut server = pair::server(server_config(), NOW);
    assert_eq!(server.feed(&noise), b"");
    assert!(matches!(server.error(), Some(Error::InvalidMessage(_))));
    for scene in Scene::ALL {
        let (mut client, _) = pair::client(scene.client());
        assert_eq!(client.feed(&noise), b"");
        assert!(matches!(client.error(), Some(Error::InvalidMessage(_))), "{scene:?}");
    }
    for seed in 0..64 {
        ChaCha20Rng::seed_from_u64(seed).try_fill_bytes(&mut noise).unwrap();
        let mut receiver = End::listening(Side::Server).receiver;
        assert!(hear(&mut receiver, &noise).is_err(), "seed {seed}");
        let sender = Sender::new(Side::Server, sealer(2), None, START);
        let mut receiver = Receiver::new(&sender, opener(1), &noise);
        assert!(hear(&mut receiver, &[]).is_err(), "seed {seed}");
    }
}

fn never_done<H: Handshake>(mut peer: Peer<H>, bytes: &[u8]) -> Result<(), TestCaseError> {
    peer.feed(bytes);
    prop_assert!(!peer.is_done());
    Ok(())
}

/// What can be read at all is written again as the same bytes, and is no longer than the limit.
fn decodes_to_itself(bytes: &[u8]) -> Result<(), TestCaseError> {
    fn check<T: Serialize + DeserializeOwned + Debug>(bytes: &[u8]) -> Result<(), TestCaseError> {
        if let Ok(message) = decode::<T>(bytes) {
            let mut encoded = Vec::new();
            encode(&message, &mut encoded);
            prop_assert_eq!(encoded, bytes);
        }
        Ok(())
    }
    check::<KeyOffer>(bytes)?;
    check::<ClientHello>(bytes)?;
    check::<ServerHello>(bytes)?;
    check::<Abort>(bytes)?;
    check::<HandshakeMessage>(bytes)?;
    check::<ControlMessage>(bytes)?;
    check::<Ticket>(bytes)?;
    check::<InviteContent>(bytes)?;
    check::<TicketContent>(bytes)
}

/// Mostly a header that is in order.
fn header() -> impl Strategy<Value = [u8; HEADER_LEN]> {
    let byte = |good: std::ops::RangeInclusive<u8>| prop_oneof![9 => good, 1 => any::<u8>()];
    let length = prop_oneof![9 => 0u16..3000, 1 => any::<u16>()];
    (byte(1..=1), byte(1..=5), byte(0..=0), length).prop_map(|(version, kind, zero, length)| {
        let [high, low] = length.to_be_bytes();
        [b'S', b'K', b'S', version, kind, zero, high, low]
    })
}

fn content_type() -> impl Strategy<Value = ContentType> {
    prop::sample::select(vec![ContentType::Handshake, ContentType::Control, ContentType::Data])
}

fn control() -> impl Strategy<Value = ControlMessage> {
    use wire_protocol::message::{RefusedCode, Target};

    prop::sample::select(vec![
        ControlMessage::Open { target: Target::Pipe },
        ControlMessage::Open { target: Target::Message },
        ControlMessage::Opened,
        ControlMessage::Refused { code: RefusedCode::Busy },
        ControlMessage::EndOfStream,
        ControlMessage::EndOfStream,
        ControlMessage::Ping { nonce: 1 },
        ControlMessage::Pong { nonce: 2 },
        ControlMessage::KeyUpdate,
        ControlMessage::KeyUpdate,
    ])
}
