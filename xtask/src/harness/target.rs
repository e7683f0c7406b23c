//! Targets of tunnels: small services of the tests, which count connections and record how they ended.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, ensure};

use crate::harness::connection::{Connection, Exchange, reset};
use crate::harness::deadline::{DEADLINE, until};

/// A TCP service that stops accepting when it goes out of scope. Connections that are open then go on.
pub(crate) struct Target {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    accepted: AtomicUsize,
    ended: AtomicUsize,
    failures: Mutex<Vec<String>>,
    closing: AtomicBool,
}

impl Target {
    /// Starts a service on a port that the system picks. Each connection is served on a thread of its own.
    pub(crate) fn serve(
        behavior: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::serve_at("127.0.0.1:0", behavior)
    }

    pub(crate) fn serve_at(
        address: &str,
        behavior: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("a target on {address}"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let behavior = Arc::new(behavior);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.closing.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let (shared, behavior) = (Arc::clone(&accepting), Arc::clone(&behavior));
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let ended = stream.set_nodelay(true).and_then(|()| behavior(stream));
                    if let Err(error) = ended {
                        let mut failures = shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
                        failures.push(error.to_string());
                    }
                    shared.ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Ok(Self { address, shared })
    }

    /// Starts an echo, which ends its direction when the other side has ended.
    pub(crate) fn echo() -> Result<Self> {
        Self::serve(echo)
    }

    /// Starts the target of [`Exchange`], which sends its payload and reports what it received.
    pub(crate) fn exchange(exchange: Exchange) -> Result<Self> {
        Self::serve(move |stream| exchange.answer(stream))
    }

    /// Starts a service that accepts and then neither reads nor writes. It closes its connections when `gate` opens.
    pub(crate) fn hanging(gate: &Gate) -> Result<Self> {
        let gate = gate.clone();
        Self::serve(move |stream| {
            gate.wait();
            drop(stream);
            Ok(())
        })
    }

    /// Starts a service that sends this many bytes and then resets the connection.
    pub(crate) fn resetting(after: usize) -> Result<Self> {
        Self::serve(move |mut stream| {
            stream.write_all(&vec![b'.'; after])?;
            // The read waits until the bytes are on their way, since the reset could overtake them.
            stream.read_exact(&mut [0])?;
            reset(stream)
        })
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The number of connections that were accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// The number of connections that are still served.
    pub(crate) fn open(&self) -> usize {
        self.accepted() - self.shared.ended.load(Ordering::SeqCst)
    }

    /// The errors of failed connections, one line each.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until no connection is open, which proves that none that the other side dropped is still held.
    pub(crate) fn is_left_alone(&self) -> Result<()> {
        until(DEADLINE, "the target's connections end", || {
            ensure!(self.open() == 0, "{} of {} connections are still open", self.open(), self.accepted());
            Ok(())
        })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // This connection wakes the thread that accepts.
        TcpStream::connect(self.address).ok();
    }
}

/// Serves a unix socket until the tests end.
pub(crate) fn serve_unix(
    path: &Path,
    behavior: impl Fn(UnixStream) -> io::Result<()> + Send + Sync + 'static,
) -> Result<()> {
    let listener = UnixListener::bind(path).with_context(|| path.display().to_string())?;
    let behavior = Arc::new(behavior);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let behavior = Arc::clone(&behavior);
            thread::spawn(move || behavior(stream));
        }
    });
    Ok(())
}

/// Echoes all bytes, and ends its direction when the other side has ended.
pub(crate) fn echo(connection: impl Connection) -> io::Result<()> {
    let (mut from, mut to) = (connection.duplicate()?, connection);
    io::copy(&mut from, &mut to)?;
    to.close(Shutdown::Write)
}

/// A gate that blocks threads until the scenario opens it.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    pub(crate) fn wait(&self) {
        let is_open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(is_open, |is_open| !*is_open).unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{End, dial, echoed, read_to_end_of};

    #[test]
    fn exchange_finds_what_is_missing() {
        let target = Target::exchange(Exchange::SMALL).unwrap();
        Exchange::SMALL.ask(dial(&target.address()).unwrap()).unwrap();
        let longer = Exchange { down: Exchange::SMALL.down + 1, ..Exchange::SMALL };
        assert!(longer.ask(dial(&target.address()).unwrap()).is_err(), "a byte too few came down");
        let truncating = Target::serve(|stream| Exchange::SMALL.answer(Short(stream))).unwrap();
        assert!(Exchange::SMALL.ask(dial(&truncating.address()).unwrap()).is_err(), "the target got too few");
    }

    /// A connection that loses one byte of those that are read.
    struct Short(TcpStream);

    impl io::Read for Short {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            Ok(if count > 1 { count - 1 } else { count })
        }
    }

    impl io::Write for Short {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    impl Connection for Short {
        fn duplicate(&self) -> io::Result<Self> {
            self.0.try_clone().map(Self)
        }

        fn close(&self, how: Shutdown) -> io::Result<()> {
            self.0.shutdown(how)
        }
    }

    #[test]
    fn reset_and_end_are_told_apart() {
        let target = Target::resetting(10).unwrap();
        let mut client = dial(&target.address()).unwrap();
        client.write_all(b"!").unwrap();
        assert_eq!(read_to_end_of(client).unwrap(), (10, End::Reset));
        let target = Target::echo().unwrap();
        let mut client = dial(&target.address()).unwrap();
        echoed(&mut client, b"here").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end_of(client).unwrap(), (0, End::Clean));
        target.is_left_alone().unwrap();
        assert_eq!((target.accepted(), target.failures()), (1, Vec::new()));
    }

    #[test]
    fn hanging_target_holds_on_until_the_gate_opens() {
        let gate = Gate::default();
        let target = Target::hanging(&gate).unwrap();
        let client = dial(&target.address()).unwrap();
        until(DEADLINE, "accepted", || {
            ensure!(target.open() == 1);
            Ok(())
        })
        .unwrap();
        gate.open();
        assert_eq!(read_to_end_of(client).unwrap(), (0, End::Clean));
    }
}
