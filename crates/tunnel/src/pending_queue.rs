//! The queue of connections and UDP sessions of one lease, which wait a limited time for a parked channel to take them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use wire_protocol::message::Target;

use crate::drops::DropReason;
use crate::pending_stream::PendingStream;
use crate::udp_sessions::UdpSession;

/// A connection or UDP session that waits for a parked channel of the client.
#[derive(Debug)]
pub struct Pending {
    /// Since when.
    pub since: Instant,
    /// What it is.
    pub stream: PendingStream,
}

/// The queue of connections and UDP sessions that have come in by one lease.
#[derive(Debug)]
pub struct PendingQueue {
    queue: Mutex<Queue>,
    added: Notify,
    permits: Arc<Semaphore>,
    /// The descriptors of all visitors of the server.
    visitors: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Queue {
    /// The one that has waited longest is in front.
    waiting: VecDeque<(Pending, Option<QueuePermit>)>,
    /// The lease has ended: nobody will take anything any more.
    is_closed: bool,
}

/// A permit to wait in the queue of a lease and, with a descriptor, among all visitors of the server.
#[derive(Debug)]
pub struct QueuePermit {
    _in_lease: Option<OwnedSemaphorePermit>,
    _visitor: Option<OwnedSemaphorePermit>,
}

impl PendingQueue {
    /// With room for `share` of all `visitors`, but no more than there is any use for.
    pub fn new(share: usize, visitors: Arc<Semaphore>) -> Self {
        let permits = Arc::new(Semaphore::new(share.min(MAX_PENDING)));
        Self { queue: Mutex::default(), added: Notify::new(), permits, visitors }
    }

    /// Waits until there is room for one more.
    pub async fn permit(&self, visitor: OwnedSemaphorePermit) -> Option<QueuePermit> {
        let in_lease = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        Some(QueuePermit { _in_lease: Some(in_lease), _visitor: Some(visitor) })
    }

    /// Adds a stream, unless the queue is closed.
    pub fn add(&self, stream: PendingStream, permit: Option<QueuePermit>) {
        let mut queue = self.queue();
        if !queue.is_closed {
            queue.waiting.push_back((Pending { since: Instant::now(), stream }, permit));
            drop(queue);
            self.added.notify_one();
        }
    }

    /// Adds a session of datagrams where there is room. They do not wait: those that nobody takes are lost. Where channels
    /// have run out, `give_way` ends another session there, whose channel comes back.
    pub fn try_add(&self, mut session: UdpSession, target: Target, give_way: impl FnOnce()) {
        self.make_room(give_way);
        if let Ok(in_lease) = Arc::clone(&self.permits).try_acquire_owned() {
            // All sessions share the socket of the lease.
            let permit = QueuePermit { _in_lease: Some(in_lease), _visitor: None };
            let (session, target) = (Box::new(session), Arc::new(target));
            self.add(PendingStream::Datagrams { session, target }, Some(permit));
        } else {
            session.lose(DropReason::NoChannel);
        }
    }

    /// Has a session give way where somebody waits for so long that the client can have no more channels. Whether anybody
    /// waits.
    pub fn make_room(&self, give_way: impl FnOnce()) -> bool {
        let Some(since) = self.queue().waiting.front().map(|(pending, _)| pending.since) else {
            return false;
        };
        if since.elapsed() >= PROMPTLY {
            give_way();
        }
        true
    }

    /// Puts one back that turned out not to be served: it has waited longest. Where no descriptor is left for it, it is turned
    /// away: it had that of a channel, which is gone.
    pub fn put_back(&self, pending: Pending) {
        let permit = match &pending.stream {
            PendingStream::Connection { .. } | PendingStream::Socks { .. } => {
                let Ok(visitor) = Arc::clone(&self.visitors).try_acquire_owned() else { return };
                Some(QueuePermit { _in_lease: None, _visitor: Some(visitor) })
            }
            // All sessions share the socket of the lease.
            PendingStream::Datagrams { .. } => None,
        };
        let mut queue = self.queue();
        if !queue.is_closed {
            queue.waiting.push_front((pending, permit));
            drop(queue);
            self.added.notify_one();
        }
    }

    /// Waits for the stream that has waited longest, and takes it out. Can be dropped and called again.
    pub async fn take(&self) -> Pending {
        loop {
            let added = self.added.notified();
            if let Some((pending, _)) = self.queue().waiting.pop_front() {
                // A task that was told of a stream that is gone meanwhile tells of the next one.
                self.added.notify_one();
                return pending;
            }
            added.await;
        }
    }

    /// Turns those away that have waited for [`MAX_WAIT`], again and again.
    pub async fn expire(&self) -> Infallible {
        loop {
            tokio::time::sleep(EXPIRE_EVERY).await;
            let mut queue = self.queue();
            let before = queue.waiting.len();
            queue.waiting.retain(|(pending, _)| pending.since.elapsed() < MAX_WAIT);
            let expired = before - queue.waiting.len();
            drop(queue);
            if expired > 0 {
                tracing::warn!(expired, "connections have waited for their client in vain");
            }
        }
    }

    /// Turns all away, now and from now on.
    pub fn close(&self) {
        let mut queue = self.queue();
        queue.is_closed = true;
        queue.waiting.clear();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections that wait for a parked channel; more wait with the system.
const MAX_PENDING: usize = 64;
/// How long a stream waits for a parked channel.
pub const MAX_WAIT: Duration = Duration::from_secs(30);
/// A parked channel takes what waits within this time, or the client makes another one, unless it can have no more.
pub const PROMPTLY: Duration = Duration::from_secs(1);
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::drops::DropCounter;
    use crate::socket::Socket;
    use crate::socks::Dialect;
    use crate::udp::UdpListener;
    use crate::udp_sessions::{UdpSessions, by_source};
    use tokio::net::UdpSocket;

    /// A client that closes one parked channel after the other could have had visitors held without a limit.
    #[tokio::test]
    async fn what_is_put_back_has_a_descriptor_or_is_turned_away() {
        let queue = PendingQueue::new(MAX_PENDING, Arc::new(Semaphore::new(2)));
        let put_back = || {
            let (_, there) = tokio::net::UnixStream::pair().unwrap();
            let target = Arc::new(Target::Tcp { host: "x".to_owned(), port: 1 });
            let stream = PendingStream::Socks { socket: Socket::Unix(there), dialect: Dialect::Http, target };
            queue.put_back(Pending { since: Instant::now(), stream });
            queue.queue().waiting.len()
        };
        assert_eq!([put_back(), put_back(), put_back()], [1, 2, 2]);
        drop(queue.take().await);
        assert_eq!(put_back(), 2);
    }

    /// A client that can have no more channels answered nobody's datagrams any more.
    #[tokio::test]
    async fn a_session_gives_way_once_another_one_has_waited() {
        let drops = DropCounter::default();
        let listener = Arc::new(UdpListener::bind_to("127.0.0.1:0".parse().unwrap()).unwrap());
        let address = listener.local_addr().unwrap();
        let mut sessions = UdpSessions::new(listener, "here".into(), &drops);
        let queue = PendingQueue::new(MAX_PENDING, Arc::new(Semaphore::new(1)));
        let gave_way = Cell::new(0);
        let mut sources = Vec::new();
        for number in 0..=MAX_PENDING + 1 {
            let source = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            source.send_to(b"?", address).await.unwrap();
            sources.push(source);
            let (_, session) = sessions.next(by_source).await;
            if number == MAX_PENDING {
                // The first has waited by now.
                queue.queue().waiting[0].0.since -= PROMPTLY;
            }
            let target = Target::Udp { host: "x".into(), port: 1 };
            queue.try_add(session, target, || gave_way.set(gave_way.get() + 1));
        }
        assert!(queue.make_room(|| gave_way.set(gave_way.get() + 1)));
        assert_eq!((queue.queue().waiting.len(), gave_way.get(), drops.count()), (MAX_PENDING, 3, 2));
    }
}
