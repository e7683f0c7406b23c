//! UDP services of the tests: an echo, and a resolver that knows one name.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::harness::deadline::DEADLINE;

/// A UDP service that runs until the tests end.
pub(crate) struct Datagrams {
    address: SocketAddr,
    received: Arc<AtomicUsize>,
    sources: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Datagrams {
    /// Starts a service that answers each datagram with the result of `answer`.
    pub(crate) fn serve(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("a UDP service")?;
        let address = socket.local_addr()?;
        let received = Arc::new(AtomicUsize::new(0));
        let sources = Arc::new(Mutex::new(Vec::new()));
        let (counting, noting) = (Arc::clone(&received), Arc::clone(&sources));
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((count, source)) = socket.recv_from(&mut buffer) {
                counting.fetch_add(1, Ordering::SeqCst);
                let mut sources = noting.lock().unwrap_or_else(PoisonError::into_inner);
                if !sources.contains(&source) {
                    sources.push(source);
                }
                drop(sources);
                if let Some(answer) = answer(&buffer[..count]) {
                    socket.send_to(&answer, source).ok();
                }
            }
        });
        Ok(Self { address, received, sources })
    }

    pub(crate) fn echo() -> Result<Self> {
        Self::serve(|datagram| Some(datagram.to_vec()))
    }

    /// Starts a resolver that answers every question about an address with [`RESOLVED`].
    pub(crate) fn resolver() -> Result<Self> {
        Self::serve(resolve)
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn received(&self) -> usize {
        self.received.load(Ordering::SeqCst)
    }

    /// The number of different sockets that datagrams came from.
    pub(crate) fn sources(&self) -> usize {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Sends a datagram and waits for its echo. Datagrams may be lost, so it is sent again where no echo comes.
pub(crate) fn datagram_echoed(socket: &UdpSocket, payload: &[u8]) -> Result<()> {
    let mut buffer = vec![0; 65_536];
    let time_out = socket.read_timeout()?;
    socket.set_read_timeout(Some(LOST))?;
    let mut tries = DEADLINE.as_secs() / LOST.as_secs();
    loop {
        socket.send(payload)?;
        let received = socket.recv(&mut buffer);
        // A datagram that was sent twice may be echoed twice, and late.
        if received.as_ref().is_ok_and(|&count| &buffer[..count] == payload) {
            break;
        }
        ensure!(tries > 0, "no echo of {} bytes; the last answer was {received:?}", payload.len());
        tries -= 1;
    }
    socket.set_read_timeout(time_out)?;
    Ok(())
}

/// Opens a socket that is connected to one address.
pub(crate) fn datagrams_to(address: &str) -> Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address.trim_end_matches("/udp"))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    Ok(socket)
}

/// The answer of RFC 1035 to a query with one question: the header, the question, and one A record.
fn resolve(query: &[u8]) -> Option<Vec<u8>> {
    let header = query.get(..12)?;
    let name = query.get(12..)?.iter().position(|&length| length == 0)?;
    let question = query.get(12..12 + name + 5)?;
    let mut answer = [&header[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0], question].concat();
    // The record has a pointer to the name in the question, type A, class IN, 60 seconds to live, and four
    // bytes of data.
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    answer.extend(RESOLVED.split('.').filter_map(|octet| octet.parse::<u8>().ok()));
    Some(answer)
}

/// The address in the resolver's answers, from a network for documentation (RFC 5737).
pub(crate) const RESOLVED: &str = "192.0.2.7";

const LOST: Duration = Duration::from_secs(2);
