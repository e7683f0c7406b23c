//! The header that tells a target who connects: the PROXY protocol, version 2 (section 7.2 of the protocol).

use std::net::{IpAddr, SocketAddr};

use ppp::v2::{Addresses, Builder, Command, Protocol, Version};

/// The PROXY header that is sent to a target in front of the data, to tell it who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// It is not.
    None,
    /// By a header of the PROXY protocol, version 2.
    V2,
}

/// The header for a connection from `source` that arrived at `destination`. `client` is the id of the client's key
/// as it is shown, or `psk:` and the id of its pre-shared key.
///
/// Where an address is missing, as it is for a unix socket, the header says LOCAL: the target is to go by the
/// connection itself. Where only one of the two is IPv6, the other is written as the IPv6 address that stands for it.
///
/// # Panics
/// When `client` is longer than 65,000 bytes, which no id is.
#[must_use]
pub fn v2(source: Option<SocketAddr>, destination: Option<SocketAddr>, client: Option<&str>) -> Vec<u8> {
    let header = match source.zip(destination) {
        Some((source, destination)) => Builder::with_addresses(
            Version::Two | Command::Proxy,
            Protocol::Stream,
            of_one_family(source, destination),
        ),
        None => Builder::with_addresses(
            Version::Two | Command::Local,
            Protocol::Unspecified,
            Addresses::Unspecified,
        ),
    };
    match client {
        Some(client) => header.write_tlv(CLIENT_KEY, client.as_bytes()).and_then(Builder::build),
        None => header.build(),
    }
    .expect("two addresses and an id are shorter than the longest header")
}

/// The protocol has room for two addresses of one family only.
fn of_one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (source, destination) = (canonical(source), canonical(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        (source, destination)
    } else {
        (as_ipv6(source), as_ipv6(destination))
    }
}

fn as_ipv6(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddr::new(ip.into(), address.port())
}

/// The first of the types that applications may give a meaning of their own.
const CLIENT_KEY: u8 = 0xE0;

#[cfg(test)]
mod tests {
    use ppp::v2::Header;

    use super::*;

    const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

    struct Case {
        source: Option<&'static str>,
        destination: Option<&'static str>,
        client: Option<&'static str>,
        /// What stands behind the signature, by hand from the specification.
        bytes: &'static [u8],
        command: Command,
        addresses: Option<(&'static str, &'static str)>,
    }

    #[track_caller]
    fn check(case: &Case) {
        let address = |text: Option<&str>| text.map(|text| text.parse::<SocketAddr>().unwrap());
        let header = v2(address(case.source), address(case.destination), case.client);
        assert_eq!(header, [&SIGNATURE[..], case.bytes].concat());

        let parsed = Header::try_from(&header[..]).unwrap();
        assert_eq!((parsed.version, parsed.command), (Version::Two, case.command));
        assert_eq!(parsed.len(), header.len());
        let expected = case.addresses.map_or(Addresses::Unspecified, |(source, destination)| {
            let (source, destination): (SocketAddr, SocketAddr) =
                (source.parse().unwrap(), destination.parse().unwrap());
            (source, destination).into()
        });
        assert_eq!(parsed.addresses, expected);
        // ppp takes all that follows a header without addresses for addresses.
        if case.addresses.is_some() {
            let values: Vec<_> = parsed.tlvs().map(|tlv| tlv.unwrap()).collect();
            let texts: Vec<_> = values.iter().map(|tlv| (tlv.kind, &*tlv.value)).collect();
            let expected: Vec<_> = case.client.iter().map(|id| (0xE0, id.as_bytes())).collect();
            assert_eq!(texts, expected);
        }
    }

    #[test]
    fn headers_are_as_the_specification_lays_them_out() {
        check(&Case {
            source: Some("192.0.2.1:4711"),
            destination: Some("198.51.100.2:443"),
            client: None,
            bytes: &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x67, 1, 0xBB],
            command: Command::Proxy,
            addresses: Some(("192.0.2.1:4711", "198.51.100.2:443")),
        });
        check(&Case {
            source: Some("[2001:db8::1]:4711"),
            destination: Some("[2001:db8::2]:443"),
            client: Some("psk:pi"),
            bytes: b"\x21\x21\x00\x2d\
                \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\
                \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\
                \x12\x67\x01\xbb\
                \xe0\x00\x06psk:pi",
            command: Command::Proxy,
            addresses: Some(("[2001:db8::1]:4711", "[2001:db8::2]:443")),
        });
    }

    #[test]
    fn addresses_of_two_families_become_one() {
        check(&Case {
            source: Some("192.0.2.1:1"),
            destination: Some("[2001:db8::2]:2"),
            client: None,
            bytes: b"\x21\x21\x00\x24\
                \0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01\
                \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\
                \x00\x01\x00\x02",
            command: Command::Proxy,
            addresses: Some(("[::ffff:192.0.2.1]:1", "[2001:db8::2]:2")),
        });
        // As a socket that listens for both families gives them.
        check(&Case {
            source: Some("[::ffff:192.0.2.1]:1"),
            destination: Some("198.51.100.2:2"),
            client: None,
            bytes: &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 0, 1, 0, 2],
            command: Command::Proxy,
            addresses: Some(("192.0.2.1:1", "198.51.100.2:2")),
        });
    }

    #[test]
    fn without_an_address_a_header_is_local() {
        for (source, destination) in
            [(None, None), (Some("192.0.2.1:1"), None), (None, Some("[2001:db8::2]:2"))]
        {
            let (command, addresses) = (Command::Local, None);
            let bytes = &[0x20, 0, 0, 0];
            check(&Case { source, destination, client: None, bytes, command, addresses });
            let bytes = b"\x20\x00\x00\x05\xe0\x00\x02ab";
            check(&Case { source, destination, client: Some("ab"), bytes, command, addresses });
        }
    }
}
