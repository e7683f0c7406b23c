//! Accepts connections and datagrams for a lease, and queues them until a parked channel takes them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cli_support::log_limit::LogLimit;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tunnel::drops::DropCounter;
use tunnel::escape::escape;
use tunnel::listener::{Listener, Source};
use tunnel::pending_queue::{MAX_WAIT, PROMPTLY, PendingQueue, QueuePermit};
use tunnel::pending_stream::{PendingStream, TurnedAway};
use tunnel::socket::Socket;
use tunnel::socks::{self, Association, Dialect, Reply, Request};
use tunnel::udp::UdpListener;
use tunnel::udp_sessions::{self, UdpSessions};
use wire_protocol::message::{ListenAddress, ListenKind, Target};

use crate::services::listen::listener::LeaseListener;
use crate::services::listen::visitors::{Visitor, Visitors};

/// Accepts for a lease.
#[derive(Debug)]
pub(super) struct Acceptor<'a> {
    pub(super) address: &'a ListenAddress,
    pub(super) kind: ListenKind,
    pub(super) listener: &'a LeaseListener,
    /// Where what was accepted waits.
    pub(super) queue: &'a Arc<PendingQueue>,
    pub(super) visitors: &'a Visitors,
    /// Counts datagrams that are dropped.
    pub(super) drops: &'a DropCounter,
}

impl Acceptor<'_> {
    /// Accepts whatever comes in, for as long as the lease is held.
    pub(super) async fn accept_all(&self) -> Infallible {
        match self.listener {
            LeaseListener::Stream(listener) => self.accept_connections(listener).await,
            LeaseListener::Datagram(socket) => self.accept_datagrams(socket).await,
        }
    }

    async fn accept_connections(&self, listener: &Listener) -> Infallible {
        let visitors = self.visitors;
        let log_limit = LogLimit::new(2);
        let max_negotiations = MAX_NEGOTIATIONS.min(visitors.share());
        let mut negotiations = JoinSet::new();
        let mut associations = JoinSet::new();
        // A connection that was accepted and waits for a permit; the descriptor that it has is the lease's own.
        let mut accepted = None;
        loop {
            let has_room = self.kind != ListenKind::Socks || negotiations.len() < max_negotiations;
            let permit = async {
                let visitor = visitors.visitor().await?;
                match self.kind {
                    // A SOCKS client may take its time to say what it wants, and takes no permit of the queue meanwhile.
                    ListenKind::Socks => Some(Room::ToSpeak(visitor)),
                    ListenKind::Stream | ListenKind::Datagram => {
                        self.queue.permit(visitor).await.map(Room::ToWait)
                    }
                }
            };
            tokio::select! {
                Some(asked) = negotiations.join_next() => {
                    if let Ok(Some((control, visitor))) = asked {
                        self.begin_association(control, visitor, &mut associations);
                    }
                }
                Some(_) = associations.join_next() => {}
                // Where the client takes none for so long, the system keeps the next ones, or refuses them.
                next = listener.accept(), if accepted.is_none() => match next {
                    Ok(next) => accepted = Some(next),
                    Err(error) => {
                        if log_limit.admits() {
                            tracing::warn!(%error, "cannot accept a connection for a client");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                room = permit, if accepted.is_some() && has_room => {
                    let Some((socket, source)) = accepted.take() else { continue };
                    match room {
                        Some(Room::ToSpeak(visitor)) => {
                            negotiations.spawn(negotiate(socket, source, Arc::clone(self.queue), visitor));
                        }
                        Some(Room::ToWait(permit)) => {
                            let target = forwarded(source.name, socket.local_address());
                            self.queue.add(PendingStream::connection(socket, Arc::new(target)), Some(permit));
                        }
                        // Nobody closes the semaphores.
                        None => {}
                    }
                }
            }
        }
    }

    /// Begins the association of a SOCKS client, which lasts as long as the client likes: there is a limit to how many there are.
    fn begin_association(&self, control: Socket, visitor: Visitor, associations: &mut JoinSet<()>) {
        // The datagrams have a socket of their own.
        let second = self.visitors.try_visitor();
        let most = max_associations(self.visitors.share());
        let Some(second) = second.filter(|_| associations.len() < most) else {
            associations.spawn(socks::refuse(control, Dialect::Socks5, Reply::GeneralFailure));
            return;
        };
        let (queue, drops) = (Arc::clone(self.queue), self.drops.clone());
        associations.spawn(async move {
            let _descriptors = (visitor, second);
            if let Err(error) = associate(control, &queue, &drops).await {
                tracing::debug!(%error, "no port for a SOCKS client's datagrams");
            }
        });
    }

    async fn accept_datagrams(&self, socket: &Arc<UdpListener>) -> Infallible {
        let name = format!("{}/udp", escape(self.address.to_string().as_bytes()));
        let mut sessions = UdpSessions::new(Arc::clone(socket), name, self.drops);
        let mut is_awaited = false;
        loop {
            let (from, session) = tokio::select! {
                begun = sessions.next(udp_sessions::by_source) => begun,
                () = sleep(PROMPTLY), if is_awaited => {
                    is_awaited = self.queue.make_room(|| sessions.give_way());
                    continue;
                }
            };
            is_awaited = true;
            let target = forwarded(from.to_string(), socket.address_of(&from));
            self.queue.try_add(session, target, || sessions.give_way());
        }
    }
}

/// What there is for a connection that was accepted.
enum Room {
    /// To say what it wants.
    ToSpeak(Visitor),
    /// To wait for the client.
    ToWait(QueuePermit),
}

/// What a client is told of somebody who has come from `origin` to the address `here`: without one it is a unix socket,
/// where both sides have the same name.
fn forwarded(origin: String, here: Option<SocketAddr>) -> Target {
    let destination = here.map_or_else(
        || origin.clone(),
        |here| SocketAddr::new(here.ip().to_canonical(), here.port()).to_string(),
    );
    Target::Forwarded { origin, destination }
}

/// Finds out what a SOCKS client wants. A client that wants to exchange datagrams is given back.
async fn negotiate(
    socket: Socket,
    source: Source,
    queue: Arc<PendingQueue>,
    visitor: Visitor,
) -> Option<(Socket, Visitor)> {
    match socks::negotiate(socket).await {
        Ok((socket, Request::Connect { host, port }, dialect)) => {
            let target = Arc::new(Target::Tcp { host, port });
            let stream = PendingStream::Socks { socket, dialect, target };
            match timeout(MAX_WAIT, queue.permit(visitor)).await {
                Ok(permit) => queue.add(stream, permit),
                Err(_) => stream.turn_away(TurnedAway::NoChannel).await,
            }
            None
        }
        Ok((socket, Request::Associate, _)) => Some((socket, visitor)),
        Err(error) => {
            tracing::debug!(peer = source.name, %error, "no SOCKS client");
            None
        }
    }
}

async fn associate(mut control: Socket, queue: &PendingQueue, drops: &DropCounter) -> io::Result<()> {
    let mut association = Association::open(&mut control, drops).await?;
    let mut is_awaited = false;
    loop {
        let (target, session) = tokio::select! {
            biased;
            () = socks::until_closed(&mut control) => {
                control.end_well();
                return Ok(());
            }
            begun = association.next() => begun,
            () = sleep(PROMPTLY), if is_awaited => {
                is_awaited = queue.make_room(|| association.give_way());
                continue;
            }
        };
        is_awaited = true;
        queue.try_add(session, target, || association.give_way());
    }
}

/// SOCKS clients of one lease that exchange datagrams.
const MAX_ASSOCIATIONS: usize = 64;
/// So many of them where a lease has so many descriptors, of which each takes two.
fn max_associations(share: usize) -> usize {
    MAX_ASSOCIATIONS.min((share / 2).max(1))
}

/// SOCKS clients of one lease that have not yet said what they want.
const MAX_NEGOTIATIONS: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(origin: &str, here: Option<&str>, expected: &str) {
        let here = here.map(|here| here.parse().unwrap());
        let destination = expected.into();
        assert_eq!(forwarded(origin.into(), here), Target::Forwarded { origin: origin.into(), destination });
    }

    #[test]
    fn socks_clients_with_datagrams_take_no_more_descriptors_than_a_lease_has() {
        for visitors in [1, 120, 4096] {
            let share = Visitors::new(visitors).share();
            let most = max_associations(share);
            assert!(most > 0 && (2 * most <= share || most == 1), "{visitors}: {most} of {share}");
        }
        assert_eq!(max_associations(4096), MAX_ASSOCIATIONS);
    }

    #[test]
    fn a_visitors_destination_is_the_address_that_it_came_to() {
        check("192.0.2.1:4711", Some("198.51.100.2:443"), "198.51.100.2:443");
        check("[2001:db8::1]:4711", Some("[2001:db8::2]:443"), "[2001:db8::2]:443");
        // As a socket of IPv6 that takes both families has it.
        check("192.0.2.1:4711", Some("[::ffff:198.51.100.2]:443"), "198.51.100.2:443");
        check("unix:/run/web", None, "unix:/run/web");
    }
}
