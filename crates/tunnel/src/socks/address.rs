//! Addresses as SOCKS5 has them, in requests and in front of datagrams (RFC 1928, sections 5 and 7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// What a client sends to the port that it got for its datagrams: host, port, and where in `bytes` the payload is.
/// `None` for what has to be dropped: fragments, which need not be put together, and what is no such datagram.
#[must_use]
pub fn parse_datagram(bytes: &[u8]) -> Option<(String, u16, Range<usize>)> {
    let address = bytes.strip_prefix(&DATAGRAM_START)?;
    let (host, port, len) = parse_address(address)?;
    Some((host, port, DATAGRAM_START.len() + len..bytes.len()))
}

/// What stands in front of a datagram for the client that came from `host`, a name or an address without brackets.
/// `None` for a name that is empty or longer than 255 bytes.
#[must_use]
pub fn datagram_header(host: &str, port: u16) -> Option<Vec<u8>> {
    let mut header = DATAGRAM_START.to_vec();
    match host.parse() {
        Ok(ip) => append_ip(ip, &mut header),
        Err(_) => {
            let len = u8::try_from(host.len()).ok().filter(|&len| len != 0)?;
            header.extend_from_slice(&[NAME, len]);
            header.extend_from_slice(host.as_bytes());
        }
    }
    header.extend_from_slice(&port.to_be_bytes());
    Some(header)
}

/// The length of a type, address and port, by the type and the byte that follows it.
pub(super) fn address_len(address_type: u8, following: u8) -> Option<usize> {
    let len = match address_type {
        IPV4 => 4,
        NAME => 1 + usize::from(following),
        IPV6 => 16,
        _ => return None,
    };
    Some(1 + len + 2)
}

/// The host and port that `bytes` begin with, type first, and how many bytes they take.
pub(super) fn parse_address(bytes: &[u8]) -> Option<(String, u16, usize)> {
    let &[address_type, following, ..] = bytes else { return None };
    let len = address_len(address_type, following)?;
    let (address, port) = bytes.get(1..len)?.split_last_chunk()?;
    let host = match address_type {
        IPV4 => Ipv4Addr::from(*address.first_chunk::<4>()?).to_string(),
        IPV6 => Ipv6Addr::from(*address.first_chunk::<16>()?).to_string(),
        _ => host_of(&address[1..])?,
    };
    Some((host, u16::from_be_bytes(*port), len))
}

/// A host that is given as text: a name, or an address, also in the brackets that some clients leave around it. `None`
/// for what can be neither.
pub(super) fn host_of(text: &[u8]) -> Option<String> {
    let text = str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    (is_name(bare) && bare.len() <= MAX_NAME_LEN && !bare.contains(['[', ']'])).then(|| bare.to_owned())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(|character: char| character.is_control() || character.is_whitespace())
}

pub(super) fn append_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            out.push(IPV4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(IPV6);
            out.extend_from_slice(&ip.octets());
        }
    }
}

/// SOCKS5 cannot say a longer one, and the DNS has none.
const MAX_NAME_LEN: usize = 255;

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Two reserved bytes, and fragment number 0: a datagram that is whole.
const DATAGRAM_START: [u8; 3] = [0, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_datagram(header: &[u8], host: &str, port: u16) {
        for payload in [&b""[..], b"p", &[0; 2000]] {
            let datagram = [header, payload].concat();
            let (parsed_host, parsed_port, range) = parse_datagram(&datagram).unwrap();
            assert_eq!((parsed_host.as_str(), parsed_port, &datagram[range]), (host, port, payload));
        }
        assert_eq!(datagram_header(host, port).unwrap(), header);
        for len in 0..header.len() {
            assert_eq!(parse_datagram(&header[..len]), None, "cut to {len}");
        }
    }

    #[test]
    fn datagrams_have_their_header() {
        check_datagram(&[0, 0, 0, 1, 127, 0, 0, 1, 0, 53], "127.0.0.1", 53);
        check_datagram(
            &[0, 0, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 187],
            "2001:db8::1",
            443,
        );
        check_datagram(b"\x00\x00\x00\x03\x0bexample.org\x00\x35", "example.org", 53);
        let longest = "n".repeat(255);
        check_datagram(&[b"\x00\x00\x00\x03\xff", longest.as_bytes(), b"\xff\xff"].concat(), &longest, 65535);
    }

    #[test]
    fn an_address_is_one_also_in_brackets() {
        for (text, host) in [
            ("[::1]", Some("::1")),
            ("::1", Some("::1")),
            ("[127.0.0.1]", Some("127.0.0.1")),
            ("[db.example.org]", Some("db.example.org")),
            ("[]", None),
            ("[", None),
            ("]", None),
            ("[[::1]]", None),
            ("[::1", None),
            ("::1]", None),
            ("[::1]:80", None),
        ] {
            assert_eq!(host_of(text.as_bytes()).as_deref(), host, "{text}");
        }
        let (host, port, payload) = parse_datagram(b"\0\0\0\x03\x05[::1]\0\x35data").unwrap();
        assert_eq!((host.as_str(), port, payload), ("::1", 53, 12..16));
    }

    #[test]
    fn datagrams_that_are_none_are_dropped() {
        for bytes in [
            &[0, 0, 1, 1, 127, 0, 0, 1, 0, 53][..],
            &[0, 0, 0x80, 1, 127, 0, 0, 1, 0, 53],
            &[0, 1, 0, 1, 127, 0, 0, 1, 0, 53],
            &[1, 0, 0, 1, 127, 0, 0, 1, 0, 53],
            &[0, 0, 0, 0, 127, 0, 0, 1, 0, 53],
            &[0, 0, 0, 2, 127, 0, 0, 1, 0, 53],
            &[0, 0, 0, 3, 0, 0, 53],
            &[0, 0, 0, 3, 1, 0xff, 0, 53],
            &[0, 0, 0, 3, 1, b' ', 0, 53],
            &[0, 0, 0, 3, 255, b'a', 0, 53],
        ] {
            assert_eq!(parse_datagram(bytes), None, "{bytes:?}");
        }
        assert_eq!(datagram_header("", 53), None);
        assert_eq!(datagram_header(&"n".repeat(256), 53), None);
    }
}
