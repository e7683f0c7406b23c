//! A tap between client and server: it forwards bytes, records them, and injects faults.

pub(crate) mod cutter;
pub(crate) mod fault;
mod wire;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context as _, Result};

use self::fault::{Fault, Side, Way, lock};
use self::wire::{Wire, pass};
use crate::harness::recording::Recording;

/// One connection through the tap.
pub(crate) struct Crossing {
    up: Arc<Recording>,
    down: Arc<Recording>,
    wire: Arc<Wire>,
}

impl Crossing {
    pub(crate) fn bytes(&self, way: Way) -> Vec<u8> {
        self.recording(way).bytes()
    }

    /// The number of bytes that were forwarded in this direction, recorded or not.
    pub(crate) fn passed(&self, way: Way) -> usize {
        self.wire.passed(way).load(Ordering::SeqCst)
    }

    /// Ends the connection on both sides.
    pub(crate) fn cut(&self) {
        self.wire.cut();
    }

    pub(crate) fn recording(&self, way: Way) -> &Arc<Recording> {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }
}

/// What the tap does with forwarded bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Everything,
    Nothing,
}

/// A listener that forwards each connection to another address.
pub(crate) struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: Mutex<String>,
    fault: Mutex<Option<Fault>>,
    crossings: Mutex<Vec<Arc<Crossing>>>,
    keeps: Keeps,
    closing: AtomicBool,
}

impl Tap {
    pub(crate) fn before(upstream: &str) -> Result<Self> {
        Self::start(upstream, None, Keeps::Everything)
    }

    pub(crate) fn with_fault(upstream: &str, fault: Fault) -> Result<Self> {
        Self::start(upstream, Some(fault), Keeps::Everything)
    }

    /// Starts a tap that records nothing, for more bytes than should be kept in memory.
    pub(crate) fn unrecorded(upstream: &str) -> Result<Self> {
        Self::start(upstream, None, Keeps::Nothing)
    }

    fn start(upstream: &str, fault: Option<Fault>, keeps: Keeps) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("the tap's listener")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream.to_owned()),
            fault: Mutex::new(fault),
            crossings: Mutex::default(),
            keeps,
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

    /// Changes the address that new connections are forwarded to. Those to the old one are among the current ones now.
    pub(crate) fn redirect(&self, upstream: &str) {
        upstream.clone_into(&mut lock(&self.shared.upstream));
    }

    /// Sets the fault of new connections.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        *lock(&self.shared.fault) = fault;
    }

    /// Ends all current connections on both sides.
    pub(crate) fn cut(&self) {
        self.crossings().iter().for_each(|crossing| crossing.cut());
    }

    /// Ends all current connections with a RST to both sides, and returns how many there were.
    pub(crate) fn reset(&self) -> usize {
        self.crossings().iter().filter(|crossing| crossing.wire.reset()).count()
    }

    /// Stops forwarding on all current connections, which stay open.
    pub(crate) fn stall(&self) {
        self.crossings().iter().for_each(|crossing| crossing.wire.stall());
    }

    /// Undoes [`stall`](Self::stall).
    pub(crate) fn flow(&self) {
        self.crossings().iter().for_each(|crossing| crossing.wire.flow());
    }

    /// Closes all current connections on the side opposite to `keeps`, and leaves them open on that of `keeps`.
    pub(crate) fn half_open(&self, keeps: Side) {
        self.crossings().iter().for_each(|crossing| crossing.wire.half_open(keeps));
    }

    /// The number of connections so far.
    pub(crate) fn count(&self) -> usize {
        lock(&self.shared.crossings).len()
    }

    /// The most recent connection.
    pub(crate) fn last(&self) -> Result<Arc<Crossing>> {
        lock(&self.shared.crossings).last().cloned().context("no connection came through the tap")
    }

    /// All connections in the order in which they were made.
    pub(crate) fn crossings(&self) -> Vec<Arc<Crossing>> {
        lock(&self.shared.crossings).clone()
    }

    /// All bytes that were forwarded in this direction, of all connections.
    pub(crate) fn bytes(&self, way: Way) -> Vec<u8> {
        lock(&self.shared.crossings).iter().flat_map(|crossing| crossing.bytes(way)).collect()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.crossings().iter().for_each(|crossing| crossing.wire.close());
        // This connection wakes the thread that accepts.
        TcpStream::connect(self.address).ok();
    }
}

impl Shared {
    fn carry(&self, client: TcpStream) -> Result<()> {
        // It is locked until the connection is among the current ones, which whoever changes it may cut.
        let upstream = lock(&self.upstream);
        let server = TcpStream::connect(upstream.as_str())?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let wire = Arc::new(Wire::between(client.try_clone()?, server.try_clone()?));
        let crossing =
            Arc::new(Crossing { up: Arc::default(), down: Arc::default(), wire: Arc::clone(&wire) });
        lock(&self.crossings).push(Arc::clone(&crossing));
        drop(upstream);
        let fault = *lock(&self.fault);
        let keeps = self.keeps;
        for (way, from, to) in
            [(Way::Up, client.try_clone()?, server.try_clone()?), (Way::Down, server, client)]
        {
            let recording = Arc::clone(crossing.recording(way));
            let wire = Arc::clone(&wire);
            thread::spawn(move || {
                let record = |bytes: &[u8]| {
                    if keeps == Keeps::Everything {
                        recording.append(bytes);
                    }
                };
                if pass(way, &from, &to, &wire, record, fault).is_err() {
                    to.shutdown(Shutdown::Both).ok();
                    from.shutdown(Shutdown::Both).ok();
                }
                recording.end();
                wire.leave();
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::harness::{DEADLINE, End, Exchange, Target, dial, echoed, read_to_end_of, until};

    /// Sends a text through the tap to a listener that echoes it, and returns the bytes that each end got.
    fn crossed(fault: Option<Fault>) -> (Vec<u8>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = listener.local_addr().unwrap().to_string();
        let tap = Tap::start(&upstream, fault, Keeps::Everything).unwrap();
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
        let answer = answer.wait_end(DEADLINE).unwrap();
        let got = echo.join().unwrap();
        assert_eq!(tap.bytes(Way::Up), got, "the tap recorded something else than what it passed on");
        (got, answer)
    }

    #[test]
    fn tap_without_a_fault_changes_nothing_and_keeps_half_closes() {
        assert_eq!(crossed(None), (TEXT.to_vec(), TEXT.to_vec()));
        assert_eq!(crossed(Some(Fault::Trickle)), (TEXT.to_vec(), TEXT.to_vec()));
    }

    #[test]
    fn cut_passes_exactly_the_bytes_before_it() {
        let (got, answer) = crossed(Some(Fault::Cut { way: Way::Up, after: 5 }));
        assert_eq!((got.as_slice(), answer.as_slice()), (&TEXT[..5], &b""[..]));
        let (got, answer) = crossed(Some(Fault::Cut { way: Way::Down, after: 3 }));
        assert_eq!((got.as_slice(), answer.as_slice()), (TEXT, &TEXT[..3]));
    }

    #[test]
    fn reset_is_told_to_both_sides() {
        let target = Target::serve(|mut stream| {
            std::io::copy(&mut stream, &mut std::io::sink())?;
            Ok(())
        })
        .unwrap();
        let tap = Tap::before(&target.address()).unwrap();
        let client = dial(&tap.address()).unwrap();
        until(DEADLINE, "accepted", || {
            anyhow::ensure!(target.open() == 1);
            Ok(())
        })
        .unwrap();
        assert_eq!((tap.reset(), tap.reset()), (1, 0));
        assert_eq!(read_to_end_of(client).unwrap(), (0, End::Reset));
        target.is_left_alone().unwrap();
        assert_eq!(target.failures().len(), 1, "the target was told of an end");
        let tap = Tap::with_fault(&target.address(), Fault::Reset { way: Way::Up, after: 5 }).unwrap();
        let mut client = dial(&tap.address()).unwrap();
        client.write_all(TEXT).unwrap();
        assert_eq!(read_to_end_of(client).unwrap(), (0, End::Reset));
        target.is_left_alone().unwrap();
        assert_eq!((target.failures().len(), tap.last().unwrap().passed(Way::Up)), (2, 5));
    }

    #[test]
    fn flip_changes_exactly_one_bit() {
        let (got, _) = crossed(Some(Fault::Flip { way: Way::Up, at: 4 }));
        let changed: u32 = got.iter().zip(TEXT).map(|(one, other)| (one ^ other).count_ones()).sum();
        assert_eq!((got.len(), changed, got[4] ^ TEXT[4]), (TEXT.len(), 1, 0x10));
    }

    #[test]
    fn delay_costs_a_round_trip_and_not_one_for_each_piece() {
        let delay = Duration::from_millis(40);
        let started = Instant::now();
        assert_eq!(crossed(Some(Fault::Delay(delay))), (TEXT.to_vec(), TEXT.to_vec()));
        assert!(started.elapsed() >= 2 * delay);
        let target = Target::exchange(Exchange { up: 4_000_000, down: 4_000_000 }).unwrap();
        let tap = Tap::with_fault(&target.address(), Fault::Delay(delay)).unwrap();
        let started = Instant::now();
        Exchange { up: 4_000_000, down: 4_000_000 }.ask(dial(&tap.address()).unwrap()).unwrap();
        assert!(started.elapsed() < 30 * delay, "{:?}", started.elapsed());
    }

    #[test]
    fn stalled_wire_flows_again_with_nothing_lost() {
        let target = Target::echo().unwrap();
        let tap = Tap::before(&target.address()).unwrap();
        let mut client = dial(&tap.address()).unwrap();
        echoed(&mut client, b"before").unwrap();
        tap.stall();
        client.write_all(b"held").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(client.read(&mut [0; 4]).is_err(), "something passed a stalled wire");
        tap.flow();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut back = [0; 4];
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"held");
    }

    #[test]
    fn half_open_wire_tells_one_side_alone() {
        let target = Target::echo().unwrap();
        let tap = Tap::before(&target.address()).unwrap();
        let mut client = dial(&tap.address()).unwrap();
        echoed(&mut client, b"before").unwrap();
        tap.half_open(Side::Client);
        target.is_left_alone().unwrap();
        client.write_all(b"into nothing").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(client.read(&mut [0; 4]).is_err(), "the client was told");
    }

    const TEXT: &[u8] = b"what crosses the wire";
}
