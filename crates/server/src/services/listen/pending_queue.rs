//! What has come in by a lease and waits for its client: a queue that several parked channels take from, and that nothing stays
//! in for long.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tunnel::drops::DropReason;
use tunnel::flows::Flow;
use tunnel::socket::Socket;
use tunnel::socks::Dialect;
use wire_protocol::message::Target;

use super::visitors::Visitor;

/// A connection, or a flow of datagrams, that waits for the client. Dropped, a connection is reset.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) since: Instant,
    pub(super) stream: PendingStream,
}

/// What a parked channel is to do with a connection, or a flow of datagrams, that came in.
#[derive(Debug)]
pub(super) enum PendingStream {
    /// To reach the client; what was said and may not have arrived yet is kept.
    Client { socket: Socket, target: Target, early: Vec<u8> },
    /// To reach, through the client, what it has asked for in SOCKS or HTTP.
    Target { socket: Socket, dialect: Dialect, host: String, port: u16 },
    /// To exchange datagrams with the client, or through it with what was asked for in SOCKS.
    Datagrams { flow: Flow, target: Target },
}

/// The queue of one lease.
#[derive(Debug)]
pub(super) struct PendingQueue {
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

/// Room for one that waits, in its lease, and where it has a descriptor, among all visitors of the server.
#[derive(Debug)]
pub(super) struct QueuePermit {
    _in_lease: Option<OwnedSemaphorePermit>,
    _visitor: Option<Visitor>,
}

impl PendingQueue {
    /// With room for `share` of all `visitors`, but no more than there is any use for.
    pub(super) fn new(share: usize, visitors: Arc<Semaphore>) -> Self {
        let permits = Arc::new(Semaphore::new(share.min(MAX_PENDING)));
        Self { queue: Mutex::default(), added: Notify::new(), permits, visitors }
    }

    /// Waits until there is room for one more.
    pub(super) async fn permit(&self, visitor: Visitor) -> Option<QueuePermit> {
        let in_lease = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        Some(QueuePermit { _in_lease: Some(in_lease), _visitor: Some(visitor) })
    }

    pub(super) fn add(&self, stream: PendingStream, permit: Option<QueuePermit>) {
        let mut queue = self.queue();
        if !queue.is_closed {
            queue.waiting.push_back((Pending { since: Instant::now(), stream }, permit));
            drop(queue);
            self.added.notify_one();
        }
    }

    /// Adds a flow of datagrams where there is room. They do not wait: those that nobody takes are lost. Where channels
    /// have run out, `give_way` ends another flow there, whose channel comes back.
    pub(super) fn try_add(&self, mut flow: Flow, target: Target, give_way: impl FnOnce()) {
        self.make_room(give_way);
        if let Ok(in_lease) = Arc::clone(&self.permits).try_acquire_owned() {
            // All flows share the socket of the lease.
            let permit = QueuePermit { _in_lease: Some(in_lease), _visitor: None };
            self.add(PendingStream::Datagrams { flow, target }, Some(permit));
        } else {
            flow.lose(DropReason::NoChannel);
        }
    }

    /// Has a flow give way where somebody waits for so long that the client can have no more channels. Whether anybody
    /// waits.
    pub(super) fn make_room(&self, give_way: impl FnOnce()) -> bool {
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
    pub(super) fn put_back(&self, pending: Pending) {
        let permit = match &pending.stream {
            PendingStream::Client { .. } | PendingStream::Target { .. } => {
                let Ok(visitor) = Arc::clone(&self.visitors).try_acquire_owned() else { return };
                Some(QueuePermit { _in_lease: None, _visitor: Some(visitor) })
            }
            // All flows share the socket of the lease.
            PendingStream::Datagrams { .. } => None,
        };
        let mut queue = self.queue();
        if !queue.is_closed {
            queue.waiting.push_front((pending, permit));
            drop(queue);
            self.added.notify_one();
        }
    }

    /// Waits for somebody. Can be dropped and called again.
    pub(super) async fn take(&self) -> Pending {
        loop {
            let added = self.added.notified();
            if let Some((pending, _)) = self.queue().waiting.pop_front() {
                // Whoever was told of one that is gone meanwhile tells of the next.
                self.added.notify_one();
                return pending;
            }
            added.await;
        }
    }

    /// Turns those away that have waited for too long, again and again.
    pub(super) async fn expire(&self) -> Infallible {
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

    /// Turns everybody away, now and from now on.
    pub(super) fn close(&self) {
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
/// How long they do.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30);
/// A parked channel takes whoever waits in this time, or the client makes another one, unless it can have no more.
pub(super) const PROMPTLY: Duration = Duration::from_secs(1);
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::net::UdpSocket;
    use tunnel::drops::DropCounter;
    use tunnel::flows::{Flows, by_source};
    use tunnel::udp::UdpListener;

    use super::*;

    /// A client that closes one parked channel after the other could have had visitors held without a limit.
    #[tokio::test]
    async fn what_is_put_back_has_a_descriptor_or_is_turned_away() {
        let queue = PendingQueue::new(MAX_PENDING, Arc::new(Semaphore::new(2)));
        let put_back = || {
            let (_, there) = tokio::net::UnixStream::pair().unwrap();
            let (socket, host) = (Socket::Unix(there), "x".to_owned());
            let stream = PendingStream::Target { socket, dialect: Dialect::Http, host, port: 1 };
            queue.put_back(Pending { since: Instant::now(), stream });
            queue.queue().waiting.len()
        };
        assert_eq!([put_back(), put_back(), put_back()], [1, 2, 2]);
        drop(queue.take().await);
        assert_eq!(put_back(), 2);
    }

    /// A client that can have no more channels answered nobody's datagrams any more.
    #[tokio::test]
    async fn a_flow_gives_way_once_another_one_has_waited() {
        let drops = DropCounter::default();
        let listener = Arc::new(UdpListener::bind_to("127.0.0.1:0".parse().unwrap()).unwrap());
        let address = listener.local_addr().unwrap();
        let mut flows = Flows::new(listener, "here".into(), &drops);
        let queue = PendingQueue::new(MAX_PENDING, Arc::new(Semaphore::new(1)));
        let gave_way = Cell::new(0);
        let mut sources = Vec::new();
        for number in 0..=MAX_PENDING + 1 {
            let source = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            source.send_to(b"?", address).await.unwrap();
            sources.push(source);
            let (_, flow) = flows.next(by_source).await;
            if number == MAX_PENDING {
                // The first has waited by now.
                queue.queue().waiting[0].0.since -= PROMPTLY;
            }
            let target = Target::Udp { host: "x".into(), port: 1 };
            queue.try_add(flow, target, || gave_way.set(gave_way.get() + 1));
        }
        assert!(queue.make_room(|| gave_way.set(gave_way.get() + 1)));
        assert_eq!((queue.queue().waiting.len(), gave_way.get(), drops.count()), (MAX_PENDING, 3, 2));
    }
}
