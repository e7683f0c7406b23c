//! Flows of datagrams: what comes in at one UDP socket, told apart by where it comes from or, with SOCKS, by where it
//! is to go, each for a channel of its own.
//!
//! ```text
//! UDP socket -> Flows: by key -> the queue of a flow -> relay_datagrams -> channel
//! UDP socket <- to the flow's peer, behind its header <- relay_datagrams <- channel
//! ```
//!
//! Datagrams may be lost at any time, so nothing waits here: a queue that is full loses the newest.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::sleep;
use wire_protocol::stream::DatagramSocket;

use crate::address::{Address, EVERYWHERE};
use crate::listener::candidates;

/// The flows at one UDP socket.
#[derive(Debug)]
pub struct Flows<K> {
    socket: Arc<UdpSocket>,
    open: HashMap<K, mpsc::Sender<Queued>>,
    /// Bytes in all queues.
    queued: Arc<AtomicUsize>,
}

/// Which flow a datagram is of.
#[derive(Debug)]
pub struct Belonging<K> {
    /// What tells it from other flows.
    pub key: K,
    /// Where the payload is.
    pub payload: Range<usize>,
    /// What is to stand in front of what comes back.
    pub header: Vec<u8>,
}

/// One flow, to be relayed with [`relay_datagrams`](wire_protocol::stream::relay_datagrams). It ends with its
/// [`Flows`], and once it is dropped the next datagram begins another.
#[derive(Debug)]
pub struct Flow {
    socket: Arc<UdpSocket>,
    peer: SocketAddr,
    header: Vec<u8>,
    incoming: mpsc::Receiver<Queued>,
}

/// A datagram that waits.
#[derive(Debug)]
struct Queued {
    payload: Vec<u8>,
    queued: Arc<AtomicUsize>,
}

impl<K: Eq + Hash + Clone> Flows<K> {
    /// None yet.
    #[must_use]
    pub fn new(socket: Arc<UdpSocket>) -> Self {
        Self { socket, open: HashMap::new(), queued: Arc::default() }
    }

    /// Waits for a datagram that begins a flow, and hands on all others meanwhile; `belonging` says of which one each
    /// is, by where it comes from and its bytes, or drops it. Can be dropped and called again.
    pub async fn next(
        &mut self,
        mut belonging: impl FnMut(SocketAddr, &[u8]) -> Option<Belonging<K>>,
    ) -> (K, Flow) {
        let mut buffer = vec![0; MAX_DATAGRAM_LEN];
        loop {
            let (len, peer) = match self.socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // Mostly an earlier answer that found nobody: it says nothing of the other flows.
                    tracing::debug!(%error, "cannot receive a datagram");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let datagram = &buffer[..len];
            let Some(Belonging { key, payload, header }) = belonging(peer, datagram) else { continue };
            let payload = datagram.get(payload).unwrap_or_default();
            if let Some(flow) = self.hand_on(&key, peer, header, payload) {
                return (key, flow);
            }
        }
    }

    /// Gives a flow where the datagram begins one.
    fn hand_on(&mut self, key: &K, peer: SocketAddr, header: Vec<u8>, payload: &[u8]) -> Option<Flow> {
        let before = self.queued.fetch_add(payload.len(), Ordering::Relaxed);
        let datagram = Queued { payload: payload.into(), queued: Arc::clone(&self.queued) };
        if before + payload.len() > MAX_QUEUED {
            tracing::debug!(%peer, "a datagram is lost: too many wait");
            return None;
        }
        let datagram = match self.open.get(key) {
            Some(flow) => match flow.try_send(datagram) {
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => return None,
                Err(mpsc::error::TrySendError::Closed(datagram)) => datagram,
            },
            None => datagram,
        };
        self.open.retain(|_, flow| !flow.is_closed());
        if self.open.len() >= MAX_FLOWS {
            tracing::debug!(%peer, "a datagram is lost: too many flows");
            return None;
        }
        let (sender, incoming) = mpsc::channel(MAX_WAITING);
        sender.try_send(datagram).ok();
        self.open.insert(key.clone(), sender);
        Some(Flow { socket: Arc::clone(&self.socket), peer, header, incoming })
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.payload.len(), Ordering::Relaxed);
    }
}

impl DatagramSocket for Flow {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(datagram) = ready!(self.incoming.poll_recv(cx)) else {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        };
        let len = datagram.payload.len().min(buf.len());
        buf[..len].copy_from_slice(&datagram.payload[..len]);
        Poll::Ready(Ok(len))
    }

    fn try_send(&mut self, datagram: &[u8]) -> io::Result<()> {
        if self.header.is_empty() {
            self.socket.try_send_to(datagram, self.peer)?;
        } else {
            self.socket.try_send_to(&[&self.header, datagram].concat(), self.peer)?;
        }
        Ok(())
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send_ready(cx)
    }
}

/// Each source is a flow, and its datagrams are as they are.
#[must_use]
pub fn by_source(peer: SocketAddr, datagram: &[u8]) -> Option<Belonging<SocketAddr>> {
    Some(Belonging { key: peer, payload: 0..datagram.len(), header: Vec::new() })
}

/// A UDP socket at the first address of a name that it can be bound to.
///
/// # Errors
/// Those of the socket; `Unsupported` for a path.
pub async fn bind(address: &Address) -> io::Result<UdpSocket> {
    let Address::Tcp { host, port } = address else { return Err(io::ErrorKind::Unsupported.into()) };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut addresses = candidates(host, *port).await?;
    if host == EVERYWHERE {
        // The socket of IPv6 takes both families.
        addresses.reverse();
    }
    for candidate in addresses {
        match UdpSocket::bind(candidate).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A UDP socket of its own that exchanges datagrams with the first of `candidates` there is a way to, and with nobody
/// else.
///
/// # Errors
/// `NotFound` where there are no candidates, else those of the socket.
pub async fn connect(candidates: &[SocketAddr]) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in candidates {
        let any: SocketAddr = if candidate.is_ipv4() {
            (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(candidate).await {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Receiving at once could fail at once.
const PAUSE: Duration = Duration::from_millis(10);
/// No datagram is longer.
const MAX_DATAGRAM_LEN: usize = 65535;
/// Flows at one socket: whoever forges sources must not use up all descriptors.
const MAX_FLOWS: usize = 1024;
/// Datagrams of one flow that wait, for a channel above all.
const MAX_WAITING: usize = 64;
/// Bytes of all flows of a socket that wait.
const MAX_QUEUED: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn socket() -> (Flows<SocketAddr>, SocketAddr) {
        let socket = bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = socket.local_addr().unwrap();
        (Flows::new(socket.into()), address)
    }

    async fn sender(to: SocketAddr) -> UdpSocket {
        connect(&[to]).await.unwrap()
    }

    async fn received(flow: &mut Flow) -> io::Result<Vec<u8>> {
        let mut buf = [0; 100];
        let len = poll_fn(|cx| flow.poll_recv(cx, &mut buf)).await?;
        Ok(buf[..len].to_vec())
    }

    #[tokio::test]
    async fn each_source_has_its_flow_and_a_flow_that_has_ended_begins_anew() {
        let (mut flows, address) = socket().await;
        let (first, second) = (sender(address).await, sender(address).await);
        first.send(b"one").await.unwrap();
        let (key, mut flow) = flows.next(by_source).await;
        assert_eq!(key, first.local_addr().unwrap());
        first.send(b"two").await.unwrap();
        second.send(b"").await.unwrap();
        let (key, mut other) = flows.next(by_source).await;
        assert_eq!(key, second.local_addr().unwrap());
        assert_eq!(received(&mut flow).await.unwrap(), b"one");
        assert_eq!(received(&mut flow).await.unwrap(), b"two");
        assert_eq!(received(&mut other).await.unwrap(), b"");

        poll_fn(|cx| flow.poll_send_ready(cx)).await.unwrap();
        flow.try_send(b"back").unwrap();
        let mut buf = [0; 10];
        assert_eq!(first.recv(&mut buf).await.unwrap(), 4);

        drop(flow);
        first.send(b"three").await.unwrap();
        let (_, mut flow) = flows.next(by_source).await;
        assert_eq!(received(&mut flow).await.unwrap(), b"three");
        drop(flows);
        assert_eq!(received(&mut flow).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_waits_is_bounded() {
        let (mut flows, _) = socket().await;
        let peer = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut flow = flows.hand_on(&peer(1), peer(1), Vec::new(), &[7]).unwrap();
        for _ in 0..2 * MAX_WAITING {
            assert!(flows.hand_on(&peer(1), peer(1), Vec::new(), &[7]).is_none());
        }
        assert_eq!(flows.queued.load(Ordering::Relaxed), MAX_WAITING);
        let mut others = Vec::new();
        for port in 2..=MAX_FLOWS {
            let port = u16::try_from(port).unwrap();
            others.push(flows.hand_on(&peer(port), peer(port), Vec::new(), &[]).unwrap());
        }
        assert!(flows.hand_on(&peer(9999), peer(9999), Vec::new(), &[]).is_none());
        others.pop();
        assert!(flows.hand_on(&peer(9999), peer(9999), Vec::new(), &[]).is_some());

        received(&mut flow).await.unwrap();
        assert_eq!(flows.queued.load(Ordering::Relaxed), MAX_WAITING - 1);
        drop(flow);
        let long = vec![0; MAX_QUEUED];
        let key = peer(1);
        let full = flows.hand_on(&key, key, Vec::new(), &long).unwrap();
        assert!(flows.hand_on(&peer(2), peer(2), Vec::new(), &[0]).is_none());
        drop(full);
        assert_eq!(flows.queued.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_comes_back_stands_behind_its_header() {
        let (mut flows, address) = socket().await;
        let sender = sender(address).await;
        sender.send(b"to 53: what?").await.unwrap();
        let (_, mut flow) = flows
            .next(|_, _| Some(Belonging { key: address, payload: 7..99, header: b"from 53: ".into() }))
            .await;
        // A range that is not there is an empty payload, not a panic.
        assert_eq!(received(&mut flow).await.unwrap(), b"");
        poll_fn(|cx| flow.poll_send_ready(cx)).await.unwrap();
        flow.try_send(b"that").unwrap();
        let mut buf = [0; 100];
        let len = sender.recv(&mut buf).await.unwrap();
        assert_eq!(&buf[..len], b"from 53: that");
    }
}
