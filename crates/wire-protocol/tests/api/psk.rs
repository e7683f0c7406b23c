//! Pre-shared keys: what is wrong with one is the server's secret.

use std::collections::BTreeMap;

use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use wire_protocol::frame::{self, FrameKind};
use wire_protocol::handshake::client::ExpectedServer;
use wire_protocol::handshake::server::ServerConfig;
use wire_protocol::message::{AbortCode, KeyOffer, Mode};
use wire_protocol::{Error, PeerMisbehaved};

use super::pair::{self, NOW, Pair, Scene, expecting, knows_id, knows_key, knows_psk, server_config};
use super::rogue::RogueHello;
use super::{keys, pair::has_ticket};

#[track_caller]
fn check_refused(psk: &PreSharedKey, server: ServerConfig) {
    let (_, hello) = RogueHello::psk(psk, |_| {});
    let mut server = pair::server(server, NOW);
    assert_eq!(server.feed(&hello), b"", "nothing but the Abort is said");
    let error = server.error().unwrap();
    assert_eq!(error, Error::UnknownServerOrPsk(AbortCode::UnknownPsk));
    assert_eq!(error.abort_code(), Some(AbortCode::UnknownPsk));
    assert_eq!(server.works, 0);
}

#[test]
fn wrong_secret_unknown_id_and_other_server_get_the_same_answer() {
    let server_id = keys::server_id();
    check_refused(&keys::psk_with("laptop", server_id, 99), server_config());
    check_refused(&keys::psk_with("phone", server_id, 1), server_config());
    check_refused(&keys::psk_with("laptop", KeyId([9; 32]), 1), server_config());
    check_refused(&keys::psk(), ServerConfig { psks: BTreeMap::new(), ..server_config() });
    let revoked = keys::psk_with("laptop", server_id, 100);
    let psks = BTreeMap::from([("laptop".to_owned(), revoked)]);
    check_refused(&keys::psk(), ServerConfig { psks, ..server_config() });
}

/// An id that is unknown is checked against 32 zero bytes, which must not become a key that opens.
#[test]
fn the_stand_in_for_an_unknown_key_lets_nobody_in() {
    let text = "sockseal-psk-v1 phone AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let zeros = PreSharedKey::from_text(text).unwrap();
    assert_eq!(zeros.secret().expose(), &[0; 32]);
    check_refused(&zeros, server_config());
}

#[test]
fn every_flipped_bit_of_a_binder_is_refused() {
    let (_, hello) = RogueHello::psk(&keys::psk(), |_| {});
    for bit in 0..256 {
        let mut flipped = hello.clone();
        let place = flipped.len() - 32 + bit / 8;
        flipped[place] ^= 1 << (bit % 8);
        let mut server = pair::server(server_config(), NOW);
        assert_eq!(server.feed(&flipped), b"");
        assert_eq!(server.error(), Some(Error::UnknownServerOrPsk(AbortCode::UnknownPsk)), "bit {bit}");
    }
}

#[test]
fn a_key_offer_in_reply_is_a_hard_failure() {
    for offered in [keys::server(), keys::other_server()] {
        let (mut client, _) = pair::client(knows_psk());
        let offer = KeyOffer { spki: offered.public().spki_der().to_vec() };
        assert_eq!(client.feed(&frame::write(FrameKind::KeyOffer, &offer)), b"");
        assert_eq!(client.error(), Some(PeerMisbehaved::UnexpectedMessage.into()));
    }
}

#[test]
fn a_server_without_an_identity_says_so() {
    for config in [knows_id(), knows_key(), has_ticket(pair::ticket())] {
        let mut pair = Pair::new(config, ServerConfig { identity: None, ..server_config() });
        pair.run();
        let error = pair.server.error().unwrap();
        assert_eq!(error.abort_code(), Some(AbortCode::PskOnly));
        assert_eq!(pair.tape.len(), 1, "nothing but the Abort is said");
    }
}

#[test]
fn a_server_without_an_identity_takes_pre_shared_keys() {
    let mut pair = Pair::new(Scene::Psk.client(), ServerConfig { identity: None, ..server_config() });
    pair.run();
    assert_eq!(pair.into_established().0.mode, Mode::Psk);
}

#[test]
fn the_two_ends_must_have_the_same_secret_even_if_binders_were_not_checked() {
    let (_, hello) = RogueHello::psk(&keys::psk(), |_| {});
    let mut server = pair::server(server_config(), NOW);
    let answer = pair::messages(&server.feed(&hello));
    // A client that does not have the secret cannot read the server's first encrypted message.
    let (mut client, _) =
        pair::client(expecting(ExpectedServer::Psk(keys::psk_with("laptop", keys::server_id(), 2))));
    for message in answer {
        assert_eq!(client.feed(&message), b"");
    }
    assert_eq!(client.error(), Some(Error::Authentication));
}
