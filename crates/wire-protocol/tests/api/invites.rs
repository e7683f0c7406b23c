//! Joining with an invite: what its proof binds, when it may be said, and what a client is told.

use std::sync::Arc;

use crypto_core::identity::KeyId;
use crypto_core::invite::{InviteOccasion, InviteSecret, PresentedInvite};
use crypto_core::record::{ContentType, Sealer};
use crypto_core::schedule::Side;
use crypto_core::secret::Secret;
use wire_protocol::codec::encode;
use wire_protocol::handshake::client::ClientHandshake;
use wire_protocol::handshake::server::{Authorization, InviteVerdict, ServerHandshake};
use wire_protocol::message::{
    ClientAuthPolicy, ClientIdentity, DeniedCode, HandshakeMessage, Invite, JoinOutcome, Joined,
    MAX_GRANT_LEN, MAX_JOINED_NAME_LEN, Mode, Target,
};
use wire_protocol::{Error, InvalidMessage, PeerMisbehaved};

use super::keys;
use super::line::seal;
use super::pair::{
    self, LIMITS, NOW, Pair, Peer, Scene, has_ticket, invited, joined, knows_id, knows_key, knows_psk,
    opening, server_config, ticket, with_identity,
};
use super::rogue::{Rogue, RogueHello};

const UNEXPECTED: Error = Error::PeerMisbehaved(PeerMisbehaved::UnexpectedMessage);

#[test]
fn a_client_with_an_invite_is_told_each_outcome() {
    for outcome in [JoinOutcome::Enrolled, JoinOutcome::EnrolledBefore, JoinOutcome::Known] {
        for config in [knows_id(), knows_key()] {
            let config = opening(invited(with_identity(config)), Target::Pipe);
            let mut pair = Pair::new(config, server_config());
            pair.joined = joined(outcome);
            pair.run();
            assert_eq!(pair.verdict, Some(InviteVerdict::Right));
            let (client, server, early) = pair.into_established();
            assert_eq!(client.joined, Some(joined(outcome)));
            assert_eq!((client.mode, server.mode), (Mode::Rsa, Mode::Rsa));
            assert_eq!(server.client, ClientIdentity::Key(keys::client().public().id()));
            assert!(client.ticket.is_some());
            assert_eq!(client.opening, Some(Target::Pipe));
            assert!(!early.is_empty(), "the Open came right behind Finished");
        }
    }
}

#[test]
fn the_ticket_of_a_joined_client_resumes_without_the_invite() {
    let mut pair = Scene::Invited.pair();
    pair.run();
    let ticket = pair.into_established().0.ticket.unwrap();
    let mut pair = Pair::new(has_ticket(ticket), server_config());
    pair.run();
    assert_eq!(pair.verdict, None);
    let (client, server, _) = pair.into_established();
    assert_eq!((client.mode, client.joined), (Mode::Resumption, None));
    assert_eq!(server.client, ClientIdentity::Key(keys::client().public().id()));
}

/// One message longer than a first contact, and none more in the other direction.
#[test]
fn invite_is_the_second_record_of_the_client_s_flight() {
    let mut pair = Scene::Invited.pair();
    pair.run();
    let sides: Vec<Side> = pair.tape.iter().map(|(from, _)| *from).collect();
    let (c, s) = (Side::Client, Side::Server);
    assert_eq!(sides, [c, s, s, s, c, c, c, s]);
    assert_eq!(pair.tape[5].1.len(), 2 + 4 + 16 + 32 + 32 + 1 + 32);
}

/// A server that waits for the client's flight behind a hello in RSA mode, the client, and what its proof is for.
fn before_client_auth(seed: u8) -> (Peer<ServerHandshake>, Rogue, InviteOccasion) {
    let mut server = pair::server(server_config(), NOW);
    let (hello, said) = RogueHello::rsa(&keys::server(), |hello| hello.random = [seed; 32]);
    let flight = pair::messages(&server.feed(&said));
    let mut client = hello.hear(&flight[0]);
    client.hear(&flight[1]);
    client.hear(&flight[2]);
    let occasion = InviteOccasion {
        transcript: client.transcript(),
        server: keys::server_id(),
        client: keys::client().public().id(),
    };
    (server, client, occasion)
}

fn message(presented: &PresentedInvite) -> HandshakeMessage {
    HandshakeMessage::Invite(Invite {
        id: presented.id.0,
        reveal: *presented.reveal.expose(),
        proof: presented.proof,
    })
}

/// What the server has to decide on, where the client says this invite in the right place.
#[track_caller]
fn attempt(presented: impl FnOnce(&InviteOccasion) -> PresentedInvite) -> (Box<Authorization>, Rogue) {
    let (mut server, mut client, occasion) = before_client_auth(1);
    let mut flight = client.say_client_auth(&keys::client());
    flight.extend(client.say(&message(&presented(&occasion))));
    let finished = client.finished();
    flight.extend(client.say(&finished));
    assert_eq!(server.feed(&flight), b"");
    (server.into_outcome(), client)
}

#[track_caller]
fn check(expected: InviteVerdict, presented: impl FnOnce(&InviteOccasion) -> PresentedInvite) {
    let (authorization, client) = attempt(presented);
    let attempt = authorization.invite().unwrap();
    assert_eq!(attempt.client(), keys::client().public().id());
    let kept = keys::invite().verifier(keys::server_id());
    let mut rng = client.rng;
    assert_eq!(attempt.check(Some(&kept), &mut rng), Ok(expected));
    // Nothing is right of an invite that is not there.
    assert_eq!(attempt.check(None, &mut rng), Ok(InviteVerdict::Unknown));
}

#[test]
fn the_proof_is_bound_to_the_channel_the_server_the_client_and_the_invite() {
    let other = InviteSecret::new(Secret::new([0x2F; 32]));
    check(InviteVerdict::Right, |occasion| keys::invite().present(occasion));
    check(InviteVerdict::WrongProof, |occasion| {
        keys::invite().present(&InviteOccasion { transcript: [7; 32], ..*occasion })
    });
    check(InviteVerdict::WrongProof, |occasion| {
        keys::invite().present(&InviteOccasion { client: keys::other_client().public().id(), ..*occasion })
    });
    check(InviteVerdict::WrongProof, |occasion| {
        let right = keys::invite().present(occasion);
        PresentedInvite { id: other.id(keys::server_id()), ..right }
    });
    check(InviteVerdict::WrongProof, |occasion| {
        let right = keys::invite().present(occasion);
        PresentedInvite { proof: [0; 32], ..right }
    });
    // The halves for another server are others.
    check(InviteVerdict::Wrong, |occasion| {
        keys::invite().present(&InviteOccasion { server: KeyId([9; 32]), ..*occasion })
    });
    check(InviteVerdict::Wrong, |occasion| {
        let right = keys::invite().present(occasion);
        PresentedInvite { reveal: other.reveal(keys::server_id()), ..right }
    });
    check(InviteVerdict::Wrong, |occasion| other.present(occasion));
}

/// What a client sent to the server holds the half that is shown, and does not help to make the proof.
#[test]
fn an_invite_of_another_channel_is_not_right() {
    let (_, _, earlier) = before_client_auth(2);
    let seen = keys::invite().present(&earlier);
    check(InviteVerdict::WrongProof, |occasion| {
        assert_ne!(occasion.transcript, earlier.transcript);
        seen
    });
}

#[test]
fn invite_is_out_of_turn_everywhere_else() {
    let invite = |occasion: &InviteOccasion| message(&keys::invite().present(occasion));
    let (mut server, mut client, occasion) = before_client_auth(1);
    server.feed(&client.say(&invite(&occasion)));
    assert_eq!(server.error(), Some(UNEXPECTED), "before ClientAuth");

    let (mut server, mut client, occasion) = before_client_auth(1);
    let mut flight = client.say(&HandshakeMessage::Anonymous);
    flight.extend(client.say(&invite(&occasion)));
    server.feed(&flight);
    assert_eq!(server.error(), Some(UNEXPECTED), "behind Anonymous");

    let (mut server, mut client, occasion) = before_client_auth(1);
    let mut flight = client.say_client_auth(&keys::client());
    flight.extend(client.say(&invite(&occasion)));
    assert_eq!(server.feed(&flight), b"");
    assert_eq!(server.error(), None);
    server.feed(&client.say(&invite(&occasion)));
    assert_eq!(server.error(), Some(UNEXPECTED), "twice");

    let credential = ticket();
    for hello in [
        RogueHello::psk(&keys::psk(), |_| {}),
        RogueHello::ticket(credential.ticket.clone(), &credential.secret),
    ] {
        let (hello, said) = hello;
        let mut server = pair::server(server_config(), NOW);
        let flight = pair::messages(&server.feed(&said));
        let mut client = hello.hear(&flight[0]);
        client.hear(&flight[1]);
        client.hear(&flight[2]);
        let occasion = InviteOccasion { transcript: client.transcript(), ..occasion };
        server.feed(&client.say(&invite(&occasion)));
        assert_eq!(server.error(), Some(UNEXPECTED), "without RSA");
    }
}

/// Behind Finished it is no handshake message any more: the channel refuses it, under whichever keys.
#[test]
fn invite_behind_finished_never_reaches_the_handshake() {
    let (mut server, mut client, occasion) = before_client_auth(1);
    let mut flight = client.say_client_auth(&keys::client());
    let finished = client.finished();
    flight.extend(client.say(&finished));
    let late = client.say(&message(&keys::invite().present(&occasion)));
    server.feed(&[flight, late.clone()].concat());
    assert!(server.is_done());
    assert_eq!(server.early(), late);
    assert!(server.into_outcome().invite().is_none());
}

#[test]
fn an_invite_that_is_left_out_of_finished_ends_the_handshake() {
    let (mut server, mut client, occasion) = before_client_auth(1);
    let mut flight = client.say_client_auth(&keys::client());
    let finished = client.finished();
    let mut payload = Vec::new();
    encode(&message(&keys::invite().present(&occasion)), &mut payload);
    flight.extend(client.seal(ContentType::Handshake, &payload));
    flight.extend(client.say(&finished));
    server.feed(&flight);
    assert_eq!(server.error(), Some(Error::Authentication));
}

/// A client with an invite, and the server's voice behind the client's Finished.
fn before_joined(config: wire_protocol::handshake::client::ClientConfig) -> (Peer<ClientHandshake>, Sealer) {
    let (mut client, hello) = pair::client(config);
    let (mut server, answer) = Rogue::server(&hello, |_| {});
    assert_eq!(client.feed(&answer), b"");
    let ready = HandshakeMessage::ServerReady { client_auth: ClientAuthPolicy::Required, limits: LIMITS };
    let mut flight = server.say(&ready);
    let finished = server.finished();
    flight.extend(server.say(&finished));
    for record in pair::messages(&client.feed(&flight)) {
        server.hear(&record);
    }
    (client, server.into_traffic().0)
}

#[track_caller]
fn check_answer(is_invited: bool, answer: &HandshakeMessage, expected: Option<Error>) {
    let config = with_identity(knows_key());
    let (mut client, mut sealer) = before_joined(if is_invited { invited(config) } else { config });
    let mut payload = Vec::new();
    encode(answer, &mut payload);
    client.feed(&seal(&mut sealer, ContentType::Handshake, &payload, 0));
    assert_eq!(client.error(), expected);
    assert_eq!(client.is_done(), expected.is_none());
}

#[test]
fn joined_answers_an_invite_and_nothing_else_does() {
    let joined = |name: &str, grant: &str| HandshakeMessage::Joined {
        joined: Joined { outcome: JoinOutcome::Enrolled, name: name.into(), grant: grant.into() },
        ticket: None,
    };
    check_answer(true, &joined("laptop", "--message"), None);
    check_answer(false, &joined("laptop", "--message"), Some(UNEXPECTED));
    check_answer(true, &HandshakeMessage::Welcome { ticket: None }, Some(UNEXPECTED));
    for code in [DeniedCode::NotAllowed, DeniedCode::TooManyChannels] {
        check_answer(true, &HandshakeMessage::Denied { code }, Some(Error::Denied(code)));
    }
    let long = |len| "n".repeat(len);
    let too_long = Some(InvalidMessage::TooLong.into());
    check_answer(true, &joined(&long(MAX_JOINED_NAME_LEN), &long(MAX_GRANT_LEN)), None);
    check_answer(true, &joined(&long(MAX_JOINED_NAME_LEN + 1), ""), too_long);
    check_answer(true, &joined("", &long(MAX_GRANT_LEN + 1)), too_long);
}

/// A client says nothing of its invite to a server that has not proven that it is the one that is meant.
#[test]
fn the_invite_is_not_said_before_the_server_has_finished() {
    let (mut client, hello) = pair::client(invited(with_identity(knows_key())));
    let (mut server, answer) = Rogue::server(&hello, |_| {});
    let ready = HandshakeMessage::ServerReady { client_auth: ClientAuthPolicy::Required, limits: LIMITS };
    let mut flight = [answer, server.say(&ready)].concat();
    flight.extend(server.say(&HandshakeMessage::Finished { mac: [0; 32] }));
    assert_eq!(client.feed(&flight), b"");
    assert_eq!(client.error(), Some(Error::Authentication));
}

#[test]
fn all_refusals_are_the_same_record_to_look_at() {
    let refused = |change: fn(&mut Pair), config| {
        let mut pair = Pair::new(config, server_config());
        change(&mut pair);
        pair.run();
        assert_eq!(pair.client.error(), Some(Error::Denied(DeniedCode::NotAllowed)));
        pair.tape.last().unwrap().1.len()
    };
    let config = || invited(with_identity(knows_key()));
    let lens = [
        refused(|pair| pair.kept = None, config()),
        refused(
            |pair| pair.kept = Some(InviteSecret::new(Secret::new([9; 32])).verifier(keys::server_id())),
            config(),
        ),
        refused(|pair| pair.decision = Err(DeniedCode::NotAllowed), config()),
        refused(|pair| pair.decision = Err(DeniedCode::NotAllowed), with_identity(knows_key())),
    ];
    assert_eq!(lens, [2 + 4 + 4 + 1 + 32; 4]);
}

#[test]
fn a_server_answers_in_kind_or_not_at_all() {
    let (authorization, client) = attempt(|occasion| keys::invite().present(occasion));
    let (mut rng, mut out) = (client.rng, Vec::new());
    assert!(matches!(authorization.welcome(&mut rng, &mut out), Err(Error::ApiMisuse(_))));
    assert_eq!(out, b"");
    for (name, grant) in [(MAX_JOINED_NAME_LEN + 1, 0), (0, MAX_GRANT_LEN + 1)] {
        let (authorization, _) = attempt(|occasion| keys::invite().present(occasion));
        let joined = Joined { outcome: JoinOutcome::Known, name: "n".repeat(name), grant: "g".repeat(grant) };
        assert!(matches!(authorization.join(joined, &mut rng, &mut out), Err(Error::ApiMisuse(_))));
        assert_eq!(out, b"");
    }
    let mut server = pair::server(server_config(), NOW);
    let mut pair = Pair::new(with_identity(knows_key()), server_config());
    pair.run();
    for (_, message) in pair.tape.iter().filter(|(from, _)| *from == Side::Client) {
        server.feed(message);
    }
    let refused = server.into_outcome().join(joined(JoinOutcome::Known), &mut rng, &mut out);
    assert!(matches!(refused, Err(Error::ApiMisuse(_))));
    assert_eq!(out, b"");
}

#[test]
fn an_invite_needs_a_key_to_enrol_and_a_handshake_that_proves_it() {
    for config in [invited(knows_key()), invited(knows_psk()), invited(with_identity(has_ticket(ticket())))] {
        let (client, said) = pair::client(config);
        assert!(matches!(client.error(), Some(Error::ApiMisuse(_))));
        assert_eq!(said, b"");
    }
}

#[test]
fn nothing_shows_the_halves_or_the_proof() {
    let (authorization, _) = attempt(|occasion| keys::invite().present(occasion));
    let presented = keys::invite().present(&InviteOccasion {
        transcript: [0; 32],
        server: keys::server_id(),
        client: keys::server_id(),
    });
    let reveal = keys::invite().reveal(keys::server_id());
    let secrets = [format!("{:?}", reveal.expose()), format!("{:?}", presented.proof)];
    let shown = [
        format!("{authorization:?}"),
        format!("{presented:?} {:?}", message(&presented)),
        format!("{:?} {:?}", keys::invite(), keys::invite().verifier(keys::server_id())),
        format!("{:?}", Arc::new(invited(with_identity(knows_key())))),
    ];
    for shown in shown {
        assert!(!secrets.iter().any(|secret| shown.contains(&secret[1..20])), "{shown}");
    }
}
