//! A port that stays reserved while no program listens on it, so that a server can be restarted at the same address.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};

/// A TCP port on 127.0.0.1 that the system picked.
///
/// A socket that is bound and never listens reserves the port: the system gives the port to no other program,
/// but lets a listener with `SO_REUSEADDR`, which every server sets, use it again and again.
pub(crate) struct Port {
    _holder: OwnedFd,
    number: u16,
}

impl Port {
    pub(crate) fn hold() -> Result<Self> {
        let holder = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_reuseaddr(&holder, true)?;
        bind(&holder, &SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)))?;
        let address = SocketAddr::try_from(getsockname(&holder)?).context("a port of its own")?;
        Ok(Self { _holder: holder, number: address.port() })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn listeners_take_a_held_port_one_after_the_other() {
        let port = Port::hold().unwrap();
        for _ in 0..2 {
            assert!(TcpStream::connect(port.address()).is_err(), "somebody listens on a held port");
            let listener = TcpListener::bind(port.address()).unwrap();
            let mut client = TcpStream::connect(port.address()).unwrap();
            // The side that closes first leaves a connection in TIME_WAIT, which must not block the next listener.
            drop(listener.accept().unwrap());
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
    }
}
