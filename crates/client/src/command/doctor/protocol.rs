//! The protocol of whoever answers: ours, or which other one.

use std::time::Duration;

use cli_support::report::Exit;
use crypto_core::identity::PublicKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};
use tunnel::address::Address;
use tunnel::socket::Socket;
use wire_protocol::InvalidMessage;
use wire_protocol::codec::decode;
use wire_protocol::frame::{self, FrameKind};
use wire_protocol::message::{Abort, AbortCode, KeyOffer};

use super::report::Report;
use crate::error::Error;
use crate::server::Server;

/// What a server of ours has answered to the question for its key.
#[derive(Debug)]
pub(super) enum Spoken {
    /// Its key.
    Key(Box<PublicKey>),
    /// That it has none, and takes pre-shared keys alone.
    PskOnly,
}

/// What has come of a question.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// The beginning of an answer.
    Bytes(Vec<u8>),
    /// The connection was closed without one.
    Closed,
    /// Nothing.
    Silence,
}

/// Asks for the server's key, and finds out who answers. `None` where it is no server of this version, which the report says.
pub(super) async fn identify(
    server: &Server,
    address: &Address,
    mut socket: Socket,
    report: &mut Report,
) -> Result<Option<Spoken>, Error> {
    let heard = ask(&mut socket, &frame::write_empty(FrameKind::KeyRequest), is_whole).await;
    if let Heard::Bytes(answer) = &heard {
        match frame::frame_len(answer) {
            Ok(_) => return answered(answer, report),
            Err(InvalidMessage::Version(version)) => {
                let text =
                    format!("{address} speaks version {version} of the protocol, and this client version 1");
                let hint = "update the older one of the two".to_owned();
                return report.failed("protocol", text, Some(hint), Exit::Network).map(|()| None);
            }
            Err(InvalidMessage::NotSockseal(_)) => {}
            Err(error) => {
                let text = format!("{address} answers as a server does, and breaks the protocol: {error}");
                return report.failed("protocol", text, None, Exit::Integrity).map(|()| None);
            }
        }
    }
    drop(socket);
    let mut spoken = known(&heard);
    // Some say nothing before they have understood something.
    for (question, protocol) in [(HTTP_QUESTION, "HTTP"), (TLS_QUESTION, "TLS")] {
        if spoken.is_none() && is_spoken(server, address, question, protocol).await {
            spoken = Some(protocol);
        }
    }
    let text = match (spoken, &heard) {
        (Some(protocol), _) => format!("at {address} somebody else answers: it speaks {protocol}"),
        (None, Heard::Bytes(_)) => {
            format!("at {address} somebody else answers, in a protocol that is not known here")
        }
        (None, Heard::Closed) => format!("{address} takes the connection and closes it without a word"),
        (None, Heard::Silence) => format!("{address} takes the connection and says nothing"),
    };
    let hint = match (spoken, &heard) {
        (Some(CLASSIC), _) => {
            "client classic speaks with it; for the secure protocol its owner runs: server run"
        }
        (None, Heard::Closed) => {
            "is there a proxy in front that does not reach the server, or a server that wants a PROXY header (proxy_from)?"
        }
        (None, Heard::Silence) => "is it the right port, and the server not stopped or overloaded?",
        _ => "is this the right port? the server's log says where it listens",
    };
    let exit = if heard == Heard::Silence && spoken.is_none() { Exit::TimedOut } else { Exit::Network };
    report.failed("protocol", text, Some(hint.into()), exit).map(|()| None)
}

/// What a server of ours says.
fn answered(answer: &[u8], report: &mut Report) -> Result<Option<Spoken>, Error> {
    let parsed = frame::parse(answer);
    let (text, hint, exit) = match parsed {
        Ok((FrameKind::KeyOffer, body)) => match decode::<KeyOffer>(body) {
            Ok(offer) => match PublicKey::from_spki_der(&offer.spki) {
                Ok(key) => {
                    report.ok("protocol", "a server of this version answers")?;
                    return Ok(Some(Spoken::Key(Box::new(key))));
                }
                Err(error) => (format!("the server's key cannot be used: {error}"), None, Exit::Identity),
            },
            Err(error) => (format!("the server's answer is malformed: {error}"), None, Exit::Integrity),
        },
        Ok((FrameKind::Abort, body)) => match decode::<Abort>(body).map(|abort| abort.code) {
            Ok(AbortCode::PskOnly) => {
                report.ok("protocol", "a server of this version answers, which has no key of its own")?;
                return Ok(Some(Spoken::PskOnly));
            }
            Ok(AbortCode::Version) => (
                "the server speaks another version of the protocol".into(),
                Some("update the older one"),
                Exit::Network,
            ),
            Ok(code) => (format!("the server says: {code}"), Some("try again later"), Exit::Refused),
            Err(error) => (format!("the server's answer is malformed: {error}"), None, Exit::Integrity),
        },
        Ok(_) => ("the server answers something that was not asked".into(), None, Exit::Integrity),
        Err(_) => ("the server begins an answer and does not end it".into(), None, Exit::Integrity),
    };
    report.failed("protocol", text, hint.map(str::to_owned), exit).map(|()| None)
}

/// Says `question`, and hears what comes until `is_enough`, the end, or [`PATIENCE`].
async fn ask(socket: &mut Socket, question: &[u8], is_enough: impl Fn(&[u8]) -> bool) -> Heard {
    let deadline = Instant::now() + PATIENCE;
    let mut heard = Vec::new();
    let mut chunk = vec![0; CHUNK];
    // A peer that speaks first may close before it has read anything: what it has said counts.
    let said = timeout_at(deadline, socket.write_all(question)).await;
    let mut end = match said {
        Ok(Ok(())) | Err(_) => Heard::Silence,
        Ok(Err(_)) => Heard::Closed,
    };
    while heard.len() < MAX_ANSWER {
        match timeout_at(deadline, socket.read(&mut chunk)).await {
            Ok(Ok(0) | Err(_)) => {
                end = Heard::Closed;
                break;
            }
            Ok(Ok(len)) => heard.extend_from_slice(&chunk[..len]),
            Err(_) => break,
        }
        if is_enough(&heard) {
            break;
        }
    }
    if heard.is_empty() { end } else { Heard::Bytes(heard) }
}

/// Whether a whole frame is there, or something else that can be told.
fn is_whole(heard: &[u8]) -> bool {
    match frame::frame_len(heard) {
        Ok(len) => len.is_some_and(|len| heard.len() >= len),
        Err(_) => is_telling(heard),
    }
}

/// Whether it can be told what this is, or never will be.
fn is_telling(heard: &[u8]) -> bool {
    heard.len() >= TELLING_LEN || beginning(heard).is_some()
}

/// Asks in another protocol, on a connection of its own.
async fn is_spoken(server: &Server, address: &Address, question: &[u8], protocol: &str) -> bool {
    let dialed = timeout(PATIENCE, server.network.dial(address)).await;
    let Ok(Ok(mut socket)) = dialed else { return false };
    known(&ask(&mut socket, question, is_telling).await) == Some(protocol)
}

/// The protocol that was heard.
fn known(heard: &Heard) -> Option<&'static str> {
    match heard {
        Heard::Bytes(heard) => beginning(heard),
        Heard::Closed | Heard::Silence => None,
    }
}

/// The protocol that begins so.
fn beginning(heard: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[u8], &str); 9] = [
        (b"SSH-", "ssh"),
        (b"HTTP/", "HTTP"),
        (&[0x15, 0x03], "TLS"),
        (&[0x16, 0x03], "TLS"),
        (b"220", "SMTP or FTP"),
        (b"+OK", "POP3"),
        (b"* OK", "IMAP"),
        (b"RFB ", "VNC"),
        (b"-----BEGIN PUBLIC KEY", CLASSIC),
    ];
    BEGINNINGS.iter().find(|(beginning, _)| heard.starts_with(beginning)).map(|(_, protocol)| *protocol)
}

const CLASSIC: &str = "the classic exchange of the tutorial";
/// For an answer to each question. All three are asked within ten seconds.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes by which every protocol of the table can be told.
const TELLING_LEN: usize = 24;
const CHUNK: usize = 4096;
/// More than the longest frame.
const MAX_ANSWER: usize = 16 * 1024;
const HTTP_QUESTION: &[u8] = b"HEAD / HTTP/1.0\r\n\r\n";
/// A ClientHello of TLS 1.2 with nothing in it but five cipher suites: whatever is answered, an alert too, is TLS.
const TLS_QUESTION: &[u8] = b"\x16\x03\x01\x00\x35\x01\x00\x00\x31\x03\x03\
    0123456789abcdef0123456789abcdef\x00\x00\x0a\xc0\x2f\xc0\x30\x00\x9c\x00\x2f\x00\xff\x01\x00";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_first_tells_the_protocol() {
        for (said, protocol) in [
            (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], Some("ssh")),
            (b"HTTP/1.1 400 Bad Request\r\n", Some("HTTP")),
            (b"\x15\x03\x03\x00\x02\x02\x46", Some("TLS")),
            (b"\x16\x03\x03\x00\x40\x02", Some("TLS")),
            (b"220 mail.example.org ESMTP\r\n", Some("SMTP or FTP")),
            (b"-----BEGIN PUBLIC KEY-----\n", Some(CLASSIC)),
            (b"hello", None),
            (b"SKS\x01", None),
        ] {
            assert_eq!(known(&Heard::Bytes(said.to_vec())), protocol, "{said:?}");
        }
        assert_eq!(known(&Heard::Silence), None);
    }

    #[test]
    fn the_question_in_tls_has_the_lengths_that_it_says() {
        let record = TLS_QUESTION.len() - 5;
        assert_eq!(usize::from(u16::from_be_bytes([TLS_QUESTION[3], TLS_QUESTION[4]])), record);
        assert_eq!(usize::from(TLS_QUESTION[8]), record - 4);
    }

    #[test]
    fn a_whole_frame_is_enough_and_so_is_what_is_none() {
        let frame = frame::write_empty(FrameKind::KeyRequest);
        assert!(is_whole(&frame) && !is_whole(&frame[..7]));
        assert!(!is_whole(b"HTTP") && is_whole(b"HTTP/1.1 400 Bad Request\r\n"));
    }
}
