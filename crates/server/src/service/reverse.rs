//! Listening for clients (section 7.3): one lease for each address, and the parked channels on which what comes in
//! there is handed to the client.
//!
//! ```text
//! listener -> job -> whichever parked channel of the lease is free -> Open, relay -> parked again
//! ```

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use program::address::Address;
use program::counter::Counter;
use program::dial::{in_time, refusal};
use program::flows::{self, Flow, Flows};
use program::listener::{Listener, Source};
use program::socket::Socket;
use program::socks::{self, Association, Reply, Request};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use wire_protocol::message::{
    ClientIdentity, LEASE_LEN, ListenAddress, ListenKind, ProxyHeader, RefusedCode, Target,
};
use wire_protocol::stream::{
    Incoming, RelayError, SILENCE, SecureStream, error_in, never_stood, open_early, relay_datagrams, tunnel,
};

use super::tunnel::{MAX_UDP_TIMEOUT, into_io};
use crate::throttle::{Throttle, Throttled};

/// The addresses that are listened on for clients.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Mutex<HashMap<(ListenAddress, ListenKind), Held>>,
}

/// An address that is listened on.
#[derive(Debug)]
struct Held {
    owner: ClientIdentity,
    id: [u8; LEASE_LEN],
    port: u16,
    door: Arc<Door>,
    jobs: (async_channel::Sender<Job>, async_channel::Receiver<Job>),
    /// Another lease of the same client has taken the address over.
    ended: CancellationToken,
}

/// A lease, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Arc<Leases>,
    key: (ListenAddress, ListenKind),
    id: [u8; LEASE_LEN],
    /// The port that is listened on; 0 for a unix socket.
    pub(crate) port: u16,
    door: Arc<Door>,
    jobs: async_channel::Sender<Job>,
    ended: CancellationToken,
}

/// What comes in by a lease.
#[derive(Debug)]
enum Door {
    Stream(Listener),
    Datagram(Arc<UdpSocket>),
}

/// Somebody who waits for the client.
#[derive(Debug)]
struct Job {
    since: Instant,
    wants: Wants,
}

/// What is to be done with a connection, or a flow of datagrams, that came in.
#[derive(Debug)]
enum Wants {
    /// To reach the client; what was said and may not have arrived yet is kept.
    Client { socket: Socket, origin: String, early: Vec<u8> },
    /// To reach, through the client, what it has asked for in SOCKS.
    Target { socket: Socket, host: String, port: u16 },
    /// To exchange datagrams with the client, or through it with what was asked for in SOCKS.
    Datagrams { flow: Flow, target: Target },
}

impl Door {
    async fn bind(address: &ListenAddress, kind: ListenKind) -> io::Result<Self> {
        let address = match address {
            ListenAddress::Port { host, port } => Address::Tcp { host: host.clone(), port: *port },
            ListenAddress::Unix { path } => Address::Unix(path.into()),
        };
        Ok(match kind {
            ListenKind::Stream | ListenKind::Socks => Self::Stream(Listener::bind(&address).await?),
            ListenKind::Datagram => Self::Datagram(flows::bind(&address).await?.into()),
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

impl Leases {
    pub(crate) fn count(&self) -> usize {
        self.held().len()
    }

    /// Listens for `owner`, or takes over what is listened on for the same client already.
    ///
    /// # Errors
    /// [`RefusedCode::Busy`] where another client, or another program, has the address.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        owner: &ClientIdentity,
        address: &ListenAddress,
        kind: ListenKind,
        id: [u8; LEASE_LEN],
    ) -> Result<Lease, RefusedCode> {
        if let Some(taken_over) = self.take_over(owner, address, kind, id) {
            return taken_over;
        }
        let door = in_time(Door::bind(address, kind)).await.map_err(|error| {
            tracing::info!(%address, %error, "cannot listen for a client");
            match error.kind() {
                io::ErrorKind::AddrInUse => RefusedCode::Busy,
                io::ErrorKind::Unsupported => RefusedCode::NotOffered,
                _ => refusal(&error),
            }
        })?;
        let mut key = (address.clone(), kind);
        let bound = door.port();
        if let ListenAddress::Port { port, .. } = &mut key.0 {
            *port = bound;
        }
        let (jobs, ended) = (async_channel::bounded(MAX_JOBS), CancellationToken::new());
        let door = Arc::new(door);
        let lease = self.lease(&key, id, bound, &door, &jobs.0, &ended);
        let held = Held { owner: owner.clone(), id, port: bound, door, jobs, ended };
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
    ) -> Option<Result<Lease, RefusedCode>> {
        let key = (address.clone(), kind);
        let mut all = self.held();
        let held = all.get_mut(&key)?;
        if held.owner != *owner {
            return Some(Err(RefusedCode::Busy));
        }
        held.ended.cancel();
        held.ended = CancellationToken::new();
        held.id = id;
        Some(Ok(self.lease(&key, id, held.port, &held.door, &held.jobs.0, &held.ended)))
    }

    fn lease(
        self: &Arc<Self>,
        key: &(ListenAddress, ListenKind),
        id: [u8; LEASE_LEN],
        port: u16,
        door: &Arc<Door>,
        jobs: &async_channel::Sender<Job>,
        ended: &CancellationToken,
    ) -> Lease {
        Lease {
            leases: Arc::clone(self),
            key: key.clone(),
            id,
            port,
            door: Arc::clone(door),
            jobs: jobs.clone(),
            ended: ended.clone(),
        }
    }

    /// What a parked channel waits for; `None` where `owner` holds no such lease.
    pub(crate) fn parking(&self, owner: &ClientIdentity, id: &[u8; LEASE_LEN]) -> Option<Parking> {
        let held = self.held();
        let (key, held) = held.iter().find(|(_, held)| held.id == *id && held.owner == *owner)?;
        Some(Parking {
            address: key.0.clone(),
            kind: key.1,
            id: *id,
            jobs: held.jobs.1.clone(),
            again: held.jobs.0.clone(),
            ended: held.ended.clone(),
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
        }
        self.ended.cancel();
    }
}

impl Lease {
    /// Holds the lease for as long as the client, and nobody else, wants it; gives the channel back, idle.
    pub(crate) async fn hold(
        self,
        mut stream: SecureStream<Socket>,
        stopping: &CancellationToken,
    ) -> io::Result<SecureStream<Socket>> {
        stream.answer_listen(self.port).await?;
        tracing::info!(listen = %self.key.0, "listening for a client");
        let ended_by_client = tokio::select! {
            held = stream.hold() => {
                held?;
                true
            }
            never = self.accept_all() => match never {},
            () = self.ended.cancelled() => false,
            () = stopping.cancelled() => false,
        };
        tracing::info!(listen = %self.key.0, "no longer listening for a client");
        drop(self);
        stream.shutdown().await?;
        if !ended_by_client {
            in_time(stream.hold()).await?;
        }
        Ok(stream)
    }

    async fn accept_all(&self) -> Infallible {
        match &*self.door {
            Door::Stream(listener) => self.accept_connections(listener).await,
            Door::Datagram(socket) => self.accept_datagrams(socket).await,
        }
    }

    async fn accept_connections(&self, listener: &Listener) -> Infallible {
        let mut negotiations = JoinSet::new();
        loop {
            while negotiations.try_join_next().is_some() {}
            if negotiations.len() >= MAX_NEGOTIATIONS {
                negotiations.join_next().await;
            }
            let (socket, source) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for a client");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            socket.reset_on_drop();
            match self.key.1 {
                ListenKind::Socks => {
                    negotiations.spawn(negotiate(socket, source, self.jobs.clone()));
                }
                ListenKind::Stream | ListenKind::Datagram => {
                    let wants = Wants::Client { socket, origin: source.name, early: Vec::new() };
                    // Where the client takes none for so long, the system keeps the next ones, or refuses them.
                    self.jobs.send(Job::new(wants)).await.ok();
                }
            }
        }
    }

    async fn accept_datagrams(&self, socket: &Arc<UdpSocket>) -> Infallible {
        let mut flows = Flows::new(Arc::clone(socket));
        loop {
            let (peer, flow) = flows.next(flows::by_source).await;
            let target = Target::Forwarded { origin: peer.to_string() };
            // Datagrams do not wait: one that nobody takes is lost.
            self.jobs.try_send(Job::new(Wants::Datagrams { flow, target })).ok();
        }
    }
}

/// Finds out what a SOCKS client wants, and serves those that want to exchange datagrams to their end.
async fn negotiate(mut socket: Socket, source: Source, jobs: async_channel::Sender<Job>) {
    match timeout(NEGOTIATION_DEADLINE, socks::accept(&mut socket)).await {
        Ok(Ok(Request::Connect { host, port })) => {
            jobs.send(Job::new(Wants::Target { socket, host, port })).await.ok();
        }
        Ok(Ok(Request::Associate)) => {
            if let Err(error) = associate(socket, &jobs).await {
                tracing::debug!(peer = source.name, %error, "no port for a SOCKS client's datagrams");
            }
        }
        // Nothing was carried that could look cut off, and what it was told has to arrive.
        Ok(Err(error)) => {
            tracing::debug!(peer = source.name, %error, "no SOCKS client");
            socket.end_well();
        }
        Err(_) => {
            tracing::debug!(peer = source.name, "a SOCKS client did not say what it wants");
            socket.end_well();
        }
    }
}

async fn associate(mut control: Socket, jobs: &async_channel::Sender<Job>) -> io::Result<()> {
    let mut association = Association::open(&mut control).await?;
    loop {
        let (target, flow) = tokio::select! {
            biased;
            () = socks::until_closed(&mut control) => {
                control.end_well();
                return Ok(());
            }
            begun = association.next() => begun,
        };
        jobs.try_send(Job::new(Wants::Datagrams { flow, target })).ok();
    }
}

impl Job {
    fn new(wants: Wants) -> Self {
        Self { since: Instant::now(), wants }
    }
}

/// What a parked channel waits for.
#[derive(Debug)]
pub(crate) struct Parking {
    address: ListenAddress,
    kind: ListenKind,
    id: [u8; LEASE_LEN],
    jobs: async_channel::Receiver<Job>,
    again: async_channel::Sender<Job>,
    ended: CancellationToken,
}

impl Parking {
    /// What the client needs the right to.
    pub(crate) fn target(&self) -> Target {
        Target::Listen { address: self.address.clone(), kind: self.kind, lease: self.id }
    }

    /// Serves a parked channel to its end.
    pub(crate) async fn serve(
        self,
        mut stream: SecureStream<Socket>,
        throttle: &Throttle,
        idle_timeout: Duration,
        stopping: &CancellationToken,
        streams: &Counter,
    ) -> io::Result<()> {
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return in_time(stream.close()).await,
                () = self.ended.cancelled() => return in_time(stream.close()).await,
                incoming = timeout(idle_timeout, stream.next_incoming()) => {
                    let Ok(incoming) = incoming else { return in_time(stream.close()).await };
                    match incoming? {
                        Incoming::SignOfLife => {}
                        Incoming::Close => return in_time(stream.answer_close()).await,
                        Incoming::Open(_) => stream.refuse_open(RefusedCode::NotOffered).await?,
                        Incoming::Park(_) => {}
                    }
                }
                job = self.jobs.recv() => match job {
                    Ok(job) if job.since.elapsed() > MAX_WAIT => {
                        tracing::debug!("a connection has waited for its client for too long");
                    }
                    Ok(job) => {
                        let _open = streams.begin();
                        stream = self.carry(stream, job, throttle).await?;
                    }
                    Err(_) => return in_time(stream.close()).await,
                },
            }
        }
    }

    async fn carry(
        &self,
        stream: SecureStream<Socket>,
        job: Job,
        throttle: &Throttle,
    ) -> io::Result<SecureStream<Socket>> {
        match job.wants {
            Wants::Client { socket, origin, early } => {
                self.carry_to_client(stream, socket, job.since, origin, early, throttle).await
            }
            Wants::Target { socket, host, port } => {
                self.carry_to_target(stream, socket, job.since, host, port, throttle).await
            }
            Wants::Datagrams { flow, target } => self.carry_datagrams(stream, flow, &target, throttle).await,
        }
    }

    async fn carry_datagrams(
        &self,
        mut stream: SecureStream<Socket>,
        flow: Flow,
        target: &Target,
        throttle: &Throttle,
    ) -> io::Result<SecureStream<Socket>> {
        let ended = Box::pin(self.ended.clone().cancelled_owned());
        let mut flow = Throttled { socket: flow, throttle: throttle.clone(), ended };
        stream.begin_open(target)?;
        match relay_datagrams(&mut stream, &mut flow, MAX_UDP_TIMEOUT).await {
            Ok(_) => Ok(stream),
            Err(error) if refused_code(&error).is_some() => Ok(stream),
            Err(error) => Err(error),
        }
    }

    async fn carry_to_client(
        &self,
        mut stream: SecureStream<Socket>,
        socket: Socket,
        since: Instant,
        origin: String,
        mut early: Vec<u8>,
        throttle: &Throttle,
    ) -> io::Result<SecureStream<Socket>> {
        let target = Target::Forwarded { origin: origin.clone() };
        let opened = timeout(SILENCE, open_early(&mut stream, &target, &socket, &mut early)).await;
        let error = match opened {
            Ok(Ok(())) => {
                drop(early);
                let (stream, socket) = tunnel(stream, socket, throttle.clone()).await.map_err(into_io)?;
                socket.end_well();
                return Ok(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => RelayError::Channel(io::ErrorKind::TimedOut.into()),
        };
        if never_stood(&error, &early) {
            // Another parked channel may do.
            self.again.try_send(Job { since, wants: Wants::Client { socket, origin, early } }).ok();
        } else if is_refused(&error) {
            return Ok(stream);
        }
        Err(into_io(error))
    }

    async fn carry_to_target(
        &self,
        mut stream: SecureStream<Socket>,
        mut socket: Socket,
        since: Instant,
        host: String,
        port: u16,
        throttle: &Throttle,
    ) -> io::Result<SecureStream<Socket>> {
        let target = Target::Tcp { host: host.clone(), port, header: ProxyHeader::None };
        let opened = timeout(SILENCE, stream.open(target)).await;
        let error = match opened {
            Ok(Ok(())) => {
                socks::reply(&mut socket, Reply::Succeeded, UNSPECIFIED).await?;
                let (stream, socket) = tunnel(stream, socket, throttle.clone()).await.map_err(into_io)?;
                socket.end_well();
                return Ok(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        if let Some(code) = refused_code(&error) {
            refuse(socket, code.into()).await;
            return Ok(stream);
        }
        // Nothing was sent on it: another parked channel may do.
        self.again.try_send(Job { since, wants: Wants::Target { socket, host, port } }).ok();
        Err(error)
    }
}

/// Tells a SOCKS client why there is no connection. The answer has to arrive, so that this end is a good one.
async fn refuse(mut socket: Socket, reply: Reply) {
    if socks::reply(&mut socket, reply, UNSPECIFIED).await.is_ok() {
        socket.end_well();
    }
}

fn refused_code(error: &io::Error) -> Option<RefusedCode> {
    match error_in(error) {
        Some(wire_protocol::Error::Refused(code)) => Some(*code),
        _ => None,
    }
}

fn is_refused(error: &RelayError) -> bool {
    matches!(error, RelayError::Channel(error) if refused_code(error).is_some())
}

/// From where the client connects is the client's affair.
const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Connections that wait for a parked channel; more wait with the system.
const MAX_JOBS: usize = 64;
/// How long they do.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// SOCKS clients of one lease that have not yet said what they want.
const MAX_NEGOTIATIONS: usize = 256;
/// How long they may take for it.
const NEGOTIATION_DEADLINE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
