//! What [`Network`](super::Network) does where it is one in memory.

use std::io;
use std::net::SocketAddr;

use crate::address::{Address, parse_ip};
use crate::dial::in_time;
use crate::listener::Listener;
use crate::memory::MemoryHost;
use crate::socket::{OnDrop, Socket};

pub(super) fn resolve(machine: &MemoryHost, address: &Address) -> io::Result<Vec<SocketAddr>> {
    let Address::Tcp { host, port } = address else { return Err(io::ErrorKind::Unsupported.into()) };
    let found = match parse_ip(host) {
        Some(ip) => vec![ip],
        None => machine.look_up(host)?,
    };
    Ok(found.into_iter().map(|ip| SocketAddr::new(ip, *port)).collect())
}

/// The first of `candidates` that answers, one after the other.
pub(super) async fn dial(host: &MemoryHost, candidates: Vec<SocketAddr>) -> io::Result<Socket> {
    let mut last = io::ErrorKind::NotFound.into();
    for address in candidates {
        match in_time(host.dial(address)).await {
            Ok(socket) => return Ok(Socket::Memory(socket)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

pub(super) fn listen(host: &MemoryHost, address: &Address, on_drop: OnDrop) -> io::Result<Listener> {
    let addresses = resolve(host, address)?;
    let [address] = addresses[..] else { return Err(io::ErrorKind::Unsupported.into()) };
    Ok(Listener::Memory(host.listen(address)?, on_drop))
}
