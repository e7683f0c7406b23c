//! A tap in the wire: passes bytes on, records them, and does harm where it is told to.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

use crate::stage::Recording;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What the tap does to each connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Closes both sides, in good order for TCP, once this many bytes have passed.
    Cut { way: Way, after: usize },
    /// Turns one bit of the byte at this offset.
    Flip { way: Way, at: usize },
}

/// One connection through the tap.
#[derive(Default)]
pub(crate) struct Crossing {
    up: Arc<Recording>,
    down: Arc<Recording>,
}

impl Crossing {
    pub(crate) fn bytes(&self, way: Way) -> Vec<u8> {
        self.recording(way).bytes()
    }

    pub(crate) fn recording(&self, way: Way) -> &Arc<Recording> {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }
}

/// A listener that leads to somewhere else.
pub(crate) struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: Mutex<String>,
    fault: Mutex<Option<Fault>>,
    crossings: Mutex<Vec<Arc<Crossing>>>,
    sockets: Mutex<Vec<TcpStream>>,
    closing: AtomicBool,
}

impl Tap {
    pub(crate) fn before(upstream: &str) -> Result<Self> {
        Self::start(upstream, None)
    }

    pub(crate) fn with_fault(upstream: &str, fault: Fault) -> Result<Self> {
        Self::start(upstream, Some(fault))
    }

    fn start(upstream: &str, fault: Option<Fault>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("the tap's listener")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream.to_owned()),
            fault: Mutex::new(fault),
            crossings: Mutex::default(),
            sockets: Mutex::default(),
            closing: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.closing.load(Ordering::SeqCst) {
                    break;
                }
                // A connection that fails here is closed, which its client sees.
                if let Ok(client) = client {
                    accepting.carry(client).ok();
                }
            }
        });
        Ok(Self { address, shared })
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where connections lead from now on.
    pub(crate) fn redirect(&self, upstream: &str) {
        upstream.clone_into(&mut lock(&self.shared.upstream));
    }

    /// What happens to connections from now on.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        *lock(&self.shared.fault) = fault;
    }

    /// The connection that was made last.
    pub(crate) fn last(&self) -> Result<Arc<Crossing>> {
        lock(&self.shared.crossings).last().cloned().context("no connection came through the tap")
    }

    /// Everything that crossed, in all connections, one way.
    pub(crate) fn bytes(&self, way: Way) -> Vec<u8> {
        lock(&self.shared.crossings).iter().flat_map(|crossing| crossing.bytes(way)).collect()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        for socket in lock(&self.shared.sockets).iter() {
            socket.shutdown(Shutdown::Both).ok();
        }
        // Wakes the thread that accepts.
        TcpStream::connect(self.address).ok();
    }
}

impl Shared {
    fn carry(&self, client: TcpStream) -> Result<()> {
        let server = TcpStream::connect(lock(&self.upstream).as_str())?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        lock(&self.sockets).extend([client.try_clone()?, server.try_clone()?]);
        let crossing = Arc::new(Crossing::default());
        lock(&self.crossings).push(Arc::clone(&crossing));
        let fault = *lock(&self.fault);
        for (way, from, to) in
            [(Way::Up, client.try_clone()?, server.try_clone()?), (Way::Down, server, client)]
        {
            let recording = Arc::clone(crossing.recording(way));
            thread::spawn(move || {
                pass(way, &from, &to, &recording, fault);
                recording.end();
            });
        }
        Ok(())
    }
}

/// Copies one way until its end, its fault or its first error.
fn pass(way: Way, mut from: &TcpStream, mut to: &TcpStream, recording: &Recording, fault: Option<Fault>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0;
    loop {
        let Ok(count) = from.read(&mut buffer) else {
            to.shutdown(Shutdown::Both).ok();
            return;
        };
        if count == 0 {
            to.shutdown(Shutdown::Write).ok();
            return;
        }
        let mut bytes = &mut buffer[..count];
        let mut cut = false;
        match fault {
            Some(Fault::Flip { way: there, at })
                if there == way && (passed..passed + count).contains(&at) =>
            {
                bytes[at - passed] ^= 0x10;
            }
            Some(Fault::Cut { way: there, after }) if there == way && passed + count >= after => {
                bytes = &mut bytes[..after.saturating_sub(passed)];
                cut = true;
            }
            _ => {}
        }
        recording.append(bytes);
        passed += bytes.len();
        if to.write_all(bytes).is_err() || cut {
            from.shutdown(Shutdown::Both).ok();
            to.shutdown(Shutdown::Both).ok();
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::PATIENCE;

    /// Sends a text through the tap to a listener that answers with what it got: both ends' view.
    fn crossed(fault: Option<Fault>) -> (Vec<u8>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tap = Tap::start(&listener.local_addr().unwrap().to_string(), fault).unwrap();
        let echo = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            peer.read_to_end(&mut got).ok();
            peer.write_all(&got).ok();
            got
        });
        let mut client = TcpStream::connect(tap.address()).unwrap();
        let answer = Recording::of(client.try_clone().unwrap());
        client.write_all(TEXT).unwrap();
        client.shutdown(Shutdown::Write).ok();
        let answer = answer.wait_end(PATIENCE).unwrap();
        let got = echo.join().unwrap();
        assert_eq!(tap.bytes(Way::Up), got, "the tap recorded something else than what it passed on");
        (got, answer)
    }

    #[test]
    fn tap_without_a_fault_changes_nothing_and_keeps_half_closes() {
        assert_eq!(crossed(None), (TEXT.to_vec(), TEXT.to_vec()));
    }

    #[test]
    fn cut_passes_exactly_the_bytes_before_it() {
        let (got, answer) = crossed(Some(Fault::Cut { way: Way::Up, after: 5 }));
        assert_eq!((got.as_slice(), answer.as_slice()), (&TEXT[..5], &b""[..]));
        let (got, answer) = crossed(Some(Fault::Cut { way: Way::Down, after: 3 }));
        assert_eq!((got.as_slice(), answer.as_slice()), (TEXT, &TEXT[..3]));
    }

    #[test]
    fn flip_changes_exactly_one_bit() {
        let (got, _) = crossed(Some(Fault::Flip { way: Way::Up, at: 4 }));
        let changed: u32 = got.iter().zip(TEXT).map(|(one, other)| (one ^ other).count_ones()).sum();
        assert_eq!((got.len(), changed, got[4] ^ TEXT[4]), (TEXT.len(), 1, 0x10));
    }

    const TEXT: &[u8] = b"what crosses the wire";
}
