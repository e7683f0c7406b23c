//! Special addresses, which a rule by name never permits: this machine, the local link, multicast, and the metadata
//! services of clouds.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use ipnet::{Ipv4Net, Ipv6Net};

/// Returns whether only a rule with this address or its network may permit it.
pub(super) fn is_special(ip: IpAddr) -> bool {
    is_special_anywhere(ip) || is_own(ip)
}

/// Returns whether an interface of this machine has the address, where servers that listen on all interfaces are
/// reachable.
pub(super) fn is_own(ip: IpAddr) -> bool {
    is_own_by(UdpSocket::bind((ip.to_canonical(), 0)).map(drop))
}

/// Tells from the result of binding a socket whether the address is this machine's. The system checks the address
/// before the port, so that one error means that it is another machine's. Every other error (no free port, no
/// descriptor, a filter of system calls) leaves that open, and counts as this machine's.
fn is_own_by(bound: io::Result<()>) -> bool {
    !bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

fn is_special_anywhere(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_special_v4(ip),
        IpAddr::V6(ip) => {
            SPECIAL_V6.iter().any(|network| network.contains(&ip)) || embedded(ip).is_some_and(is_special_v4)
        }
    }
}

fn is_special_v4(ip: Ipv4Addr) -> bool {
    SPECIAL_V4.iter().any(|network| network.contains(&ip))
}

/// The IPv4 address that packets to this address end at: NAT64 (RFC 6052) and 6to4 (RFC 3056).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = ip.to_bits();
    let bits = match ip {
        _ if NAT64.contains(&ip) => bits & u128::from(u32::MAX),
        _ if SIX_TO_FOUR.contains(&ip) => (bits >> 80) & u128::from(u32::MAX),
        _ => return None,
    };
    u32::try_from(bits).ok().map(Ipv4Addr::from_bits)
}

const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);

const SPECIAL_V4: [Ipv4Net; 8] = [
    // This host on this network; Linux treats 0.0.0.0 as loopback.
    v4([0, 0, 0, 0], 8),
    v4([127, 0, 0, 0], 8),
    // Link-local, with the metadata service of most clouds at 169.254.169.254.
    v4([169, 254, 0, 0], 16),
    // Protocol assignments, with Oracle's metadata service at 192.0.0.192.
    v4([192, 0, 0, 0], 24),
    // Alibaba's metadata service.
    v4([100, 100, 100, 200], 32),
    // Azure's metadata service.
    v4([168, 63, 129, 16], 32),
    // Multicast.
    v4([224, 0, 0, 0], 4),
    // Reserved, with broadcast at its end.
    v4([240, 0, 0, 0], 4),
];

const SPECIAL_V6: [Ipv6Net; 10] = [
    // Unspecified, loopback, and the IPv4-compatible form of any address.
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
    // IPv4-translated (RFC 2765).
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96),
    // NAT64 of a local network (RFC 8215), which decides itself where it puts the IPv4 address.
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
    // Teredo: a tunnel to an IPv4 address.
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32),
    // Link-local.
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    // Multicast.
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    // Amazon's metadata, time and name servers.
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32),
    // Google's metadata service.
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
    // Oracle's metadata service.
    v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
    // Scaleway's metadata service.
    v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
];

const fn v4([a, b, c, d]: [u8; 4], len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], len: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), len)
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn an_address_that_cannot_be_asked_about_counts_as_our_own() {
        for (errno, expected) in [
            (Errno::ADDRNOTAVAIL, false),
            (Errno::ADDRINUSE, true),
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::PERM, true),
            (Errno::ACCESS, true),
            (Errno::NOBUFS, true),
            (Errno::AFNOSUPPORT, true),
        ] {
            assert_eq!(is_own_by(Err(errno.into())), expected, "{errno}");
        }
        assert!(is_own_by(Ok(())));
        for own in ["127.0.0.1", "127.200.3.4", "::ffff:127.0.0.1", "0.0.0.0"] {
            assert!(is_own(own.parse().unwrap()), "{own}");
        }
        assert!(!is_own("192.0.2.1".parse().unwrap()));
    }

    /// The system checks the address first, so that a process which uses up all ports learns and gains nothing.
    #[test]
    fn the_owner_of_an_address_does_not_depend_on_free_ports() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(is_own_by(UdpSocket::bind(("127.0.0.1", port)).map(drop)));
        assert!(!is_own_by(UdpSocket::bind(("192.0.2.1", port)).map(drop)));
    }

    #[test]
    fn special_addresses_are_told_from_those_beside_them() {
        let special = [
            "0.0.0.0",
            "0.255.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.255.255",
            "192.0.0.192",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b::",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001::1",
        ];
        let usual = [
            "1.0.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "192.0.1.0",
            "100.100.100.199",
            "100.100.100.201",
            "168.63.129.17",
            "223.255.255.255",
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "::ffff:10.0.0.1",
            "fc00::1",
            "fd00::1",
            "fec0::1",
            "fe7f::1",
            "fd00:ec3::254",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:db8::1",
            "2606:4700::1111",
        ];
        for (ips, expected) in [(&special[..], true), (&usual[..], false)] {
            for ip in ips {
                assert_eq!(is_special(ip.parse().unwrap()), expected, "{ip}");
            }
        }
    }
}
