//! SOCKS5 (RFC 1928): the negotiation up to a request, and the answer to it.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::address::{address_len, append_ip, parse_address};
use super::request::{CONNECT, NoRequest, Reply, Request, SocksError, send};

/// Negotiates and reads the request, behind the first byte of it all.
pub(super) async fn read<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<Request, NoRequest> {
    let count = stream.read_u8().await?;
    let mut methods = vec![0; count.into()];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        send(stream, &[VERSION, NO_ACCEPTABLE_METHOD]).await?;
        return Err(NoRequest { error: SocksError::Method, due: None });
    }
    send(stream, &[VERSION, NO_AUTHENTICATION]).await?;

    // The reserved byte says nothing. What follows the type of the address tells how long it is.
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let [version, command, _, address_type, following] = head;
    if version != VERSION {
        return Err(NoRequest { error: SocksError::Version(version), due: None });
    }
    let Some(len) = address_len(address_type, following) else {
        let due = Some(Reply::AddressTypeNotSupported);
        return Err(NoRequest { error: SocksError::AddressType(address_type), due });
    };
    let mut address = vec![0; len];
    address[..2].copy_from_slice(&[address_type, following]);
    stream.read_exact(&mut address[2..]).await?;

    match (command, parse_address(&address)) {
        (CONNECT, Some((host, port, _))) => Ok(Request::Connect { host, port }),
        // The address is where the client means to send from, which it need not know.
        (ASSOCIATE, _) => Ok(Request::Associate),
        (CONNECT, None) => Err(NoRequest { error: SocksError::Name, due: Some(Reply::GeneralFailure) }),
        (command, _) => {
            let due = Some(Reply::CommandNotSupported);
            Err(NoRequest { error: SocksError::Command(command), due })
        }
    }
}

/// An answer to a request.
pub(super) fn answer(reply: Reply, bound: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![VERSION, code(reply), 0];
    append_ip(bound.ip(), &mut bytes);
    bytes.extend_from_slice(&bound.port().to_be_bytes());
    bytes
}

fn code(reply: Reply) -> u8 {
    match reply {
        Reply::Succeeded => 0,
        Reply::GeneralFailure | Reply::Malformed | Reply::TooLong => 1,
        Reply::NotAllowed => 2,
        Reply::NetworkUnreachable => 3,
        Reply::HostUnreachable => 4,
        Reply::ConnectionRefused => 5,
        Reply::TtlExpired => 6,
        Reply::CommandNotSupported | Reply::CommandUnknown => 7,
        Reply::AddressTypeNotSupported => 8,
    }
}

pub(super) const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_ACCEPTABLE_METHOD: u8 = 0xFF;
const ASSOCIATE: u8 = 3;
