//! What a client makes of servers that mean it ill.

use crypto_core::record::{ContentType, Sealer};
use wire_protocol::codec::encode;
use wire_protocol::frame::{self, FrameKind};
use wire_protocol::handshake::client::{ClientConfig, ClientHandshake, Established, MAX_TICKET_LEN};
use wire_protocol::message::{
    Abort, AbortCode, ClientAuthPolicy, HandshakeMessage, Mode, ServerHello, Ticket,
};
use wire_protocol::{Error, InvalidMessage, PeerMisbehaved};

use super::hostile_client::low_order_points;
use super::keys;
use super::line::seal;
use super::pair::{self, LIMITS, Peer, Scene, has_ticket, knows_key, knows_psk, with_identity};
use super::rogue::Rogue;

/// A client that has said its hello, and a server that has answered it.
fn answered(config: ClientConfig, change: impl FnOnce(&mut ServerHello)) -> (Rogue, Peer<ClientHandshake>) {
    let (mut client, hello) = pair::client(config);
    let (server, answer) = Rogue::server(&hello, change);
    assert_eq!(client.feed(&answer), b"");
    (server, client)
}

fn ready(client_auth: ClientAuthPolicy) -> HandshakeMessage {
    HandshakeMessage::ServerReady { client_auth, limits: LIMITS }
}

#[test]
fn answers_to_something_that_was_not_asked_are_refused() {
    for (scene, modes) in [
        (Scene::Anonymous, [Mode::Psk, Mode::Resumption]),
        (Scene::Psk, [Mode::Rsa, Mode::Resumption]),
        (Scene::Resumption, [Mode::Rsa, Mode::Psk]),
    ] {
        for mode in modes {
            let (_, client) = answered(scene.client(), |answer| answer.mode = mode);
            assert_eq!(client.error(), Some(PeerMisbehaved::SelectedUnoffered.into()));
        }
        for suite in [0, 2, 0x0100, u16::MAX] {
            let (_, client) = answered(scene.client(), |answer| answer.suite = suite);
            assert_eq!(client.error(), Some(PeerMisbehaved::SelectedUnoffered.into()));
        }
    }
}

#[test]
fn low_order_x25519_values_are_refused_by_the_client() {
    for point in low_order_points() {
        let (_, client) = answered(knows_psk(), |answer| answer.x25519 = point);
        assert_eq!(client.error(), Some(Error::Authentication), "{point:?}");
    }
}

#[test]
fn a_wrong_ml_kem_ciphertext_gives_keys_that_nobody_shares() {
    for place in [0, 500, 1087] {
        let (mut client, hello) = pair::client(knows_psk());
        let mut genuine = [0; 1088];
        let (mut server, answer) = Rogue::server(&hello, |answer| genuine = answer.ciphertext);
        let mut changed = answer;
        let offset = changed.windows(1088).position(|window| window == genuine).unwrap();
        changed[offset + place] ^= 1;
        assert_eq!(client.feed(&changed), b"");
        assert_eq!(client.error(), None, "implicit rejection");
        assert_eq!(client.feed(&server.say(&ready(ClientAuthPolicy::Settled))), b"");
        assert_eq!(client.error(), Some(Error::Authentication));
    }
}

#[test]
fn a_policy_that_does_not_fit_the_mode_is_refused_once_it_is_authentic() {
    use ClientAuthPolicy::{Optional, Required, Settled};

    for (config, policy) in [
        (knows_key(), Settled),
        (with_identity(knows_key()), Settled),
        (knows_psk(), Required),
        (knows_psk(), Optional),
        (has_ticket(pair::ticket()), Required),
        (has_ticket(pair::ticket()), Optional),
    ] {
        let (mut server, mut client) = answered(config, |_| {});
        assert_eq!(client.feed(&server.say(&ready(policy))), b"");
        assert_eq!(client.error(), None, "nothing counts before the server has finished");
        let finished = server.finished();
        assert_eq!(client.feed(&server.say(&finished)), b"");
        assert_eq!(client.error(), Some(PeerMisbehaved::PolicyMismatch.into()));
        assert_eq!(client.works, 0);
    }
}

#[test]
fn a_wrong_finished_gets_neither_signature_nor_answer() {
    for (config, policy) in
        [(with_identity(knows_key()), ClientAuthPolicy::Optional), (knows_psk(), ClientAuthPolicy::Settled)]
    {
        let (mut server, mut client) = answered(config, |_| {});
        client.feed(&server.say(&ready(policy)));
        let HandshakeMessage::Finished { mut mac } = server.finished() else { panic!("it is a Finished") };
        mac[31] ^= 1;
        assert_eq!(client.feed(&server.say(&HandshakeMessage::Finished { mac })), b"");
        assert_eq!(client.error(), Some(Error::Authentication));
        assert_eq!(client.works, 0);
    }
}

/// A server that cannot open the sealed secret sends what it likes: the client cannot read it.
#[test]
fn a_server_without_the_key_is_not_believed() {
    let (mut client, hello) = pair::client(with_identity(knows_key()));
    // Garbage where the sealed secret was: what it opens is not what the client sent.
    let mut unopened = hello;
    let end = unopened.len();
    unopened[end - 100..].fill(0x11);
    let (mut thief, answer) = Rogue::server(&unopened, |_| {});
    client.feed(&answer);
    assert_eq!(client.feed(&thief.say(&ready(ClientAuthPolicy::Optional))), b"");
    assert_eq!(client.error(), Some(Error::Authentication));
    assert_eq!(client.works, 0, "and never gets a signature");
}

#[test]
fn aborts_are_passed_on_and_end_the_handshake() {
    for code in
        [AbortCode::Busy, AbortCode::Version, AbortCode::Suite, AbortCode::UnknownPsk, AbortCode::PskOnly]
    {
        for config in [pair::knows_id(), knows_key(), knows_psk(), has_ticket(pair::ticket())] {
            let (mut client, _) = pair::client(config);
            assert_eq!(client.feed(&frame::write(FrameKind::Abort, &Abort { code })), b"");
            assert_eq!(client.error(), Some(Error::Aborted(code)));
        }
    }
    let (mut client, _) = pair::client(knows_psk());
    client.feed(b"SKS\x01\x05\x00\x00\x04\x00\x00\x00\x05");
    assert_eq!(client.error(), Some(InvalidMessage::Malformed.into()), "a code that does not exist");
}

/// An Abort is a hint for the first minute of an acquaintance: it cannot end a handshake that has keys.
#[test]
fn aborts_count_for_nothing_once_there_are_keys() {
    let (_, mut client) = answered(knows_psk(), |_| {});
    client.feed(&frame::write(FrameKind::Abort, &Abort { code: AbortCode::Busy }));
    assert_eq!(client.error(), Some(InvalidMessage::RecordLength.into()));
}

/// A client that has had a Welcome with a ticket of so many bytes.
fn welcomed_with_ticket(len: usize) -> Established {
    let (mut server, mut client) = answered(knows_psk(), |_| {});
    let mut flight = server.say(&ready(ClientAuthPolicy::Settled));
    let finished = server.finished();
    flight.extend(server.say(&finished));
    server.hear(&client.feed(&flight));
    let (mut sealer, _) = server.into_traffic();
    let ticket = Ticket { lifetime_seconds: u32::MAX, nonce: [0; 16], ticket: vec![7; len] };
    client.feed(&seal_message(&mut sealer, &HandshakeMessage::Welcome { ticket: Some(ticket) }));
    client.into_outcome()
}

fn seal_message(sealer: &mut Sealer, message: &HandshakeMessage) -> Vec<u8> {
    let mut payload = Vec::new();
    encode(message, &mut payload);
    seal(sealer, ContentType::Handshake, &payload, 0)
}

#[test]
fn tickets_that_fit_a_hello_are_kept_as_they_are() {
    for len in [0, 1, 100, MAX_TICKET_LEN] {
        let ticket = welcomed_with_ticket(len).ticket.unwrap();
        assert_eq!(ticket.ticket, vec![7; len]);
        let (client, hello) = pair::client(has_ticket(ticket));
        assert_eq!(client.error(), None);
        assert!(hello.len() > len);
    }
}

/// A Welcome has more room for a ticket than a hello has. What a server says must not make the next connection
/// fail, let alone look like a mistake of the caller's.
#[test]
fn a_ticket_that_no_hello_has_room_for_is_not_kept() {
    for len in [MAX_TICKET_LEN + 1, 6000, 8000] {
        assert!(welcomed_with_ticket(len).ticket.is_none(), "{len} bytes");
    }
}

#[test]
fn a_ticket_that_fits_no_hello_is_an_error_and_no_panic() {
    for len in [MAX_TICKET_LEN + 1, 8000, 1 << 20] {
        let mut ticket = pair::ticket();
        ticket.ticket = vec![7; len];
        let (client, said) = pair::client(has_ticket(ticket));
        assert!(matches!(client.error(), Some(Error::ApiMisuse(_))));
        assert_eq!(said, b"");
    }
}

#[test]
fn the_server_s_key_is_used_as_it_was_pinned() {
    let (mut server, mut client) = answered(knows_key(), |_| {});
    let mut flight = server.say(&ready(ClientAuthPolicy::Optional));
    let finished = server.finished();
    flight.extend(server.say(&finished));
    let answer = client.feed(&flight);
    for record in pair::messages(&answer) {
        server.hear(&record);
    }
    let (mut sealer, _) = server.into_traffic();
    client.feed(&seal_message(&mut sealer, &HandshakeMessage::Welcome { ticket: None }));
    let established = client.into_outcome();
    assert_eq!(established.server_key.as_ref(), Some(keys::server().public()));
}
