//! `client forward`: tunnels that stay up.
//!
//! ```text
//! local    a listener here      --> a warm channel --> a target there          -L
//! dynamic  a SOCKS proxy here   --> a warm channel --> what each client asks   -D
//! remote   a listener there     --> a parked channel --> a target here         -R
//! stdio    standard input, output <-> a channel <-> a target there             -W
//! ```

mod attempts;
mod datagrams;
mod dynamic;
mod event;
mod local;
mod remote;
mod stdio;

use std::io;
use std::sync::{Arc, Once};
use std::time::Duration;

use cli_support::admin::{Counts, Status};
use cli_support::forward::{LocalForward, RemoteForward, StdioForward, Transport};
use cli_support::hardening;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnel::address::Address;
use tunnel::counter::Counter;
use tunnel::drops::DropCounter;
use tunnel::listener::{Listener, Source};
use tunnel::network::Network;
use tunnel::pool::{END_DEADLINE, MAX_WARM};
use tunnel::proxy_header::ProxyHeader;
use tunnel::socket::{OnDrop, Socket};

pub use event::{Event, Kind};

use crate::Error;
use crate::config::{self, Forward};
use crate::connect::{Connector, Credentials, Server};
use crate::control::{ControlEvent, ControlEvents};
use event::Observer;

/// Warm channels to one server.
type Pool = tunnel::pool::Pool<Connector>;

/// Forwards whose listeners here are bound, so that connections wait for them already.
#[derive(Debug)]
pub struct Forwards {
    tunnels: Tunnels,
    bound: Vec<Bound>,
}

/// Binds what `forwards` listen on here, on the `network` by which servers and targets are reached too. Everything that can
/// be wrong here is found before anybody is told that something works. Once they run, what happens is told to `tell`.
///
/// # Errors
/// [`Error::NothingToForward`], those of [`config::check`], those of a key that cannot be read, [`Error::Listen`].
pub async fn bind(
    network: &Network,
    credentials: &Credentials,
    forwards: Vec<Forward>,
    tell: impl Fn(&Event<'_>) + Send + Sync + 'static,
) -> Result<Forwards, Error> {
    if forwards.is_empty() {
        return Err(Error::NothingToForward);
    }
    config::check(&forwards)?;
    let tunnels = Tunnels::new(hardening::raise_descriptor_limit(), &forwards, Observer::new(tell));
    let listened_on: Vec<Address> = forwards.iter().flat_map(Forward::listened_on).cloned().collect();
    let mut bound = Vec::with_capacity(forwards.len());
    for forward in forwards {
        bound.push(Bound::bind(network, credentials, forward, &tunnels, &listened_on).await?);
    }
    Ok(Forwards { tunnels, bound })
}

impl Forwards {
    /// Forwards until `shutdown` is ready, or nothing is left to forward. Connections that are open then may come to their
    /// end for `grace` at most. Dropped before that, they take nothing new, and connections that are open
    /// go on.
    ///
    /// Takes no signals: who does, makes `shutdown` of them. The other end of `events` is a
    /// [`Control`](crate::Control).
    ///
    /// # Errors
    /// A server that is not the one that is trusted or does not let the client in, [`Error::Replaced`] once nothing is left
    /// to forward, [`Error::NotDrained`].
    pub async fn run(
        self,
        grace: Duration,
        shutdown: impl Future<Output = ()>,
        events: ControlEvents,
    ) -> Result<(), Error> {
        let Self { tunnels, bound } = self;
        let ControlEvents(mut events) = events;
        // However this ends, dropped included, nobody is left behind who takes connections.
        let _ended = tunnels.draining.clone().drop_guard();
        let mut keepers = JoinSet::new();
        let mut pools = Vec::with_capacity(bound.len());
        let mut forwarding: usize = bound.iter().map(Bound::count).sum();
        for bound in bound {
            pools.push(Arc::clone(&bound.site.pool));
            bound.start(&mut keepers);
        }
        tokio::pin!(shutdown);
        let replaced = loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break None,
                Some(ended) = keepers.join_next() => {
                    match ended.map_err(|error| Error::Runtime(io::Error::other(error))).flatten() {
                        // The others have nothing to do with it.
                        Err(error @ Error::Replaced { .. }) if forwarding > 1 => {
                            forwarding -= 1;
                            tracing::error!(%error, "a forward has ended: the others go on");
                        }
                        // Nor have those who came before.
                        Err(error @ Error::Replaced { .. }) => {
                            tracing::warn!(%error, "nothing new comes: ending with the connections that are open");
                            break Some(error);
                        }
                        ended => {
                            ended?;
                            break None;
                        }
                    }
                }
                event = events.next() => match event {
                    ControlEvent::Status(answer) => {
                        answer.send(tunnels.status(&pools)).ok();
                    }
                    ControlEvent::EndNow => {}
                },
            }
        };

        tunnels.draining.cancel();
        tunnels.tracker.close();
        let grace = sleep(grace);
        tokio::pin!(grace);
        let drained = loop {
            tokio::select! {
                biased;
                () = tunnels.tracker.wait() => break true,
                () = &mut grace => break false,
                // Told to end while they end on their own account: somebody does not want to wait.
                () = &mut shutdown, if replaced.is_some() => break false,
                event = events.next() => match event {
                    ControlEvent::EndNow => break false,
                    ControlEvent::Status(answer) => {
                        answer.send(tunnels.status(&pools)).ok();
                    }
                },
            }
        };
        if drained {
            tunnels.assert_nothing_held();
        }
        for pool in &pools {
            pool.end().await;
        }
        // Leases are given back meanwhile, and a handshake comes to its end: to the server a cut would be a failure.
        timeout(END_DEADLINE, async { while keepers.join_next().await.is_some() {} }).await.ok();
        keepers.shutdown().await;
        match replaced {
            Some(error) => Err(error),
            None if drained => Ok(()),
            None => Err(Error::NotDrained),
        }
    }
}

/// Forwards standard input and output to one target.
///
/// # Errors
/// [`Error`]; [`Error::EndedEarly`] when data may have been lost.
pub async fn forward_stdio(
    credentials: &Credentials,
    server: &Server,
    target: &StdioForward,
) -> Result<(), Error> {
    stdio::forward(credentials, server, &target.target.to_wire()).await
}

/// What all tunnels of the program share.
#[derive(Debug, Clone)]
struct Tunnels {
    /// Nothing new is taken any more.
    draining: CancellationToken,
    tracker: TaskTracker,
    streams: Counter,
    /// Channels on which the server may open a stream.
    parked: Counter,
    leases: Counter,
    drops: DropCounter,
    /// Connections that are accepted here. Each needs a channel too: without a limit, those that wait for one would
    /// hold every descriptor that a channel could have.
    accepted: Arc<Semaphore>,
    /// Channels that are parked, each of which needs a connection to its target.
    parking: Arc<Semaphore>,
    /// How many permits each of the two has.
    room: usize,
    started: std::time::Instant,
    observer: Observer,
}

impl Tunnels {
    /// For a process that may have `descriptors` open.
    fn new(descriptors: usize, forwards: &[Forward], observer: Observer) -> Self {
        // Warm channels have theirs, where there are many.
        let reserved = RESERVED_DESCRIPTORS + MAX_WARM.min(descriptors / 8);
        let pairs = descriptors.saturating_sub(reserved) / 2;
        // Each kind has its share, so that neither can starve the other.
        let is_mixed = forwards.iter().any(|forward| !forward.remote.is_empty())
            && forwards.iter().any(|forward| !(forward.local.is_empty() && forward.dynamic.is_empty()));
        let room = if is_mixed { pairs / 2 } else { pairs }.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            accepted: Arc::new(Semaphore::new(room)),
            parking: Arc::new(Semaphore::new(room)),
            room,
            draining: CancellationToken::new(),
            tracker: TaskTracker::new(),
            streams: Counter::default(),
            parked: Counter::default(),
            leases: Counter::default(),
            drops: DropCounter::default(),
            started: std::time::Instant::now(),
            observer,
        }
    }

    /// Has `work` done, and the end of the program wait for it.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(work);
    }

    /// Checks, in builds for tests, that everything was given back with the last connection: a permit that is forgotten is
    /// missing for as long as the program runs.
    fn assert_nothing_held(&self) {
        debug_assert_eq!(
            self.accepted.available_permits(),
            self.room,
            "permits of connections that are gone"
        );
        debug_assert_eq!(self.parking.available_permits(), self.room, "permits of channels that are gone");
        debug_assert_eq!(self.parked.count(), 0, "parked channels are counted that are gone");
    }

    fn status(&self, pools: &[Arc<Pool>]) -> Status {
        let streams = self.streams.count();
        let idle_channels = self.parked.count() + pools.iter().map(|pool| pool.idle()).sum::<usize>();
        let channels = streams + idle_channels;
        let (leases, dropped_datagrams) = (self.leases.count(), self.drops.count());
        let counts = Counts { channels, streams, leases, idle_channels, dropped_datagrams };
        Status::of_this_process("client", self.started, counts)
    }
}

/// What the tunnels through one server share.
#[derive(Debug)]
struct Site {
    network: Network,
    pool: Arc<Pool>,
    tunnels: Tunnels,
    header: ProxyHeader,
    wait: Duration,
    udp_timeout: Duration,
    /// That several servers answer at one address has been said.
    several_servers: Once,
}

/// Those of one server.
#[derive(Debug)]
struct Bound {
    site: Arc<Site>,
    local: Vec<(LocalForward, local::Entrance)>,
    dynamic: Vec<Listener>,
    remote: Vec<RemoteForward>,
}

impl Bound {
    async fn bind(
        network: &Network,
        credentials: &Credentials,
        forward: Forward,
        tunnels: &Tunnels,
        listened_on: &[Address],
    ) -> Result<Self, Error> {
        let Forward { server, trust, local: locals, remote, dynamic: dynamics, header, wait, udp_timeout } =
            forward;
        let network = network.clone();
        let server = Server { network: network.clone(), ..Server::from_options(server, &trust)? };
        let mut local = Vec::with_capacity(locals.len());
        for forward in locals {
            let entrance = local::Entrance::bind(&network, &forward, listened_on).await?;
            local.push((forward, entrance));
        }
        let mut dynamic = Vec::with_capacity(dynamics.len());
        for forward in dynamics {
            dynamic.push(listen(&network, &forward.listen, listened_on).await?);
        }
        let pool = Pool::new(Connector::new(credentials.clone(), server));
        let site = Site {
            network,
            pool,
            tunnels: tunnels.clone(),
            header,
            wait,
            udp_timeout,
            several_servers: Once::new(),
        };
        Ok(Self { site: Arc::new(site), local, dynamic, remote })
    }

    /// How many forwards there are.
    fn count(&self) -> usize {
        self.local.len() + self.dynamic.len() + self.remote.len()
    }

    /// Starts everything. What ends before the program drains, `keepers` tell of, and it is an error.
    fn start(self, keepers: &mut JoinSet<Result<(), Error>>) {
        let Self { site, local, dynamic, remote } = self;
        // In the order of the command line: with port 0 that is how they are told apart.
        for (forward, entrance) in &local {
            local::announce(&site, forward, entrance);
        }
        for listener in &dynamic {
            dynamic::announce(&site, listener);
        }
        for (forward, entrance) in local {
            site.tunnels.spawn(local::serve(Arc::clone(&site), forward, entrance));
        }
        for listener in dynamic {
            site.tunnels.spawn(dynamic::serve(Arc::clone(&site), listener));
        }
        let mut turn = remote::Turn::default();
        for forward in remote {
            let next = turn.next();
            keepers.spawn(remote::keep(Arc::clone(&site), forward, std::mem::replace(&mut turn, next)));
        }
        keepers.spawn(async move {
            let server = site.pool.connector().address();
            site.pool.keep_up(|| site.tunnels.observer.tell(&Event::Connected { server: &server })).await
        });
    }
}

impl Site {
    fn is_draining(&self) -> bool {
        self.tunnels.draining.is_cancelled()
    }

    /// Says, once, why the server closes channels that are parked for what it listens on. What came to one server is not
    /// to be had at another.
    fn tell_of_several_servers(&self) {
        self.several_servers.call_once(|| {
            let server = self.pool.connector().address();
            tracing::warn!(
                %server,
                "several servers seem to answer at this address, and only one of them listens for this client: have the \
                 balancer send each client to the same server (in HAProxy: balance source)"
            );
        });
    }

    /// Accepts until the program drains, and serves each connection on a task of its own, which holds its place. Where
    /// there is no room for more, they wait with the system.
    async fn accept_all<W>(
        self: &Arc<Self>,
        listener: &Listener,
        mut serve: impl FnMut(Socket, Source, OwnedSemaphorePermit) -> W,
    ) where
        W: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = async {
                let place = Arc::clone(&self.tunnels.accepted).acquire_owned().await;
                // Nobody closes the semaphore.
                let place = place.map_err(io::Error::other)?;
                listener.accept().await.map(|(socket, source)| (socket, source, place))
            };
            let accepted = tokio::select! {
                biased;
                () = self.tunnels.draining.cancelled() => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((socket, source, place)) => {
                    self.tunnels.spawn(serve(socket, source, place));
                    // Another one is seldom there yet, and to find that out takes a call that this one need not wait for.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    // Mostly descriptors that have run out: accepting at once would fail at once.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Listens on one of the addresses that are `listened_on`.
async fn listen(network: &Network, address: &Address, listened_on: &[Address]) -> Result<Listener, Error> {
    let listener = network.listen_beside(address, OnDrop::Resets, listened_on).await;
    listener.map_err(|source| Error::Listen { address: address.to_string(), source })
}

/// An address that is listened on, as it is shown.
fn shown(address: &impl std::fmt::Display, transport: Transport) -> String {
    match transport {
        Transport::Stream => address.to_string(),
        Transport::Datagram => format!("{address}/udp"),
    }
}

/// How long a flow of datagrams that the server has refused is not asked for again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// For everything but connections and their channels: listeners, a few warm channels, files for a moment.
const RESERVED_DESCRIPTORS: usize = 32;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
