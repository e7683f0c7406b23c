//! HTTP's CONNECT (RFC 9110, section 9.3.6): a request for a tunnel, and the answer to it.

use httparse::Status;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::address::host_of;
use super::request::{NoRequest, Reply, Request, SocksError};

/// Reads a request whose first byte has been read already. `Err` with the answer that is due, where there is one.
///
/// Byte by byte: what a client sends behind the empty line without waiting for the answer is for its target.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S, first: u8) -> Result<Request, NoRequest> {
    let mut head = vec![first];
    loop {
        let byte = stream.read_u8().await?;
        head.push(byte);
        // A head is looked at line by line, so that what can be none is answered at once.
        if byte == b'\n'
            && let Some(request) = parse(&head)?
        {
            return Ok(request);
        }
        if head.len() >= MAX_HEAD_LEN {
            return Err(TOO_LONG);
        }
    }
}

/// `None` where the head goes on.
fn parse(head: &[u8]) -> Result<Option<Request>, NoRequest> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(Status::Partial) => return Ok(None),
        Ok(Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LONG),
        Err(_) => return Err(MALFORMED),
    }
    let due = match request.method {
        Some("CONNECT") => {
            let (host, port) = request.path.and_then(parse_authority).ok_or(MALFORMED)?;
            return Ok(Some(Request::Connect { host, port }));
        }
        Some(method) if OTHER_METHODS.contains(&method) => Reply::CommandNotSupported,
        _ => Reply::CommandUnknown,
    };
    Err(NoRequest { error: SocksError::HttpMethod, due: Some(due) })
}

/// `HOST:PORT`, IPv6 addresses in brackets.
fn parse_authority(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || (host.contains(':') && !host.starts_with('[')) {
        return None;
    }
    Some((host_of(host.as_bytes())?, port.parse().ok()?))
}

/// An answer. What went wrong stands in a sentence of our own behind it.
pub(super) fn answer(reply: Reply) -> Vec<u8> {
    let (status, sentence) = match reply {
        Reply::Succeeded => return b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec(),
        Reply::GeneralFailure => ("503 Service Unavailable", "there is no way through the tunnel now"),
        Reply::NotAllowed => ("403 Forbidden", "this target is not allowed"),
        Reply::NetworkUnreachable => ("502 Bad Gateway", "the target cannot be reached"),
        Reply::HostUnreachable => ("502 Bad Gateway", "the target's name has no address"),
        Reply::ConnectionRefused => ("502 Bad Gateway", "the target refuses the connection"),
        Reply::TtlExpired => ("504 Gateway Timeout", "the target does not answer"),
        Reply::CommandNotSupported => ("405 Method Not Allowed", "this proxy takes CONNECT alone"),
        Reply::CommandUnknown => ("501 Not Implemented", "this proxy takes CONNECT alone"),
        Reply::AddressTypeNotSupported | Reply::Malformed => {
            ("400 Bad Request", "the request is not CONNECT HOST:PORT HTTP/1.1")
        }
        Reply::TooLong => ("431 Request Header Fields Too Large", "the request is too long"),
    };
    let allow = if reply == Reply::CommandNotSupported { "Allow: CONNECT\r\n" } else { "" };
    let len = sentence.len() + 1;
    format!(
        "HTTP/1.1 {status}\r\n{allow}Content-Type: text/plain\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{sentence}\n"
    )
    .into_bytes()
}

const MALFORMED: NoRequest = NoRequest { error: SocksError::HttpRequest, due: Some(Reply::Malformed) };
const TOO_LONG: NoRequest = NoRequest { error: SocksError::TooLong, due: Some(Reply::TooLong) };
/// Bytes of a request up to its empty line: as many as most web servers take.
const MAX_HEAD_LEN: usize = 8192;
const MAX_HEADERS: usize = 64;
/// Methods of RFC 9110 and RFC 5789.
const OTHER_METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"];
