//! The socket of a transfer, whose reads end with the transfer, and with a peer that is silent for too long.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use tunnel::socket::BlockingSocket;
use wire_protocol::stream::SILENCE;
use wire_protocol::stream::blocking::{Split, Timeouts};

use crate::services::files::halt::Halt;

/// A socket that is read by a thread that somebody else may want to end.
#[derive(Debug)]
pub(super) struct WatchedSocket {
    socket: BlockingSocket,
    halt: Halt,
    /// How long a read may wait; `None` for the silence that the protocol permits.
    limit: Cell<Option<Duration>>,
}

impl WatchedSocket {
    /// Watches over `socket`.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) fn new(socket: BlockingSocket, halt: Halt) -> io::Result<Self> {
        socket.set_read_timeout(Some(INTERVAL))?;
        Ok(Self { socket, halt, limit: Cell::new(None) })
    }
}

impl Read for WatchedSocket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let deadline = Instant::now() + self.limit.get().unwrap_or(SILENCE);
        loop {
            match self.socket.read(buf) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                read => return read,
            }
            if self.halt.reason().is_some() {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the transfer was stopped"));
            }
            if Instant::now() >= deadline {
                if self.limit.get().is_none() {
                    // A thread that writes to the same peer would wait for it for ever.
                    self.socket.shut_down();
                }
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client has been silent for too long",
                ));
            }
        }
    }
}

impl Write for WatchedSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Timeouts for WatchedSocket {
    fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.limit.get())
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.limit.set(limit);
        Ok(())
    }

    fn write_timeout(&self) -> io::Result<Option<Duration>> {
        self.socket.write_timeout()
    }

    fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(limit)
    }
}

impl Split for WatchedSocket {
    type Read = Self;
    type Write = BlockingSocket;

    fn split(self) -> io::Result<(Self, BlockingSocket)> {
        let Self { socket, halt, limit } = self;
        let (socket, other) = socket.split()?;
        Ok((Self { socket, halt, limit }, other))
    }
}

/// How often a read that waits looks whether the transfer is to end.
const INTERVAL: Duration = Duration::from_millis(200);
