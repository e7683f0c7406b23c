//! The key schedule against `vectors/schedule.json`, which a Python script computed from sections 4 and 7.7 alone.

use crypto_core::kdf::expand_label;
use crypto_core::schedule::{BinderKind, EarlyStage, Side, TrafficSecret};
use crypto_core::secret::Secret;
use crypto_core::{Error, mac::MacKey};
use serde_json::Value;

use super::vector;

#[test]
fn known_answers() {
    let vectors = vector::parse(include_str!("../vectors/schedule.json"));
    let vectors = vector::list(&vectors);
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        check(vector);
    }
}

#[test]
fn a_finished_of_another_transcript_side_or_length_is_refused() {
    let secret = TrafficSecret::new(Secret::new([1; 32]));
    let finished = secret.finished(&[2; 32]);
    assert_eq!(secret.verify_finished(&[2; 32], &finished), Ok(()));
    assert_eq!(secret.verify_finished(&[3; 32], &finished), Err(Error::Authentication));
    let other = TrafficSecret::new(Secret::new([4; 32]));
    assert_eq!(other.verify_finished(&[2; 32], &finished), Err(Error::Authentication));
    for bit in 0..finished.len() * 8 {
        let mut flipped = finished;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(secret.verify_finished(&[2; 32], &flipped), Err(Error::Authentication), "bit {bit}");
    }
}

/// Every secret of a schedule differs from every other, and from those of a schedule with any one input changed.
#[test]
fn no_two_secrets_are_equal() {
    let secret = |byte| Secret::<32>::new([byte; 32]);
    let mut seen = std::collections::BTreeSet::new();
    let mut outputs = 0;
    for psk in [None, Some(secret(1)), Some(secret(2))] {
        for rsa in [None, Some(secret(1)), Some(secret(2))] {
            for shared in [[1; 64], [2; 64]] {
                let handshake = EarlyStage::new(psk.as_ref())
                    .into_server_stage(rsa.as_ref())
                    .into_handshake_stage(&Secret::new(shared));
                for side in [Side::Client, Side::Server] {
                    seen.insert(*handshake.handshake_secret(side, &[1; 32]).expose());
                    seen.insert(*handshake.handshake_secret(side, &[2; 32]).expose());
                }
                let application = handshake.into_application_stage();
                for side in [Side::Client, Side::Server] {
                    seen.insert(*application.traffic_secret(side, &[1; 32]).expose());
                    seen.insert(*application.traffic_secret(!side, &[2; 32]).expose());
                }
                seen.insert(*application.resumption_secret(&[1; 32]).expose());
                seen.insert(*application.resumption_secret(&[2; 32]).expose());
                for exporter in [&[1; 32], &[2; 32]].map(|transcript| application.exporter_secret(transcript))
                {
                    seen.insert(*exporter.expose());
                    seen.insert(*exporter.stream_secret(0).expose());
                    seen.insert(*exporter.stream_secret(1).expose());
                }
                outputs += 16;
            }
        }
    }
    assert_eq!(seen.len(), outputs);
}

#[track_caller]
fn check(vector: &Value) {
    let name = vector::text(&vector["name"]);
    let secret = |field: &str| {
        let value = &vector[field];
        (!value.is_null()).then(|| Secret::<32>::new(vector::array(value)))
    };
    let [t1, t2, t3] = ["t1", "t2", "t3"].map(|field| vector::array::<32>(&vector[field]));

    let early = EarlyStage::new(secret("psk").as_ref());
    let hello = vector::bytes(&vector["hello"]);
    for (kind, field) in [(BinderKind::PreSharedKey, "psk_binder"), (BinderKind::Resumption, "res_binder")] {
        assert_eq!(early.binder_key(kind).tag(&[&hello]), vector::array(&vector[field]), "{name}: {field}");
    }

    let handshake = early
        .into_server_stage(secret("rsa").as_ref())
        .into_handshake_stage(&Secret::new(vector::array(&vector["shared"])));
    check_traffic(handshake.handshake_secret(Side::Client, &t1), &t2, &vector["client_handshake"]);
    check_traffic(handshake.handshake_secret(Side::Server, &t1), &t2, &vector["server_handshake"]);

    let application = handshake.into_application_stage();
    check_traffic(application.traffic_secret(Side::Client, &t3), &t3, &vector["client_application"]);
    check_traffic(application.traffic_secret(Side::Server, &t3), &t3, &vector["server_application"]);
    let resumption = application.resumption_secret(&t3);
    assert_eq!(resumption.expose(), &vector::array(&vector["resumption"]), "{name}");
    let ticket_secret = resumption.ticket_secret(&vector::bytes(&vector["ticket_nonce"]));
    assert_eq!(ticket_secret.expose(), &vector::array(&vector["ticket_secret"]), "{name}");
    let exporter = application.exporter_secret(&t3);
    assert_eq!(exporter.expose(), &vector::array(&vector["exporter"]), "{name}");
    for stream in vector::list(&vector["streams"]) {
        let secret = exporter.stream_secret(vector::number(&stream["number"]));
        assert_eq!(secret.expose(), &vector::array(&stream["secret"]), "{name}: {stream}");
        assert_eq!(secret.id().0, vector::array(&stream["id"]), "{name}: {stream}");
    }
}

#[track_caller]
fn check_traffic(secret: TrafficSecret, transcript: &[u8; 32], vector: &Value) {
    assert_eq!(secret.expose(), &vector::array(&vector["secret"]));
    let finished = vector::array(&vector["finished"]);
    assert_eq!(secret.finished(transcript), finished);
    assert_eq!(secret.verify_finished(transcript, &finished), Ok(()));

    // The record keys do not leave the crate; the labels that they are derived with are those of section 4.
    let bytes = Secret::new(*secret.expose());
    assert_eq!(expand_label::<32>(&bytes, "enc", &[]).expose(), &vector::array(&vector["enc"]));
    let mac_key = expand_label::<32>(&bytes, "mac", &[]);
    assert_eq!(mac_key.expose(), &vector::array(&vector["mac"]));
    let finished_key = expand_label::<32>(&bytes, "finished", &[]);
    assert_eq!(MacKey::new(finished_key.expose()).tag(&[transcript]), finished);

    let next = secret.into_next();
    assert_eq!(next.expose(), &vector::array(&vector["next"]));
    assert_eq!(next.into_next().expose(), &vector::array(&vector["next_but_one"]));
}
