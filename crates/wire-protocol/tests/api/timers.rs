//! The channel's own timers, on a clock that the test holds: signs of life, silence, the age of a key.

use std::time::Duration;

use crypto_core::schedule::Side;
use wire_protocol::Error;
use wire_protocol::channel::{Event, HEARTBEAT, MAX_KEY_AGE, SILENCE, Timestamp};
use wire_protocol::handshake::ChannelKeys;
use wire_protocol::message::{ControlMessage, ListenAddress, ListenKind, RefusedCode, Target};
use wire_protocol::record::SendBuffer;

use super::line::{End, Heard, START, ends, opener, pattern, sealer};

fn tcp() -> Target {
    Target::Tcp { host: "localhost".into(), port: 22 }
}

/// Has the client open a stream to `target`, which the server has heard of.
fn opening(target: Target) -> (End, End) {
    let (mut client, mut server) = ends();
    let open = client.control(&ControlMessage::Open { target });
    server.hear(&open).unwrap();
    (client, server)
}

/// As [`opening`]; the server takes it.
fn open(target: Target) -> (End, End) {
    let (mut client, mut server) = opening(target.clone());
    let answer = match target {
        Target::Listen { .. } => ControlMessage::Listening { port: 1 },
        _ => ControlMessage::Opened,
    };
    let answer = server.control(&answer);
    client.hear(&answer).unwrap();
    (client, server)
}

fn due(end: &End) -> (Option<Timestamp>, Option<Timestamp>) {
    (end.sender.poll_timeout(), end.receiver.poll_timeout())
}

/// What a sender says of its own accord at `now`.
fn says(end: &mut End, now: Timestamp) -> Vec<u8> {
    let mut out = SendBuffer::default();
    end.sender.handle_timeout(now, &mut out).unwrap();
    out.to_vec()
}

#[test]
fn streams_that_are_kept_up_have_timers_and_others_have_none() {
    let listen = {
        let address = ListenAddress::Port { host: "*".into(), port: 0 };
        Target::Listen { address, kind: ListenKind::Stream, lease: [1; 16] }
    };
    let path = "/run/somewhere".to_owned();
    let (alive, none) = ((Some(START.after(HEARTBEAT)), Some(START.after(SILENCE))), (None, None));
    for (target, at_client, at_server) in [
        (tcp(), alive, alive),
        (Target::Unix { path }, alive, alive),
        (Target::Service { name: "db".into() }, alive, alive),
        (Target::Udp { host: "localhost".into(), port: 53 }, alive, alive),
        (listen, alive, alive),
        // Its client alone shows that it is there, and hears from the server what answers its Pings.
        (Target::Message, alive, none),
        (Target::Pipe, none, none),
    ] {
        let (client, server) = open(target.clone());
        assert_eq!((due(&client), due(&server)), (at_client, at_server), "{target:?}");
    }
    let (client, server) = ends();
    assert_eq!((due(&client), due(&server)), (none, none), "nothing is open");
}

#[test]
fn a_ping_is_due_once_nothing_has_been_sent_for_long_enough() {
    let (mut client, mut server) = open(tcp());
    let nearly = Timestamp(HEARTBEAT - Duration::from_nanos(1));
    assert_eq!(says(&mut client, nearly), b"");
    let ping = says(&mut client, START.after(HEARTBEAT));
    assert_eq!(server.hear(&ping), Ok(vec![Heard::Event(Event::Ping(0))]));
    assert_eq!(client.sender.poll_timeout(), Some(START.after(2 * HEARTBEAT)));
    assert_eq!(says(&mut client, START.after(HEARTBEAT)), b"", "one is enough");

    // Whatever is sent puts it off: data, a datagram, a control message, a Pong.
    let mut now = START.after(HEARTBEAT);
    for round in 0..4 {
        now = now.after(Duration::from_secs(7));
        let mut out = SendBuffer::default();
        match round {
            0 => {
                let slots = client.sender.begin_data(1, now, &mut out).unwrap();
                client.sender.finish_data(slots, 1, &mut out).unwrap();
            }
            1 => client.sender.send_datagram(b"one", now, &mut out).unwrap(),
            2 => client.sender.send_control(&ControlMessage::Ping { nonce: 9 }, now, &mut out).unwrap(),
            _ => {
                let ping = says(&mut server, START.after(HEARTBEAT));
                client.hear(&ping).unwrap();
                client.sender.answer(now, &mut out).unwrap();
            }
        }
        assert!(!out.is_empty());
        assert_eq!(client.sender.poll_timeout(), Some(now.after(HEARTBEAT)), "round {round}");
    }
    // Room for data that none is put into does not.
    let mut out = SendBuffer::default();
    let slots = client.sender.begin_data(1, now.after(Duration::from_secs(1)), &mut out).unwrap();
    client.sender.finish_data(slots, 0, &mut out).unwrap();
    assert_eq!(client.sender.poll_timeout(), Some(now.after(HEARTBEAT)));
}

#[test]
fn silence_counts_from_when_bytes_are_waited_for() {
    let (mut client, mut server) = open(tcp());
    let second = Duration::from_secs(1);
    // Nothing has been looked for since the data came, however long ago.
    let data = server.data(b"data");
    client.receiver.spare()[..data.len()].copy_from_slice(&data);
    client.receiver.handle_input(data.len());
    let late = START.after(10 * SILENCE);
    assert_eq!(client.receiver.poll_event(late), Ok(Some(Event::Data)));
    assert_eq!(client.receiver.poll_timeout(), None);
    assert_eq!(client.receiver.handle_timeout(late), Ok(()));
    client.receiver.consume(4);
    assert_eq!(client.receiver.poll_event(late.after(second)), Ok(None));
    assert_eq!(client.receiver.poll_event(late.after(2 * second)), Ok(None));
    let end = late.after(second).after(SILENCE);
    assert_eq!(client.receiver.poll_timeout(), Some(end));

    assert_eq!(client.receiver.handle_timeout(Timestamp(end.0 - Duration::from_nanos(1))), Ok(()));
    assert_eq!(client.receiver.handle_timeout(end), Err(Error::Silent));
    let ping = server.control(&ControlMessage::Ping { nonce: 1 });
    assert_eq!(client.hear(&ping), Err(Error::Silent), "it stays so");
}

/// Also where the other side shows that it is there, and the other way round nothing is due.
#[test]
fn the_end_of_datagrams_is_answered_in_time_or_the_channel_ends() {
    let (mut client, mut server) = open(Target::Udp { host: "localhost".into(), port: 53 });
    let ended = START.after(Duration::from_secs(100));
    let mut out = SendBuffer::default();
    client.sender.send_control(&ControlMessage::EndOfStream, ended, &mut out).unwrap();
    let last = ended.after(SILENCE - Duration::from_secs(1));
    let ping = says(&mut server, last);
    assert_eq!(client.hear(&ping), Ok(vec![Heard::Event(Event::Ping(0))]));
    assert_eq!(client.receiver.poll_event(last), Ok(None));
    assert_eq!(client.receiver.poll_timeout(), Some(ended.after(SILENCE)));
    assert_eq!(client.receiver.handle_timeout(last), Ok(()));
    server.hear(&out).unwrap();
    assert_ne!(server.receiver.poll_timeout(), Some(ended.after(SILENCE)));
    assert_eq!(client.receiver.handle_timeout(ended.after(SILENCE)), Err(Error::EndTimedOut));

    let (mut client, mut server) = open(Target::Udp { host: "localhost".into(), port: 53 });
    let end = client.control(&ControlMessage::EndOfStream);
    server.hear(&end).unwrap();
    let end = server.control(&ControlMessage::EndOfStream);
    client.hear(&end).unwrap();
    assert_eq!(client.receiver.poll_timeout(), None, "it is answered");
}

/// The end of a refused flow is waited for as after any other refusal, however long the channel has stood.
#[test]
fn the_end_of_a_refused_flow_of_datagrams_is_not_late_before_its_time() {
    let (mut client, mut server) = opening(Target::Udp { host: "localhost".into(), port: 53 });
    let heard = START.after(Duration::from_secs(100));
    let ping = says(&mut client, heard);
    server.receiver.spare()[..ping.len()].copy_from_slice(&ping);
    server.receiver.handle_input(ping.len());
    assert_eq!(server.receiver.poll_event(heard), Ok(Some(Event::Ping(0))));
    assert_eq!(server.receiver.poll_event(heard), Ok(None));
    let mut out = SendBuffer::default();
    let refusal = ControlMessage::Refused { code: RefusedCode::NotAllowed };
    server.sender.send_control(&refusal, heard, &mut out).unwrap();
    assert_eq!(server.receiver.poll_timeout(), Some(heard.after(SILENCE)));
    assert_eq!(server.receiver.handle_timeout(heard), Ok(()));
    client.hear(&out).unwrap();
    let end = answer(&mut client);
    assert_eq!(server.hear(&end), Ok(vec![]));
}

/// What an end has to say to what has come.
fn answer(end: &mut End) -> Vec<u8> {
    let mut out = SendBuffer::default();
    end.sender.answer(START, &mut out).unwrap();
    out.to_vec()
}

/// A record that comes to no event is a sign of life, too.
#[test]
fn any_record_breaks_the_silence() {
    let (mut client, mut server) = open(Target::Udp { host: "localhost".into(), port: 53 });
    let mut out = SendBuffer::default();
    server.sender.send_datagram(&pattern(40_000), START, &mut out).unwrap();
    let late = START.after(SILENCE);
    let first = &out[..17_000];
    let mut rest = first;
    while !rest.is_empty() {
        let spare = client.receiver.spare();
        let len = spare.len().min(rest.len());
        spare[..len].copy_from_slice(&rest[..len]);
        client.receiver.handle_input(len);
        rest = &rest[len..];
        assert_eq!(client.receiver.poll_event(late), Ok(None));
    }
    assert_eq!(client.receiver.poll_timeout(), Some(late.after(SILENCE)));
}

#[test]
fn a_stream_is_kept_up_until_both_sides_have_ended_it() {
    let (mut client, mut server) = open(tcp());
    let end = client.control(&ControlMessage::EndOfStream);
    server.hear(&end).unwrap();
    assert!(due(&client).0.is_some() && due(&client).1.is_some(), "the client still hears");
    assert!(due(&server).0.is_some() && due(&server).1.is_some(), "the server still speaks");
    let end = server.control(&ControlMessage::EndOfStream);
    client.hear(&end).unwrap();
    assert_eq!((due(&client), due(&server)), ((None, None), (None, None)));
    assert!(client.sender.is_idle() && client.receiver.is_idle());
    assert!(server.sender.is_idle() && server.receiver.is_idle());

    let (mut client, mut server) = opening(tcp());
    assert!(due(&client).0.is_some() && due(&server).0.is_some());
    let refused = server.control(&ControlMessage::Refused { code: RefusedCode::Busy });
    client.hear(&refused).unwrap();
    assert_eq!(due(&client), (None, None));
    let end = client.control(&ControlMessage::EndOfStream);
    server.hear(&end).unwrap();
    assert_eq!(due(&server), (None, None));
}

#[test]
fn a_key_that_has_been_in_use_for_an_hour_is_replaced_with_the_next_record() {
    let keys = || ChannelKeys { sealer: sealer(1), opener: opener(2) };
    let nearly = Timestamp(MAX_KEY_AGE - Duration::from_nanos(1));
    let ping = ControlMessage::Ping { nonce: 1 };
    let length = |now| {
        let mut end = End::new(Side::Client, keys(), &[], None);
        let mut out = SendBuffer::default();
        end.sender.send_control(&ping, now, &mut out).unwrap();
        out.len()
    };
    let update = length(START.after(MAX_KEY_AGE)) - length(nearly);
    assert!(update > 0, "a KeyUpdate goes before it");

    // Each kind of record, and again only after another hour.
    let mut end = End::new(Side::Client, keys(), &[], None);
    let mut server = End::listening(Side::Server);
    let open = end.control(&ControlMessage::Open { target: Target::Pipe });
    server.hear(&open).unwrap();
    let mut now = START;
    for round in 0..3 {
        now = now.after(MAX_KEY_AGE);
        for is_due in [true, false] {
            let mut out = SendBuffer::default();
            match round {
                0 => {
                    let slots = end.sender.begin_data(1, now, &mut out).unwrap();
                    end.sender.finish_data(slots, 9, &mut out).unwrap();
                }
                1 => end.sender.send_datagram(b"nine byte", now, &mut out).unwrap(),
                _ => end.sender.send_control(&ping, now, &mut out).unwrap(),
            }
            let without = if round == 2 { 35 + 12 } else { 35 + 9 };
            assert_eq!(out.len() - without, if is_due { update } else { 0 }, "round {round}");
            server.hear(&out).unwrap();
        }
    }
}

/// Nobody has to think of it: it goes along with whatever is sent next, and in front of it.
#[test]
fn a_ping_that_has_come_is_answered_with_what_is_sent_next() {
    for round in 0..3 {
        let (mut client, mut server) = open(tcp());
        let ping = client.control(&ControlMessage::Ping { nonce: 7 });
        server.hear(&ping).unwrap();
        assert!(server.sender.owes_answer());
        let said = match round {
            0 => server.data(b"data"),
            1 => server.control(&ControlMessage::EndOfStream),
            _ => {
                let mut out = SendBuffer::default();
                server.sender.send_datagram(b"data", START, &mut out).unwrap();
                out.to_vec()
            }
        };
        assert!(!server.sender.owes_answer());
        let heard = client.hear(&said).unwrap();
        assert_eq!(heard[0], Heard::Event(Event::Pong(7)), "round {round}");
        assert_eq!(heard.len(), 2);
    }
    // Not while other bytes wait to go out, which a peer that does not read would make more and more.
    let (mut client, mut server) = open(tcp());
    let ping = client.control(&ControlMessage::Ping { nonce: 7 });
    server.hear(&ping).unwrap();
    let mut waiting = SendBuffer::default();
    server.sender.send_control(&ControlMessage::Ping { nonce: 1 }, START, &mut waiting).unwrap();
    let len = waiting.len();
    let ping = client.control(&ControlMessage::Ping { nonce: 8 });
    server.hear(&ping).unwrap();
    server.sender.answer(START, &mut waiting).unwrap();
    assert_eq!(waiting.len(), len);
    assert!(server.sender.owes_answer());
}

/// The states say what may be said, so that nothing has to be remembered by whoever drives the channel.
#[test]
fn what_does_not_fit_the_stream_is_refused_before_it_is_sent() {
    let misuse = |end: &mut End, message: ControlMessage| {
        let mut out = SendBuffer::default();
        let refused = end.sender.send_control(&message, START, &mut out);
        assert!(matches!(refused, Err(Error::ApiMisuse(_))), "{message:?}: {refused:?}");
        assert_eq!(*out, *b"");
    };
    let open = || ControlMessage::Open { target: Target::Pipe };
    // An answer that nobody has asked for.
    let (_, mut server) = ends();
    for answer in [
        ControlMessage::Opened,
        ControlMessage::Listening { port: 1 },
        ControlMessage::Refused { code: RefusedCode::Busy },
    ] {
        misuse(&mut server, answer);
    }
    // A second stream, and a Park, while the other side still speaks.
    let (mut client, mut server) = self::open(tcp());
    client.control(&ControlMessage::EndOfStream);
    misuse(&mut client, open());
    misuse(&mut client, ControlMessage::Park { lease: [1; 16] });
    let end = server.control(&ControlMessage::EndOfStream);
    client.hear(&end).unwrap();
    client.control(&open());
    // Behind the other side's Close.
    let (mut client, mut server) = ends();
    let close = server.control(&ControlMessage::Close);
    client.hear(&close).unwrap();
    misuse(&mut client, open());
    client.control(&ControlMessage::Close);
    // A key update without the keys.
    let (mut client, _) = ends();
    misuse(&mut client, ControlMessage::KeyUpdate);
}

/// How long a channel was idle says nothing about the stream that is opened on it then.
#[test]
fn a_side_that_opens_a_stream_on_an_idle_channel_waits_from_then_on() {
    let (mut client, mut server) = ends();
    assert_eq!(client.receiver.poll_event(START), Ok(None), "nothing comes for an hour");
    let now = START.after(Duration::from_secs(60 * 60));
    let mut out = SendBuffer::default();
    client.sender.send_control(&ControlMessage::Open { target: tcp() }, now, &mut out).unwrap();
    assert_eq!(client.receiver.poll_event(now), Ok(None));
    assert_eq!(client.receiver.poll_timeout(), Some(now.after(SILENCE)));
    assert_eq!(client.receiver.handle_timeout(now), Ok(()));
    // What comes counts from when it has come.
    server.hear(&out).unwrap();
    let answer = server.control(&ControlMessage::Opened);
    client.hear(&answer).unwrap();
    assert_eq!(client.receiver.poll_timeout(), Some(now.after(SILENCE)));
    assert_eq!(client.receiver.handle_timeout(now.after(SILENCE)), Err(Error::Silent));
}

/// The other side says nothing to a message until its end, and this side asks for nothing while it sends.
#[test]
fn a_side_that_sends_a_message_waits_from_its_last_data_on() {
    let (mut client, _server) = open(Target::Message);
    let mut now = START;
    for _ in 0..10 {
        now = now.after(HEARTBEAT / 2);
        assert_eq!(says(&mut client, now), b"");
        let mut out = SendBuffer::default();
        let slots = client.sender.begin_data(1, now, &mut out).unwrap();
        client.sender.finish_data(slots, 1, &mut out).unwrap();
        assert_eq!(client.receiver.poll_event(now), Ok(None));
        assert_eq!(client.receiver.handle_timeout(now), Ok(()));
    }
    assert_eq!(client.receiver.poll_timeout(), Some(now.after(SILENCE)));
    // A Ping is no data, and wants an answer.
    assert_ne!(says(&mut client, now.after(HEARTBEAT)), b"");
    assert_eq!(client.receiver.handle_timeout(now.after(SILENCE)), Err(Error::Silent));
}

/// A server may have to wait for whatever the message is handed on to, and says nothing before that.
#[test]
fn a_message_that_has_been_sent_is_waited_for_without_a_limit() {
    let (mut client, _server) = open(Target::Message);
    client.control(&ControlMessage::EndOfStream);
    assert_eq!(client.receiver.poll_event(START), Ok(None));
    assert_eq!(due(&client), (None, None));
    assert_eq!(client.receiver.handle_timeout(START.after(10 * SILENCE)), Ok(()));
}
