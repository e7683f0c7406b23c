//! Where a monitor learns of the network of this machine: the system, or a test.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A source of what a monitor observes.
pub trait NetworkSource: Send + 'static {
    /// Waits until the network may have changed since [`NetworkSource::state`] was called. May complete early and often,
    /// or never where [`NetworkSource::is_polled`]. Cancellation loses nothing.
    fn notified(&mut self) -> impl Future<Output = ()> + Send;

    /// Whether changes are not notified, so that the state has to be read every second.
    fn is_polled(&self) -> bool;

    /// The state of the network, without waiting for anything. Takes back what was notified up to now.
    ///
    /// # Errors
    /// Why the state cannot be read at present. The monitor reads it again a second later.
    fn state(&mut self) -> io::Result<NetworkState>;
}

/// The state of this machine's network, as far as it matters to connections with other machines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkState {
    /// Addresses of this machine by which others can reach it, [`MAX_ADDRESSES`] at most.
    pub addresses: BTreeSet<IpAddr>,
    /// How often an address was removed, since it may have come back before anybody looked.
    pub removed_addresses: u64,
    /// The way of packets to each of [`DESTINATIONS`]; `None` without one.
    pub paths: [Option<Path>; DESTINATIONS.len()],
    /// How often a default route was removed, since it may have come back before anybody looked.
    pub removed_default_routes: u64,
}

/// How packets to a destination leave this machine. What the source does not learn is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Path {
    /// The index of the interface.
    pub interface: Option<u32>,
    /// The router that the packets are sent to.
    pub gateway: Option<IpAddr>,
    /// The address that the packets come from.
    pub source: Option<IpAddr>,
}

/// Whether an address is of use beyond this machine and the link that it is on.
pub(super) fn is_routable(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(is_link_local || address.is_loopback() || address.is_unspecified())
}

/// Most addresses that are compared. A client with more of them is not told about the others.
pub const MAX_ADDRESSES: usize = 1024;

/// Destinations for which routes are looked up, from networks for documentation (RFC 5737, RFC 3849): no packet is sent
/// there, and their route is the default route, or that of a tunnel for all packets. Virtual machines are sometimes given
/// such a network of IPv4, and then the other destination shows the default route.
pub const DESTINATIONS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
