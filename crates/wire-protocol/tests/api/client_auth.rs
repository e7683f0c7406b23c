//! Who the client is: what a signature must bind, and which keys may make one.

use crypto_core::KeyProblem;
use crypto_core::identity::{ClientKey, KeyId};
use wire_protocol::Error;
use wire_protocol::handshake::client::ClientConfig;
use wire_protocol::handshake::server::{ClientAuth, ServerConfig, ServerHandshake};
use wire_protocol::handshake::{Handshake as _, Step, Work as _};
use wire_protocol::message::{ClientIdentity, DeniedCode, HandshakeMessage};

use super::keys;
use super::pair::{self, NOW, Pair, Peer, knows_key, server_config, with_identity};
use super::rogue::{Rogue, RogueHello};

const CONTEXT: &[u8] = b"sockseal v1 client auth\0";

/// A client that has heard the server's flight, T2, and the server that waits for who it is.
fn before_client_auth() -> (Rogue, [u8; 32], Peer<ServerHandshake>) {
    let mut server = pair::server(server_config(), NOW);
    let (hello, said) = RogueHello::rsa(&keys::server(), |_| {});
    let flight = pair::messages(&server.feed(&said));
    let mut client = hello.hear(&flight[0]);
    client.hear(&flight[1]);
    client.hear(&flight[2]);
    let t2 = client.transcript();
    (client, t2, server)
}

fn sign(client: &mut Rogue, key: &ClientKey, parts: &[&[u8]]) -> Vec<u8> {
    key.sign(&mut client.rng, &parts.concat()).unwrap()
}

#[track_caller]
fn check(auth: impl FnOnce(&mut Rogue, [u8; 32]) -> HandshakeMessage, expected: Result<KeyId, Error>) {
    let (mut client, t2, mut server) = before_client_auth();
    let auth = auth(&mut client, t2);
    let mut flight = client.say(&auth);
    let finished = client.finished();
    flight.extend(client.say(&finished));
    assert_eq!(server.feed(&flight), b"");
    match expected {
        Ok(id) => assert_eq!(server.into_outcome().client(), &ClientIdentity::Key(id)),
        Err(error) => assert_eq!(server.error(), Some(error)),
    }
}

#[test]
fn the_signature_covers_the_text_the_transcript_and_the_key() {
    let key = keys::client();
    let (spki, id) = (key.public().spki_der().to_vec(), key.public().id());
    let other_id = keys::other_client().public().id();
    let signed = |parts: Vec<Vec<u8>>, expected: Result<KeyId, Error>| {
        let (key, spki) = (key.clone(), spki.clone());
        check(
            move |client, t2| {
                let parts: Vec<&[u8]> =
                    parts.iter().map(|part| if part == b"T2" { &t2[..] } else { part }).collect();
                HandshakeMessage::ClientAuth { spki, signature: sign(client, &key, &parts) }
            },
            expected,
        );
    };
    let (context, t2) = (CONTEXT.to_vec(), b"T2".to_vec());
    let refused = Err(Error::Authentication);
    signed(vec![context.clone(), t2.clone(), id.0.to_vec()], Ok(id));
    signed(vec![context.clone(), t2.clone(), other_id.0.to_vec()], refused);
    signed(vec![context.clone(), t2.clone()], refused);
    signed(vec![t2.clone(), id.0.to_vec()], refused);
    signed(vec![t2.clone()], refused);
    signed(vec![CONTEXT[..CONTEXT.len() - 1].to_vec(), t2, id.0.to_vec()], refused);
    signed(vec![context, vec![0; 32], id.0.to_vec()], refused);
}

#[test]
fn a_signature_by_another_key_is_refused() {
    let victim = keys::client();
    check(
        |client, t2| {
            let id = victim.public().id();
            let signature = sign(client, &keys::other_client(), &[CONTEXT, &t2, &id.0]);
            HandshakeMessage::ClientAuth { spki: victim.public().spki_der().to_vec(), signature }
        },
        Err(Error::Authentication),
    );
}

#[test]
fn signatures_that_are_wrong_or_of_the_wrong_length_are_refused() {
    let key = keys::client();
    let spki = key.public().spki_der();
    for change in [
        |signature: &mut Vec<u8>| signature[0] ^= 1,
        |signature: &mut Vec<u8>| signature[255] ^= 0x80,
        |signature: &mut Vec<u8>| signature.truncate(255),
        |signature: &mut Vec<u8>| signature.push(0),
        |signature: &mut Vec<u8>| signature.insert(0, 0),
        |signature: &mut Vec<u8>| signature.clear(),
        |signature: &mut Vec<u8>| signature.fill(0),
        |signature: &mut Vec<u8>| signature.fill(0xFF),
    ] {
        check(
            |client, t2| {
                let mut signature = sign(client, &key, &[CONTEXT, &t2, &key.public().id().0]);
                change(&mut signature);
                HandshakeMessage::ClientAuth { spki: spki.to_vec(), signature }
            },
            Err(Error::Authentication),
        );
    }
}

/// A server that was authenticated to takes the client's words to another one.
#[test]
fn a_client_auth_of_another_connection_is_refused() {
    let (mut honest, t2, _) = before_client_auth();
    let key = keys::client();
    let signature = sign(&mut honest, &key, &[CONTEXT, &t2, &key.public().id().0]);
    let stolen = HandshakeMessage::ClientAuth { spki: key.public().spki_der().to_vec(), signature };

    // The same server, at another time: its random differs, and so does T2.
    let mut server = pair::server(server_config(), NOW);
    server.rng = rand_core::SeedableRng::seed_from_u64(77);
    let (hello, said) = RogueHello::rsa(&keys::server(), |_| {});
    let flight = pair::messages(&server.feed(&said));
    let mut thief = hello.hear(&flight[0]);
    thief.hear(&flight[1]);
    thief.hear(&flight[2]);
    assert_ne!(thief.transcript(), t2);
    server.feed(&thief.say(&stolen));
    assert_eq!(server.error(), Some(Error::Authentication));
}

#[test]
fn keys_that_cannot_be_used_are_refused_by_name() {
    let good = keys::client().public().spki_der().to_vec();
    let mut p256 = vec![0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
    p256.extend([0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04]);
    p256.extend([1; 64]);
    for (spki, problem) in [
        (keys::SMALL_SPKI.to_vec(), KeyProblem::TooSmall { bits: 1024 }),
        (p256, KeyProblem::Form(crypto_core::pem::Form::Algorithm("elliptic curves"))),
        (Vec::new(), KeyProblem::Malformed),
        ([&good[..], &[0]].concat(), KeyProblem::Malformed),
        (good[1..].to_vec(), KeyProblem::Malformed),
    ] {
        let signature = vec![0; 256];
        check(|_, _| HandshakeMessage::ClientAuth { spki, signature }, Err(Error::PeerKey(problem)));
    }
}

#[test]
fn a_signature_counts_only_once_the_client_has_finished() {
    let key = keys::client();
    let (mut client, t2, mut server) = before_client_auth();
    let signature = sign(&mut client, &key, &[CONTEXT, &t2, &key.public().id().0]);
    let auth = HandshakeMessage::ClientAuth { spki: key.public().spki_der().to_vec(), signature };
    server.feed(&client.say(&auth));
    assert!(!server.is_done());
    server.feed(&client.say(&HandshakeMessage::Finished { mac: [0; 32] }));
    assert_eq!(server.error(), Some(Error::Authentication));
}

/// "They have to", says [`ClientAuth::Required`], and a caller who lets in everybody it is asked about relies on
/// that.
#[test]
fn a_client_that_has_to_say_who_it_is_and_does_not_is_never_let_in() {
    let required = || ServerConfig { client_auth: ClientAuth::Required, ..server_config() };
    let mut pair = Pair::new(with_identity(knows_key()), required());
    pair.run();
    assert!(pair.both_established());

    let mut pair = Pair::new(knows_key(), required());
    pair.run();
    assert!(pair.welcomed.is_none(), "an anonymous client was welcomed");
    let denied = Some(Error::Denied(DeniedCode::ClientKeyRequired));
    assert_eq!((pair.client.error(), pair.server.error()), (denied, denied));
}

/// A client of an earlier version knows no reasons, and one with an invite must learn none.
#[test]
fn a_reason_is_told_to_a_client_that_asks_for_it_and_to_no_other() {
    for reason in [
        DeniedCode::Expired { at: 1, now: u64::MAX },
        DeniedCode::Elsewhere { source: [7; 16] },
        DeniedCode::Revoked,
        DeniedCode::NotAllowed,
        DeniedCode::TooManyChannels,
    ] {
        for (asks_reason, is_invited, told) in [
            (true, false, reason),
            (false, false, reason.without_reason()),
            (true, true, reason.without_reason()),
        ] {
            let config = with_identity(knows_key());
            let config = if is_invited { pair::invited(config) } else { config };
            let mut pair = Pair::new(ClientConfig { asks_reason, ..config }, server_config());
            pair.decision = Err(reason);
            pair.run();
            assert_eq!(
                pair.client.error(),
                Some(Error::Denied(told)),
                "{reason:?} {asks_reason} {is_invited}"
            );
        }
    }
}

/// A server does nothing with its key, and says nothing, before it is told to work.
#[test]
fn opening_a_secret_is_work_of_its_own() {
    let mut server = pair::server(server_config(), NOW);
    let (_, mut hello) = RogueHello::rsa(&keys::server(), |_| {});
    let mut said = Vec::new();
    let waiting = pair::server(server_config(), NOW).into_waiting();
    let Step::Work(work) = waiting.handle(&mut hello, &mut server.rng, &mut said).unwrap() else {
        panic!("it went on without its key")
    };
    assert_eq!(said, b"");
    let step = work.run(&mut server.rng, &mut said).unwrap();
    assert!(matches!(step, Step::Continue(ServerHandshake::ClientAuth(_))));
    assert_eq!(pair::messages(&said).len(), 3);
}
