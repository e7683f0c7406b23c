//! Every state of the two handshakes against every message there is, said under the right keys: what is out of
//! turn ends in a typed error, and in nothing else.

use crypto_core::record::{ContentType, Sealer};
use wire_protocol::codec::encode;
use wire_protocol::frame::{self, FrameKind};
use wire_protocol::handshake::Handshake;
use wire_protocol::message::{
    Abort, AbortCode, ClientAuthPolicy, ControlMessage, DeniedCode, HandshakeMessage, Invite, JoinOutcome,
    KeyOffer, RefusedCode, ResetCode, Target,
};
use wire_protocol::{Error, Foreign, InvalidMessage, PeerMisbehaved};

use super::line::{seal, sealer};
use super::pair::{
    self, LIMITS, NOW, Peer, Scene, has_ticket, joined, knows_id, knows_key, knows_psk, server_config, ticket,
};
use super::rogue::{Rogue, RogueHello};
use super::{keys, pair::with_identity};

/// Who speaks to the state under test, with the keys that are right there.
enum Voice {
    /// There are no keys yet. `answer` is what is right, where that depends on what was said.
    Frames {
        answer: Option<Vec<u8>>,
    },
    Handshake(Box<Rogue>),
    Traffic(Box<Sealer>),
}

impl Voice {
    fn record(&mut self, content_type: ContentType, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::Frames { .. } => seal(&mut sealer(1), content_type, payload, 0),
            Self::Handshake(rogue) => rogue.seal(content_type, payload),
            Self::Traffic(sealer) => seal(sealer, content_type, payload, 0),
        }
    }

    fn handshake(&mut self, message: &HandshakeMessage) -> Vec<u8> {
        match (self, message) {
            (Self::Handshake(rogue), HandshakeMessage::Finished { .. }) => {
                let right = rogue.finished();
                rogue.say(&right)
            }
            (voice, message) => {
                let mut payload = Vec::new();
                encode(message, &mut payload);
                voice.record(ContentType::Handshake, &payload)
            }
        }
    }
}

/// A way to say a message, by its name.
type Saying = (&'static str, Box<dyn Fn(&mut Voice) -> Vec<u8>>);

fn everything() -> Vec<Saying> {
    let mut all: Vec<Saying> = Vec::new();
    let mut frame = |name, bytes: Vec<u8>| all.push((name, Box::new(move |_: &mut Voice| bytes.clone())));
    frame("KeyRequest", frame::write_empty(FrameKind::KeyRequest));
    frame("KeyRequest with a body", b"SKS\x01\x01\x00\x00\x01\x00".to_vec());
    let spki = keys::server().public().spki_der().to_vec();
    frame("KeyOffer", frame::write(FrameKind::KeyOffer, &KeyOffer { spki }));
    frame("ClientHello", RogueHello::rsa(&keys::server(), |_| {}).1);
    frame("Abort", frame::write(FrameKind::Abort, &Abort { code: AbortCode::Busy }));
    frame("frame kind 0", b"SKS\x01\x00\x00\x00\x00".to_vec());
    frame("frame kind 6", b"SKS\x01\x06\x00\x00\x00".to_vec());
    frame("frame kind 255", b"SKS\x01\xFF\x00\x00\x00".to_vec());
    let (_, hello) = pair::client(knows_psk());
    let (_, some_answer) = Rogue::server(&hello, |_| {});
    all.push((
        "ServerHello",
        Box::new(move |voice| match voice {
            Voice::Frames { answer: Some(answer) } => answer.clone(),
            _ => some_answer.clone(),
        }),
    ));

    for (name, message) in [
        (
            "ServerReady",
            HandshakeMessage::ServerReady { client_auth: ClientAuthPolicy::Settled, limits: LIMITS },
        ),
        ("Finished", HandshakeMessage::Finished { mac: [0; 32] }),
        ("ClientAuth", HandshakeMessage::ClientAuth { spki: vec![1], signature: vec![2] }),
        ("Anonymous", HandshakeMessage::Anonymous),
        ("Welcome", HandshakeMessage::Welcome { ticket: None }),
        ("Denied", HandshakeMessage::Denied { code: DeniedCode::NotAllowed }),
        ("Invite", HandshakeMessage::Invite(Invite { id: [1; 16], reveal: [2; 32], proof: [3; 32] })),
        ("Joined", HandshakeMessage::Joined { joined: joined(JoinOutcome::Enrolled), ticket: None }),
    ] {
        all.push((name, Box::new(move |voice| voice.handshake(&message))));
    }
    for (name, message) in [
        ("Open", ControlMessage::Open { target: Target::Pipe }),
        ("Opened", ControlMessage::Opened),
        ("Refused", ControlMessage::Refused { code: RefusedCode::Busy }),
        ("EndOfStream", ControlMessage::EndOfStream),
        ("Reset", ControlMessage::Reset { code: ResetCode::Output }),
        ("Ping", ControlMessage::Ping { nonce: 1 }),
        ("Pong", ControlMessage::Pong { nonce: 1 }),
        ("KeyUpdate", ControlMessage::KeyUpdate),
        ("Close", ControlMessage::Close),
    ] {
        let mut payload = Vec::new();
        encode(&message, &mut payload);
        all.push((name, Box::new(move |voice| voice.record(ContentType::Control, &payload))));
    }
    for (name, content_type, payload) in [
        ("data", ContentType::Data, &b"data"[..]),
        ("no data", ContentType::Data, b""),
        ("handshake message of no bytes", ContentType::Handshake, b""),
        ("handshake message 8", ContentType::Handshake, b"\0\0\0\x08"),
        ("handshake message with a byte too many", ContentType::Handshake, b"\0\0\0\x03\0"),
        ("handshake message beyond the limit", ContentType::Handshake, &[0; 8193]),
    ] {
        all.push((name, Box::new(move |voice| voice.record(content_type, payload))));
    }
    all
}

/// What all states that wait for a frame make of a message, or all that wait for a record.
fn by_default(waits_for_frame: bool, name: &str) -> Error {
    let is_frame = name.contains("frame kind")
        || ["KeyRequest", "KeyRequest with a body", "KeyOffer", "ClientHello", "ServerHello", "Abort"]
            .contains(&name);
    match (waits_for_frame, is_frame) {
        (true, true) => match name.strip_prefix("frame kind ") {
            Some(kind) => InvalidMessage::UnknownKind(kind.parse().unwrap()).into(),
            None => PeerMisbehaved::UnexpectedMessage.into(),
        },
        (true, false) => InvalidMessage::NotSockseal(Foreign::Unknown).into(),
        (false, true) => InvalidMessage::RecordLength.into(),
        (false, false) => match name {
            "handshake message of no bytes"
            | "handshake message 8"
            | "handshake message with a byte too many" => InvalidMessage::Malformed.into(),
            "handshake message beyond the limit" => InvalidMessage::TooLong.into(),
            _ => PeerMisbehaved::UnexpectedMessage.into(),
        },
    }
}

/// Says everything to fresh copies of a state. `exceptions` are the messages that it makes something else of than
/// all the others like it; `None` is that it goes on.
#[track_caller]
fn check<H: Handshake>(state: impl Fn() -> (Peer<H>, Voice), exceptions: &[(&str, Option<Error>)]) {
    let sayings = everything();
    for (name, _) in exceptions {
        assert!(sayings.iter().any(|(known, _)| known == name), "there is no {name}");
    }
    for (name, say) in &sayings {
        let (mut peer, mut voice) = state();
        let waits_for_frame = matches!(voice, Voice::Frames { .. });
        let expected = match exceptions.iter().find(|(known, _)| known == name) {
            Some((_, expected)) => *expected,
            None => Some(by_default(waits_for_frame, name)),
        };
        let said = peer.feed(&say(&mut voice));
        assert_eq!(peer.error(), expected, "{name}");
        if expected.is_some() {
            assert_eq!(said, b"", "{name} got an answer");
        }
    }
}

const GOES_ON: Option<Error> = None;
const ABORTED: Option<Error> = Some(Error::Aborted(AbortCode::Busy));
const TOO_MANY: Option<Error> = Some(Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyOffers));
const UNOFFERED: Option<Error> = Some(Error::PeerMisbehaved(PeerMisbehaved::SelectedUnoffered));

#[test]
fn client_that_expects_a_key_offer() {
    let state = || (pair::client(knows_id()).0, Voice::Frames { answer: None });
    check(state, &[("KeyOffer", GOES_ON), ("Abort", ABORTED)]);
}

#[test]
fn client_that_expects_a_server_hello() {
    let state = |config| {
        let (client, hello) = pair::client(config);
        (client, Voice::Frames { answer: Some(Rogue::server(&hello, |_| {}).1) })
    };
    let psk_offer = Some(PeerMisbehaved::UnexpectedMessage.into());
    check(|| state(knows_key()), &[("ServerHello", GOES_ON), ("KeyOffer", TOO_MANY), ("Abort", ABORTED)]);
    check(|| state(knows_psk()), &[("ServerHello", GOES_ON), ("KeyOffer", psk_offer), ("Abort", ABORTED)]);
    check(
        || state(has_ticket(ticket())),
        &[("ServerHello", GOES_ON), ("KeyOffer", GOES_ON), ("Abort", ABORTED)],
    );
    // An answer to another hello.
    check(
        || (pair::client(knows_key()).0, Voice::Frames { answer: None }),
        &[("ServerHello", UNOFFERED), ("KeyOffer", TOO_MANY), ("Abort", ABORTED)],
    );
}

fn answered(scene: Scene) -> (Peer<wire_protocol::handshake::client::ClientHandshake>, Rogue) {
    let config = if scene == Scene::FirstContact { with_identity(knows_key()) } else { scene.client() };
    let (mut client, hello) = pair::client(config);
    let (server, answer) = Rogue::server(&hello, |_| {});
    assert_eq!(client.feed(&answer), b"");
    (client, server)
}

const ENCRYPTED_SCENES: [Scene; 5] = Scene::ALL;

#[test]
fn client_that_expects_server_ready() {
    for scene in ENCRYPTED_SCENES {
        let state = || {
            let (client, server) = answered(scene);
            (client, Voice::Handshake(Box::new(server)))
        };
        check(state, &[("ServerReady", GOES_ON)]);
    }
}

fn policy(scene: Scene) -> HandshakeMessage {
    let client_auth = match scene {
        Scene::FirstContact | Scene::Invited => ClientAuthPolicy::Required,
        Scene::Anonymous => ClientAuthPolicy::Optional,
        Scene::Psk | Scene::Resumption => ClientAuthPolicy::Settled,
    };
    HandshakeMessage::ServerReady { client_auth, limits: LIMITS }
}

#[test]
fn client_that_expects_the_server_s_finished() {
    for scene in ENCRYPTED_SCENES {
        let state = || {
            let (mut client, mut server) = answered(scene);
            assert_eq!(client.feed(&server.say(&policy(scene))), b"");
            (client, Voice::Handshake(Box::new(server)))
        };
        check(state, &[("Finished", GOES_ON)]);
    }
}

#[test]
fn client_that_expects_a_welcome() {
    for scene in ENCRYPTED_SCENES {
        let state = || {
            let (mut client, mut server) = answered(scene);
            let mut flight = server.say(&policy(scene));
            let finished = server.finished();
            flight.extend(server.say(&finished));
            for record in pair::messages(&client.feed(&flight)) {
                server.hear(&record);
            }
            (client, Voice::Traffic(Box::new(server.into_traffic().0)))
        };
        let last = if scene == Scene::Invited { "Joined" } else { "Welcome" };
        check(state, &[(last, GOES_ON), ("Denied", Some(Error::Denied(DeniedCode::NotAllowed)))]);
    }
}

#[test]
fn server_that_expects_a_client_hello() {
    let fresh = || (pair::server(server_config(), NOW), Voice::Frames { answer: None });
    check(fresh, &[("KeyRequest", GOES_ON), ("ClientHello", GOES_ON)]);
    let after_an_offer = || {
        let (mut server, voice) = fresh();
        server.feed(&frame::write_empty(FrameKind::KeyRequest));
        (server, voice)
    };
    check(after_an_offer, &[("KeyRequest", GOES_ON), ("ClientHello", GOES_ON)]);
    let after_two_offers = || {
        let (mut server, voice) = after_an_offer();
        server.feed(&frame::write_empty(FrameKind::KeyRequest));
        (server, voice)
    };
    check(after_two_offers, &[("KeyRequest", TOO_MANY), ("ClientHello", GOES_ON)]);
}

fn said(hello: (RogueHello, Vec<u8>)) -> (Peer<wire_protocol::handshake::server::ServerHandshake>, Rogue) {
    let (hello, said) = hello;
    let mut server = pair::server(server_config(), NOW);
    let flight = pair::messages(&server.feed(&said));
    let mut client = hello.hear(&flight[0]);
    client.hear(&flight[1]);
    client.hear(&flight[2]);
    (server, client)
}

#[test]
fn server_that_expects_client_auth() {
    let state = || {
        let (server, client) = said(RogueHello::rsa(&keys::server(), |_| {}));
        (server, Voice::Handshake(Box::new(client)))
    };
    let not_a_key = Some(Error::PeerKey(crypto_core::KeyProblem::Malformed));
    check(state, &[("Anonymous", GOES_ON), ("ClientAuth", not_a_key)]);
}

#[test]
fn server_that_expects_the_client_s_finished() {
    let anonymous = || {
        let (mut server, mut client) = said(RogueHello::rsa(&keys::server(), |_| {}));
        assert_eq!(server.feed(&client.say(&HandshakeMessage::Anonymous)), b"");
        (server, Voice::Handshake(Box::new(client)))
    };
    check(anonymous, &[("Finished", GOES_ON)]);
    let known = || {
        let (mut server, mut client) = said(RogueHello::rsa(&keys::server(), |_| {}));
        assert_eq!(server.feed(&client.say_client_auth(&keys::client())), b"");
        (server, Voice::Handshake(Box::new(client)))
    };
    check(known, &[("Finished", GOES_ON), ("Invite", GOES_ON)]);
    let invited = || {
        let (mut server, mut client) = said(RogueHello::rsa(&keys::server(), |_| {}));
        let mut flight = client.say_client_auth(&keys::client());
        let invite = Invite { id: [1; 16], reveal: [2; 32], proof: [3; 32] };
        flight.extend(client.say(&HandshakeMessage::Invite(invite)));
        assert_eq!(server.feed(&flight), b"");
        (server, Voice::Handshake(Box::new(client)))
    };
    check(invited, &[("Finished", GOES_ON)]);
    let psk = || {
        let (server, client) = said(RogueHello::psk(&keys::psk(), |_| {}));
        (server, Voice::Handshake(Box::new(client)))
    };
    check(psk, &[("Finished", GOES_ON)]);
    let resumed = || {
        let ticket = ticket();
        let (server, client) = said(RogueHello::ticket(ticket.ticket, &ticket.secret));
        (server, Voice::Handshake(Box::new(client)))
    };
    check(resumed, &[("Finished", GOES_ON)]);
}

/// The keys of the other direction, and the keys of the next stage, open nothing.
#[test]
fn records_under_keys_of_another_turn_are_refused() {
    let (mut server, client) = said(RogueHello::psk(&keys::psk(), |_| {}));
    let (mut traffic, _) = client.into_traffic();
    server.feed(&seal(&mut traffic, ContentType::Handshake, b"\0\0\0\x03", 0));
    assert_eq!(server.error(), Some(Error::Authentication));

    let (mut client, server) = answered(Scene::Psk);
    let (mut traffic, _) = server.into_traffic();
    client.feed(&seal(&mut traffic, ContentType::Handshake, b"\0\0\0\x03", 0));
    assert_eq!(client.error(), Some(Error::Authentication));
}
