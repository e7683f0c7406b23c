//! The socket of a stream, whose writes wait for a server that does not read for a while and gives signs of life meanwhile.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tunnel::socket::BlockingSocket;
use wire_protocol::stream::blocking::{Split, Timeouts};

/// A socket with a limit on how long the other side may be silent. A server that hashes what it has, or holds the client to its
/// rate, may read nothing for longer than that.
#[derive(Debug)]
pub(super) struct LivelySocket {
    socket: BlockingSocket,
    silence: Duration,
    /// When the other side was heard of last.
    heard: Arc<Mutex<Instant>>,
}

impl LivelySocket {
    /// Reads fail after so much silence, and writes that cannot go on.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) fn new(socket: BlockingSocket, silence: Duration) -> io::Result<Self> {
        socket.set_timeout(silence)?;
        // How long the silence is, is looked at now and then.
        socket.set_write_timeout(Some(silence / PARTS))?;
        Ok(Self { socket, silence, heard: Arc::new(Mutex::new(Instant::now())) })
    }

    fn silent_for(&self) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// How often within the silence that is permitted a write that cannot go on looks at it.
const PARTS: u32 = 8;

impl Read for LivelySocket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.read(buf)?;
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(read)
    }
}

impl Write for LivelySocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let begun = Instant::now();
        loop {
            match self.socket.write(bytes) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
                        && begun.elapsed().min(self.silent_for()) < self.silence => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Timeouts for LivelySocket {
    fn read_timeout(&self) -> io::Result<Option<Duration>> {
        self.socket.read_timeout()
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(limit)
    }

    fn write_timeout(&self) -> io::Result<Option<Duration>> {
        self.socket.write_timeout()
    }

    fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(limit)
    }
}

impl Split for LivelySocket {
    type Read = Self;
    type Write = Self;

    fn split(self) -> io::Result<(Self, Self)> {
        let Self { socket, silence, heard } = self;
        let (read, write) = socket.split()?;
        Ok((
            Self { socket: read, silence, heard: Arc::clone(&heard) },
            Self { socket: write, silence, heard },
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    const SILENCE: Duration = Duration::from_millis(800);
    /// More than the system takes of what nobody reads.
    const MUCH: usize = 64 << 20;

    fn connected() -> (LivelySocket, LivelySocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let theirs = listener.accept().unwrap().0;
        let (read, write) = LivelySocket::new(BlockingSocket::Tcp(ours), SILENCE).unwrap().split().unwrap();
        (read, write, theirs)
    }

    #[test]
    fn a_write_waits_for_a_server_that_gives_signs_of_life() {
        let (mut read, mut write, mut server) = connected();
        let writing = thread::spawn(move || write.write_all(&vec![0; MUCH]));
        let reading = thread::spawn(move || read.read_exact(&mut [0; 30]));
        // It works on something for three times as long as it may be silent.
        for _ in 0..30 {
            thread::sleep(SILENCE / 10);
            server.write_all(b".").unwrap();
        }
        reading.join().unwrap().unwrap();
        assert!(!writing.is_finished());
        io::copy(&mut server.take(MUCH.try_into().unwrap()), &mut io::sink()).unwrap();
        writing.join().unwrap().unwrap();
    }

    #[test]
    fn a_write_to_a_server_that_is_silent_fails() {
        let (_read, mut write, _server) = connected();
        let error = write.write_all(&vec![0; MUCH]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
