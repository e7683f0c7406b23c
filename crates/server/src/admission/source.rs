//! The sources of connections, as admission and limits count them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A source: an IPv4 address, or the /64 in which an IPv6 host can take any address. The network around it, a /24
/// or a /48, is counted too, since a client with one of its addresses may have more of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SourceNetwork {
    pub(super) host: IpAddr,
    pub(super) network: IpAddr,
}

impl From<IpAddr> for SourceNetwork {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let network = Ipv4Addr::from_bits(address.to_bits() & !0xff);
                Self { host: address.into(), network: network.into() }
            }
            IpAddr::V6(address) => {
                let prefix = |len: u32| Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> len));
                Self { host: prefix(64).into(), network: prefix(48).into() }
            }
        }
    }
}

/// The address that stands for a source in counts.
pub(crate) fn host(address: IpAddr) -> IpAddr {
    SourceNetwork::from(address).host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_or_a_64_in_its_24_or_48() {
        let source = |text: &str| SourceNetwork::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(source("192.0.2.1").network, source("192.0.2.254").network);
        assert_ne!(source("192.0.2.1").host, source("192.0.2.254").host);
        assert_ne!(source("192.0.2.1").network, source("192.0.3.1").network);
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_eq!(source("2001:db8:1:2::3"), source("2001:db8:1:2:ffff::"));
        assert_ne!(source("2001:db8:1:2::").host, source("2001:db8:1:3::").host);
        assert_eq!(source("2001:db8:1:2::").network, source("2001:db8:1:3::").network);
        assert_ne!(source("2001:db8:1::").network, source("2001:db8:2::").network);
    }
}
