//! The network of Linux by rtnetlink: notifications of changes, and the state.

mod message;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, sendto,
    setsockopt, socket, sockopt::RcvBuf,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::message::{Removal, Reply};
use super::polling::is_temporary;
use super::source::{DESTINATIONS, MAX_ADDRESSES, NetworkState, Path};

/// A socket to which changes of addresses, routes and links are notified.
#[derive(Debug)]
pub(super) struct Netlink {
    notifications: AsyncFd<OwnedFd>,
    removed_addresses: u64,
    removed_default_routes: u64,
}

impl Netlink {
    /// Has changes notified from now on. This needs no privileges.
    ///
    /// # Errors
    /// What the system says, above all where this process may not open a netlink socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime whose I/O is enabled.
    pub(super) fn open() -> io::Result<Self> {
        let socket = open_socket(groups())?;
        // The kernel notifies no more when its buffer is full, so that a flood of changes wakes nobody until it is read.
        setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER)?;
        #[expect(
            deprecated,
            reason = "the other constructors are unsafe; this descriptor is owned and stays the same"
        )]
        let notifications = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { notifications, removed_addresses: 0, removed_default_routes: 0 })
    }

    /// Waits for a notification that [`Self::state`] has not read yet.
    ///
    /// # Errors
    /// When the runtime ends.
    pub(super) async fn notified(&self) -> io::Result<()> {
        self.notifications.readable().await.map(drop)
    }

    /// Reads notifications, as many as there are up to a limit, and then the state.
    ///
    /// # Errors
    /// What the system says; `Interrupted` where addresses changed while they were read.
    pub(super) fn state(&mut self) -> io::Result<NetworkState> {
        self.read_notifications()?;
        let mut requests = Requests::open()?;
        let mut paths = [None; DESTINATIONS.len()];
        for (path, destination) in paths.iter_mut().zip(DESTINATIONS) {
            *path = requests.path_to(destination)?;
        }
        Ok(NetworkState {
            // This request comes last, since its reply may be left half read.
            addresses: requests.addresses()?,
            removed_addresses: self.removed_addresses,
            paths,
            removed_default_routes: self.removed_default_routes,
        })
    }

    fn read_notifications(&mut self) -> io::Result<()> {
        let mut buffer = [0; NOTIFICATION_BUFFER];
        for _ in 0..MAX_DATAGRAMS {
            let read = self.notifications.try_io(Interest::READABLE, |socket| receive(socket, &mut buffer));
            match read {
                Ok(len) => self.count_removals(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Notifications were lost. The state that is read next has what most of them were about.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn count_removals(&mut self, datagram: &[u8]) {
        for removal in message::all(datagram).filter_map(|message| message::removal(&message)) {
            let count = match removal {
                Removal::Address => &mut self.removed_addresses,
                Removal::DefaultRoute => &mut self.removed_default_routes,
            };
            *count = count.wrapping_add(1);
        }
    }
}

/// A socket for requests. The kernel answers each before the call that sends it returns, so that none is waited for.
struct Requests {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    fn open() -> io::Result<Self> {
        Ok(Self { socket: open_socket(0)?, sequence: 0, buffer: vec![0; REPLY_BUFFER] })
    }

    /// The routable addresses of this machine, [`MAX_ADDRESSES`] at most.
    fn addresses(&mut self) -> io::Result<BTreeSet<IpAddr>> {
        self.send(message::dump_addresses)?;
        let mut addresses = BTreeSet::new();
        for _ in 0..MAX_DATAGRAMS {
            for reply in self.receive()? {
                match reply {
                    Reply::Address(address) => _ = addresses.insert(address),
                    Reply::End => return Ok(addresses),
                    Reply::Error(error) => return Err(error),
                    Reply::Path(_) | Reply::Other => {}
                }
                if addresses.len() == MAX_ADDRESSES {
                    return Ok(addresses);
                }
            }
        }
        Ok(addresses)
    }

    /// The way of packets to a destination.
    fn path_to(&mut self, destination: IpAddr) -> io::Result<Option<Path>> {
        self.send(|sequence| message::look_up_route(sequence, destination))?;
        match self.receive()?.next() {
            Some(Reply::Path(path)) => Ok(Some(path)),
            Some(Reply::Error(error)) if is_temporary(&error) => Err(error),
            _ => Ok(None),
        }
    }

    fn send(&mut self, request: impl FnOnce(u32) -> Vec<u8>) -> io::Result<()> {
        self.sequence += 1;
        let (request, kernel) = (request(self.sequence), NetlinkAddr::new(0, 0));
        sendto(self.socket.as_raw_fd(), &request, &kernel, MsgFlags::empty())?;
        Ok(())
    }

    /// The replies in the next datagram, of which those to an earlier request are left out.
    fn receive(&mut self) -> io::Result<impl Iterator<Item = Reply>> {
        let (len, sequence) = (receive(&self.socket, &mut self.buffer)?, self.sequence);
        let messages = message::all(&self.buffer[..len]);
        Ok(messages
            .filter(move |message| message.sequence_number() == sequence)
            .map(|message| message::reply(&message)))
    }
}

/// Opens a socket that does not block, for what is sent to these groups besides replies.
fn open_socket(groups: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

/// Receives a datagram and returns its length: 0 where it is not from the kernel, but from another process.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (len, sender) = recvfrom::<NetlinkAddr>(socket.as_raw_fd(), buffer)?;
    Ok(if sender.is_some_and(|sender| sender.pid() == 0) { len } else { 0 })
}

/// The groups whose notifications may say that addresses or routes have changed. IPv4 does not notify the routes that are
/// lost with a link, so the links are among them.
fn groups() -> u32 {
    let named = libc::RTMGRP_LINK
        | libc::RTMGRP_IPV4_IFADDR
        | libc::RTMGRP_IPV4_ROUTE
        | libc::RTMGRP_IPV4_RULE
        | libc::RTMGRP_IPV6_IFADDR
        | libc::RTMGRP_IPV6_ROUTE;
    named.cast_unsigned() | 1 << (libc::RTNLGRP_IPV6_RULE - 1)
}

/// Room for a notification of an address or route. Of a longer one, which is about a link, only the arrival matters.
const NOTIFICATION_BUFFER: usize = 4096;

/// Room for a datagram of replies. The kernel fills what it is given, from 8 KiB on.
const REPLY_BUFFER: usize = 16 * 1024;

/// Bytes of notifications that the kernel keeps, about a hundred.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// Most datagrams that are read at once.
const MAX_DATAGRAMS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network_monitor::polling;

    #[tokio::test]
    async fn state_is_that_of_the_system() {
        let mut netlink = Netlink::open().unwrap();
        let (notified, polled) = (netlink.state().unwrap(), polling::state().unwrap());
        assert!(notified.addresses.is_superset(&polled.addresses), "{notified:?} {polled:?}");
        for (path, other) in notified.paths.iter().zip(polled.paths) {
            assert_eq!(path.is_some(), other.is_some(), "{path:?} {other:?}");
        }
    }
}
