//! A server that means it ill: it has the right key, and puts into every text that it may choose what moves a terminal, or
//! what looks like a line of the log.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wire_protocol::message::{
    AbortCode, DeniedCode, ListenAddress, ListenKind, RefusedCode, ResetCode, Target,
};
use wire_protocol::stream::{OpenError, abort_frame};

use super::scene::{Answer, HOSTILE, Scene, in_time};

/// How the beginning of it looks once it is escaped.
const ESCAPED: &str = "a\\u{1b}]0;title\\u{7}\\u{1b}[2J\\u{9b}1A\\r\\nerror: forged\\nremote";

/// What of it a name of SOCKS may have.
const INVISIBLE: &str = "a\u{202e}\u{200b}\u{e0041}\\n";

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_a_server_names_are_shown_escaped() {
    for (forward, shown) in [("0", 6), ("0:127.0.0.1:1", 0), ("0:127.0.0.1:1/udp", 0)] {
        let scene = Scene::new().await;
        let client = scene.client(&["-v", "forward", &scene.address, "-R", forward]);
        let mut parked = scene.listen_for_client();
        let mut channel = in_time(parked.recv()).await.unwrap();
        for target in targets() {
            // The client may have closed the channel for having more of them than it wants.
            for _ in 0..2 {
                let opened = in_time(channel.open(&target)).await;
                if let Err(OpenError::Refused { channel: idle, .. }) = opened {
                    channel = idle;
                    break;
                }
                channel = in_time(parked.recv()).await.unwrap();
                // A flow of datagrams stands as soon as it has a socket.
                if opened.is_ok() {
                    break;
                }
            }
        }
        let printed = client.stop().await;
        printed.expect_harmless();
        assert_eq!(printed.stderr.matches(ESCAPED).count(), shown, "-R {forward}\n{}", printed.stderr);
    }
}

/// What a server may open on a channel that is parked, and what it may not.
fn targets() -> Vec<Target> {
    let hostile = || HOSTILE.to_owned();
    let scoped = || format!("fe80::1%{HOSTILE}");
    // Without the octet of which no name may have one, the system's resolver sees it.
    let resolved = || HOSTILE.replace('\0', "");
    vec![
        Target::Tcp { host: hostile(), port: 1 },
        Target::Tcp { host: scoped(), port: 1 },
        Target::Tcp { host: resolved(), port: 1 },
        Target::Udp { host: hostile(), port: 1 },
        Target::Udp { host: scoped(), port: 1 },
        Target::Udp { host: resolved(), port: 1 },
        Target::Unix { path: format!("/{HOSTILE}") },
        Target::Service { name: hostile() },
        Target::Listen {
            address: ListenAddress::Port { host: hostile(), port: 1 },
            kind: ListenKind::Stream,
            lease: [0; 16],
        },
        Target::Forwarded { origin: hostile(), destination: hostile() },
        Target::Message,
        Target::Pipe,
    ]
}

/// A server refuses in words of our own: it says which.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_to_a_stream_moves_a_terminal() {
    let scene = Scene::new().await;
    let client = scene.client(&["-v", "forward", &scene.address, "-L", "0:db:1", "-D", "0"]);
    let mut opens = scene.take_opens();
    for answer in answers() {
        // From a server that is about to end the client asks for another one, for as long as --wait says.
        if matches!(answer, Answer::Refuse(RefusedCode::Stopping)) {
            continue;
        }
        let mut visitor = TcpStream::connect(client.said("local ").await).await.unwrap();
        visitor.write_all(b"hello").await.unwrap();
        let (channel, _) = opens.next().await;
        if let Some(idle) = answer.give(channel).await {
            opens.wait_on(idle);
        }
        in_time(visitor.read_to_end(&mut Vec::new())).await.ok();
    }
    // What a program here asks the proxy for comes from others as well, such as from a page that a browser shows.
    for name in [HOSTILE, INVISIBLE] {
        let mut visitor = TcpStream::connect(client.said("dynamic ").await).await.unwrap();
        let len = u8::try_from(name.len()).unwrap();
        let request = [&[5, 1, 0, 5, 1, 0, 3, len], name.as_bytes(), &[0, 80]].concat();
        visitor.write_all(&request).await.unwrap();
        if name == INVISIBLE {
            let (channel, target) = opens.next().await;
            assert_eq!(target, Target::Tcp { host: name.to_owned(), port: 80 });
            let idle = Answer::Refuse(RefusedCode::UnknownHost).give(channel).await;
            opens.wait_on(idle.unwrap());
        }
        in_time(visitor.read_to_end(&mut Vec::new())).await.ok();
    }

    let printed = client.stop().await;
    printed.expect_harmless();
    assert!(printed.stderr.contains("a\\u{202e}\\u{200b}\\u{e0041}\\\\n:80"), "{}", printed.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_to_a_command_moves_a_terminal() {
    let scene = Scene::new().await;
    let send = ["send", &scene.address, "hello"];
    let ping = ["ping", &scene.address];
    for answer in
        REFUSALS.map(Answer::Refuse).into_iter().chain(RESETS.map(Answer::Reset)).chain([Answer::Data])
    {
        let client = scene.client(&send);
        let mut channel = scene.accept(Ok(())).await.unwrap();
        channel.next_open().await.unwrap().unwrap();
        // A client whose stream is refused closes its channel, and waits for an answer to that.
        if let Some(mut idle) = answer.give(channel).await {
            while idle.next_open().await.unwrap().is_some() {}
            idle.close().await.unwrap();
        }
        client.expect_failure().await;
    }
    for code in [DeniedCode::ClientKeyRequired, DeniedCode::NotAllowed, DeniedCode::TooManyChannels] {
        for command in [&send[..], &ping] {
            let client = scene.client(command);
            assert!(scene.accept(Err(code)).await.is_err());
            client.expect_failure().await;
        }
    }
    // A stream where a Pong should be.
    let client = scene.client(&ping);
    let channel = scene.accept(Ok(())).await.unwrap();
    channel.open(&Target::Tcp { host: HOSTILE.to_owned(), port: 1 }).await.ok();
    client.expect_failure().await;
}

/// Before there are keys anybody can answer, and with anything.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_without_a_key_moves_a_terminal() {
    let scene = Scene::new().await;
    let aborts = [AbortCode::Version, AbortCode::Suite, AbortCode::UnknownPsk, AbortCode::PskOnly];
    let mut answers: Vec<Vec<u8>> = aborts.into_iter().map(abort_frame).collect();
    for start in [&b""[..], b"HTTP/1.1 400 ", b"SSH-2.0-", b"\x16\x03\x01", b"SKS\x01\x05\x00\x00\x08"] {
        answers.push([start, HOSTILE.as_bytes()].concat());
    }
    // An offer of a key, and an answer to a hello, that are no more than this text.
    let length = u16::try_from(HOSTILE.len()).unwrap().to_be_bytes();
    for kind in [2, 4] {
        answers.push([&b"SKS\x01"[..], &[kind, 0], &length, HOSTILE.as_bytes()].concat());
    }
    for answer in answers {
        for command in [&["send", &scene.address, "hello"][..], &["ping", &scene.address]] {
            for trust in [&["--psk", scene.psk.to_str().unwrap()][..], &["--trust", "accept-new"]] {
                let client = scene.client_with(&[command, trust].concat());
                let (mut socket, _) = scene.listener.accept().await.unwrap();
                // Once the client has said something: otherwise it may find the connection reset.
                socket.read_exact(&mut [0; 1]).await.unwrap();
                socket.write_all(&answer).await.unwrap();
                socket.shutdown().await.unwrap();
                client.expect_failure().await;
            }
        }
    }
}

const REFUSALS: [RefusedCode; 13] = [
    RefusedCode::NotOffered,
    RefusedCode::NotAllowed,
    RefusedCode::Busy,
    RefusedCode::TargetRefused,
    RefusedCode::TargetUnreachable,
    RefusedCode::UnknownHost,
    RefusedCode::TargetTimedOut,
    RefusedCode::Stopping,
    RefusedCode::AddressInUse,
    RefusedCode::AddressNotAvailable,
    RefusedCode::ListenDenied,
    RefusedCode::NoSuchSocket,
    RefusedCode::TargetDenied,
];

const RESETS: [ResetCode; 6] = [
    ResetCode::Output,
    ResetCode::Input,
    ResetCode::TooLong,
    ResetCode::NotAllowed,
    ResetCode::Replaced,
    ResetCode::Busy,
];

fn answers() -> impl Iterator<Item = Answer> {
    REFUSALS.map(Answer::Refuse).into_iter().chain(RESETS.map(Answer::Reset)).chain([Answer::Data])
}
