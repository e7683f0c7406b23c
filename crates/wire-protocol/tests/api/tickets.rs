//! Tickets that are not good, or not any more: a full handshake follows on the same connection.

use std::sync::Arc;
use std::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::secret::Secret;
use crypto_core::ticket::TicketKey;
use rand_core::SeedableRng as _;
use wire_protocol::codec::encode;
use wire_protocol::frame::{self, FrameKind};
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer, ResumptionTicket};
use wire_protocol::handshake::server::{ServerConfig, TICKET_CHAIN_LIFETIME, TICKET_LIFETIME};
use wire_protocol::message::{ClientIdentity, KeyOffer, Mode, TicketContent};
use wire_protocol::{Error, PeerMisbehaved};

use super::keys;
use super::pair::{
    self, HOUR, NOW, Pair, expecting, has_ticket, knows_key, server_config, ticket, with_identity,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A client with a ticket and a key of its own, at a server whose clock says `now`.
#[track_caller]
fn check(now: Duration, client: ClientConfig, server: ServerConfig, expected: Mode) {
    let mut pair = Pair::at(now, with_identity(client), server);
    pair.run();
    let kinds: Vec<u8> = pair.tape.iter().filter(|(_, m)| m.starts_with(b"SKS")).map(|(_, m)| m[4]).collect();
    let works = [pair.client.works, pair.server.works];
    match expected {
        Mode::Resumption => {
            assert_eq!(kinds, [3, 4], "ClientHello, ServerHello");
            assert_eq!(works, [0, 0]);
        }
        _ => {
            assert_eq!(kinds, [3, 2, 3, 4], "ClientHello, KeyOffer, ClientHello, ServerHello");
            assert_eq!(works, [1, 2]);
        }
    }
    let (client, server, _) = pair.into_established();
    assert_eq!((client.mode, server.mode), (expected, expected));
    assert_eq!(server.client, ClientIdentity::Key(keys::client().public().id()));
}

/// A ticket as only the server's ticket key could make it.
fn minted(change: impl FnOnce(&mut TicketContent)) -> ResumptionTicket {
    let mut content = TicketContent {
        server_id: keys::server_id(),
        secret: [0x5C; 32],
        issued_at: NOW.as_secs(),
        full_handshake_at: NOW.as_secs(),
        client: ClientIdentity::Key(keys::client().public().id()),
    };
    change(&mut content);
    let mut encoded = Vec::new();
    encode(&content, &mut encoded);
    sealed(&keys::ticket_key(), NOW, &encoded)
}

fn sealed(key: &TicketKey, now: Duration, content: &[u8]) -> ResumptionTicket {
    let mut rng = chacha20::ChaCha20Rng::seed_from_u64(3);
    ResumptionTicket {
        ticket: key.seal(&mut rng, now, content).unwrap(),
        secret: Secret::new([0x5C; 32]),
        lifetime_seconds: 60,
    }
}

#[test]
fn tickets_are_good_for_a_day_to_the_second() {
    for (age, expected) in [
        (Duration::ZERO, Mode::Resumption),
        (HOUR, Mode::Resumption),
        (TICKET_LIFETIME, Mode::Resumption),
        (TICKET_LIFETIME + SECOND, Mode::Rsa),
        (25 * HOUR, Mode::Rsa),
        (365 * DAY, Mode::Rsa),
    ] {
        check(NOW - HOUR + age, has_ticket(ticket()), server_config(), expected);
    }
}

#[test]
fn chains_end_seven_days_after_the_full_handshake() {
    for (chain_age, expected) in [
        (TICKET_CHAIN_LIFETIME - SECOND, Mode::Resumption),
        (TICKET_CHAIN_LIFETIME, Mode::Resumption),
        (TICKET_CHAIN_LIFETIME + SECOND, Mode::Rsa),
        (NOW, Mode::Rsa),
    ] {
        let old = minted(|content| content.full_handshake_at = (NOW - chain_age).as_secs());
        check(NOW, has_ticket(old), server_config(), expected);
    }
}

#[test]
fn a_chain_of_daily_tickets_breaks_after_a_week_and_promises_no_more() {
    let mut pair = Pair::at(NOW, with_identity(knows_key()), server_config());
    pair.run();
    let mut ticket = pair.into_established().0.ticket.unwrap();
    assert_eq!(ticket.lifetime_seconds, 24 * 60 * 60);

    let step = 20 * HOUR;
    let mut now = NOW;
    for _ in 0..8 {
        now += step;
        let mut pair = Pair::at(now, has_ticket(ticket), server_config());
        pair.run();
        let (client, _, _) = pair.into_established();
        assert_eq!(client.mode, Mode::Resumption);
        ticket = client.ticket.unwrap();
        let left = (NOW + TICKET_CHAIN_LIFETIME - now).min(TICKET_LIFETIME);
        assert_eq!(u64::from(ticket.lifetime_seconds), left.as_secs());
    }
    check(now + step, has_ticket(ticket), server_config(), Mode::Rsa);
}

/// One that is good for nothing would only cost the next connection a round trip.
#[test]
fn a_chain_that_ends_now_begets_no_ticket() {
    for (left, expected) in [(SECOND, Some(1)), (Duration::ZERO, None)] {
        let full_handshake_at = NOW - TICKET_CHAIN_LIFETIME + left;
        let old = minted(|content| content.full_handshake_at = full_handshake_at.as_secs());
        let mut pair = Pair::at(NOW, has_ticket(old), server_config());
        pair.run();
        let (client, _, _) = pair.into_established();
        assert_eq!(client.mode, Mode::Resumption);
        assert_eq!(client.ticket.map(|ticket| ticket.lifetime_seconds), expected);
    }
}

#[test]
fn tickets_from_the_future_are_refused() {
    // The clock was set back: by a second within the epoch, by a second over its edge, by a week.
    let later = |by: Duration| minted(|content| content.issued_at = (NOW + by).as_secs());
    check(NOW, has_ticket(later(SECOND)), server_config(), Mode::Rsa);
    check(NOW - SECOND, has_ticket(minted(|_| {})), server_config(), Mode::Rsa);
    check(NOW - 7 * DAY, has_ticket(minted(|_| {})), server_config(), Mode::Rsa);
    let chain = minted(|content| content.full_handshake_at = (NOW + SECOND).as_secs());
    check(NOW, has_ticket(chain), server_config(), Mode::Rsa);
    let forever = minted(|content| content.issued_at = u64::MAX);
    check(NOW, has_ticket(forever), server_config(), Mode::Rsa);
}

#[test]
fn tickets_of_another_server_are_refused() {
    // Another server's key sealed it, or a replica that shares the ticket key but is another server.
    let others = Arc::new(TicketKey::new(Secret::new([9; 32])));
    check(NOW, has_ticket(ticket()), ServerConfig { tickets: Some(others), ..server_config() }, Mode::Rsa);
    let elsewhere = minted(|content| content.server_id = keys::other_server().public().id());
    check(NOW, has_ticket(elsewhere), server_config(), Mode::Rsa);
    check(NOW, has_ticket(ticket()), ServerConfig { tickets: None, ..server_config() }, Mode::Rsa);
}

/// Nobody mints one: a server that has the key or does not would let somebody in on whom nobody has decided.
#[test]
fn tickets_that_name_a_pre_shared_key_are_refused() {
    let named = || has_ticket(minted(|content| content.client = ClientIdentity::Psk("nobody".into())));
    check(NOW, named(), server_config(), Mode::Rsa);
    check(NOW, named(), ServerConfig { psks: Default::default(), ..server_config() }, Mode::Rsa);
}

#[test]
fn tickets_end_with_the_server_s_key() {
    let server = ServerConfig { identity: Some(keys::other_server()), ..server_config() };
    let mut pair = Pair::new(has_ticket(ticket()), server);
    pair.run();
    let (expected, offered) = (keys::server_id(), keys::other_server().public().id());
    assert_eq!(pair.client.error(), Some(Error::ServerKeyMismatch { expected, offered }));
    assert!(!pair.both_established());
    assert_eq!(pair.tape.len(), 2, "ClientHello, KeyOffer, and nothing more");
}

#[test]
fn tampered_tickets_are_refused() {
    let good = ticket().ticket;
    for place in [0, 7, 8, 23, 24, 40, good.len() - 33, good.len() - 32, good.len() - 1] {
        let mut tampered = ticket();
        tampered.ticket[place] ^= 1;
        check(NOW, has_ticket(tampered), server_config(), Mode::Rsa);
    }
    for len in [0, 1, 31, 56, good.len() - 1] {
        let mut short = ticket();
        short.ticket.truncate(len);
        check(NOW, has_ticket(short), server_config(), Mode::Rsa);
    }
    let mut long = ticket();
    long.ticket.push(0);
    check(NOW, has_ticket(long), server_config(), Mode::Rsa);
}

#[test]
fn tickets_that_hold_something_else_are_refused() {
    let key = keys::ticket_key();
    for content in [&[][..], b"not a ticket's content", &[0xFF; 200], &[0; 4096 - 56]] {
        check(NOW, has_ticket(sealed(&key, NOW, content)), server_config(), Mode::Rsa);
    }
    let mut trailing = Vec::new();
    let client = ClientIdentity::Anonymous;
    let (issued_at, full_handshake_at) = (NOW.as_secs(), NOW.as_secs());
    let server_id = keys::server_id();
    let content = TicketContent { server_id, secret: [0x5C; 32], issued_at, full_handshake_at, client };
    encode(&content, &mut trailing);
    trailing.push(0);
    check(NOW, has_ticket(sealed(&key, NOW, &trailing)), server_config(), Mode::Rsa);
}

#[test]
fn a_wrong_binder_is_refused() {
    let thief = ResumptionTicket { secret: Secret::new([1; 32]), ..ticket() };
    check(NOW, has_ticket(thief), server_config(), Mode::Rsa);
}

#[test]
fn a_third_key_offer_is_refused_by_the_server() {
    let mut server = pair::server(server_config(), NOW);
    let request = frame::write_empty(FrameKind::KeyRequest);
    let offer = server.feed(&request);
    assert_eq!(frame::parse(&offer).unwrap().0, FrameKind::KeyOffer);
    assert_eq!(server.feed(&request), offer);
    assert_eq!(server.feed(&request), b"");
    assert_eq!(server.error(), Some(PeerMisbehaved::TooManyKeyOffers.into()));

    let mut server = pair::server(ServerConfig { tickets: None, ..server_config() }, NOW);
    let (_, stale) = pair::client(has_ticket(ticket()));
    for _ in 0..2 {
        assert_eq!(server.feed(&stale), offer);
    }
    assert_eq!(server.feed(&stale), b"");
    assert_eq!(server.error(), Some(PeerMisbehaved::TooManyKeyOffers.into()));
}

#[test]
fn key_offers_that_go_on_are_refused_by_the_client() {
    let offer = KeyOffer { spki: keys::server().public().spki_der().to_vec() };
    let offer = frame::write(FrameKind::KeyOffer, &offer);
    for config in [pair::knows_id(), has_ticket(ticket())] {
        let (mut client, _) = pair::client(config);
        assert_eq!(client.feed(&offer)[4], 3, "a fresh hello");
        assert_eq!(client.feed(&offer), b"");
        assert_eq!(client.error(), Some(PeerMisbehaved::TooManyKeyOffers.into()));
    }
    // The server offers the very key that the hello named.
    let (mut client, _) = pair::client(knows_key());
    assert_eq!(client.feed(&offer), b"");
    assert_eq!(client.error(), Some(PeerMisbehaved::TooManyKeyOffers.into()));
}

#[test]
fn nothing_of_a_hello_that_was_answered_with_an_offer_is_said_again() {
    let mut pair = Pair::new(has_ticket(ticket()), ServerConfig { tickets: None, ..server_config() });
    pair.run();
    let (stale, fresh) = (&pair.tape[0].1, &pair.tape[2].1);
    // random, x25519, the encapsulation key without its end
    for place in [8..40, 50..82, 82..1234] {
        assert_ne!(stale[place.clone()], fresh[place.clone()], "{place:?}");
    }
}

#[test]
fn a_pinned_key_that_differs_is_a_hard_failure() {
    let offered = keys::other_server();
    let offer = KeyOffer { spki: offered.public().spki_der().to_vec() };
    let offer = frame::write(FrameKind::KeyOffer, &offer);
    let expected = keys::server_id();
    let offered = offered.public().id();
    for config in [pair::knows_id(), knows_key(), has_ticket(ticket())] {
        let (mut client, _) = pair::client(config);
        assert_eq!(client.feed(&offer), b"", "nothing more is sent");
        assert_eq!(client.error(), Some(Error::ServerKeyMismatch { expected, offered }));
        assert_eq!(client.feed(&offer), b"", "and the error stays");
        assert_eq!(client.error(), Some(Error::ServerKeyMismatch { expected, offered }));
    }
}

/// The id decides, wherever the key comes from: a key file that was swapped must not be sealed to.
#[test]
fn a_key_in_hand_that_is_not_the_pinned_one_is_never_used() {
    let key = Some(keys::other_server().public().clone());
    let pinned = ExpectedServer::Key { id: keys::server_id(), key, ticket: None };
    let (client, said) = pair::client(expecting(pinned));
    assert!(client.error().is_some(), "a hello was said to the holder of another key");
    assert_eq!(said, b"");
}

#[test]
fn an_offered_key_that_cannot_be_used_is_refused() {
    let spki = keys::server().public().spki_der().to_vec();
    for (spki, problem) in [
        (keys::SMALL_SPKI.to_vec(), crypto_core::KeyProblem::TooSmall { bits: 1024 }),
        (Vec::new(), crypto_core::KeyProblem::Malformed),
        ([&spki[..], &[0]].concat(), crypto_core::KeyProblem::Malformed),
        (spki[..spki.len() - 1].to_vec(), crypto_core::KeyProblem::Malformed),
    ] {
        // Even where its hash is the one that is pinned.
        let id = KeyId(crypto_core::hash::sha256(&spki));
        let (mut client, _) = pair::client(expecting(ExpectedServer::Key { id, key: None, ticket: None }));
        assert_eq!(client.feed(&frame::write(FrameKind::KeyOffer, &KeyOffer { spki })), b"");
        assert_eq!(client.error(), Some(Error::PeerKey(problem)));
    }
}
