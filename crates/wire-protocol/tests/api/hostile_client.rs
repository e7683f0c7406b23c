//! What a server makes of clients that mean it ill, or something else altogether.

use crypto_core::secret::Secret;
use rand_core::SeedableRng as _;
use wire_protocol::frame::{self, FrameKind};
use wire_protocol::handshake::Handshake as _;
use wire_protocol::message::{Abort, AbortCode, ClientHello, HandshakeMessage, HelloAuth, KeyOffer, SUITE};
use wire_protocol::{Error, Foreign, InvalidMessage, PeerMisbehaved};

use super::keys;
use super::pair::{self, NOW, Pair, Scene, server_config};
use super::rogue::RogueHello;

#[track_caller]
fn check(said: &[u8], expected: Error, abort: Option<AbortCode>) {
    let mut server = pair::server(server_config(), NOW);
    assert_eq!(server.feed(said), b"", "nothing but an Abort is said");
    assert_eq!(server.error(), Some(expected));
    assert_eq!(expected.abort_code(), abort);
}

fn hello(change: impl FnOnce(&mut ClientHello)) -> Vec<u8> {
    RogueHello::rsa(&keys::server(), change).1
}

/// The kinds of what the server says, so that two answers can be compared without their random content.
fn shape(said: &[u8]) -> Vec<(u8, usize)> {
    pair::messages(said)
        .iter()
        .map(|message| (if message.starts_with(b"SKS") { message[4] } else { 0 }, message.len()))
        .collect()
}

#[test]
fn other_protocols_are_named() {
    for (said, foreign) in [
        (&b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"[..], Foreign::Http),
        (b"POST /upload HTTP/1.1\r\n", Foreign::Http),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Foreign::Http),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Foreign::Tls),
        (b"\x15\x03\x01\x00\x02\x02\x46", Foreign::Tls),
        (b"HTTP/1.1 400 Bad Request\r\n", Foreign::Http),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Foreign::Ssh),
        (b"EHLO example.org\r\n", Foreign::Unknown),
        (b"\0", Foreign::Unknown),
        (b"SKx", Foreign::Unknown),
    ] {
        check(said, InvalidMessage::NotSockseal(foreign).into(), None);
    }
}

#[test]
fn frames_with_wrong_headers_are_refused_before_their_bodies_arrive() {
    let header = |version, kind, zero, len: u16| {
        let [high, low] = len.to_be_bytes();
        [b'S', b'K', b'S', version, kind, zero, high, low]
    };
    check(&header(0, 3, 0, 9), InvalidMessage::Version(0).into(), Some(AbortCode::Version));
    check(&header(2, 3, 0, 9), InvalidMessage::Version(2).into(), Some(AbortCode::Version));
    check(&header(1, 0, 0, 9), InvalidMessage::UnknownKind(0).into(), None);
    check(&header(1, 6, 0, 9), InvalidMessage::UnknownKind(6).into(), None);
    check(&header(1, 255, 0, 9), InvalidMessage::UnknownKind(255).into(), None);
    check(&header(1, 3, 1, 9), InvalidMessage::Malformed.into(), None);
    check(&header(1, 3, 0, 8193), InvalidMessage::TooLong.into(), None);
    check(&header(1, 3, 0, u16::MAX), InvalidMessage::TooLong.into(), None);
}

#[test]
fn bodies_that_are_not_the_one_encoding_are_refused() {
    let malformed = InvalidMessage::Malformed.into();
    let grown = |mut frame: Vec<u8>, tail: &[u8]| {
        frame.extend_from_slice(tail);
        let len = u16::try_from(frame.len() - 8).unwrap().to_be_bytes();
        frame[6..8].copy_from_slice(&len);
        frame
    };
    let cut = |mut frame: Vec<u8>, by: usize| {
        frame.truncate(frame.len() - by);
        let len = u16::try_from(frame.len() - 8).unwrap().to_be_bytes();
        frame[6..8].copy_from_slice(&len);
        frame
    };
    check(&grown(hello(|_| {}), &[0]), malformed, None);
    check(&grown(hello(|_| {}), &[0; 100]), malformed, None);
    check(&cut(hello(|_| {}), 1), malformed, None);
    check(&cut(hello(|_| {}), 256), malformed, None);
    check(&grown(frame::write_empty(FrameKind::ClientHello), &[]), malformed, None);
    // The sealed secret's own length: one more than there is, and far more than there could be.
    let mut lying = hello(|_| {});
    let place = lying.len() - 256 - 8;
    lying[place..place + 8].copy_from_slice(&257u64.to_be_bytes());
    check(&lying, malformed, None);
    lying[place..place + 8].copy_from_slice(&u64::MAX.to_be_bytes());
    check(&lying, malformed, None);
    // An auth that does not exist.
    lying[place - 4..place].copy_from_slice(&3u32.to_be_bytes());
    check(&lying, malformed, None);
}

#[test]
fn what_only_servers_say_is_out_of_turn() {
    let unexpected = PeerMisbehaved::UnexpectedMessage.into();
    let spki = keys::server().public().spki_der().to_vec();
    check(&frame::write(FrameKind::KeyOffer, &KeyOffer { spki }), unexpected, None);
    check(&frame::write(FrameKind::Abort, &Abort { code: AbortCode::Busy }), unexpected, None);
    let mut pair = Scene::Psk.pair();
    pair.run();
    check(&pair.tape[1].1, unexpected, None);
}

#[test]
fn a_client_without_our_suite_is_told() {
    let no_suite = PeerMisbehaved::NoCommonSuite.into();
    for suites in [vec![], vec![0], vec![2], vec![0x0100], vec![2, 3, 0xFFFF]] {
        check(&hello(|hello| hello.suites = suites), no_suite, Some(AbortCode::Suite));
    }
    for suites in [vec![SUITE, 2], vec![2, SUITE], vec![SUITE; 100]] {
        let mut server = pair::server(server_config(), NOW);
        assert_eq!(shape(&server.feed(&hello(|hello| hello.suites = suites))).len(), 3);
    }
}

/// Values of small order: whatever the server's secret, the result would be zero.
#[test]
fn low_order_x25519_values_are_refused() {
    for point in low_order_points() {
        let mut server = pair::server(server_config(), NOW);
        assert_eq!(server.feed(&hello(|hello| hello.x25519 = point)), b"", "{point:?}");
        assert_eq!(server.error(), Some(Error::Authentication), "{point:?}");
        let (_, psk) = RogueHello::psk(&keys::psk(), |hello| hello.x25519 = point);
        check(&psk, Error::Authentication, None);
    }
}

/// The values of RFC 7748's curve that have small order, and encodings of them beyond the prime.
pub(crate) fn low_order_points() -> Vec<[u8; 32]> {
    let text = |hexadecimal: &str| {
        data_encoding::HEXLOWER.decode(hexadecimal.as_bytes()).unwrap().try_into().unwrap()
    };
    vec![
        [0; 32],
        text("0100000000000000000000000000000000000000000000000000000000000000"),
        text("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        text("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        text("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        text("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        text("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        text("0000000000000000000000000000000000000000000000000000000000000080"),
    ]
}

#[test]
fn encapsulation_keys_with_coefficients_beyond_the_modulus_are_refused() {
    // Two coefficients in three bytes, the first of them 3329 and so one too many.
    for place in [0, 3 * 17, 1149] {
        let beyond = hello(|hello| {
            hello.encapsulation_key[place] = 0x01;
            hello.encapsulation_key[place + 1] = 0x0D;
        });
        check(&beyond, Error::Authentication, None);
    }
    check(&hello(|hello| hello.encapsulation_key[..1152].fill(0xFF)), Error::Authentication, None);
}

/// Nothing in the answer, its length included, tells a sealed secret that opened from one that did not.
#[test]
fn a_sealed_secret_that_does_not_open_gets_an_answer_like_any_other() {
    let mut server = pair::server(server_config(), NOW);
    let good = shape(&server.feed(&hello(|_| {})));
    assert_eq!(good.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [4, 0, 0]);

    let mut rng = chacha20::ChaCha20Rng::seed_from_u64(4);
    let secret = Secret::new([1; 32]);
    let for_another = keys::other_server().public().seal_secret(&mut rng, &secret).unwrap();
    let mut tampered = keys::server().public().seal_secret(&mut rng, &secret).unwrap();
    tampered[128] ^= 1;
    let numbers = [vec![0; 256], vec![0xFF; 256], [&[0; 255][..], &[1]].concat()];
    let lengths = [vec![], vec![1], vec![1; 255], vec![1; 257], vec![0; 512], vec![1; 6000]];
    for sealed in [for_another, tampered].into_iter().chain(numbers).chain(lengths) {
        let (client, said) = RogueHello::rsa(&keys::server(), |hello| {
            hello.auth = HelloAuth::Rsa { sealed };
        });
        let mut server = pair::server(server_config(), NOW);
        let answer = server.feed(&said);
        assert_eq!(shape(&answer), good);

        // The client cannot read what follows, and what it says itself is refused as any wrong tag is.
        let mut client = client.hear(&pair::messages(&answer)[0]);
        assert_eq!(server.feed(&client.say(&HandshakeMessage::Anonymous)), b"");
        assert_eq!(server.error(), Some(Error::Authentication));
    }
}

#[test]
fn a_changed_sealed_secret_fails_at_both_ends_with_nothing_said_about_it() {
    let mut pair = Scene::Anonymous.pair();
    pair.run_with(|index, message| {
        if index == 0 {
            let last = message.len() - 1;
            message[last] ^= 1;
        }
    });
    assert_eq!(pair.client.error(), Some(Error::Authentication));
    assert_eq!(pair.server.error(), None, "it waits for a client that has left");
    let mut server = pair.server;
    assert_eq!(server.feed(&[0, 1, 0].iter().chain(&[0; 32]).copied().collect::<Vec<u8>>()), b"");
    assert_eq!(server.error(), Some(Error::Authentication));
}

/// Selfie: a party that plays both roles gets its own hello back.
#[test]
fn a_hello_that_names_another_server_is_never_answered() {
    // In RSA mode there is an offer of the right key instead, which the pin then refuses.
    let mut party = pair::server(server_config(), NOW);
    let (_, to_other) = RogueHello::rsa(&keys::other_server(), |_| {});
    let answer = party.feed(&to_other);
    assert_eq!(shape(&answer).iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [2]);

    // Even if the secret is sealed to this server's key.
    let id = keys::other_server().public().id();
    let mut party = pair::server(server_config(), NOW);
    let answer = party.feed(&hello(|hello| hello.server_id = id));
    assert_eq!(shape(&answer).iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [2]);

    // A pre-shared key of the same name and secret, for another server.
    let (_, to_other) = RogueHello::psk(&keys::psk_with("laptop", id, 1), |_| {});
    check(&to_other, Error::UnknownServerOrPsk(AbortCode::UnknownPsk), Some(AbortCode::UnknownPsk));

    // A ticket that names another server than it was minted by.
    let (_, said) = pair::client(pair::has_ticket(pair::ticket()));
    let mut other = said.clone();
    let server_id = keys::server_id();
    let place = said.windows(32).position(|window| window == server_id.0).unwrap();
    other[place..place + 32].copy_from_slice(&id.0);
    let mut party = pair::server(server_config(), NOW);
    assert_eq!(party.feed(&other)[4], 2);
}

#[test]
fn a_replayed_hello_never_gets_past_finished() {
    for scene in [Scene::Anonymous, Scene::Psk, Scene::Resumption] {
        let mut honest = scene.pair();
        honest.run();
        assert!(honest.both_established());
        let said: Vec<Vec<u8>> = honest
            .tape
            .iter()
            .filter(|(from, _)| *from == crypto_core::schedule::Side::Client)
            .map(|(_, message)| message.clone())
            .collect();

        let mut server = pair::server(server_config(), NOW);
        server.rng = rand_core::SeedableRng::seed_from_u64(88);
        assert_eq!(shape(&server.feed(&said[0])).len(), 3, "{scene:?}");
        assert_eq!(server.feed(&said[1]), b"");
        assert_eq!(server.error(), Some(Error::Authentication), "{scene:?}");
    }
}

#[test]
fn two_channels_of_one_hello_would_share_no_key() {
    let mut honest = Scene::Psk.pair();
    honest.run();
    let mut server = pair::server(server_config(), NOW);
    server.rng = rand_core::SeedableRng::seed_from_u64(89);
    let answer = pair::messages(&server.feed(&honest.tape[0].1));
    assert_ne!(answer[0], honest.tape[1].1);
    assert_ne!(answer[1], honest.tape[2].1);
}

#[test]
fn a_finished_of_the_server_s_own_is_not_the_client_s() {
    let mut server = pair::server(server_config(), NOW);
    let (hello, said) = RogueHello::psk(&keys::psk(), |_| {});
    let flight = pair::messages(&server.feed(&said));
    let mut client = hello.hear(&flight[0]);
    client.hear(&flight[1]);
    let echoed = client.hear(&flight[2]);
    assert!(matches!(echoed, HandshakeMessage::Finished { .. }));
    server.feed(&client.say(&echoed));
    assert_eq!(server.error(), Some(Error::Authentication));
}

#[test]
fn records_that_announce_an_impossible_length_are_refused_at_once() {
    let mut pair = Pair::new(Scene::Psk.client(), server_config());
    pair.run_with(|index, message| {
        if index > 0 {
            message.clear();
        }
    });
    let server = pair.server.into_waiting();
    let refused = Err(Error::InvalidMessage(InvalidMessage::RecordLength));
    assert_eq!(server.message_len(&[0]), Ok(None));
    assert_eq!(server.message_len(&[0, 0]), refused);
    assert_eq!(server.message_len(&[0x41, 0x01]), refused);
    assert_eq!(server.message_len(&[0xFF, 0xFF]), refused);
    assert_eq!(server.message_len(b"SKS\x01"), refused);
    assert_eq!(server.message_len(&[0x41, 0x00]), Ok(Some(2 + 16640 + 32)));
    assert_eq!(server.message_len(&[0, 1]), Ok(Some(2 + 1 + 32)));
}
