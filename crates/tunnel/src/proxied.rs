//! Connections that a proxy hands on: the header of the PROXY protocol, version 1 or 2, tells where they come from.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The content of a received PROXY header: the addresses of a client, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxied {
    /// It hands on a client's.
    Client {
        /// Where the client comes from.
        source: SocketAddr,
        /// The address of the proxy's that it has come to.
        destination: SocketAddr,
    },
    /// It is the proxy's own, which looks whether somebody is there.
    Check,
}

/// Reads the header of a connection, and no byte behind it.
///
/// # Errors
/// `InvalidData` for anything else, and for a header that says of no address where the client comes from: whatever goes by
/// the source could not. `UnexpectedEof` where the connection ends before that, else the errors of the socket.
pub async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Proxied> {
    let mut header = read_prefix(stream).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(V2_FIXED_LEN, 0);
        stream.read_exact(&mut header[PREFIX_LEN..]).await?;
        let len = u16::from_be_bytes([header[V2_FIXED_LEN - 2], header[V2_FIXED_LEN - 1]]);
        if len > MAX_V2_LEN {
            return Err(invalid("a header of the PROXY protocol that is longer than any"));
        }
        header.resize(V2_FIXED_LEN + usize::from(len), 0);
        stream.read_exact(&mut header[V2_FIXED_LEN..]).await?;
    } else if header.starts_with(V1_PREFIX) {
        while !header.ends_with(b"\r\n") {
            if header.len() >= MAX_V1_LEN {
                return Err(invalid("a header of the PROXY protocol that is longer than any"));
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(invalid(NO_HEADER));
    }
    parse(&header)
}

/// Reads as much as both versions have, and no more once it can be neither: a client that has come past the proxy may wait
/// for an answer to less.
async fn read_prefix(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut prefix = vec![0; PREFIX_LEN];
    let mut len = 0;
    while len < PREFIX_LEN {
        let read = stream.read(&mut prefix[len..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        len += read;
        let said = &prefix[..len];
        let is_v1 = said.iter().zip(V1_PREFIX).all(|(said, expected)| said == expected);
        if !is_v1 && !v2::PROTOCOL_PREFIX.starts_with(said) {
            return Err(invalid(NO_HEADER));
        }
    }
    Ok(prefix)
}

fn parse(header: &[u8]) -> io::Result<Proxied> {
    let client = |source: (IpAddr, u16), destination: (IpAddr, u16)| {
        let canonical = |(ip, port): (IpAddr, u16)| SocketAddr::new(ip.to_canonical(), port);
        Ok(Proxied::Client { source: canonical(source), destination: canonical(destination) })
    };
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Tcp4(ip) => client(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
            ),
            v1::Addresses::Tcp6(ip) => client(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
            ),
            v1::Addresses::Unknown => Err(invalid(NO_ADDRESS)),
        },
        HeaderResult::V2(Ok(header)) => match (header.command, header.addresses) {
            (v2::Command::Local, _) => Ok(Proxied::Check),
            (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => client(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
            ),
            (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => client(
                (ip.source_address.into(), ip.source_port),
                (ip.destination_address.into(), ip.destination_port),
            ),
            (v2::Command::Proxy, v2::Addresses::Unix(_) | v2::Addresses::Unspecified) => {
                Err(invalid(NO_ADDRESS))
            }
        },
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => {
            Err(invalid("a malformed header of the PROXY protocol"))
        }
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

const NO_HEADER: &str = "no header of the PROXY protocol";
const NO_ADDRESS: &str = "a header of the PROXY protocol without the client's address";
const V1_PREFIX: &[u8] = b"PROXY ";
/// What the second version begins with is so long, and no header of the first one is shorter.
const PREFIX_LEN: usize = v2::PROTOCOL_PREFIX.len();
/// Up to and with the length of the rest.
const V2_FIXED_LEN: usize = PREFIX_LEN + 4;
/// Addresses, and what proxies say beside them, of which certificates are the longest.
const MAX_V2_LEN: u16 = 4096;
/// The line with its end, by the specification.
const MAX_V1_LEN: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> (io::Result<Proxied>, Vec<u8>) {
        let mut rest = bytes;
        let proxied = read_header(&mut rest).await;
        (proxied, rest.to_vec())
    }

    async fn check(bytes: &[u8], source: &str, destination: &str) {
        let (proxied, rest) = read(&[bytes, b"SKS\x01"].concat()).await;
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        assert_eq!(proxied.unwrap(), Proxied::Client { source, destination });
        assert_eq!(rest, b"SKS\x01");
    }

    #[tokio::test]
    async fn both_versions_tell_where_a_client_comes_from() {
        check(b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n", "192.0.2.1:4711", "198.51.100.2:443").await;
        check(b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n", "[2001:db8::1]:4711", "[2001:db8::2]:443")
            .await;
        let address = |text: &str| Some(text.parse().unwrap());
        for (source, destination) in
            [("192.0.2.1:4711", "198.51.100.2:443"), ("[2001:db8::1]:4711", "[2001:db8::2]:443")]
        {
            for tlv in [None, Some("SHA256:something more")] {
                let header = crate::proxy_header::v2(address(source), address(destination), tlv);
                check(&header, source, destination).await;
            }
        }
        // As a proxy that listens on both families writes it.
        check(b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 1 2\r\n", "192.0.2.1:1", "198.51.100.2:2")
            .await;
    }

    #[tokio::test]
    async fn a_proxy_that_looks_after_us_is_no_client() {
        let header = crate::proxy_header::v2(None, None, None);
        assert_eq!(read(&header).await.0.unwrap(), Proxied::Check);
    }

    #[tokio::test]
    async fn whatever_else_comes_is_refused_in_bounds() {
        let endless = [&b"PROXY TCP4 "[..], &[b'1'; 4096]].concat();
        let long = [v2::PROTOCOL_PREFIX, b"\x21\x11\xff\xff", &[0; 65535]].concat();
        let unix = [v2::PROTOCOL_PREFIX, b"\x21\x31\x00\xd8", &[0; 216]].concat();
        let short = [v2::PROTOCOL_PREFIX, b"\x21\x11\x00\x04", &[0; 4]].concat();
        for bytes in [
            &b"SKS\x01\x03\x00\x05\x00hello"[..],
            b"GET / HTTP/1.1\r\n\r\n",
            b"SKS\x01\x01\x00\x00\x00",
            b"x",
            b"PROXY UNKNOWN\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 4711\r\n",
            b"PROXY TCP4 192.0.2.1 2001:db8::2 4711 443\r\n",
            b"proxy tcp4 192.0.2.1 198.51.100.2 4711 443\r\n",
            &endless,
            &long,
            &unix,
            &short,
        ] {
            let (proxied, _) = read(bytes).await;
            assert_eq!(proxied.unwrap_err().kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
        for bytes in [&b""[..], b"PROXY", b"PROXY TCP4 192.0.2.1", v2::PROTOCOL_PREFIX] {
            let (proxied, _) = read(bytes).await;
            assert_eq!(proxied.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{bytes:?}");
        }
    }
}
