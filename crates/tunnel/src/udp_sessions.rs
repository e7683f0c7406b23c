//! UDP sessions: the datagrams that arrive at one socket, separated by their source or, with SOCKS, by their
//! destination. Each session is carried on a channel of its own.
//!
//! ```text
//! UDP socket -> UdpSessions: by key -> the queue of a session -> relay_datagrams -> channel
//! UDP socket <- to the session's peer, behind its header <- relay_datagrams <- channel
//! ```
//!
//! Datagrams may be lost at any time, so nothing waits here: a queue that is full loses the newest.

mod session;

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep};

use self::session::{Queued, millis};
use crate::drops::{DropCounter, DropReason, FlowDrops};
use crate::udp::{Correspondent, UdpListener};

pub use self::session::UdpSession;

/// The UDP sessions at one listener, with the queues of their datagrams.
#[derive(Debug)]
pub struct UdpSessions<K> {
    socket: Arc<UdpListener>,
    open: HashMap<K, OpenSession>,
    /// Bytes in all queues.
    queued: Arc<AtomicUsize>,
    started: Instant,
    gave_way: GaveWay,
    /// What the log calls the socket.
    name: String,
    counter: DropCounter,
    /// Of datagrams that belong to no session.
    drops: FlowDrops,
}

/// A session, as its socket knows it.
#[derive(Debug)]
struct OpenSession {
    queue: mpsc::Sender<Queued>,
    /// When there last was a datagram either way, in milliseconds since the start.
    last: Arc<AtomicU64>,
    drops: FlowDrops,
    /// Dropped once there is to be no more of the session.
    _ended: oneshot::Sender<()>,
}

/// UdpSessions that made room for others.
#[derive(Debug, Default)]
struct GaveWay {
    said: Option<Instant>,
    since: u64,
}

/// The session that a datagram belongs to, and the place of its payload.
#[derive(Debug)]
pub struct SessionKey<K> {
    /// What tells it from other sessions.
    pub key: K,
    /// Where the payload is.
    pub payload: Range<usize>,
    /// What is to stand in front of what comes back.
    pub header: Vec<u8>,
}

impl<K: Eq + Hash + Clone + fmt::Display> UdpSessions<K> {
    /// None yet. The log calls the socket `name`, which is fit for it.
    #[must_use]
    pub fn new(socket: Arc<UdpListener>, name: String, counter: &DropCounter) -> Self {
        let drops = counter.flow(name.clone());
        Self {
            socket,
            open: HashMap::new(),
            queued: Arc::default(),
            started: Instant::now(),
            gave_way: GaveWay::default(),
            name,
            counter: counter.clone(),
            drops,
        }
    }

    /// Waits for a datagram that begins a session, and hands on all others meanwhile; `key_of` says of which one each
    /// is, by where it comes from and its bytes, or drops it. Can be dropped and called again.
    pub async fn next(
        &mut self,
        mut key_of: impl FnMut(Correspondent, &[u8]) -> Option<SessionKey<K>>,
    ) -> (K, UdpSession) {
        loop {
            // Where it fails, receiving does so too.
            self.socket.readable().await.ok();
            // For as long as there are datagrams.
            let mut buffer = vec![0; MAX_RECEIVED_LEN];
            loop {
                let (len, from) = match self.socket.try_recv(&mut buffer) {
                    Ok(received) => received,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        // Mostly an earlier answer that found nobody: it says nothing of the other sessions.
                        tracing::debug!(%error, "cannot receive a datagram");
                        sleep(PAUSE).await;
                        continue;
                    }
                };
                let datagram = &buffer[..len];
                let Some(SessionKey { key, payload, header }) = key_of(from, datagram) else {
                    self.drops.note(DropReason::NotSocks, len);
                    continue;
                };
                let payload = datagram.get(payload).unwrap_or_default();
                if let Some(session) = self.hand_on(&key, from, header, payload) {
                    return (key, session);
                }
                // Other tasks of this thread have a turn.
                consume_budget().await;
            }
        }
    }

    /// Gives a session where the datagram begins one.
    fn hand_on(
        &mut self,
        key: &K,
        from: Correspondent,
        header: Vec<u8>,
        payload: &[u8],
    ) -> Option<UdpSession> {
        let now = self.started.elapsed();
        let open = self.open.get(key).filter(|open| !open.queue.is_closed());
        let drops = open.map_or(&self.drops, |open| &open.drops);
        let before = self.queued.fetch_add(payload.len(), Ordering::Relaxed);
        let datagram = Queued { payload: payload.into(), queued: Arc::clone(&self.queued) };
        if before + payload.len() > MAX_QUEUED {
            drops.note(DropReason::BytesWaiting(MAX_QUEUED), payload.len());
            return None;
        }
        let datagram = match open {
            Some(open) => match open.queue.try_send(datagram) {
                Ok(()) => {
                    open.last.store(millis(now), Ordering::Relaxed);
                    return None;
                }
                Err(mpsc::error::TrySendError::Full(_)) => {
                    drops.note(DropReason::QueueFull(MAX_WAITING), payload.len());
                    return None;
                }
                Err(mpsc::error::TrySendError::Closed(datagram)) => datagram,
            },
            None => datagram,
        };
        self.open.retain(|_, open| !open.queue.is_closed());
        if self.open.len() >= MAX_SESSIONS {
            self.give_way();
        }
        let (queue, incoming) = mpsc::channel(MAX_WAITING);
        queue.try_send(datagram).ok();
        let last = Arc::new(AtomicU64::new(millis(now)));
        let (end, ended) = oneshot::channel();
        let drops = self.counter.flow(format!("{key} at {}", self.name));
        let open = OpenSession { queue, last: Arc::clone(&last), drops: drops.clone(), _ended: end };
        self.open.insert(key.clone(), open);
        let (socket, started) = (Arc::clone(&self.socket), self.started);
        Some(UdpSession { socket, from, header, incoming, ended, started, last, drops })
    }

    /// Ends the session that has been idle for longest, to make room for another one. What waits in it is still carried.
    pub fn give_way(&mut self) {
        let idle = self.open.iter().min_by_key(|(_, open)| open.last.load(Ordering::Relaxed));
        let Some(key) = idle.map(|(key, _)| key.clone()) else { return };
        self.open.remove(&key);
        self.gave_way.since += 1;
        let now = Instant::now();
        if self.gave_way.said.is_none_or(|said| now >= said + WARN_EVERY) {
            let GaveWay { since, .. } =
                std::mem::replace(&mut self.gave_way, GaveWay { said: Some(now), since: 0 });
            tracing::warn!(
                socket = self.name,
                flows = self.open.len() + 1,
                gave_way = since,
                "too many flows of datagrams at once: the one that has been idle for longest gives way to the next"
            );
        }
    }
}

/// Each source is a session, for each address that it sends to, and its datagrams are as they are.
#[must_use]
pub fn by_source(from: Correspondent, datagram: &[u8]) -> Option<SessionKey<Correspondent>> {
    Some(SessionKey { key: from, payload: 0..datagram.len(), header: Vec::new() })
}

/// Receiving at once could fail at once.
const PAUSE: Duration = Duration::from_millis(10);
/// No datagram is longer.
const MAX_RECEIVED_LEN: usize = 65535;
/// UdpSessions at one socket: whoever forges sources must not use up all descriptors.
const MAX_SESSIONS: usize = 1024;
/// Datagrams of one session that wait, for a channel above all.
const MAX_WAITING: usize = 64;
/// Bytes of all sessions of a socket that wait.
const MAX_QUEUED: usize = 4 * 1024 * 1024;
/// How often the log is told that sessions give way.
const WARN_EVERY: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::SocketAddr;

    use tokio::net::UdpSocket;
    use wire_protocol::stream::DatagramSocket as _;

    use super::*;
    use crate::listener::bind::Families;

    async fn socket() -> (UdpSessions<Correspondent>, SocketAddr) {
        let socket = UdpListener::bind_to("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        (UdpSessions::new(socket.into(), "here".into(), &DropCounter::default()), address)
    }

    async fn sender(to: SocketAddr) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(to).await.unwrap();
        socket
    }

    async fn received(session: &mut UdpSession) -> io::Result<Vec<u8>> {
        let mut buf = [0; 100];
        let len = poll_fn(|cx| session.poll_recv(cx, &mut buf)).await?;
        Ok(buf[..len].to_vec())
    }

    fn from(port: usize) -> Correspondent {
        let peer = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        Correspondent { peer, here: None, socket: 0 }
    }

    fn hand_on(sessions: &mut UdpSessions<Correspondent>, port: usize, payload: &[u8]) -> Option<UdpSession> {
        sessions.hand_on(&from(port), from(port), Vec::new(), payload)
    }

    #[tokio::test]
    async fn each_source_has_its_session_and_a_session_that_has_ended_begins_anew() {
        let (mut sessions, address) = socket().await;
        let (first, second) = (sender(address).await, sender(address).await);
        first.send(b"one").await.unwrap();
        let (key, mut session) = sessions.next(by_source).await;
        assert_eq!(key.peer, first.local_addr().unwrap());
        first.send(b"two").await.unwrap();
        second.send(b"").await.unwrap();
        let (key, mut other) = sessions.next(by_source).await;
        assert_eq!(key.peer, second.local_addr().unwrap());
        assert_eq!(received(&mut session).await.unwrap(), b"one");
        assert_eq!(received(&mut session).await.unwrap(), b"two");
        assert_eq!(received(&mut other).await.unwrap(), b"");

        poll_fn(|cx| session.poll_send_ready(cx)).await.unwrap();
        session.try_send(b"back").unwrap();
        let mut buf = [0; 10];
        assert_eq!(first.recv(&mut buf).await.unwrap(), 4);

        drop(session);
        first.send(b"three").await.unwrap();
        let (_, mut session) = sessions.next(by_source).await;
        assert_eq!(received(&mut session).await.unwrap(), b"three");
        drop(sessions);
        session.ended().await;
        session.ended().await;
        assert_eq!(received(&mut session).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_what_is_dropped_is_counted() {
        let (mut sessions, _) = socket().await;
        let mut session = hand_on(&mut sessions, 1, &[7]).unwrap();
        for _ in 0..2 * MAX_WAITING {
            assert!(hand_on(&mut sessions, 1, &[7]).is_none());
        }
        assert_eq!(sessions.queued.load(Ordering::Relaxed), MAX_WAITING);
        let dropped = |sessions: &UdpSessions<_>| usize::try_from(sessions.counter.count()).unwrap();
        assert_eq!(dropped(&sessions), MAX_WAITING + 1);
        received(&mut session).await.unwrap();
        assert_eq!(sessions.queued.load(Ordering::Relaxed), MAX_WAITING - 1);
        drop(session);
        assert_eq!(dropped(&sessions), 2 * MAX_WAITING, "what waited in the session is dropped with it");
        let long = vec![0; MAX_QUEUED];
        let full = hand_on(&mut sessions, 1, &long).unwrap();
        assert!(hand_on(&mut sessions, 2, &[0]).is_none());
        drop(full);
        assert_eq!(dropped(&sessions), 2 * MAX_WAITING + 2);
        assert_eq!(sessions.queued.load(Ordering::Relaxed), 0);
    }

    /// Every one after the 1024th was lost, for as long as the others stayed.
    #[tokio::test(start_paused = true)]
    async fn the_session_that_was_idle_for_longest_gives_way() {
        let (mut sessions, _) = socket().await;
        let mut open = Vec::new();
        for port in 1..=MAX_SESSIONS {
            open.push(hand_on(&mut sessions, port, &[1]).unwrap());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // The first is asked again, the second answers: the third has been idle for longest.
        assert!(hand_on(&mut sessions, 1, &[2]).is_none());
        open[1].try_send(b"").ok();
        let mut newcomers = Vec::new();
        for port in 2 * MAX_SESSIONS..2 * MAX_SESSIONS + 10 {
            tokio::time::advance(Duration::from_millis(1)).await;
            newcomers.push(hand_on(&mut sessions, port, &[1]).unwrap());
            assert_eq!(sessions.open.len(), MAX_SESSIONS);
        }
        // What waits is still carried.
        for session in &mut open {
            assert_eq!(received(session).await.unwrap(), [1]);
        }
        for session in &mut open[2..12] {
            session.ended().await;
            assert_eq!(received(session).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        assert_eq!(received(&mut open[0]).await.unwrap(), [2]);
        assert!(!sessions.open[&from(13)].queue.is_closed());
        assert_eq!((sessions.gave_way.since, sessions.counter.count()), (9, 0), "one of them was told");
    }

    #[tokio::test]
    async fn what_comes_back_stands_behind_its_header() {
        let (mut sessions, address) = socket().await;
        let sender = sender(address).await;
        sender.send(b"to 53: what?").await.unwrap();
        let (_, mut session) = sessions
            .next(|_, _| Some(SessionKey { key: from(53), payload: 7..99, header: b"from 53: ".into() }))
            .await;
        // A range that is not there is an empty payload, not a panic.
        assert_eq!(received(&mut session).await.unwrap(), b"");
        poll_fn(|cx| session.poll_send_ready(cx)).await.unwrap();
        session.try_send(b"that").unwrap();
        let mut buf = [0; 100];
        let len = sender.recv(&mut buf).await.unwrap();
        assert_eq!(&buf[..len], b"from 53: that");
    }

    /// A program that asks `localhost` may ask either family.
    #[tokio::test]
    async fn one_port_is_listened_on_at_all_addresses_of_a_name() {
        let all = ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"].map(|address| address.parse().unwrap());
        let listener = UdpListener::bind_all(&all, Families::AsUsual).unwrap();
        let port = listener.local_addr().unwrap().port();
        let listener = Arc::new(listener);
        let mut sessions = UdpSessions::new(Arc::clone(&listener), "here".into(), &DropCounter::default());
        for mut asked in all {
            asked.set_port(port);
            let client = UdpSocket::bind(SocketAddr::new(asked.ip(), 0)).await.unwrap();
            client.send_to(b"?", asked).await.unwrap();
            let (from, mut session) = sessions.next(by_source).await;
            assert_eq!((from.peer, listener.address_of(&from)), (client.local_addr().unwrap(), Some(asked)));
            poll_fn(|cx| session.poll_send_ready(cx)).await.unwrap();
            session.try_send(b"!").unwrap();
            let mut buf = [0; 10];
            assert_eq!(client.recv_from(&mut buf).await.unwrap(), (1, asked));
        }
        // Each is taken: none of them may be left out in silence.
        let taken = all.map(|address| SocketAddr::new(address.ip(), port));
        for address in taken {
            let free = SocketAddr::from(([127, 0, 0, 3], port));
            let error = UdpListener::bind_all(&[free, address], Families::AsUsual).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }
}
