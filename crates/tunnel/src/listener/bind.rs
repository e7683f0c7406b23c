//! Binding to all addresses that a name has, by one port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use crate::address::{Address, EVERYWHERE};
use crate::dial::resolve;

/// What `[::]` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Families {
    /// IPv6 alone: somebody else of us has IPv4.
    Apart,
    /// What the system makes of it: both, as a rule.
    AsUsual,
}

impl Families {
    /// For `addresses` that are listened on by this port beside `others`.
    pub(crate) fn beside(addresses: &[SocketAddr], others: &[Address], port: u16) -> Self {
        let with_ipv4 = others.iter().any(|other| is_all_of_ipv4(other, port));
        if with_ipv4 { Self::Apart } else { Self::of(addresses) }
    }

    fn of(addresses: &[SocketAddr]) -> Self {
        let has_ipv4 = addresses.iter().any(|address| address.ip() == Ipv4Addr::UNSPECIFIED);
        if has_ipv4 { Self::Apart } else { Self::AsUsual }
    }
}

/// The addresses that `host` stands for where one listens.
///
/// # Errors
/// As [`resolve`].
pub(crate) async fn candidates(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host == EVERYWHERE {
        let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        return Ok(all.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let mut found = resolve(host, port).await?;
    // However they were found: what is announced first is always the same.
    found.sort_by_key(|address| (address.is_ipv6(), *address));
    Ok(found)
}

/// As [`bind_all`], with a port that is free at all of the addresses where the system chooses it.
///
/// # Errors
/// As [`bind_all`].
pub(crate) fn bind_by_one_port<T: LocalAddress>(
    addresses: &[SocketAddr],
    mut bind: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<Vec<T>> {
    let mut tries = PORT_TRIES;
    loop {
        match bind_all(addresses, &mut bind) {
            // The port that the system chose for the first is somebody else's at another address.
            Err(error) if is_chosen(addresses) && error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {
                tries -= 1;
            }
            bound => return bound,
        }
    }
}

/// Binds every one of `addresses` that this machine has, all with the port of the first.
///
/// # Errors
/// That of the first address that cannot be bound, although this machine has it; where it has none of them, that of the
/// last.
pub(crate) fn bind_all<T: LocalAddress>(
    addresses: &[SocketAddr],
    mut bind: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<Vec<T>> {
    let mut bound: Vec<T> = Vec::with_capacity(addresses.len());
    let mut missing = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let mut address = *address;
        if let Some(first) = bound.first() {
            address.set_port(first.local_address()?.port());
        }
        match bind(address) {
            Ok(socket) => bound.push(socket),
            Err(error) if is_not_ours(&error) => missing = error,
            Err(error) if addresses.len() > 1 => {
                return Err(io::Error::new(error.kind(), format!("{address}: {error}")));
            }
            Err(error) => return Err(error),
        }
    }
    if bound.is_empty() { Err(missing) } else { Ok(bound) }
}

/// A socket that is bound.
pub(crate) trait LocalAddress {
    /// To which address.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// Whether this machine does not have an address, or has switched its family off.
fn is_not_ours(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

/// Whether the port is the system's to choose, for more than one address.
fn is_chosen(addresses: &[SocketAddr]) -> bool {
    addresses.len() > 1 && addresses.iter().all(|address| address.port() == 0)
}

pub(super) fn is_all_of_ipv4(address: &Address, port: u16) -> bool {
    let Address::Tcp { host, port: other } = address else { return false };
    *other == port && port != 0 && host.parse() == Ok(Ipv4Addr::UNSPECIFIED)
}

/// Ports that the system chooses until one is free at all addresses of a name.
const PORT_TRIES: usize = 16;
