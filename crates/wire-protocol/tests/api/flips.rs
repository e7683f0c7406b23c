//! An attacker on the line changes one byte, or cuts a message short, or loses, doubles, swaps or returns one.
//!
//! Each side is fed the genuine messages of a recorded handshake up to the one that was changed. It has to fail
//! there or soon after; where it has something to say to it instead, the other side gets to hear that, and the
//! two must not both believe that the channel stands.

use std::ops::Range;

use crypto_core::schedule::Side;
use wire_protocol::frame::{self, FrameKind};
use wire_protocol::handshake::Handshake;
use wire_protocol::message::Mode;

use super::pair::{self, NOW, Pair, Peer, Scene, server_config};

const MASKS: [u8; 2] = [0x01, 0x80];

/// Every byte of every message of a handshake, in both directions.
#[track_caller]
fn check_flips(scene: Scene) {
    check_flips_in(scene, 0..recorded(scene).len());
}

/// As [`check_flips`], of some of the messages.
#[track_caller]
fn check_flips_in(scene: Scene, messages: Range<usize>) {
    let tape = recorded(scene);
    let (mut flips, mut answered) = (0, 0);
    for (index, (from, message)) in tape.iter().enumerate().take(messages.end).skip(messages.start) {
        for place in 0..message.len() {
            for mask in MASKS {
                let mut flipped = message.clone();
                flipped[place] ^= mask;
                let gone_on = match from {
                    Side::Client => check_at_server(scene, &tape, index, &flipped),
                    Side::Server => check_at_client(scene, &tape, index, &flipped),
                };
                answered += usize::from(gone_on);
                flips += 1;
            }
        }
    }
    let bytes: usize = tape[messages].iter().map(|(_, message)| message.len()).sum();
    assert_eq!(flips, bytes * MASKS.len());
    assert!(answered < flips, "{answered} of {flips}");
}

fn recorded(scene: Scene) -> Vec<(Side, Vec<u8>)> {
    let mut pair = scene.pair();
    pair.run();
    assert!(pair.both_established());
    pair.tape
}

/// Feeds the genuine messages before `index` that come from `from`.
fn catch_up<H: Handshake>(peer: &mut Peer<H>, tape: &[(Side, Vec<u8>)], index: usize, from: Side) {
    for (_, message) in tape[..index].iter().filter(|(side, _)| *side == from) {
        peer.feed(message);
    }
    assert_eq!(peer.error(), None);
}

/// A changed message to the server. Gives whether the server had something to say to it.
#[track_caller]
fn check_at_server(scene: Scene, tape: &[(Side, Vec<u8>)], index: usize, changed: &[u8]) -> bool {
    let mut server = pair::server(server_config(), NOW);
    catch_up(&mut server, tape, index, Side::Client);
    let answer = server.feed(changed);
    assert!(!server.is_done(), "{scene:?}: the server is done with message {index} changed");
    if answer.is_empty() || is_key_offer(&answer) && scene == Scene::Resumption {
        // A spoilt ticket gets what any other stale one gets: the handshake that follows is a whole test below.
        return false;
    }

    // The client has said what is on the tape; now it hears this instead of the tape's answer.
    let (mut client, _) = pair::client(scene.client());
    catch_up(&mut client, tape, index, Side::Server);
    let mut to_server = client.feed(&answer);
    while !to_server.is_empty() {
        let to_client = server.feed(&to_server);
        to_server = client.feed(&to_client);
    }
    assert!(!server.is_done(), "{scene:?}: both go on with message {index} changed");
    true
}

fn is_key_offer(said: &[u8]) -> bool {
    matches!(frame::parse(said), Ok((FrameKind::KeyOffer, _)))
}

/// A changed message to the client. Nothing may make it say more, and it has to fail by the time it has heard
/// the rest, unless it still waits for bytes that never come.
#[track_caller]
fn check_at_client(scene: Scene, tape: &[(Side, Vec<u8>)], index: usize, changed: &[u8]) -> bool {
    let (mut client, _) = pair::client(scene.client());
    catch_up(&mut client, tape, index, Side::Server);
    let mut said = client.feed(changed);
    for (_, message) in tape[index + 1..].iter().filter(|(side, _)| *side == Side::Server) {
        said.extend(client.feed(message));
    }
    assert_eq!(said, b"", "{scene:?}: the client goes on with message {index} changed");
    assert!(!client.is_done(), "{scene:?}: the client is done with message {index} changed");
    false
}

/// The hellos of a first contact: KeyRequest, KeyOffer, ClientHello.
#[test]
fn every_flipped_byte_up_to_the_hello_of_a_first_contact() {
    check_flips_in(Scene::FirstContact, 0..3);
}

/// ServerHello, ServerReady, Finished, ClientAuth, Finished, Welcome.
#[test]
fn every_flipped_byte_behind_the_hello_of_a_first_contact() {
    check_flips_in(Scene::FirstContact, 3..9);
}

/// Its hellos are those of a first contact, and flipped there.
#[test]
fn every_flipped_byte_of_an_anonymous_client_s_flight() {
    check_flips_in(Scene::Anonymous, 4..7);
}

#[test]
fn every_flipped_byte_of_a_psk_handshake() {
    check_flips(Scene::Psk);
}

#[test]
fn every_flipped_byte_of_a_resumption() {
    check_flips(Scene::Resumption);
}

/// Invite, Finished, Joined: what is before them is that of a first contact, and flipped there.
#[test]
fn every_flipped_byte_of_an_invited_client_s_flight() {
    check_flips_in(Scene::Invited, 5..8);
}

#[test]
fn a_spoilt_ticket_leads_to_a_full_handshake_and_never_to_a_resumption() {
    let hello = &recorded(Scene::Resumption)[0].1;
    let auth_starts = 8 + 32 + 8 + 2 + 32 + 1184 + 32;
    for place in
        (auth_starts - 32..hello.len()).filter(|place| !(auth_starts..auth_starts + 12).contains(place))
    {
        let mut pair = Scene::Resumption.pair();
        pair.run_with(|index, message| {
            if index == 0 {
                message[place] ^= 0x01;
            }
        });
        let (client, server, _) = pair.into_established();
        assert_eq!((client.mode, server.mode), (Mode::Rsa, Mode::Rsa), "byte {place}");
    }
}

/// Every message cut off at every byte: the side that waits for the rest waits, and a driver that hands it what
/// there is gets an error.
#[test]
fn truncated_messages_never_count() {
    for scene in Scene::ALL {
        let tape = recorded(scene);
        for (index, (from, message)) in tape.iter().enumerate() {
            match from {
                Side::Client => {
                    let mut server = pair::server(server_config(), NOW);
                    catch_up(&mut server, &tape, index, Side::Client);
                    check_prefixes(server.into_waiting(), message);
                }
                Side::Server => {
                    let (mut client, _) = pair::client(scene.client());
                    catch_up(&mut client, &tape, index, Side::Server);
                    check_prefixes(client.into_waiting(), message);
                }
            }
        }
    }
}

#[track_caller]
fn check_prefixes(state: impl Handshake, message: &[u8]) {
    for len in 0..message.len() {
        match state.message_len(&message[..len]) {
            Ok(None) => assert!(len < 8, "{len} bytes are a header"),
            Ok(Some(announced)) => assert_eq!(announced, message.len()),
            Err(error) => panic!("{len} genuine bytes: {error}"),
        }
    }
    let mut rng: chacha20::ChaCha20Rng = rand_core::SeedableRng::seed_from_u64(0);
    let mut out = Vec::new();
    let cut = &mut message[..message.len() - 1].to_vec();
    assert!(state.handle(cut, &mut rng, &mut out).is_err());
    assert_eq!(out, b"");
}

#[derive(Debug, Clone, Copy)]
enum Attack {
    Drop,
    Duplicate,
    SwapWithNext,
    ReturnToSender,
}

/// The line of a handshake, with one message treated badly.
#[test]
fn dropped_doubled_swapped_and_returned_messages_never_lead_to_a_channel() {
    for scene in Scene::ALL {
        let honest = recorded(scene);
        for index in 0..honest.len() {
            for attack in [Attack::Drop, Attack::Duplicate, Attack::SwapWithNext, Attack::ReturnToSender] {
                let (from, message) = &honest[index];
                let next = honest.get(index + 1).filter(|(side, _)| side == from).map(|(_, next)| next);
                let delivered: Vec<u8> = match (attack, next) {
                    (Attack::Drop, _) => Vec::new(),
                    (Attack::Duplicate, _) => [&message[..], message].concat(),
                    (Attack::SwapWithNext, Some(next)) => [&next[..], message].concat(),
                    (Attack::SwapWithNext, None) => continue,
                    (Attack::ReturnToSender, _) => message.clone(),
                };
                check_attack(scene, &honest, index, attack, &delivered);
            }
        }
    }
}

#[track_caller]
fn check_attack(scene: Scene, honest: &[(Side, Vec<u8>)], index: usize, attack: Attack, delivered: &[u8]) {
    let what = format!("{scene:?} {attack:?} {index}");
    let (from, message) = &honest[index];
    // The last word of the server is beyond the handshake: a second one is the channel's to refuse.
    let is_welcome = index + 1 == honest.len();
    // A KeyRequest asked twice is answered twice, and the second answer is what fails.
    if matches!(attack, Attack::ReturnToSender) {
        let refused = match from {
            Side::Client => {
                let (mut client, _) = pair::client(scene.client());
                catch_up(&mut client, honest, index, Side::Server);
                client.feed(message);
                client.error().is_some()
            }
            Side::Server => {
                let mut server = pair::server(server_config(), NOW);
                catch_up(&mut server, honest, index, Side::Client);
                server.feed(message);
                server.error().is_some() || server.is_done()
            }
        };
        assert!(refused || is_welcome, "{what}");
        return;
    }
    let mut pair = Pair::new(scene.client(), server_config());
    let skip = usize::from(matches!(attack, Attack::SwapWithNext));
    pair.run_with(|at, message| {
        if at == index {
            *message = delivered.to_vec();
        } else if at > index && at <= index + skip {
            message.clear();
        }
    });
    let doubled_welcome = is_welcome && matches!(attack, Attack::Duplicate);
    assert!(
        !pair.both_established() || doubled_welcome || is_last_of_client(honest, index, attack),
        "{what}"
    );
}

/// A doubled Finished is bytes behind the handshake, for the channel to refuse.
fn is_last_of_client(honest: &[(Side, Vec<u8>)], index: usize, attack: Attack) -> bool {
    matches!(attack, Attack::Duplicate) && index + 2 == honest.len()
}
