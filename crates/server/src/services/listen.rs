//! Listening for clients (section 7.3): one lease for each address, and the parked channels on which what comes in
//! there is handed to the client.
//!
//! ```text
//! listener -> job -> whichever parked channel of the lease is free -> Open, relay -> parked again
//! ```

mod jobs;
mod parking;
mod visitors;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cli_support::log_limit::LogLimit;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::address::{Address, EVERYWHERE};
use tunnel::dial::{in_time, resolve_for};
use tunnel::drops::DropCounter;
use tunnel::escape::escape;
use tunnel::flows::{self, Flows};
use tunnel::listener::{Listener, Source};
use tunnel::socket::{OnDrop, Socket};
use tunnel::socks::{self, Association, Dialect, Reply, Request};
use tunnel::udp::UdpListener;
use wire_protocol::message::{
    ClientIdentity, LEASE_LEN, ListenAddress, ListenKind, RefusedCode, ResetCode, Target,
};
use wire_protocol::stream::SecureStream;

use crate::access::Permit;
use crate::services::handler::Handler;
use crate::services::refusal::Refusal;
use crate::services::request::RequestContext;
use crate::services::reset::revoke;
use jobs::{Jobs, MAX_WAIT, PROMPTLY, Place, Wants};
pub(crate) use parking::Parking;
use visitors::{Visitor, Visitors};

/// Listens for clients.
#[derive(Debug)]
pub(crate) struct Listening(Arc<Leases>);

impl Listening {
    /// With descriptors for so many `visitors`, who have come in by a lease and are not on a channel yet.
    pub(crate) fn new(drops: DropCounter, visitors: usize) -> Self {
        Self(Arc::new(Leases::new(drops, visitors)))
    }

    /// What a parked channel of `owner` waits for; `None` where it holds no lease of this id.
    pub(crate) fn parking(&self, owner: &ClientIdentity, id: &[u8; LEASE_LEN]) -> Option<Parking> {
        self.0.parking(owner, id)
    }

    /// Addresses that are listened on.
    pub(crate) fn leases(&self) -> usize {
        self.0.held().len()
    }
}

impl Handler for Listening {
    async fn serve(
        &self,
        stream: SecureStream<Socket>,
        request: RequestContext<'_>,
        _permit: Permit,
    ) -> io::Result<Option<SecureStream<Socket>>> {
        let Target::Listen { address, kind, lease } = request.target else {
            return request.refuse(stream, RefusedCode::NotOffered.into()).await.map(Some);
        };
        let (owner, asker) = (&request.principal.identity, &request.principal.name);
        match self.0.claim(owner, asker, address, *kind, *lease).await {
            Ok(lease) => lease.hold(stream, request.stopping, request.revoked).await,
            Err(refusal) => request.refuse(stream, refusal).await.map(Some),
        }
    }
}

/// The addresses that are listened on for clients.
#[derive(Debug)]
struct Leases {
    held: Mutex<HashMap<(ListenAddress, ListenKind), Held>>,
    /// Is told of datagrams that are dropped.
    drops: DropCounter,
    visitors: Visitors,
}

/// An address that is listened on.
#[derive(Debug)]
struct Held {
    owner: ClientIdentity,
    id: [u8; LEASE_LEN],
    port: u16,
    door: Arc<Door>,
    jobs: Arc<Jobs>,
    /// Another lease of the same client has taken the address over.
    ended: CancellationToken,
    /// For the connection that was accepted last.
    _descriptor: OwnedSemaphorePermit,
}

/// A lease, until it is dropped.
#[derive(Debug)]
struct Lease {
    leases: Arc<Leases>,
    key: (ListenAddress, ListenKind),
    id: [u8; LEASE_LEN],
    /// The port that is listened on; 0 for a unix socket.
    port: u16,
    door: Arc<Door>,
    jobs: Arc<Jobs>,
    ended: CancellationToken,
}

/// What comes in by a lease.
#[derive(Debug)]
enum Door {
    Stream(Listener),
    Datagram(Arc<UdpListener>),
}

impl Door {
    async fn bind(address: &ListenAddress, kind: ListenKind, others: &[Address]) -> io::Result<Self> {
        let address = to_address(address);
        Ok(match kind {
            ListenKind::Stream | ListenKind::Socks => {
                Self::Stream(Listener::bind_divisible(&address, OnDrop::Resets, others).await?)
            }
            ListenKind::Datagram => Self::Datagram(UdpListener::bind_beside(&address, others).await?.into()),
        })
    }

    /// The port that the system chose; 0 for a unix socket.
    fn port(&self) -> u16 {
        match self {
            Self::Stream(listener) => match listener.address() {
                Ok(Address::Tcp { port, .. }) => port,
                _ => 0,
            },
            Self::Datagram(socket) => socket.local_addr().map_or(0, |address| address.port()),
        }
    }
}

/// Looks a name up before it is bound, which asks in the name of nobody in particular: one that nobody answers for must not
/// hold up what the server itself, or another client, needs.
async fn look_up(asker: &str, address: &ListenAddress) -> io::Result<()> {
    match address {
        ListenAddress::Port { host, port } if host != EVERYWHERE => {
            resolve_for(asker, host, *port).await.map(drop)
        }
        _ => Ok(()),
    }
}

fn to_address(address: &ListenAddress) -> Address {
    match address {
        ListenAddress::Port { host, port } => Address::Tcp { host: host.clone(), port: *port },
        ListenAddress::Unix { path } => Address::Unix(path.into()),
    }
}

impl Leases {
    /// With descriptors for so many `visitors`.
    fn new(drops: DropCounter, visitors: usize) -> Self {
        Self { held: Mutex::default(), drops, visitors: Visitors::new(visitors) }
    }

    /// Listens for `owner`, or takes over what is listened on for the same client already. A name is looked up at the expense
    /// of others that are for `asker`.
    ///
    /// # Errors
    /// Why not: [`RefusedCode::AddressInUse`] where another client, or another program, has
    /// the address.
    async fn claim(
        self: &Arc<Self>,
        owner: &ClientIdentity,
        asker: &str,
        address: &ListenAddress,
        kind: ListenKind,
        id: [u8; LEASE_LEN],
    ) -> Result<Lease, Refusal> {
        if let Some(taken_over) = self.take_over(owner, address, kind, id) {
            return taken_over;
        }
        let Some(descriptor) = self.visitors.lease() else {
            return Err(Refusal::from(RefusedCode::Busy));
        };
        let others = self.listened_on_by(owner);
        let bound = in_time(async {
            look_up(asker, address).await?;
            Door::bind(address, kind, &others).await
        });
        let bound = bound.await;
        let door = bound.or_else(|error| self.ipv4_of(owner, address).ok_or(error));
        let door = door.map_err(Refusal::of_listening)?;
        let mut key = (address.clone(), kind);
        let bound = door.port();
        if let ListenAddress::Port { port, .. } = &mut key.0 {
            *port = bound;
        }
        let (jobs, ended) = (
            Arc::new(Jobs::new(self.visitors.share(), self.visitors.descriptors())),
            CancellationToken::new(),
        );
        let door = Arc::new(door);
        let lease = self.lease(&key, id, bound, &door, &jobs, &ended);
        let held = Held { owner: owner.clone(), id, port: bound, door, jobs, ended, _descriptor: descriptor };
        self.held().insert(key, held);
        Ok(lease)
    }

    /// `None` where nobody holds the address.
    fn take_over(
        self: &Arc<Self>,
        owner: &ClientIdentity,
        address: &ListenAddress,
        kind: ListenKind,
        id: [u8; LEASE_LEN],
    ) -> Option<Result<Lease, Refusal>> {
        let key = (address.clone(), kind);
        let mut all = self.held();
        let held = all.get_mut(&key)?;
        if held.owner != *owner {
            return Some(Err(RefusedCode::AddressInUse.into()));
        }
        held.ended.cancel();
        held.ended = CancellationToken::new();
        held.id = id;
        Some(Ok(self.lease(&key, id, held.port, &held.door, &held.jobs, &held.ended)))
    }

    fn lease(
        self: &Arc<Self>,
        key: &(ListenAddress, ListenKind),
        id: [u8; LEASE_LEN],
        port: u16,
        door: &Arc<Door>,
        jobs: &Arc<Jobs>,
        ended: &CancellationToken,
    ) -> Lease {
        Lease {
            leases: Arc::clone(self),
            key: key.clone(),
            id,
            port,
            door: Arc::clone(door),
            jobs: Arc::clone(jobs),
            ended: ended.clone(),
        }
    }

    /// What a parked channel waits for; `None` where `owner` holds no such lease.
    fn parking(&self, owner: &ClientIdentity, id: &[u8; LEASE_LEN]) -> Option<Parking> {
        let held = self.held();
        let (key, held) = held.iter().find(|(_, held)| held.id == *id && held.owner == *owner)?;
        Some(Parking {
            address: key.0.clone(),
            kind: key.1,
            id: *id,
            jobs: Arc::clone(&held.jobs),
            ended: held.ended.clone(),
        })
    }

    /// Where a client's connections come in.
    fn listened_on_by(&self, owner: &ClientIdentity) -> Vec<Address> {
        let held = self.held();
        let streams =
            held.iter().filter(|((_, kind), held)| *kind != ListenKind::Datagram && held.owner == *owner);
        streams.map(|((address, _), _)| to_address(address)).collect()
    }

    /// What the same client listens on with `[::]` gives way to a `0.0.0.0` of its own.
    fn ipv4_of(&self, owner: &ClientIdentity, address: &ListenAddress) -> Option<Door> {
        let ListenAddress::Port { host, port } = address else { return None };
        if host.parse() != Ok(Ipv4Addr::UNSPECIFIED) {
            return None;
        }
        let is_all_of_ipv6 = |other: &ListenAddress| match other {
            ListenAddress::Port { host, port: other } => {
                other == port && host.parse() == Ok(Ipv6Addr::UNSPECIFIED)
            }
            ListenAddress::Unix { .. } => false,
        };
        let held = self.held();
        let mut own = held.iter().filter(|((other, _), held)| is_all_of_ipv6(other) && held.owner == *owner);
        own.find_map(|(_, held)| match &*held.door {
            Door::Stream(listener) => listener.take_ipv4().map(Door::Stream),
            Door::Datagram(_) => None,
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<(ListenAddress, ListenKind), Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    /// Where nobody has taken it over, the address is free again and whoever waits is turned away.
    fn drop(&mut self) {
        let mut all = self.leases.held();
        if all.get(&self.key).is_some_and(|held| held.id == self.id && !self.ended.is_cancelled()) {
            all.remove(&self.key);
            self.jobs.close();
        }
        self.ended.cancel();
    }
}

impl Lease {
    /// Holds the lease for as long as the client, and nobody else, wants it; gives the channel back, idle. `None` where
    /// another channel of the client has taken the address over: this one has been told, and is closed.
    async fn hold(
        self,
        mut stream: SecureStream<Socket>,
        stopping: &CancellationToken,
        revoked: &CancellationToken,
    ) -> io::Result<Option<SecureStream<Socket>>> {
        stream.answer_listen(self.port).await?;
        tracing::info!(listen = %self.key.0, "listening for a client");
        let end = tokio::select! {
            () = revoked.cancelled() => {
                tracing::info!(listen = %self.key.0, "no longer listening for a client that has lost the right to it");
                drop(self);
                return revoke(stream).await;
            }
            held = stream.hold() => {
                held?;
                LeaseEnd::ByClient
            }
            never = self.accept_all() => match never {},
            never = self.jobs.expire() => match never {},
            () = self.ended.cancelled() => LeaseEnd::Replaced,
            () = stopping.cancelled() => LeaseEnd::ByServer,
        };
        let address = self.key.0.clone();
        drop(self);
        match end {
            LeaseEnd::Replaced => {
                tracing::info!(listen = %address, "another channel of the client listens there from now on");
                // Whoever held it before is told, where it is still there, so that it does not ask for it again.
                in_time(tell_replaced(stream)).await.ok();
                return Ok(None);
            }
            LeaseEnd::ByClient => stream.shutdown().await?,
            LeaseEnd::ByServer => {
                stream.shutdown().await?;
                in_time(stream.hold()).await?;
            }
        }
        tracing::info!(listen = %address, "no longer listening for a client");
        Ok(Some(stream))
    }

    async fn accept_all(&self) -> Infallible {
        match &*self.door {
            Door::Stream(listener) => self.accept_connections(listener).await,
            Door::Datagram(socket) => self.accept_datagrams(socket).await,
        }
    }

    async fn accept_connections(&self, listener: &Listener) -> Infallible {
        let visitors = &self.leases.visitors;
        let log_limit = LogLimit::new(2);
        let max_negotiations = MAX_NEGOTIATIONS.min(visitors.share());
        let mut negotiations = JoinSet::new();
        let mut associations = JoinSet::new();
        // One that was accepted and waits for a place; the descriptor that it has is the lease's own.
        let mut accepted = None;
        loop {
            let has_room = self.key.1 != ListenKind::Socks || negotiations.len() < max_negotiations;
            let place = async {
                let visitor = visitors.visitor().await?;
                match self.key.1 {
                    // It may take its time to say what it wants, and takes nobody's place meanwhile.
                    ListenKind::Socks => Some(Room::ToSpeak(visitor)),
                    ListenKind::Stream | ListenKind::Datagram => {
                        self.jobs.place(visitor).await.map(Room::ToWait)
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
                room = place, if accepted.is_some() && has_room => {
                    let Some((socket, source)) = accepted.take() else { continue };
                    match room {
                        Some(Room::ToSpeak(visitor)) => {
                            negotiations.spawn(negotiate(socket, source, Arc::clone(&self.jobs), visitor));
                        }
                        Some(Room::ToWait(place)) => {
                            let target = forwarded(source.name, socket.local_address());
                            self.jobs.add(Wants::Client { socket, target, early: Vec::new() }, Some(place));
                        }
                        // Nobody closes the semaphores.
                        None => {}
                    }
                }
            }
        }
    }

    /// They last as long as the SOCKS client likes, so that there are not too many of them.
    fn begin_association(&self, control: Socket, visitor: Visitor, associations: &mut JoinSet<()>) {
        // The datagrams have a socket of their own.
        let second = self.leases.visitors.try_visitor();
        let most = max_associations(self.leases.visitors.share());
        let Some(second) = second.filter(|_| associations.len() < most) else {
            associations.spawn(socks::refuse(control, Dialect::Socks5, Reply::GeneralFailure));
            return;
        };
        let (jobs, drops) = (Arc::clone(&self.jobs), self.leases.drops.clone());
        associations.spawn(async move {
            let _descriptors = (visitor, second);
            if let Err(error) = associate(control, &jobs, &drops).await {
                tracing::debug!(%error, "no port for a SOCKS client's datagrams");
            }
        });
    }

    async fn accept_datagrams(&self, socket: &Arc<UdpListener>) -> Infallible {
        let name = format!("{}/udp", escape(self.key.0.to_string().as_bytes()));
        let mut flows = Flows::new(Arc::clone(socket), name, &self.leases.drops);
        let mut is_awaited = false;
        loop {
            let (from, flow) = tokio::select! {
                begun = flows.next(flows::by_source) => begun,
                () = sleep(PROMPTLY), if is_awaited => {
                    is_awaited = self.jobs.make_room(|| flows.give_way());
                    continue;
                }
            };
            is_awaited = true;
            let target = forwarded(from.to_string(), socket.address_of(&from));
            self.jobs.try_add(flow, target, || flows.give_way());
        }
    }
}

/// What there is for a connection that was accepted.
enum Room {
    /// To say what it wants.
    ToSpeak(Visitor),
    /// To wait for the client.
    ToWait(Place),
}

/// Who has ended a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseEnd {
    ByClient,
    ByServer,
    /// The client itself, by another channel.
    Replaced,
}

/// The reason has to arrive, so that the socket is not closed under it.
async fn tell_replaced(stream: SecureStream<Socket>) -> io::Result<()> {
    let mut socket = stream.reset(ResetCode::Replaced).await?;
    socks::until_closed(&mut socket).await;
    Ok(())
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

/// Finds out what a SOCKS client wants. One that wants to exchange datagrams is given back.
async fn negotiate(
    mut socket: Socket,
    source: Source,
    jobs: Arc<Jobs>,
    visitor: Visitor,
) -> Option<(Socket, Visitor)> {
    match timeout(NEGOTIATION_DEADLINE, socks::accept(&mut socket)).await {
        Ok(Ok((Request::Connect { host, port }, dialect))) => {
            match timeout(MAX_WAIT, jobs.place(visitor)).await {
                Ok(place) => jobs.add(Wants::Target { socket, dialect, host, port }, place),
                Err(_) => socks::refuse(socket, dialect, Reply::GeneralFailure).await,
            }
            return None;
        }
        Ok(Ok((Request::Associate, _))) => return Some((socket, visitor)),
        // Nothing was carried that could look cut off, and what it was told has to arrive.
        Ok(Err(error)) => tracing::debug!(peer = source.name, %error, "no SOCKS client"),
        Err(_) => tracing::debug!(peer = source.name, "a SOCKS client did not say what it wants"),
    }
    socket.end_after_reply().await;
    None
}

async fn associate(mut control: Socket, jobs: &Jobs, drops: &DropCounter) -> io::Result<()> {
    let mut association = Association::open(&mut control, drops).await?;
    let mut is_awaited = false;
    loop {
        let (target, flow) = tokio::select! {
            biased;
            () = socks::until_closed(&mut control) => {
                control.end_well();
                return Ok(());
            }
            begun = association.next() => begun,
            () = sleep(PROMPTLY), if is_awaited => {
                is_awaited = jobs.make_room(|| association.give_way());
                continue;
            }
        };
        is_awaited = true;
        jobs.try_add(flow, target, || association.give_way());
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
/// How long they may take for it.
const NEGOTIATION_DEADLINE: Duration = Duration::from_secs(10);
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
