//! A target whose listen queue is full, so that its system does not answer who connects.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};

use crate::harness::deadline::{DEADLINE, until};

/// A listener that does not accept, with as many connections as its queue takes.
pub(crate) struct FullQueue {
    listener: TcpListener,
    address: SocketAddr,
    waiting: Vec<TcpStream>,
}

impl FullQueue {
    pub(crate) fn new() -> Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)))?;
        listen(&socket, 0)?;
        let address = SocketAddr::try_from(getsockname(&socket)?).context("an address")?;
        let mut waiting = Vec::new();
        for _ in 0..MOST {
            match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
                Ok(stream) => waiting.push(stream),
                Err(_) => return Ok(Self { listener: socket.into(), address, waiting }),
            }
        }
        bail!("the queue takes more than {MOST} connections")
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Empties the queue once an attempt to connect and its repetition a second later have gone unanswered.
    pub(crate) fn empty_late(self) -> Result<()> {
        self.is_wanted()?;
        thread::sleep(Duration::from_millis(1200));
        self.accept().map(drop)
    }

    /// Waits until somebody tries to connect.
    pub(crate) fn is_wanted(&self) -> Result<()> {
        let wanted = format!("0100007F:{:04X} 02 ", self.address.port());
        until(DEADLINE, "somebody connects", || {
            let sockets = fs::read_to_string("/proc/net/tcp")?;
            ensure!(sockets.contains(&wanted), "nobody does");
            Ok(())
        })
    }

    /// Empties the queue, and gives the connection that comes next.
    pub(crate) fn accept(self) -> Result<TcpStream> {
        for _ in &self.waiting {
            self.listener.accept()?;
        }
        Ok(self.listener.accept()?.0)
    }
}

/// Far more than a queue of length 0 takes.
const MOST: usize = 16;
