//! Honest handshakes: every way to a channel leads there, and each side learns who the other is.

use std::sync::Arc;

use crypto_core::schedule::Side;
use crypto_core::secret::Secret;
use rand_core::{TryCryptoRng, TryRng};
use wire_protocol::Error;
use wire_protocol::channel::Event;
use wire_protocol::handshake::client::{ClientConfig, ClientHandshake, ExpectedServer, KeyFetch};
use wire_protocol::handshake::server::ServerHandshake;
use wire_protocol::message::{ClientIdentity, ControlMessage, DeniedCode, Mode, Target};

use super::keys;
use super::line::{End, Heard, pattern};
use super::pair::{
    self, HOUR, LIMITS, NOW, Pair, Peer, Scene, has_ticket, knows_id, knows_key, knows_psk, opening,
    server_config, with_identity,
};

/// What a handshake should come to.
struct Expected {
    mode: Mode,
    client: ClientIdentity,
    /// RSA on the client's side and on the server's.
    works: [usize; 2],
    knows_server_key: bool,
    has_ticket: bool,
}

#[track_caller]
fn check(config: ClientConfig, expected: Expected) {
    let mut pair = Pair::new(config, server_config());
    pair.run();
    assert_eq!([pair.client.works, pair.server.works], expected.works);
    let (client, server, early) = pair.into_established();

    assert_eq!((client.mode, server.mode), (expected.mode, expected.mode));
    assert_eq!(server.client, expected.client);
    assert_eq!((client.limits, server.limits), (LIMITS, LIMITS));
    let known = client.server_key.as_ref().map(|key| key.id());
    assert_eq!(known, expected.knows_server_key.then(keys::server_id));
    assert_eq!(client.ticket.is_some(), expected.has_ticket);

    let mut client_end = End::new(Side::Client, client.keys, &[], client.opening.clone());
    let mut server_end = End::new(Side::Server, server.keys, &early, None);
    if client.opening.is_none() {
        client_end.control(&ControlMessage::Open { target: Target::Pipe });
        panic!("every config here opens a stream");
    }
    assert_eq!(server_end.hear(&[]), Ok(vec![Heard::Event(Event::Open(Target::Pipe))]));
    let opened = server_end.control(&ControlMessage::Opened);
    assert_eq!(client_end.hear(&opened), Ok(vec![Heard::Event(Event::Opened)]));
    let data = pattern(100_000);
    let there = client_end.data(&data);
    assert_eq!(server_end.hear(&there), Ok(vec![Heard::Data(data.clone())]));
    let back = server_end.data(&data);
    assert_eq!(client_end.hear(&back), Ok(vec![Heard::Data(data)]));
}

fn own_key() -> ClientIdentity {
    ClientIdentity::Key(keys::client().public().id())
}

#[test]
fn rsa_with_a_known_key_and_no_client_key() {
    check(
        opening(knows_key(), Target::Pipe),
        Expected {
            mode: Mode::Rsa,
            client: ClientIdentity::Anonymous,
            works: [0, 1],
            knows_server_key: true,
            has_ticket: true,
        },
    );
}

#[test]
fn rsa_with_a_known_key_and_a_client_key() {
    check(
        opening(with_identity(knows_key()), Target::Pipe),
        Expected {
            mode: Mode::Rsa,
            client: own_key(),
            works: [1, 2],
            knows_server_key: true,
            has_ticket: true,
        },
    );
}

#[test]
fn rsa_with_a_key_that_is_asked_for() {
    check(
        opening(with_identity(knows_id()), Target::Pipe),
        Expected {
            mode: Mode::Rsa,
            client: own_key(),
            works: [1, 2],
            knows_server_key: true,
            has_ticket: true,
        },
    );
}

/// No `Step::Work` on either side is the proof that there is no RSA.
#[test]
fn psk_does_no_rsa() {
    check(
        opening(knows_psk(), Target::Pipe),
        Expected {
            mode: Mode::Psk,
            client: ClientIdentity::Psk("laptop".into()),
            works: [0, 0],
            knows_server_key: false,
            has_ticket: false,
        },
    );
}

#[test]
fn resumption_does_no_rsa_and_remembers_the_client() {
    check(
        opening(has_ticket(pair::ticket()), Target::Pipe),
        Expected {
            mode: Mode::Resumption,
            client: own_key(),
            works: [0, 0],
            knows_server_key: false,
            has_ticket: true,
        },
    );
}

#[test]
fn a_client_key_changes_nothing_where_the_hello_settles_who_the_client_is() {
    for (config, client) in [
        (with_identity(knows_psk()), ClientIdentity::Psk("laptop".into())),
        (with_identity(has_ticket(pair::ticket())), own_key()),
    ] {
        let mut pair = Pair::new(config, server_config());
        pair.run();
        assert_eq!([pair.client.works, pair.server.works], [0, 0]);
        assert_eq!(pair.into_established().1.client, client);
    }
}

#[test]
fn an_anonymous_client_stays_anonymous_when_it_resumes() {
    let mut first = Pair::at(NOW - HOUR, knows_key(), server_config());
    first.run();
    let ticket = first.into_established().0.ticket.unwrap();
    let mut second = Pair::new(has_ticket(ticket), server_config());
    second.run();
    let (client, server, _) = second.into_established();
    assert_eq!((client.mode, server.client), (Mode::Resumption, ClientIdentity::Anonymous));
}

#[test]
fn a_server_without_ticket_keys_gives_no_tickets() {
    let mut config = server_config();
    config.tickets = None;
    let mut pair = Pair::new(knows_key(), config);
    pair.run();
    assert!(pair.into_established().0.ticket.is_none());
}

#[test]
fn a_client_that_is_not_let_in_is_told_why() {
    for code in [DeniedCode::ClientKeyRequired, DeniedCode::NotAllowed, DeniedCode::TooManyChannels] {
        for scene in [Scene::Anonymous, Scene::Psk, Scene::Resumption] {
            let mut pair = scene.pair();
            pair.decision = Err(code);
            pair.run();
            assert!(pair.welcomed.is_none());
            assert_eq!(pair.client.error(), Some(Error::Denied(code)), "{scene:?}");
        }
    }
}

#[test]
fn the_key_can_be_fetched_first_and_trusted_on_the_same_connection() {
    let mut server = pair::server(server_config(), NOW);
    let mut out = Vec::new();
    let fetch = KeyFetch::start(&mut out);
    let offer = server.feed(&out);
    assert_eq!(fetch.message_len(&offer), Ok(Some(offer.len())));
    let key = fetch.handle(&offer).unwrap();

    let server_expected = ExpectedServer::Key { id: key.id(), key: Some(key), ticket: None };
    let (mut client, hello) = pair::client(pair::expecting(server_expected));
    let flight = client.feed(&server.feed(&hello));
    server.feed(&flight);
    assert!(server.is_done());
}

#[test]
fn both_sides_say_the_same_thing_twice_only_with_the_same_randomness() {
    let tape = |scene: Scene| {
        let mut pair = scene.pair();
        pair.run();
        pair.tape
    };
    for scene in Scene::ALL {
        assert!(tape(scene) == tape(scene), "{scene:?}");
    }
}

/// A random number generator that fails after so many draws.
struct Failing(usize);

#[derive(Debug)]
struct Exhausted;

impl TryRng for Failing {
    type Error = Exhausted;

    fn try_next_u32(&mut self) -> Result<u32, Exhausted> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Exhausted> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, place: &mut [u8]) -> Result<(), Exhausted> {
        self.0 = self.0.checked_sub(1).ok_or(Exhausted)?;
        place.fill(u8::try_from(self.0 % 251).unwrap() + 1);
        Ok(())
    }
}

impl TryCryptoRng for Failing {}

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the random number generator is exhausted")
    }
}

impl std::error::Error for Exhausted {}

/// However late randomness runs out, the handshake ends with that, and never with a key of no randomness.
#[test]
fn failing_randomness_ends_the_handshake_of_either_side() {
    let failed = Some(Error::Crypto(crypto_core::Error::Randomness));
    for scene in Scene::ALL {
        let mut honest = scene.pair();
        honest.run();
        let needed = (0..100)
            .find(|&draws| {
                let mut out = Vec::new();
                let mut rng = Failing(draws);
                let start = ClientHandshake::start(scene.client(), &mut rng, &mut out);
                let mut client = Peer::new(start, rng);
                if scene == Scene::FirstContact && client.error().is_none() {
                    client.feed(&honest.tape[1].1);
                }
                let ran_out = client.error();
                assert!(ran_out.is_none() || ran_out == failed, "{scene:?} {ran_out:?}");
                ran_out.is_none()
            })
            .unwrap();
        assert!(needed >= 3, "{scene:?}: the client drew {needed} times");

        let hellos = honest.tape.iter().take(if scene == Scene::FirstContact { 3 } else { 1 });
        let hello: Vec<u8> = hellos
            .filter(|(from, _)| *from == crypto_core::schedule::Side::Client)
            .flat_map(|(_, message)| message.clone())
            .collect();
        let needed = (0..100)
            .find(|&draws| {
                let start = ServerHandshake::new(Arc::new(server_config()), NOW);
                let mut server = Peer::new(Ok(start), Failing(draws));
                server.feed(&hello);
                let ran_out = server.error();
                assert!(ran_out.is_none() || ran_out == failed, "{scene:?} {ran_out:?}");
                ran_out.is_none()
            })
            .unwrap();
        assert!(needed >= 3, "{scene:?}: the server drew {needed} times");
    }
}

#[test]
fn a_ticket_s_debug_output_holds_no_secret() {
    let ticket = pair::ticket();
    let shown = format!("{:?}", ticket.secret);
    assert_eq!(shown, format!("{:?}", Secret::new([0; 32])));
}
