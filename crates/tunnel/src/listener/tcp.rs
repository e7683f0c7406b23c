//! The TCP sockets of a listener: one, or one for each address of a name.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::dial::explain::{lacks_scope, scope_missing};
use crate::listener::bind::{Families, LocalAddress, bind_by_one_port};
use crate::socket::{self, OnDrop};

/// TCP sockets with one port, and at least one of them.
#[derive(Debug)]
pub struct TcpListeners {
    sockets: Mutex<Vec<TcpListener>>,
    /// The one that is asked first next time, so that none that is busy keeps another one waiting.
    first: AtomicUsize,
}

impl TcpListeners {
    pub(super) fn bind(addresses: &[SocketAddr], on_drop: OnDrop, families: Families) -> io::Result<Self> {
        bind_by_one_port(addresses, |address| bind_tcp(address, on_drop, families)).map(Self::new)
    }

    pub(super) fn new(sockets: Vec<TcpListener>) -> Self {
        Self { sockets: Mutex::new(sockets), first: AtomicUsize::new(0) }
    }

    pub(super) fn sockets(&self) -> MutexGuard<'_, Vec<TcpListener>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let sockets = self.sockets();
        let (before, behind) = match &sockets[..] {
            [only] => return only.poll_accept(cx),
            all => all.split_at(self.first.fetch_add(1, Ordering::Relaxed) % all.len()),
        };
        for socket in behind.iter().chain(before) {
            if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

impl LocalAddress for TcpListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

/// Binds with a backlog that takes a burst of connections.
pub(super) fn bind_tcp(address: SocketAddr, on_drop: OnDrop, families: Families) -> io::Result<TcpListener> {
    if lacks_scope(address) {
        return Err(scope_missing(address.ip()));
    }
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if families == Families::Apart && address.ip() == Ipv6Addr::UNSPECIFIED {
        SockRef::from(&socket).set_only_v6(true)?;
    }
    // A server that was ended a moment ago must be able to come back to its port.
    socket.set_reuseaddr(true)?;
    socket::options_for_accepted(&socket, on_drop)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connections that wait to be accepted at most; the system's own limit is 4096 as a rule.
const BACKLOG: u32 = 4096;
