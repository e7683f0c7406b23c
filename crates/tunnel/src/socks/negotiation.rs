//! Reads the request of a client in any of the proxy protocols, and answers it in the same one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::timeout;

use super::request::{Dialect, NOWHERE, NoRequest, Reply, Request, SocksError, send};
use super::{http, version4, version5};
use crate::socket::Socket;

/// Negotiates and reads the request. It is to be answered with [`reply`], and nothing else may be sent before.
///
/// # Errors
/// [`SocksError`]: the connection is of no use any more then.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
) -> Result<(Request, Dialect), SocksError> {
    let (dialect, request) = match stream.read_u8().await? {
        version5::VERSION => (Dialect::Socks5, version5::read(stream).await),
        version4::VERSION => (Dialect::Socks4, version4::read(stream).await),
        letter if letter.is_ascii_alphabetic() => (Dialect::Http, http::read(stream, letter).await),
        other => return Err(SocksError::NotSocks(other)),
    };
    match request {
        Ok(request) => Ok((request, dialect)),
        Err(NoRequest { error, due }) => {
            if let Some(due) = due {
                reply(stream, dialect, due, NOWHERE).await?;
            }
            Err(error)
        }
    }
}

/// As [`accept`], within 10 seconds. A connection that asks for nothing is ended.
///
/// # Errors
/// As [`accept`]; [`SocksError::Io`] with `TimedOut` at the deadline.
pub async fn negotiate(mut socket: Socket) -> Result<(Socket, Request, Dialect), SocksError> {
    let asked = timeout(NEGOTIATION_DEADLINE, accept(&mut socket)).await;
    match asked.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
        Ok((request, dialect)) => Ok((socket, request, dialect)),
        Err(error) => {
            // Nothing was carried that could look cut off, and what the client was told has to arrive.
            socket.end_after_reply().await;
            Err(error)
        }
    }
}

/// Answers a request. `bound` is where datagrams are to be sent, or where the connection comes from; [`NOWHERE`] where
/// there is nothing to say.
///
/// # Errors
/// Those of the stream.
pub async fn reply<S: AsyncWrite + Unpin>(
    stream: &mut S,
    dialect: Dialect,
    reply: Reply,
    bound: SocketAddr,
) -> io::Result<()> {
    let bytes = match dialect {
        Dialect::Socks5 => version5::answer(reply, bound),
        Dialect::Socks4 => version4::answer(reply, bound),
        Dialect::Http => http::answer(reply),
    };
    send(stream, &bytes).await
}

/// Tells a client why it gets nothing, and ends the connection so that the answer arrives.
pub async fn refuse(mut socket: Socket, dialect: Dialect, why: Reply) {
    if reply(&mut socket, dialect, why, NOWHERE).await.is_ok() {
        socket.end_after_reply().await;
    }
}

/// How long a client may take to say what it wants.
const NEGOTIATION_DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, BufWriter, duplex, join};
    use wire_protocol::message::RefusedCode;

    use super::*;

    /// Accepts `input` at once. Also gives what the client was sent and flushed, and what of `input` was not read.
    async fn accept_bytes(mut input: &[u8]) -> (Result<Request, SocksError>, Vec<u8>, &[u8]) {
        let first = input.first().copied();
        let mut stream = join(&mut input, BufWriter::new(Vec::new()));
        let result = accept(&mut stream).await.map(|(request, dialect)| {
            let expected = match first {
                Some(5) => Dialect::Socks5,
                Some(4) => Dialect::Socks4,
                _ => Dialect::Http,
            };
            assert_eq!(dialect, expected);
            request
        });
        let flushed = stream.into_inner().1.get_ref().clone();
        (result, flushed, input)
    }

    fn connect(host: &str, port: u16) -> Request {
        Request::Connect { host: host.into(), port }
    }

    fn hello(methods: &[u8]) -> Vec<u8> {
        [&[5, u8::try_from(methods.len()).unwrap()], methods].concat()
    }

    /// A request behind the shortest hello.
    fn request(bytes: &[u8]) -> Vec<u8> {
        [&[5, 1, 0], bytes].concat()
    }

    fn name_request(name: &[u8]) -> Vec<u8> {
        request(&[&[5, 1, 0, 3, u8::try_from(name.len()).unwrap()], name, &[0, 80]].concat())
    }

    /// What may come in SOCKS5, as RFC 1928 lays it out.
    fn good() -> Vec<(Vec<u8>, Request)> {
        let every_method: Vec<u8> = (0..=254).rev().collect();
        let longest_name = "n".repeat(255);
        vec![
            (request(&[5, 1, 0, 1, 127, 0, 0, 1, 0, 80]), connect("127.0.0.1", 80)),
            (request(&[5, 1, 0, 1, 255, 255, 255, 255, 255, 255]), connect("255.255.255.255", 65535)),
            (
                request(&[5, 1, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 187]),
                connect("2001:db8::1", 443),
            ),
            (request(b"\x05\x01\x00\x03\x0bexample.org\x00\x50"), connect("example.org", 80)),
            (request(b"\x05\x01\x00\x03\x01a\x00\x00"), connect("a", 0)),
            (name_request("b\u{fc}cher.example".as_bytes()), connect("b\u{fc}cher.example", 80)),
            (name_request(longest_name.as_bytes()), connect(&longest_name, 80)),
            ([hello(&every_method), b"\x05\x01\x00\x03\x01a\x00\x50".to_vec()].concat(), connect("a", 80)),
            (request(&[5, 1, 9, 1, 127, 0, 0, 1, 0, 80]), connect("127.0.0.1", 80)),
            (request(&[5, 3, 0, 1, 0, 0, 0, 0, 0, 0]), Request::Associate),
            (
                request(&[5, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                Request::Associate,
            ),
            (request(&[5, 3, 0, 3, 0, 0, 0]), Request::Associate),
            (name_request(b"[2001:db8::1]"), connect("2001:db8::1", 80)),
        ]
    }

    /// What may come in SOCKS4, SOCKS4a and HTTP, where nothing is said before the answer.
    fn good_in_one_go() -> Vec<(Vec<u8>, Request)> {
        let text = "t".repeat(255);
        let long = format!("CONNECT a:80 HTTP/1.1\r\nPadding: {}\r\n\r\n", "p".repeat(8192 - 36));
        let many: String = (0..64).map(|number| format!("H{number}: x\r\n")).collect();
        vec![
            (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00".to_vec(), connect("127.0.0.1", 80)),
            (b"\x04\x01\x01\xbb\x00\x00\x00\x00user\x00".to_vec(), connect("0.0.0.0", 443)),
            (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00example.org\x00".to_vec(), connect("example.org", 80)),
            (b"\x04\x01\x00\x50\x00\x00\x00\xffu\x00[::1]\x00".to_vec(), connect("::1", 80)),
            (
                [b"\x04\x01\x00\x50\x00\x00\x00\x01", text.as_bytes(), b"\0", text.as_bytes(), b"\0"].concat(),
                connect(&text, 80),
            ),
            (b"CONNECT example.org:443 HTTP/1.1\r\n\r\n".to_vec(), connect("example.org", 443)),
            (
                b"CONNECT example.org:443 HTTP/1.1\r\nHost: other:1\r\nProxy-Authorization: Basic eA==\r\n\r\n".to_vec(),
                connect("example.org", 443),
            ),
            (b"CONNECT 192.0.2.1:80 HTTP/1.0\n\n".to_vec(), connect("192.0.2.1", 80)),
            (b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n".to_vec(), connect("2001:db8::1", 443)),
            (long.into_bytes(), connect("a", 80)),
            (format!("CONNECT a:80 HTTP/1.1\r\n{many}\r\n").into_bytes(), connect("a", 80)),
        ]
    }

    #[tokio::test]
    async fn other_dialects_are_read_and_nothing_behind_them() {
        for (input, expected) in good_in_one_go() {
            let with_data = [&input[..], b"\x16\x03\x01\r\n"].concat();
            let (request, sent, rest) = accept_bytes(&with_data).await;
            assert_eq!((request.unwrap(), &sent[..], rest), (expected, &[][..], &b"\x16\x03\x01\r\n"[..]));
            for len in (0..input.len()).take(600) {
                let (result, sent, _) = accept_bytes(&input[..len]).await;
                assert!(matches!(result, Err(SocksError::Io(_))), "cut to {len}: {result:?}");
                assert_eq!(sent, b"", "cut to {len}");
            }
        }
    }

    #[tokio::test]
    async fn requests_are_read_and_nothing_behind_them() {
        for (input, expected) in good() {
            let with_data = [&input[..], b"GET /"].concat();
            let (request, sent, rest) = accept_bytes(&with_data).await;
            assert_eq!((request.unwrap(), &sent[..], rest), (expected, &[5, 0][..], &b"GET /"[..]));
        }
    }

    #[tokio::test]
    async fn requests_are_read_byte_by_byte() {
        for (input, expected) in good() {
            let (mut here, mut there) = duplex(1);
            let (request, chosen) = tokio::join!(accept(&mut there), async {
                let (mut read, mut write) = tokio::io::split(&mut here);
                let mut chosen = [0; 2];
                tokio::try_join!(write.write_all(&input), read.read_exact(&mut chosen)).unwrap();
                chosen
            });
            assert_eq!((request.unwrap().0, chosen), (expected, [5, 0]));
        }
    }

    #[tokio::test]
    async fn requests_that_are_cut_off_are_none() {
        for (input, _) in good() {
            for len in 0..input.len() {
                let (result, sent, _) = accept_bytes(&input[..len]).await;
                match result {
                    Err(SocksError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof),
                    other => panic!("cut to {len}: {other:?}"),
                }
                assert!(sent.is_empty() || sent == [5, 0], "cut to {len}: {sent:?}");
            }
        }
    }

    #[track_caller]
    fn check_refused(
        (result, sent, _): (Result<Request, SocksError>, Vec<u8>, &[u8]),
        told: &[u8],
        message: &str,
    ) {
        assert_eq!((result.unwrap_err().to_string().as_str(), &sent[..]), (message, told));
    }

    fn told(code: u8) -> Vec<u8> {
        vec![5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0]
    }

    #[tokio::test]
    async fn other_protocols_are_named() {
        for (first, rest) in [(0x16, &b"\x03\x01\x02\x00\x01"[..]), (0, b""), (3, b"\x01"), (0xff, b"")] {
            let message = format!("the client speaks neither SOCKS nor HTTP: its first byte is {first:#04x}");
            check_refused(accept_bytes(&[&[first], rest].concat()).await, &[], &message);
        }
        let changed = accept_bytes(b"\x05\x01\x00\x04\x01\x00\x01\x7f").await;
        check_refused(changed, &[5, 0], "the client asks in version 4 behind a greeting in version 5");
    }

    #[tokio::test]
    async fn what_socks4_does_not_offer_is_told() {
        let rejected = [0, 91, 0, 0, 0, 0, 0, 0];
        let bind = accept_bytes(b"\x04\x02\x00\x50\x7f\x00\x00\x01\x00").await;
        let message = "the client asks for command 2, and only CONNECT and UDP ASSOCIATE are offered";
        check_refused(bind, &rejected, message);
        for name in [&b""[..], b"a b", b"\xff", b"\x1b[2J", b"[]"] {
            let input = [b"\x04\x01\x00\x50\x00\x00\x00\x01\x00", name, b"\0"].concat();
            let message =
                "the client gives a name that is empty, not UTF-8, or has blanks or control characters in it";
            check_refused(accept_bytes(&input).await, &rejected, message);
        }
        let user = [&b"\x04\x01\x00\x50\x7f\x00\x00\x01"[..], &[b'u'; 256]].concat();
        check_refused(accept_bytes(&user).await, &rejected, "the client's request is too long");
    }

    #[tokio::test]
    async fn what_http_does_not_offer_is_told() {
        const METHOD: &str = "the client speaks HTTP, and asks for something else than CONNECT";
        const NONE: &str = "the client's request is not CONNECT HOST:PORT HTTP/1.1";
        const LONG: &str = "the client's request is too long";
        let (line, headers) = ("t".repeat(9000), "H: x\r\n".repeat(65));
        let long = format!("CONNECT {line}:80 HTTP/1.1\r\n\r\n");
        let many = format!("CONNECT a:80 HTTP/1.1\r\n{headers}\r\n");
        let name = format!("CONNECT {}:80 HTTP/1.1\r\n\r\n", "n".repeat(256));
        for (input, status, message) in [
            (
                "GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
                "405 Method Not Allowed",
                METHOD,
            ),
            ("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", "405 Method Not Allowed", METHOD),
            ("connect a:80 HTTP/1.1\r\n\r\n", "501 Not Implemented", METHOD),
            ("BREW a:80 HTTP/1.1\r\n\r\n", "501 Not Implemented", METHOD),
            ("CONNECT example.org HTTP/1.1\r\n\r\n", "400 Bad Request", NONE),
            ("CONNECT example.org: HTTP/1.1\r\n\r\n", "400 Bad Request", NONE),
            ("CONNECT :80 HTTP/1.1\r\n\r\n", "400 Bad Request", NONE),
            ("CONNECT ::1:80 HTTP/1.1\r\n\r\n", "400 Bad Request", NONE),
            ("CONNECT a:65536 HTTP/1.1\r\n\r\n", "400 Bad Request", NONE),
            ("CONNECT a:+80 HTTP/1.1\r\n\r\n", "400 Bad Request", NONE),
            ("CONNECT http://a:80 HTTP/1.1\r\n\r\n", "400 Bad Request", NONE),
            ("CONNECT a:80\r\n", "400 Bad Request", NONE),
            ("CONNECT a:80 HTTP/2.0\r\n", "400 Bad Request", NONE),
            ("SSH-2.0-OpenSSH_9.9\r\n", "400 Bad Request", NONE),
            (&name, "400 Bad Request", NONE),
            (&long, "431 Request Header Fields Too Large", LONG),
            (&many, "431 Request Header Fields Too Large", LONG),
        ] {
            let (result, sent, _) = accept_bytes(input.as_bytes()).await;
            assert_eq!(result.unwrap_err().to_string(), message, "{input:?}");
            let sent = String::from_utf8(sent).unwrap();
            assert!(sent.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{input:?}: {sent:?}");
        }
    }

    #[tokio::test]
    async fn clients_that_insist_on_a_password_are_told() {
        let message = "the client insists on a password or the like, and there is none here";
        let all_but_none: Vec<u8> = (1..=255).collect();
        for methods in [&[][..], &[2], &[1, 2, 255], &all_but_none] {
            check_refused(accept_bytes(&hello(methods)).await, &[5, 255], message);
        }
    }

    #[tokio::test]
    async fn commands_that_are_not_offered_are_told() {
        for command in [0, 2, 4, 0xF0, 255] {
            check_refused(
                accept_bytes(&request(&[5, command, 0, 1, 127, 0, 0, 1, 0, 80])).await,
                &told(7),
                &format!(
                    "the client asks for command {command}, and only CONNECT and UDP ASSOCIATE are offered"
                ),
            );
        }
    }

    #[tokio::test]
    async fn addresses_that_are_none_are_told() {
        for address_type in [0, 2, 5, 255] {
            check_refused(
                accept_bytes(&request(&[5, 1, 0, address_type, 127, 0, 0, 1, 0, 80])).await,
                &told(8),
                &format!("the client gives an address of the unknown type {address_type}"),
            );
        }
        let message =
            "the client gives a name that is empty, not UTF-8, or has blanks or control characters in it";
        for name in [&b""[..], b"\xff\xfe", b"b\xfccher.example", b"a b", b"a\0", b"a\r\nb", b"\x1b[2J"] {
            check_refused(accept_bytes(&name_request(name)).await, &told(1), message);
        }
    }

    #[tokio::test]
    async fn replies_are_as_the_specification_lays_them_out() {
        for (answer, code) in [
            (Reply::Succeeded, 0),
            (Reply::GeneralFailure, 1),
            (Reply::NotAllowed, 2),
            (Reply::NetworkUnreachable, 3),
            (Reply::HostUnreachable, 4),
            (Reply::ConnectionRefused, 5),
            (Reply::TtlExpired, 6),
            (Reply::CommandNotSupported, 7),
            (Reply::AddressTypeNotSupported, 8),
        ] {
            let mut sent = BufWriter::new(Vec::new());
            reply(&mut sent, Dialect::Socks5, answer, "192.0.2.1:258".parse().unwrap()).await.unwrap();
            assert_eq!(sent.get_ref(), &[5, code, 0, 1, 192, 0, 2, 1, 1, 2]);
        }
        let mut sent = Vec::new();
        reply(&mut sent, Dialect::Socks5, Reply::Succeeded, "[2001:db8::1]:258".parse().unwrap())
            .await
            .unwrap();
        assert_eq!(sent, [5, 0, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2]);
    }

    #[tokio::test]
    async fn each_dialect_has_its_replies() {
        for (answer, code, status) in [
            (Reply::Succeeded, 90, "200 Connection established"),
            (Reply::GeneralFailure, 91, "503 Service Unavailable"),
            (Reply::NotAllowed, 91, "403 Forbidden"),
            (Reply::NetworkUnreachable, 91, "502 Bad Gateway"),
            (Reply::HostUnreachable, 91, "502 Bad Gateway"),
            (Reply::ConnectionRefused, 91, "502 Bad Gateway"),
            (Reply::TtlExpired, 91, "504 Gateway Timeout"),
        ] {
            let mut sent = BufWriter::new(Vec::new());
            reply(&mut sent, Dialect::Socks4, answer, "192.0.2.1:258".parse().unwrap()).await.unwrap();
            assert_eq!(sent.get_ref(), &[0, code, 1, 2, 192, 0, 2, 1]);
            let mut sent = BufWriter::new(Vec::new());
            reply(&mut sent, Dialect::Http, answer, NOWHERE).await.unwrap();
            let mut headers = [httparse::EMPTY_HEADER; 4];
            let mut response = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(len) = response.parse(sent.get_ref()).unwrap() else {
                panic!("{answer:?} is cut off");
            };
            let reason = response.reason.unwrap();
            assert_eq!(format!("{} {reason}", response.code.unwrap()), status);
            let body = &sent.get_ref()[len..];
            let announced = response.headers.iter().find(|header| header.name == "Content-Length");
            let announced = announced.map_or("0", |header| str::from_utf8(header.value).unwrap());
            assert_eq!(announced, body.len().to_string());
        }
    }

    #[test]
    fn every_refusal_has_its_reply() {
        for (code, expected) in [
            (RefusedCode::NotOffered, Reply::NotAllowed),
            (RefusedCode::NotAllowed, Reply::NotAllowed),
            (RefusedCode::Busy, Reply::GeneralFailure),
            (RefusedCode::TargetRefused, Reply::ConnectionRefused),
            (RefusedCode::TargetUnreachable, Reply::NetworkUnreachable),
            (RefusedCode::UnknownHost, Reply::HostUnreachable),
            (RefusedCode::TargetTimedOut, Reply::TtlExpired),
            (RefusedCode::Stopping, Reply::GeneralFailure),
            (RefusedCode::AddressInUse, Reply::GeneralFailure),
            (RefusedCode::AddressNotAvailable, Reply::GeneralFailure),
            (RefusedCode::ListenDenied, Reply::GeneralFailure),
            (RefusedCode::NoSuchSocket, Reply::HostUnreachable),
            (RefusedCode::TargetDenied, Reply::NotAllowed),
            (RefusedCode::QuotaUsedUp { seconds: 7 }, Reply::NotAllowed),
        ] {
            assert_eq!(Reply::from(code), expected);
        }
    }
}
