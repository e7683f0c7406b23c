//! The server's side of SOCKS5 (RFC 1928): what a client asks for, what it is told, and the header of its datagrams.
//!
//! By hand rather than with fast-socks5: that logs the target of each request as the peer wrote it, leaves the choice
//! of a method unflushed and sends a reply with a single `write`, so that over a stream that buffers or takes a part
//! both can be lost, and brings a second socket2 and more for what is a hundred lines here.
//!
//! Names are not resolved here: the other side of the channel does that. Nothing is read behind a request, so what
//! a client sends without waiting for the reply is still there. A negotiation takes [`MAX_NEGOTIATION_LEN`]
//! bytes at most; the time that it takes is the caller's to bound.

mod address;
mod association;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use wire_protocol::message::RefusedCode;

use self::address::{address_len, append_ip, parse_address};

pub use self::address::{datagram_header, parse_datagram};
pub use self::association::{Association, until_closed};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A connection.
    Connect {
        /// A name or an address without brackets, 1 to 255 bytes, as the client wrote it.
        host: String,
        /// The port.
        port: u16,
    },
    /// A port to send datagrams to, as long as the connection stands.
    Associate,
}

/// What a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It has what it asked for.
    Succeeded,
    /// It has not, for a reason that SOCKS has no number for.
    GeneralFailure,
    /// It may not have it.
    NotAllowed,
    /// There is no way to the target.
    NetworkUnreachable,
    /// There is no such host.
    HostUnreachable,
    /// The target refuses connections.
    ConnectionRefused,
    /// The target does not answer: what others say for want of a better number, too.
    TtlExpired,
    /// It asked for something that does not exist here.
    CommandNotSupported,
    /// It named the target in a way that does not exist.
    AddressTypeNotSupported,
}

impl Reply {
    fn code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::GeneralFailure => 1,
            Self::NotAllowed => 2,
            Self::NetworkUnreachable => 3,
            Self::HostUnreachable => 4,
            Self::ConnectionRefused => 5,
            Self::TtlExpired => 6,
            Self::CommandNotSupported => 7,
            Self::AddressTypeNotSupported => 8,
        }
    }
}

impl From<RefusedCode> for Reply {
    fn from(code: RefusedCode) -> Self {
        match code {
            RefusedCode::NotOffered | RefusedCode::NotAllowed | RefusedCode::TargetDenied => Self::NotAllowed,
            RefusedCode::Busy
            | RefusedCode::Stopping
            | RefusedCode::AddressInUse
            | RefusedCode::AddressNotAvailable
            | RefusedCode::ListenDenied => Self::GeneralFailure,
            RefusedCode::TargetRefused => Self::ConnectionRefused,
            RefusedCode::TargetUnreachable => Self::NetworkUnreachable,
            RefusedCode::UnknownHost | RefusedCode::NoSuchSocket => Self::HostUnreachable,
            RefusedCode::TargetTimedOut => Self::TtlExpired,
        }
    }
}

/// Why a client gets nothing. It has been told, where SOCKS5 has a word for that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocksError {
    /// The connection failed, or ended too early.
    #[error("the connection failed before the request was whole: {0}")]
    Io(#[from] io::Error),
    /// The client speaks the version before.
    #[error("the client speaks SOCKS4, not SOCKS5")]
    Socks4,
    /// The client takes this for a web proxy.
    #[error("the client speaks HTTP, not SOCKS5")]
    Http,
    /// The client speaks something else.
    #[error("the client does not speak SOCKS5: its first byte is {0:#04x}")]
    NotSocks(u8),
    /// The client wants to say who it is.
    #[error("the client insists on a password or the like, and there is none here")]
    Method,
    /// The client wants something that is not offered, such as BIND.
    #[error("the client asks for command {0}, and only CONNECT and UDP ASSOCIATE are offered")]
    Command(u8),
    /// The client names the target in a way that does not exist.
    #[error("the client gives an address of the unknown type {0}")]
    AddressType(u8),
    /// The client names a target that can be none.
    #[error("the client gives a name that is empty, not UTF-8, or has blanks or control characters in it")]
    Name,
}

/// Negotiates and reads the request. It is to be answered with [`reply`], and nothing else may be sent before.
///
/// # Errors
/// [`SocksError`]: the connection is of no use any more then.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<Request, SocksError> {
    check_version(stream.read_u8().await?)?;
    let count = stream.read_u8().await?;
    let mut methods = vec![0; count.into()];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        send(stream, &[VERSION, NO_ACCEPTABLE_METHOD]).await?;
        return Err(SocksError::Method);
    }
    send(stream, &[VERSION, NO_AUTHENTICATION]).await?;

    // The reserved byte says nothing. What follows the type of the address tells how long it is.
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let [version, command, _, address_type, following] = head;
    check_version(version)?;
    let Some(len) = address_len(address_type, following) else {
        reply(stream, Reply::AddressTypeNotSupported, NOWHERE).await?;
        return Err(SocksError::AddressType(address_type));
    };
    let mut address = vec![0; len];
    address[..2].copy_from_slice(&[address_type, following]);
    stream.read_exact(&mut address[2..]).await?;

    match (command, parse_address(&address)) {
        (CONNECT, Some((host, port, _))) => Ok(Request::Connect { host, port }),
        // The address is where the client means to send from, which it need not know.
        (ASSOCIATE, _) => Ok(Request::Associate),
        (CONNECT, None) => {
            reply(stream, Reply::GeneralFailure, NOWHERE).await?;
            Err(SocksError::Name)
        }
        (command, _) => {
            reply(stream, Reply::CommandNotSupported, NOWHERE).await?;
            Err(SocksError::Command(command))
        }
    }
}

/// Answers a request. `bound` is where datagrams are to be sent, or where the connection comes from; [`NOWHERE`] where
/// there is nothing to say.
///
/// # Errors
/// Those of the stream.
pub async fn reply<S: AsyncWrite + Unpin>(stream: &mut S, reply: Reply, bound: SocketAddr) -> io::Result<()> {
    let mut bytes = vec![VERSION, reply.code(), 0];
    append_ip(bound.ip(), &mut bytes);
    bytes.extend_from_slice(&bound.port().to_be_bytes());
    send(stream, &bytes).await
}

fn check_version(first: u8) -> Result<(), SocksError> {
    match first {
        VERSION => Ok(()),
        4 => Err(SocksError::Socks4),
        // What methods begin with: CONNECT, DELETE, GET, HEAD, OPTIONS, POST and the rest, TRACE.
        b'C' | b'D' | b'G' | b'H' | b'O' | b'P' | b'T' => Err(SocksError::Http),
        other => Err(SocksError::NotSocks(other)),
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// The address of a reply that has none to give.
pub const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The most bytes that a client can send before it is answered: version, 255 methods, and a request for a name of 255
/// bytes.
pub const MAX_NEGOTIATION_LEN: usize = 2 + 255 + 3 + 1 + 1 + 255 + 2;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_ACCEPTABLE_METHOD: u8 = 0xFF;
const CONNECT: u8 = 1;
const ASSOCIATE: u8 = 3;

#[cfg(test)]
mod tests {
    use tokio::io::{BufWriter, duplex, join};

    use super::*;

    /// Accepts `input` at once. Also gives what the client was sent and flushed, and what of `input` was not read.
    async fn accept_bytes(mut input: &[u8]) -> (Result<Request, SocksError>, Vec<u8>, &[u8]) {
        let mut stream = join(&mut input, BufWriter::new(Vec::new()));
        let result = accept(&mut stream).await;
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

    /// What may come, as RFC 1928 lays it out.
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
        ]
    }

    #[tokio::test]
    async fn requests_are_read_and_nothing_behind_them() {
        for (input, expected) in good() {
            let with_data = [&input[..], b"GET /"].concat();
            let (request, sent, rest) = accept_bytes(&with_data).await;
            assert_eq!((request.unwrap(), &sent[..], rest), (expected, &[5, 0][..], &b"GET /"[..]));
            assert!(input.len() <= MAX_NEGOTIATION_LEN);
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
            assert_eq!((request.unwrap(), chosen), (expected, [5, 0]));
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
        for (input, message) in [
            (&b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00"[..], "the client speaks SOCKS4, not SOCKS5"),
            (b"GET http://example.org/ HTTP/1.1\r\n", "the client speaks HTTP, not SOCKS5"),
            (b"CONNECT example.org:443 HTTP/1.1\r\n", "the client speaks HTTP, not SOCKS5"),
            (b"SSH-2.0-", "the client does not speak SOCKS5: its first byte is 0x53"),
        ] {
            check_refused(accept_bytes(input).await, &[], message);
        }
        let changed = accept_bytes(b"\x05\x01\x00\x04\x01\x00\x01\x7f").await;
        check_refused(changed, &[5, 0], "the client speaks SOCKS4, not SOCKS5");
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
            reply(&mut sent, answer, "192.0.2.1:258".parse().unwrap()).await.unwrap();
            assert_eq!(sent.get_ref(), &[5, code, 0, 1, 192, 0, 2, 1, 1, 2]);
        }
        let mut sent = Vec::new();
        reply(&mut sent, Reply::Succeeded, "[2001:db8::1]:258".parse().unwrap()).await.unwrap();
        assert_eq!(sent, [5, 0, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2]);
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
        ] {
            assert_eq!(Reply::from(code), expected);
        }
    }
}
