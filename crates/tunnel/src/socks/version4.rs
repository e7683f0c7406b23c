//! SOCKS4 and SOCKS4a: a request behind the version byte, and the answer to it.
//!
//! ```text
//!   4 | command | port, 2 | IPv4 address, 4 | user | 0             0.0.0.x, x not 0: the name follows (4a)
//!                                                  | name | 0
//! ```

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::address::host_of;
use super::request::{CONNECT, NoRequest, Reply, Request, SocksError};

/// Reads a request, behind its first byte. Nothing is read behind it.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Request, NoRequest> {
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let [command, high, low, address @ ..] = head;
    // Who the client says it is proves nothing.
    read_text(stream).await?;
    let host = match address {
        [0, 0, 0, last] if last != 0 => host_of(&read_text(stream).await?),
        address => Some(Ipv4Addr::from(address).to_string()),
    };
    let (error, due) = match (command, host) {
        (CONNECT, Some(host)) => {
            return Ok(Request::Connect { host, port: u16::from_be_bytes([high, low]) });
        }
        (CONNECT, None) => (SocksError::Name, Reply::GeneralFailure),
        (command, _) => (SocksError::Command(command), Reply::CommandNotSupported),
    };
    Err(NoRequest { error, due: Some(due) })
}

/// What stands in front of a zero byte.
async fn read_text<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, NoRequest> {
    let mut text = Vec::new();
    loop {
        match stream.read_u8().await? {
            0 => return Ok(text),
            _ if text.len() >= MAX_TEXT => {
                return Err(NoRequest { error: SocksError::TooLong, due: Some(Reply::TooLong) });
            }
            byte => text.push(byte),
        }
    }
}

/// An answer. SOCKS4 has one number for all that went wrong.
pub(super) fn answer(reply: Reply, bound: SocketAddr) -> Vec<u8> {
    let code = if reply == Reply::Succeeded { GRANTED } else { REJECTED };
    let ip = match bound {
        SocketAddr::V4(bound) => *bound.ip(),
        SocketAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    [&[0, code][..], &bound.port().to_be_bytes(), &ip.octets()].concat()
}

pub(super) const VERSION: u8 = 4;
/// Bytes of a user's or a host's name: as many as SOCKS5 has for a host.
const MAX_TEXT: usize = 255;
const GRANTED: u8 = 90;
const REJECTED: u8 = 91;
