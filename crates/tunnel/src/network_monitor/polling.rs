//! The state of the network by calls that every unix system has.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::errno::Errno;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use super::source::{DESTINATIONS, MAX_ADDRESSES, NetworkState, Path, is_routable};

/// Reads the state. Where the addresses of interfaces may not be read, as without netlink in a sandbox of Linux, it is
/// the addresses alone that packets to the destinations come from.
///
/// # Errors
/// Those that are [`is_temporary`].
pub(super) fn state() -> io::Result<NetworkState> {
    let mut state = NetworkState { addresses: addresses()?, ..NetworkState::default() };
    for (path, destination) in state.paths.iter_mut().zip(DESTINATIONS) {
        *path = path_to(destination)?;
    }
    Ok(state)
}

fn addresses() -> io::Result<BTreeSet<IpAddr>> {
    match getifaddrs() {
        Ok(interfaces) => Ok(interfaces.filter_map(|found| routable(&found)).take(MAX_ADDRESSES).collect()),
        Err(errno) => none_unless_temporary(errno.into()),
    }
}

fn routable(found: &InterfaceAddress) -> Option<IpAddr> {
    let address = ip_of(found.address.as_ref()?)?;
    (found.flags.contains(InterfaceFlags::IFF_UP) && is_routable(address)).then_some(address)
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// Asks for the address by which this machine would send datagrams. A datagram socket that is connected sends nothing.
fn path_to(destination: IpAddr) -> io::Result<Option<Path>> {
    let any: IpAddr = match destination {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let asked = UdpSocket::bind(SocketAddr::new(any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(destination, DISCARD_PORT))?;
        socket.local_addr()
    });
    match asked {
        Ok(source) => Ok(Some(Path { source: Some(source.ip()), ..Path::default() })),
        Err(error) => none_unless_temporary(error),
    }
}

fn none_unless_temporary<T: Default>(error: io::Error) -> io::Result<T> {
    if is_temporary(&error) { Err(error) } else { Ok(T::default()) }
}

/// Whether an error says something about the moment, and nothing about the network or what this process may do.
pub(super) fn is_temporary(error: &io::Error) -> bool {
    let temporary =
        [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::EINTR, Errno::EAGAIN];
    error.raw_os_error().is_some_and(|code| temporary.contains(&Errno::from_raw(code)))
}

/// The port of the discard protocol (RFC 863).
const DISCARD_PORT: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_has_no_addresses_of_this_machine_alone() {
        let state = state().unwrap();
        assert!(state.addresses.iter().all(|address| is_routable(*address)), "{state:?}");
    }

    #[test]
    fn shortage_is_temporary_and_refusal_is_not() {
        for (errno, expected) in [(Errno::EMFILE, true), (Errno::EPERM, false), (Errno::EAFNOSUPPORT, false)]
        {
            assert_eq!(is_temporary(&errno.into()), expected, "{errno}");
        }
    }
}
