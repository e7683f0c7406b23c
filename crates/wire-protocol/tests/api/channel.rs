//! The channel's life: streams one after the other, every message in every state, and how it may end.

use crypto_core::record::{ContentType, side_by_side};
use crypto_core::schedule::Side;
use wire_protocol::channel::{Event, Receiver, Sender};
use wire_protocol::codec::encode;
use wire_protocol::message::{ControlMessage, ListenAddress, ListenKind, RefusedCode, ResetCode, Target};
use wire_protocol::record::{SendBuffer, batch};
use wire_protocol::{Error, InvalidMessage, PeerMisbehaved};

use super::line::{
    End, Heard, START, ends, hear, opener, pattern, seal, seal_control, sealer, streaming_ends,
};
use super::pair::{NOW, Pair, has_ticket, knows_psk, opening, server_config, ticket};

fn event(event: Event) -> Result<Vec<Heard>, Error> {
    Ok(vec![Heard::Event(event)])
}

/// One stream from its Open to both sides' EndOfStream.
#[track_caller]
fn check_stream(client: &mut End, server: &mut End, target: Target, data: &[u8]) {
    let open = client.control(&ControlMessage::Open { target: target.clone() });
    assert_eq!(server.hear(&open), event(Event::Open(target.clone())));
    assert!(client.sender.is_streaming() && !server.sender.is_streaming());
    let opened = server.control(&ControlMessage::Opened);
    assert_eq!(client.hear(&opened), event(Event::Opened));

    let there = client.data(data);
    assert_eq!(server.hear(&there), Ok(vec![Heard::Data(data.to_vec())]));
    let end = client.control(&ControlMessage::EndOfStream);
    assert_eq!(server.hear(&end), event(Event::EndOfStream));
    // Half-closed: the other direction goes on, where it carries anything.
    if target != Target::Message {
        let back = server.data(data);
        assert_eq!(client.hear(&back), Ok(vec![Heard::Data(data.to_vec())]));
    }
    let end = server.control(&ControlMessage::EndOfStream);
    assert_eq!(client.hear(&end), event(Event::EndOfStream));
    assert!(!client.sender.is_streaming() && !server.sender.is_streaming());
}

#[track_caller]
fn check_close(client: &mut End, server: &mut End) {
    let close = client.control(&ControlMessage::Close);
    assert_eq!(server.hear(&close), event(Event::Close));
    let close = server.control(&ControlMessage::Close);
    assert_eq!(client.hear(&close), event(Event::Close));
    assert_eq!(client.receiver.handle_end(), Ok(()));
    assert_eq!(server.receiver.handle_end(), Ok(()));
}

#[test]
fn a_channel_carries_one_stream_after_the_other_and_then_closes() {
    let (mut client, mut server) = ends();
    for round in 0..20 {
        let target = if round % 2 == 0 { Target::Pipe } else { Target::Message };
        check_stream(&mut client, &mut server, target, &pattern(1000 * round + 1));
    }
    check_close(&mut client, &mut server);
}

#[test]
fn a_channel_without_any_stream_closes() {
    let (mut client, mut server) = ends();
    check_close(&mut client, &mut server);
}

/// What the client sends before it knows of the refusal counts for nothing, and the channel is good for another.
#[test]
fn a_refused_stream_leaves_the_channel_idle() {
    let (mut client, mut server) = ends();
    for code in [RefusedCode::NotOffered, RefusedCode::NotAllowed, RefusedCode::Busy] {
        let mut early = client.control(&ControlMessage::Open { target: Target::Pipe });
        early.extend(client.data(&pattern(100_000)));
        let open = event(Event::Open(Target::Pipe));
        assert_eq!(server.hear(&early[..52]), open);
        let refused = server.control(&ControlMessage::Refused { code });
        assert_eq!(server.hear(&early[52..]), Ok(vec![]));
        assert_eq!(client.hear(&refused), event(Event::Refused(code)));
        assert!(client.sender.owes_answer());
        let end = answer(&mut client);
        assert!(!end.is_empty() && !client.sender.owes_answer());
        assert_eq!(answer(&mut client), b"", "it is said once");
        assert_eq!(server.hear(&end), Ok(vec![]));
    }
    check_stream(&mut client, &mut server, Target::Pipe, b"and now");
    check_close(&mut client, &mut server);
}

/// What an end has to say to what has come.
fn answer(end: &mut End) -> Vec<u8> {
    let mut out = SendBuffer::default();
    end.sender.answer(START, &mut out).unwrap();
    out.to_vec()
}

/// Whether an idle channel is closed, or one on which a stream has just been asked for: nobody has to think of the answer.
#[test]
fn a_close_is_owed_a_close() {
    for opens in [false, true] {
        let (mut client, mut server) = ends();
        assert!(!client.sender.owes_answer());
        let close = server.control(&ControlMessage::Close);
        if opens {
            client.control(&ControlMessage::Open { target: Target::Pipe });
        }
        assert_eq!(client.hear(&close), event(Event::Close));
        assert!(client.sender.owes_answer() && !client.sender.has_answered_close());
        answer(&mut client);
        assert!(client.sender.has_answered_close() && !client.sender.owes_answer());
        assert_eq!(answer(&mut client), b"", "it is said once");
    }
    // The side that has said it first owes nothing.
    let (mut client, mut server) = ends();
    let close = client.control(&ControlMessage::Close);
    assert_eq!(server.hear(&close), event(Event::Close));
    let answered = answer(&mut server);
    assert_eq!(client.hear(&answered), event(Event::Close));
    assert!(!client.sender.owes_answer());
}

#[test]
fn a_stream_can_be_refused_after_its_end_has_come() {
    let (mut client, mut server) = ends();
    let mut whole = client.control(&ControlMessage::Open { target: Target::Message });
    whole.extend(client.data(b"a message"));
    whole.extend(client.control(&ControlMessage::EndOfStream));
    let heard = server.hear(&whole).unwrap();
    assert_eq!(heard.last(), Some(&Heard::Event(Event::EndOfStream)));
    let refused = server.control(&ControlMessage::Refused { code: RefusedCode::Busy });
    assert_eq!(client.hear(&refused), event(Event::Refused(RefusedCode::Busy)));
    check_stream(&mut client, &mut server, Target::Message, b"and now");
}

#[test]
fn early_data_is_there_as_soon_as_the_handshake_is_over() {
    for config in [knows_psk(), has_ticket(ticket())] {
        let mut pair = Pair::at(NOW, opening(config, Target::Message), server_config());
        pair.run();
        let (client, server, early) = pair.into_established();
        let mut client = End::new(Side::Client, client.keys, &[], client.opening);
        let data = pattern(20_000);
        let mut behind = early;
        behind.extend(client.data(&data));
        behind.extend(client.control(&ControlMessage::EndOfStream));
        // All of it, though it is more than one read's worth, as bytes that came with the client's Finished.
        let mut server = End::new(Side::Server, server.keys, &behind, None);
        let expected =
            [Heard::Event(Event::Open(Target::Message)), Heard::Data(data), Heard::Event(Event::EndOfStream)];
        assert_eq!(server.hear(&[]).unwrap(), expected);
    }
}

#[test]
fn early_bytes_longer_than_any_buffer_are_kept() {
    let data = pattern(1 << 20);
    let (mut client, _) = ends();
    let mut early = client.control(&ControlMessage::Open { target: Target::Pipe });
    early.extend(client.data(&data));
    let sender = Sender::new(Side::Server, sealer(2), None, START);
    let mut receiver = Receiver::new(&sender, opener(1), &early);
    let heard = hear(&mut receiver, &[]).unwrap();
    assert_eq!(heard, [Heard::Event(Event::Open(Target::Pipe)), Heard::Data(data)]);
}

#[test]
fn pings_and_pongs_come_at_any_time() {
    let (mut client, mut server) = ends();
    let ping = client.control(&ControlMessage::Ping { nonce: u64::MAX });
    assert_eq!(server.hear(&ping), event(Event::Ping(u64::MAX)));
    let pong = server.control(&ControlMessage::Pong { nonce: u64::MAX });
    assert_eq!(client.hear(&pong), event(Event::Pong(u64::MAX)));

    let (mut client, mut server) = streaming_ends();
    let mut mixed = client.data(b"before");
    mixed.extend(client.control(&ControlMessage::Ping { nonce: 7 }));
    mixed.extend(client.data(b"behind"));
    let expected =
        [Heard::Data(b"before".to_vec()), Heard::Event(Event::Ping(7)), Heard::Data(b"behind".to_vec())];
    assert_eq!(server.hear(&mixed).unwrap(), expected);
}

/// As many Pongs as Pings, however late: whoever is slow has not done anything wrong, and nobody can say more.
#[test]
fn a_pong_is_taken_for_each_ping_and_no_more() {
    let (mut client, mut server) = ends();
    let pong = |server: &mut End| server.control(&ControlMessage::Pong { nonce: 5 });
    for nonce in 0..3 {
        let ping = client.control(&ControlMessage::Ping { nonce });
        assert_eq!(server.hear(&ping), event(Event::Ping(nonce)));
    }
    assert_eq!(client.hear(&pong(&mut server)), event(Event::Pong(5)));
    // They outlast a stream.
    check_stream(&mut client, &mut server, Target::Pipe, b"meanwhile");
    for _ in 0..2 {
        assert_eq!(client.hear(&pong(&mut server)), event(Event::Pong(5)));
    }
    let unasked = Err(PeerMisbehaved::UnexpectedMessage.into());
    assert_eq!(client.hear(&pong(&mut server)), unasked);
}

/// What thousands of them came to would stay on an idle channel for good.
#[test]
fn many_short_records_are_opened_a_batch_at_a_time() {
    let (mut client, mut server) = streaming_ends();
    let said: Vec<u8> = (0..300).flat_map(|_| client.data(b"x")).collect();
    let spare = server.receiver.spare();
    spare[..said.len()].copy_from_slice(&said);
    server.receiver.handle_input(said.len());
    let mut heard = 0;
    while server.receiver.poll_event(START).unwrap() == Some(Event::Data) {
        let opened = server.receiver.data_slices().count();
        assert!((1..=16).contains(&opened), "{opened} records at once");
        server.receiver.consume(1);
        heard += 1;
    }
    assert_eq!(heard, 300);
}

/// Whatever has come, part of a record on an idle channel holds no more memory than it is long.
#[test]
fn part_of_a_record_on_an_idle_channel_holds_only_itself() {
    let (mut client, mut server) = streaming_ends();
    for _ in 0..5 {
        let much = client.data(&pattern(300_000));
        server.hear(&much).unwrap();
    }
    let mut last = client.control(&ControlMessage::EndOfStream);
    let ping = client.control(&ControlMessage::Ping { nonce: 1 });
    last.extend(&ping[..20]);
    assert_eq!(server.hear(&last), event(Event::EndOfStream));
    let released = server.receiver.release().expect("the buffer is given back");
    assert!(released.len() > 100_000, "{}", released.len());
    assert_eq!(server.receiver.release(), None, "nothing but the part itself is left");
    assert_eq!(server.hear(&ping[20..]), event(Event::Ping(1)));
}

/// The rest of it is on its way, or the other side keeps it back, on each of many channels.
#[test]
fn part_of_a_record_within_a_stream_holds_no_more_than_a_record() {
    let (mut client, mut server) = streaming_ends();
    for _ in 0..5 {
        let much = client.data(&pattern(300_000));
        server.hear(&much).unwrap();
    }
    let said = client.data(&pattern(16_384));
    let (part, rest) = said.split_at(9_000);
    assert_eq!(server.hear(part), Ok(Vec::new()));
    let released = server.receiver.release().expect("the buffer is given back");
    assert!(released.len() > 100_000, "{}", released.len());
    assert_eq!(server.receiver.release(), None, "nothing but the part itself is left");
    assert_eq!(server.hear(rest), Ok(vec![Heard::Data(pattern(16_384))]));
}

/// The confirmation that a message was handed on is all that a server says in it, and cannot come before its end.
#[test]
fn the_client_of_a_message_hears_its_confirmation_and_nothing_else() {
    let unexpected = Err(PeerMisbehaved::UnexpectedMessage.into());
    let message_ends = || {
        let (mut client, mut server) = ends();
        let open = client.control(&ControlMessage::Open { target: Target::Message });
        server.hear(&open).unwrap();
        let opened = server.control(&ControlMessage::Opened);
        client.hear(&opened).unwrap();
        (client, server)
    };
    let (mut client, mut server) = message_ends();
    let data = server.data(b"hello");
    assert_eq!(client.hear(&data), unexpected);
    let (mut client, mut server) = message_ends();
    let mut empty = SendBuffer::default();
    server.sender.send_datagram(b"", START, &mut empty).unwrap();
    assert_eq!(client.hear(&empty), unexpected);
    let (mut client, mut server) = message_ends();
    let too_early = server.control(&ControlMessage::EndOfStream);
    assert_eq!(client.hear(&too_early), unexpected);
    let (mut client, mut server) = message_ends();
    client.control(&ControlMessage::EndOfStream);
    let confirmed = server.control(&ControlMessage::EndOfStream);
    assert_eq!(client.hear(&confirmed), event(Event::EndOfStream));
}

fn listen() -> Target {
    let address = ListenAddress::Unix { path: "/run/somewhere".into() };
    Target::Listen { address, kind: ListenKind::Stream, lease: [7; 16] }
}

#[test]
fn listening_is_answered_with_listening_and_carries_no_data() {
    let unexpected = Err(PeerMisbehaved::UnexpectedMessage.into());
    let opening = |target: &Target| {
        let (mut client, mut server) = ends();
        let open = client.control(&ControlMessage::Open { target: target.clone() });
        server.hear(&open).unwrap();
        (client, server)
    };
    let listening = ControlMessage::Listening { port: 0 };
    let (mut client, mut server) = opening(&listen());
    let opened = server.control(&ControlMessage::Opened);
    assert_eq!(client.hear(&opened), unexpected);
    let (mut client, mut server) = opening(&Target::Pipe);
    let answer = server.control(&listening);
    assert_eq!(client.hear(&answer), unexpected);
    for from_client in [false, true] {
        let (mut client, mut server) = opening(&listen());
        let answer = server.control(&listening);
        assert_eq!(client.hear(&answer), event(Event::Listening(0)));
        let (speaker, hearer) =
            if from_client { (&mut client, &mut server) } else { (&mut server, &mut client) };
        let mut empty = SendBuffer::default();
        speaker.sender.send_datagram(b"", START, &mut empty).unwrap();
        assert_eq!(hearer.hear(&empty), unexpected, "from the client: {from_client}");
    }
}

/// It cannot speak for what was not sent yet, and no stream begins before the one before it is over.
#[test]
fn close_and_open_wait_for_our_own_end() {
    for opened in [false, true] {
        for (message, error) in [
            (ControlMessage::Close, Error::Truncated),
            (ControlMessage::Open { target: Target::Pipe }, PeerMisbehaved::UnexpectedMessage.into()),
            (ControlMessage::Park { lease: [1; 16] }, PeerMisbehaved::UnexpectedMessage.into()),
        ] {
            // As a client says it that keeps to no rule.
            let (_, mut server) = ends();
            let mut rogue = sealer(1);
            let mut said = seal_control(&mut rogue, &ControlMessage::Open { target: Target::Pipe });
            said.extend(seal_control(&mut rogue, &ControlMessage::EndOfStream));
            server.hear(&said).unwrap();
            if opened {
                server.control(&ControlMessage::Opened);
            }
            let too_early = seal_control(&mut rogue, &message);
            assert_eq!(server.hear(&too_early), Err(error), "{message:?}");
        }
    }
    let (mut client, mut server) = streaming_ends();
    let mut early = server.control(&ControlMessage::EndOfStream);
    early.extend(server.control(&ControlMessage::Close));
    assert_eq!(client.hear(&early), Err(Error::Truncated));
}

/// The client opens streams until it parks the channel, the server from then on.
#[test]
fn a_parked_channel_takes_streams_from_the_other_side() {
    let unexpected = || Err(PeerMisbehaved::UnexpectedMessage.into());
    let open = ControlMessage::Open { target: Target::Pipe };
    let park = ControlMessage::Park { lease: [1; 16] };
    let parked = || {
        let (mut client, mut server) = ends();
        let parking = client.control(&park);
        assert_eq!(server.hear(&parking), event(Event::Park([1; 16])));
        (client, server)
    };
    let (mut client, mut server) = parked();
    let forwarded = Target::Forwarded { origin: "192.0.2.1:4711".into(), destination: "192.0.2.2:80".into() };
    check_stream(&mut server, &mut client, forwarded, b"from the server");
    check_stream(&mut server, &mut client, Target::Pipe, b"again");
    for message in [&open, &park] {
        let refused = client.sender.send_control(message, START, &mut SendBuffer::default());
        assert!(matches!(refused, Err(Error::ApiMisuse(_))), "{message:?}");
    }
    check_close(&mut server, &mut client);

    // Each as a peer says it that keeps to no rule.
    for message in [&open, &park] {
        let (_, mut server) = ends();
        let mut rogue = sealer(1);
        server.hear(&seal_control(&mut rogue, &park)).unwrap();
        assert_eq!(server.hear(&seal_control(&mut rogue, message)), unexpected(), "{message:?} when parked");
        let (mut client, mut server) = ends();
        assert!(matches!(
            server.sender.send_control(message, START, &mut SendBuffer::default()),
            Err(Error::ApiMisuse(_))
        ));
        let said = seal_control(&mut sealer(2), message);
        assert_eq!(client.hear(&said), unexpected(), "{message:?} from a server");
    }
}

/// Neither side has lost anything with it, so that both close.
#[test]
fn what_crosses_our_close_is_discarded() {
    let (mut client, mut server) = ends();
    let close = server.control(&ControlMessage::Close);
    let mut crossing = client.control(&ControlMessage::Open { target: Target::Pipe });
    crossing.extend(client.data(b"for nobody"));
    let refused = client.sender.send_control(&ControlMessage::Close, START, &mut SendBuffer::default());
    assert!(matches!(refused, Err(Error::ApiMisuse(_))));
    assert_eq!(client.hear(&close), event(Event::Close));
    crossing.extend(client.control(&ControlMessage::Close));
    assert_eq!(server.hear(&crossing), event(Event::Close));

    let (mut client, mut server) = ends();
    let close = server.control(&ControlMessage::Close);
    let mut crossing = client.control(&ControlMessage::Open { target: Target::Pipe });
    crossing.extend(client.control(&ControlMessage::EndOfStream));
    assert_eq!(client.hear(&close), event(Event::Close));
    crossing.extend(client.control(&ControlMessage::Close));
    assert_eq!(server.hear(&crossing), event(Event::Close));

    let (mut client, mut server) = ends();
    let close = server.control(&ControlMessage::Close);
    let mut crossing = client.control(&ControlMessage::Park { lease: [1; 16] });
    assert_eq!(client.hear(&close), event(Event::Close));
    crossing.extend(client.control(&ControlMessage::Close));
    assert_eq!(server.hear(&crossing), event(Event::Close));
    assert_eq!(server.receiver.handle_end(), Ok(()));
}

/// The states of a receiver, each with the sealer that speaks to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Opening,
    Streaming,
    Discarding,
    Closed,
}

impl State {
    const ALL: [Self; 5] = [Self::Idle, Self::Opening, Self::Streaming, Self::Discarding, Self::Closed];

    fn reach(self) -> (Receiver, crypto_core::record::Sealer) {
        let mut sealer = sealer(1);
        let side = if self == Self::Opening { Side::Client } else { Side::Server };
        let mut end = End::listening(side);
        let open = |sealer: &mut _| seal_control(sealer, &ControlMessage::Open { target: Target::Pipe });
        match self {
            Self::Idle => {}
            Self::Opening => {
                end.control(&ControlMessage::Open { target: Target::Pipe });
            }
            Self::Streaming => {
                end.hear(&open(&mut sealer)).unwrap();
            }
            Self::Discarding => {
                end.hear(&open(&mut sealer)).unwrap();
                end.control(&ControlMessage::Refused { code: RefusedCode::Busy });
            }
            Self::Closed => {
                end.hear(&seal_control(&mut sealer, &ControlMessage::Close)).unwrap();
            }
        }
        (end.receiver, sealer)
    }
}

#[test]
fn every_message_in_every_state_has_one_meaning_or_is_an_error() {
    use State::{Closed, Discarding, Idle, Opening, Streaming};

    let unexpected = Err(PeerMisbehaved::UnexpectedMessage.into());
    let target = Target::Pipe;
    let code = RefusedCode::Busy;
    type Row = (ControlMessage, fn(State) -> Option<Result<Option<Event>, Error>>);
    let rows: [Row; 9] = [
        (ControlMessage::Open { target }, |state| {
            (state == Idle).then_some(Ok(Some(Event::Open(Target::Pipe))))
        }),
        (ControlMessage::Opened, |state| (state == Opening).then_some(Ok(Some(Event::Opened)))),
        (ControlMessage::Refused { code }, |state| {
            (state == Opening).then_some(Ok(Some(Event::Refused(RefusedCode::Busy))))
        }),
        (ControlMessage::EndOfStream, |state| match state {
            Streaming => Some(Ok(Some(Event::EndOfStream))),
            Discarding => Some(Ok(None)),
            _ => None,
        }),
        (ControlMessage::Reset { code: ResetCode::TooLong }, |state| {
            (state != Closed).then_some(Err(Error::Reset(ResetCode::TooLong)))
        }),
        (ControlMessage::Ping { nonce: 3 }, |state| (state != Closed).then_some(Ok(Some(Event::Ping(3))))),
        // Nobody has asked for one.
        (ControlMessage::Pong { nonce: 3 }, |_| None),
        // Not after a Close: nothing may come then.
        (ControlMessage::KeyUpdate, |state| (state != Closed).then_some(Ok(None))),
        (ControlMessage::Close, |state| match state {
            Idle | Opening | Discarding => Some(Ok(Some(Event::Close))),
            Streaming => Some(Err(Error::Truncated)),
            Closed => None,
        }),
    ];
    for (message, expected) in rows {
        for state in State::ALL {
            let (mut receiver, mut sealer) = state.reach();
            let heard = hear(&mut receiver, &seal_control(&mut sealer, &message));
            let expected = match expected(state) {
                Some(Ok(None)) => Ok(vec![]),
                Some(Ok(Some(event))) => self::event(event),
                Some(Err(error)) => Err(error),
                None => unexpected.clone(),
            };
            assert_eq!(heard, expected, "{message:?} while {state:?}");
            check_sticky(&mut receiver, heard.err());
        }
    }
}

/// After an error every call gives the same, whatever arrives.
#[track_caller]
fn check_sticky(receiver: &mut Receiver, error: Option<Error>) {
    if let Some(error) = error {
        assert_eq!(receiver.poll_event(START), Err(error));
        assert_eq!(hear(receiver, &[0; 100]), Err(error));
        assert_eq!(receiver.poll_event(START), Err(error));
    }
}

#[test]
fn data_comes_within_a_stream_and_nowhere_else() {
    for payload in [&b"data"[..], b""] {
        for state in State::ALL {
            let (mut receiver, mut sealer) = state.reach();
            let heard = hear(&mut receiver, &seal(&mut sealer, ContentType::Data, payload, 5));
            let expected = match state {
                State::Streaming if payload.is_empty() => Ok(vec![]),
                State::Streaming => Ok(vec![Heard::Data(payload.to_vec())]),
                State::Discarding => Ok(vec![]),
                _ => Err(PeerMisbehaved::UnexpectedMessage.into()),
            };
            assert_eq!(heard, expected, "{state:?}");
            check_sticky(&mut receiver, heard.err());
        }
    }
}

#[test]
fn data_behind_the_end_of_a_stream_is_refused() {
    let (mut receiver, mut sealer) = State::Streaming.reach();
    let end = seal_control(&mut sealer, &ControlMessage::EndOfStream);
    assert_eq!(hear(&mut receiver, &end), event(Event::EndOfStream));
    let data = seal(&mut sealer, ContentType::Data, b"more", 0);
    assert_eq!(hear(&mut receiver, &data), Err(PeerMisbehaved::UnexpectedMessage.into()));
}

#[test]
fn what_is_not_a_control_message_is_refused_in_every_state() {
    let mut trailing = Vec::new();
    encode(&ControlMessage::Ping { nonce: 1 }, &mut trailing);
    trailing.push(0);
    let handshake = PeerMisbehaved::UnexpectedMessage.into();
    let malformed = InvalidMessage::Malformed.into();
    for (content_type, payload, error) in [
        (ContentType::Control, &trailing[..], malformed),
        (ContentType::Control, b"", malformed),
        (ContentType::Control, b"\0\0\0", malformed),
        (ContentType::Control, b"\0\0\0\x09", malformed),
        (ContentType::Control, b"\xFF\xFF\xFF\xFF", malformed),
        (ContentType::Control, b"\0\0\0\x00\0\0\0\x02", malformed),
        (ContentType::Control, b"\0\0\0\x08\0", malformed),
        (ContentType::Control, &[0; 8193], InvalidMessage::TooLong.into()),
        (ContentType::Handshake, b"\0\0\0\x03", handshake),
        (ContentType::Handshake, b"", handshake),
    ] {
        for state in State::ALL {
            let (mut receiver, mut sealer) = state.reach();
            let heard = hear(&mut receiver, &seal(&mut sealer, content_type, payload, 0));
            assert_eq!(heard, Err(error), "{payload:?} while {state:?}");
            check_sticky(&mut receiver, Some(error));
        }
    }
}

#[test]
fn an_end_without_close_is_truncated_in_every_state_but_the_last() {
    for state in State::ALL {
        let (mut receiver, mut sealer) = state.reach();
        let expected = if state == State::Closed { Ok(()) } else { Err(Error::Truncated) };
        assert_eq!(receiver.handle_end(), expected, "{state:?}");
        if expected.is_err() {
            let close = seal_control(&mut sealer, &ControlMessage::Close);
            assert_eq!(hear(&mut receiver, &close), Err(Error::Truncated), "too late: {state:?}");
        }
    }
}

#[test]
fn a_close_cut_short_by_a_byte_is_no_close() {
    let (mut receiver, mut sealer) = State::Idle.reach();
    let close = seal_control(&mut sealer, &ControlMessage::Close);
    assert_eq!(hear(&mut receiver, &close[..close.len() - 1]), Ok(vec![]));
    assert_eq!(receiver.handle_end(), Err(Error::Truncated));
}

#[test]
fn nothing_comes_behind_a_close_not_even_in_the_same_read() {
    let (mut receiver, mut sealer) = State::Idle.reach();
    let mut both = seal_control(&mut sealer, &ControlMessage::Close);
    both.extend(seal_control(&mut sealer, &ControlMessage::Ping { nonce: 0 }));
    let spare = receiver.spare();
    spare[..both.len()].copy_from_slice(&both);
    receiver.handle_input(both.len());
    assert_eq!(receiver.poll_event(START), Ok(Some(Event::Close)));
    assert_eq!(receiver.poll_event(START), Err(PeerMisbehaved::UnexpectedMessage.into()));
}

#[test]
fn a_sender_keeps_to_the_order_that_its_peer_insists_on() {
    let open = ControlMessage::Open { target: Target::Pipe };
    let mut out = SendBuffer::default();
    let fresh = || Sender::new(Side::Client, sealer(1), None, START);
    let streaming = || Sender::new(Side::Client, sealer(1), Some(&Target::Pipe), START);
    let closed = || {
        let mut sender = fresh();
        sender.send_control(&ControlMessage::Close, START, &mut SendBuffer::default()).unwrap();
        sender
    };
    for (mut sender, message) in [
        (fresh(), ControlMessage::EndOfStream),
        (streaming(), open.clone()),
        (streaming(), ControlMessage::Opened),
        (streaming(), ControlMessage::Close),
        (closed(), open),
        (closed(), ControlMessage::Close),
        (closed(), ControlMessage::Ping { nonce: 0 }),
        (closed(), ControlMessage::Reset { code: ResetCode::Output }),
    ] {
        let refused = sender.send_control(&message, START, &mut out);
        assert!(matches!(refused, Err(Error::ApiMisuse(_))), "{message:?} {refused:?}");
        assert_eq!(*out, *b"");
    }
    for mut sender in [fresh(), closed()] {
        assert!(matches!(sender.begin_data(1, START, &mut out), Err(Error::ApiMisuse(_))));
        assert_eq!(*out, *b"");
    }
    assert!(matches!(streaming().begin_data(batch() + 1, START, &mut out), Err(Error::ApiMisuse(_))));
    assert_eq!(*out, *b"");
}

/// What lies behind the room was sent before, or is somebody else's.
#[test]
fn no_more_is_sealed_than_there_was_room_for() {
    let (mut client, _) = streaming_ends();
    let mut out = SendBuffer::default();
    for room in [16_384, 2 * 16_384] {
        let slots = client.sender.begin_data(room / 16_384, START, &mut out).unwrap();
        let sealed = client.sender.finish_data(slots, room + 1, &mut out);
        assert!(matches!(sealed, Err(Error::ApiMisuse(_))));
        assert_eq!(*out, *b"", "nothing unsealed is left to be sent");
    }
}

#[test]
fn more_records_than_a_batch_may_come_at_once() {
    let (mut client, mut server) = streaming_ends();
    let count = u8::try_from(3 * batch() + 1).unwrap();
    let (mut said, mut heard) = (Vec::new(), Vec::new());
    for number in 0..count {
        said.extend(client.data(&[number]));
        // At the end of a batch, in the middle of one, and between others.
        if [7, 11, 20].contains(&number) {
            client.sender.request_key_update();
        }
    }
    for event in server.hear(&said).unwrap() {
        let Heard::Data(data) = event else { panic!("{event:?}") };
        heard.extend(data);
    }
    assert_eq!(heard, (0..count).collect::<Vec<_>>());
}

#[test]
fn a_receiver_takes_a_byte_at_a_time() {
    let (mut client, mut server) = streaming_ends();
    let mut said = client.data(&pattern(40_000));
    said.extend(client.control(&ControlMessage::Ping { nonce: 1 }));
    said.extend(client.control(&ControlMessage::EndOfStream));
    let mut heard = Vec::new();
    for byte in said {
        heard.extend(server.hear(&[byte]).unwrap());
    }
    let data: Vec<u8> = heard
        .iter()
        .filter_map(|heard| if let Heard::Data(data) = heard { Some(data.clone()) } else { None })
        .flatten()
        .collect();
    assert_eq!(data, pattern(40_000));
    assert_eq!(heard[heard.len() - 2..], [Heard::Event(Event::Ping(1)), Heard::Event(Event::EndOfStream)]);
}

#[test]
fn where_the_bytes_are_cut_makes_no_difference() {
    let said = {
        let (mut client, _) = streaming_ends();
        let mut said = client.data(b"some data");
        said.extend(client.control(&ControlMessage::Ping { nonce: 1 }));
        client.sender.request_key_update();
        said.extend(client.data(b"more"));
        said.extend(client.control(&ControlMessage::EndOfStream));
        said
    };
    let whole = streaming_ends().1.hear(&said).unwrap();
    for first in 0..said.len() {
        for second in [first, first + 1, said.len()] {
            let (_, mut server) = streaming_ends();
            let (a, rest) = said.split_at(first);
            let (b, c) = rest.split_at(second.min(said.len()) - first);
            let mut heard = server.hear(a).unwrap();
            heard.extend(server.hear(b).unwrap());
            heard.extend(server.hear(c).unwrap());
            assert_eq!(heard, whole, "cut at {first} and {second}");
        }
    }
}

#[test]
fn data_can_be_consumed_in_pieces() {
    let (mut client, mut server) = streaming_ends();
    let data = pattern(30_000);
    let said = client.data(&data);
    let mut on_the_way = said.as_slice();
    let mut taken = Vec::new();
    for step in (1..).map(|step| step % 977) {
        while server.receiver.poll_event(START).unwrap().is_none() && !on_the_way.is_empty() {
            let spare = server.receiver.spare();
            let (arrived, rest) = on_the_way.split_at(on_the_way.len().min(spare.len()));
            spare[..arrived.len()].copy_from_slice(arrived);
            server.receiver.handle_input(arrived.len());
            on_the_way = rest;
        }
        if server.receiver.data().is_empty() {
            break;
        }
        let piece = &server.receiver.data()[..server.receiver.data().len().min(step)];
        taken.extend_from_slice(piece);
        // More than there is may be consumed: what is there is what goes.
        let len = if step % 2 == 0 { piece.len() } else { step.min(piece.len()) };
        server.receiver.consume(len);
    }
    assert_eq!(taken, data);
}

/// What was there before is gone with the buffer: the next one is fresh.
#[test]
fn a_receiver_holds_no_buffer_once_it_is_released() {
    let (mut client, mut server) = streaming_ends();
    let said = client.data(&[0xAA; 50_000]);
    server.hear(&said).unwrap();
    assert!(server.receiver.spare().contains(&0xAA), "or this test would not see a difference");
    server.receiver.release();
    assert!(server.receiver.spare().iter().all(|&byte| byte == 0));
    assert_eq!(server.receiver.data(), b"");
}

#[test]
fn a_release_loses_nothing_that_has_arrived() {
    let (mut client, mut server) = streaming_ends();
    let said = client.data(&pattern(20_000));
    let (first, rest) = said.split_at(16_500);
    let mut heard = server.hear(first).unwrap();
    server.receiver.release();
    heard.extend(server.hear(rest).unwrap());
    server.receiver.release();
    assert_eq!(heard, [Heard::Data(pattern(16_384)), Heard::Data(pattern(20_000)[16_384..].to_vec())]);
}

/// Room for one record to begin with, and a batch of the largest at most once there is more than that.
#[test]
fn a_receiver_takes_as_much_memory_as_there_is_use_for() {
    let (mut client, mut server) = streaming_ends();
    assert_eq!(server.receiver.spare().len(), 16_674);
    for _ in 0..20 {
        let said = client.data(&pattern(300_000));
        server.hear(&said).unwrap();
        assert_eq!(server.receiver.spare().len(), batch() * 16_674);
    }
    for _ in 0..2 {
        let said = client.data(b"little");
        server.hear(&said).unwrap();
        server.receiver.release();
    }
    assert_eq!(server.receiver.spare().len(), 16_674);
}

/// MTU 65536 less the headers of IPv6 and of TCP with timestamps: what one segment over a loopback interface carries.
#[test]
fn a_whole_batch_fills_segments_of_the_largest_size() {
    let (mut client, _) = streaming_ends();
    let mut out = SendBuffer::default();
    let slots = client.sender.begin_data(batch(), START, &mut out).unwrap();
    let room: Vec<_> = slots.payloads(&mut out).map(|place| place.len()).collect();
    let (records, last, segments) = if side_by_side() == 16 { (16, 15_536, 4) } else { (8, 15_960, 2) };
    assert_eq!(room, [vec![16_384; records - 1], vec![last]].concat());
    client.sender.finish_data(slots, room.iter().sum(), &mut out).unwrap();
    assert_eq!(out.len(), segments * 65_464);
}
