//! Leases: the addresses on which the server listens, each for one client, and their queues.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileTypeExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cli_support::admin::LeaseHeld;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tunnel::address::Address;
use tunnel::dial::{in_time, listen_refusal};
use tunnel::drops::DropCounter;
use tunnel::network::Network;
use tunnel::pending_queue::PendingQueue;
use tunnel::socket::Socket;
use tunnel::socks;
use wire_protocol::message::{
    ClientIdentity, LEASE_LEN, ListenAddress, ListenKind, ListenState, RefusedCode, ResetCode,
};
use wire_protocol::stream::{Channel, SecureStream};

use crate::revocation::Revocation;
use crate::services::listen::acceptor::Acceptor;
use crate::services::listen::listener::{LeaseListener, look_up, to_address};
use crate::services::listen::parking::Parking;
use crate::services::listen::visitors::Visitors;
use crate::services::refusal::Refusal;
use crate::services::reset::revoke;

/// The addresses that are listened on for clients.
#[derive(Debug)]
pub(super) struct Leases {
    held: Mutex<HashMap<(ListenAddress, ListenKind), Held>>,
    network: Network,
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
    listener: Arc<LeaseListener>,
    queue: Arc<PendingQueue>,
    /// Another lease of the same client has taken the address over.
    ended: CancellationToken,
    /// For the connection that was accepted last.
    _descriptor: OwnedSemaphorePermit,
}

/// A lease, until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Arc<Leases>,
    key: (ListenAddress, ListenKind),
    id: [u8; LEASE_LEN],
    /// The port that is listened on; 0 for a unix socket.
    port: u16,
    listener: Arc<LeaseListener>,
    queue: Arc<PendingQueue>,
    ended: CancellationToken,
}

impl Leases {
    /// With descriptors for so many `visitors`.
    pub(super) fn new(network: Network, drops: DropCounter, visitors: usize) -> Self {
        Self { held: Mutex::default(), network, drops, visitors: Visitors::new(visitors) }
    }

    /// Listens for `owner`, or takes over what is listened on for the same client already. A name is looked up at the expense
    /// of others that are for `asker`.
    ///
    /// # Errors
    /// The address is not leased, with the reason: [`RefusedCode::AddressInUse`] where another client, or another program, has
    /// the address.
    pub(super) async fn claim(
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
        let bound = self.bind(owner, asker, address, kind).await;
        let listener = bound.or_else(|error| self.ipv4_of(owner, address).ok_or(error));
        let listener = listener.map_err(Refusal::of_listening)?;
        let mut key = (address.clone(), kind);
        let bound = listener.port();
        if let ListenAddress::Port { port, .. } = &mut key.0 {
            *port = bound;
        }
        let (queue, ended) = (
            Arc::new(PendingQueue::new(self.visitors.share(), self.visitors.descriptors())),
            CancellationToken::new(),
        );
        let listener = Arc::new(listener);
        let lease = self.lease(&key, id, bound, &listener, &queue, &ended);
        let held =
            Held { owner: owner.clone(), id, port: bound, listener, queue, ended, _descriptor: descriptor };
        self.held().insert(key, held);
        Ok(lease)
    }

    /// Whether [`Leases::claim`] would be granted just now. Nothing is listened on, and nothing taken over.
    pub(super) async fn look(
        &self,
        owner: &ClientIdentity,
        asker: &str,
        address: &ListenAddress,
        kind: ListenKind,
    ) -> ListenState {
        if let Some(held) = self.held().get(&(address.clone(), kind)) {
            return match held.owner == *owner {
                true => ListenState::Own,
                false => ListenState::Refused { code: RefusedCode::AddressInUse },
            };
        }
        let Some(_descriptor) = self.visitors.lease() else {
            return ListenState::Refused { code: RefusedCode::Busy };
        };
        if self.is_left_over(address).await {
            return ListenState::Free;
        }
        match self.bind(owner, asker, address, kind).await {
            Ok(_) => ListenState::Free,
            Err(error) => match listen_refusal(&error) {
                RefusedCode::AddressInUse if self.overlaps_own(owner, address) => ListenState::OwnOther,
                code => ListenState::Refused { code },
            },
        }
    }

    /// Whether there is the file of a socket on which nobody listens any more: binding would take its place.
    async fn is_left_over(&self, address: &ListenAddress) -> bool {
        let ListenAddress::Unix { path } = address else { return false };
        let is_socket =
            std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        is_socket && in_time(self.network.dial(&to_address(address))).await.is_err_and(refused)
    }

    /// Binds an address that nobody holds a lease of.
    async fn bind(
        &self,
        owner: &ClientIdentity,
        asker: &str,
        address: &ListenAddress,
        kind: ListenKind,
    ) -> io::Result<LeaseListener> {
        let others = self.listened_on_by(owner);
        in_time(async {
            look_up(&self.network, asker, address).await?;
            LeaseListener::bind(&self.network, address, kind, &others).await
        })
        .await
    }

    /// Whether the client holds a lease that may overlap with the address: of the same port, or of the same path.
    fn overlaps_own(&self, owner: &ClientIdentity, address: &ListenAddress) -> bool {
        let overlaps = |other: &ListenAddress| match (other, address) {
            (ListenAddress::Port { port: one, .. }, ListenAddress::Port { port: other, .. }) => one == other,
            (one, other) => one == other,
        };
        self.held().iter().any(|((other, _), held)| held.owner == *owner && overlaps(other))
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
        Some(Ok(self.lease(&key, id, held.port, &held.listener, &held.queue, &held.ended)))
    }

    fn lease(
        self: &Arc<Self>,
        key: &(ListenAddress, ListenKind),
        id: [u8; LEASE_LEN],
        port: u16,
        listener: &Arc<LeaseListener>,
        queue: &Arc<PendingQueue>,
        ended: &CancellationToken,
    ) -> Lease {
        Lease {
            leases: Arc::clone(self),
            key: key.clone(),
            id,
            port,
            listener: Arc::clone(listener),
            queue: Arc::clone(queue),
            ended: ended.clone(),
        }
    }

    /// What a parked channel waits for; `None` where `owner` holds no such lease.
    pub(super) fn parking(&self, owner: &ClientIdentity, id: &[u8; LEASE_LEN]) -> Option<Parking> {
        let held = self.held();
        let (key, held) = held.iter().find(|(_, held)| held.id == *id && held.owner == *owner)?;
        Some(Parking {
            address: key.0.clone(),
            kind: key.1,
            id: *id,
            queue: Arc::clone(&held.queue),
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
    fn ipv4_of(&self, owner: &ClientIdentity, address: &ListenAddress) -> Option<LeaseListener> {
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
        own.find_map(|(_, held)| match &*held.listener {
            LeaseListener::Stream(listener) => listener.take_ipv4().map(LeaseListener::Stream),
            LeaseListener::Datagram(_) => None,
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.held().len()
    }

    /// All of them, by address.
    pub(super) fn list(&self) -> Vec<LeaseHeld> {
        let held = self.held();
        let shown = |((address, kind), held): (&(ListenAddress, ListenKind), &Held)| {
            let transport = if *kind == ListenKind::Datagram { "/udp" } else { "" };
            LeaseHeld { address: format!("{address}{transport}"), client: held.owner.to_string() }
        };
        let mut all: Vec<LeaseHeld> = held.iter().map(shown).collect();
        all.sort();
        all
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
            self.queue.close();
        }
        self.ended.cancel();
    }
}

impl Lease {
    /// Holds the lease for as long as the client, and nobody else, wants it; gives the channel back, idle. `None` where
    /// another channel of the client has taken the address over: this one has been told, and is closed.
    pub(super) async fn hold(
        self,
        channel: Channel<Socket>,
        stopping: &CancellationToken,
        revoked: &Revocation,
    ) -> io::Result<Option<Channel<Socket>>> {
        let mut stream = channel.answer_listen(self.port).await?;
        tracing::info!(listen = %self.key.0, "listening for a client");
        let acceptor = Acceptor {
            address: &self.key.0,
            kind: self.key.1,
            listener: &self.listener,
            queue: &self.queue,
            visitors: &self.leases.visitors,
            drops: &self.leases.drops,
        };
        let end = tokio::select! {
            () = revoked.cancelled() => {
                tracing::info!(listen = %self.key.0, "no longer listening for a client that has lost the right to it");
                drop(self);
                return revoke(stream, revoked.code()).await;
            }
            held = stream.hold() => {
                held?;
                LeaseEnd::ByClient
            }
            never = acceptor.accept_all() => match never {},
            never = self.queue.expire() => match never {},
            () = self.ended.cancelled() => LeaseEnd::Replaced,
            () = stopping.cancelled() => LeaseEnd::ByServer,
        };
        let address = self.key.0.clone();
        drop(self);
        let channel = match end {
            LeaseEnd::Replaced => {
                tracing::info!(listen = %address, "another channel of the client listens there from now on");
                // The client that held it before is told, where it is still there, so that it does not ask for it again.
                in_time(tell_replaced(stream)).await.ok();
                return Ok(None);
            }
            LeaseEnd::ByClient => stream.finish().await?,
            LeaseEnd::ByServer => in_time(stream.finish()).await?,
        };
        tracing::info!(listen = %address, "no longer listening for a client");
        Ok(Some(channel))
    }
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
