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
mod local;
mod orders;
mod remote;
mod stdio;

use std::io;
use std::sync::{Arc, Once};
use std::time::Duration;

use program::address::Address;
use program::admin::{Answer, Counts, Responder, Status};
use program::counter::Counter;
use program::crew::{self, Crew};
use program::drops::DropCounter;
use program::forward::{LocalForward, RemoteForward, StdioForward, Transport};
use program::hardening;
use program::listener::{Listener, OnDrop, Source};
use program::output;
use program::proxy_header::ProxyHeader;
use program::socket::Socket;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Error;
use crate::config::{self, Forward};
use crate::connect::{Connector, Credentials, Server};
use crate::pool::{END_DEADLINE, MAX_WARM, Pool};
use orders::{Order, Orders};

/// How `forward` speaks of what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFormat {
    /// A line on standard error for each.
    Text,
    /// A JSON object on standard output for each.
    Json,
}

/// Forwards until the program is told to end, then lets what is under way come to its end for `grace` at most.
///
/// # Errors
/// [`Error::NothingToForward`], those of [`config::check`], a listener that cannot be bound, a server that is not the one that is trusted or does
/// not let the client in, [`Error::Replaced`] once nothing is left to forward, [`Error::NotDrained`].
pub async fn forward(
    credentials: &Credentials,
    forwards: Vec<Forward>,
    grace: Duration,
    format: EventFormat,
) -> Result<(), Error> {
    if forwards.is_empty() {
        return Err(Error::NothingToForward);
    }
    config::check(&forwards)?;
    let tunnels = Tunnels::new(hardening::raise_descriptor_limit(), &forwards);
    // Everything that can be wrong here is found before anybody is told that something works.
    let listened_on: Vec<Address> = forwards.iter().flat_map(Forward::listened_on).cloned().collect();
    let mut bound = Vec::with_capacity(forwards.len());
    for forward in forwards {
        bound.push(Bound::bind(credentials, forward, &tunnels, format, &listened_on).await?);
    }
    // Before anybody can know that something works: whoever reads so may signal at once.
    let mut orders = Orders::listen(credentials.home())?;

    let mut keepers = JoinSet::new();
    let mut pools = Vec::with_capacity(bound.len());
    let mut forwarding: usize = bound.iter().map(Bound::count).sum();
    for bound in bound {
        pools.push(Arc::clone(&bound.site.pool));
        bound.start(&mut keepers);
    }
    let tell = |responder: Responder| responder.answer(&Answer::Status(tunnels.status(&pools)));
    let replaced = loop {
        tokio::select! {
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
            order = orders.next() => match order {
                Order::Stop => break None,
                Order::Tell(responder) => tell(responder),
            },
        }
    };

    tunnels.draining.cancel();
    tunnels.tracker.close();
    let told = Instant::now();
    let grace = sleep(grace);
    tokio::pin!(grace);
    let drained = loop {
        tokio::select! {
            biased;
            () = tunnels.tracker.wait() => break true,
            () = &mut grace => break false,
            order = orders.next() => match order {
                // The same signal by two ways, such as to a process and to its group.
                Order::Stop if told.elapsed() < SAME_ORDER => {}
                // Told twice: somebody is in a hurry.
                Order::Stop => break false,
                Order::Tell(responder) => tell(responder),
            },
        }
    };
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

/// Forwards standard input and output to one target.
///
/// # Errors
/// [`Error`]; [`Error::Pipe`] when data may have been lost.
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
    crew: Crew,
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
    started: std::time::Instant,
}

impl Tunnels {
    /// For a process that may have `descriptors` open.
    fn new(descriptors: usize, forwards: &[Forward]) -> Self {
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
            draining: CancellationToken::new(),
            tracker: TaskTracker::new(),
            crew: Crew::gather(),
            streams: Counter::default(),
            parked: Counter::default(),
            leases: Counter::default(),
            drops: DropCounter::default(),
            started: std::time::Instant::now(),
        }
    }

    /// Has `work` done, and the end of the program wait for it.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.crew.spawn(self.tracker.track_future(work));
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
    pool: Arc<Pool>,
    tunnels: Tunnels,
    header: ProxyHeader,
    wait: Duration,
    udp_timeout: Duration,
    format: EventFormat,
    /// That several servers answer at one address has been said.
    several_servers: Once,
}

/// Forwards whose listeners here are bound.
struct Bound {
    site: Arc<Site>,
    local: Vec<(LocalForward, local::Entrance)>,
    dynamic: Vec<Listener>,
    remote: Vec<RemoteForward>,
}

impl Bound {
    async fn bind(
        credentials: &Credentials,
        forward: Forward,
        tunnels: &Tunnels,
        format: EventFormat,
        listened_on: &[Address],
    ) -> Result<Self, Error> {
        let Forward { server, trust, local: locals, remote, dynamic: dynamics, header, wait, udp_timeout } =
            forward;
        let server = Server::from_options(server, &trust)?;
        let mut local = Vec::with_capacity(locals.len());
        for forward in locals {
            let entrance = local::Entrance::bind(&forward, listened_on).await?;
            local.push((forward, entrance));
        }
        let mut dynamic = Vec::with_capacity(dynamics.len());
        for forward in dynamics {
            dynamic.push(bind(&forward.listen, listened_on).await?);
        }
        let pool = Pool::new(Connector::new(credentials.clone(), server));
        let site = Site {
            pool,
            tunnels: tunnels.clone(),
            header,
            wait,
            udp_timeout,
            format,
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
            let server = site.pool.connector().server().address.to_string();
            site.pool.keep_up(|| site.tell(&Event::Connected { server: &server })).await
        });
    }
}

impl Site {
    fn is_draining(&self) -> bool {
        self.tunnels.draining.is_cancelled()
    }

    /// Says what has happened. That nobody listens any more is no reason to stop.
    fn tell(&self, event: &Event<'_>) {
        match self.format {
            EventFormat::Text => output::say(event),
            EventFormat::Json => {
                output::print_json(event).ok();
            }
        }
    }

    /// Says, once, why the server closes channels that are parked for what it listens on. What came to one server is not
    /// to be had at another.
    fn tell_of_several_servers(&self) {
        self.several_servers.call_once(|| {
            let server = &self.pool.connector().server().address;
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
                    crew::give_way().await;
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
async fn bind(address: &Address, listened_on: &[Address]) -> Result<Listener, Error> {
    let listener = Listener::bind_beside(address, OnDrop::Resets, listened_on).await;
    listener.map_err(|source| Error::Listen { address: address.to_string(), source })
}

/// What a person, or a program, wants to know.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    /// Connections are taken.
    Listening { kind: Kind, address: &'a str, target: Option<&'a str> },
    /// The server can be reached.
    Connected { server: &'a str },
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Local,
    Remote,
    Dynamic,
}

impl std::fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listening { kind, address, target } => {
                let kind = match kind {
                    Kind::Local => "local",
                    Kind::Remote => "remote",
                    Kind::Dynamic => "dynamic",
                };
                write!(f, "{kind:<8} {address}")?;
                target.map_or(Ok(()), |target| write!(f, " -> {target}"))
            }
            Self::Connected { server } => write!(f, "connected to {server}"),
        }
    }
}

/// An address that is listened on, as it is shown.
fn shown(address: &impl std::fmt::Display, transport: Transport) -> String {
    match transport {
        Transport::Stream => address.to_string(),
        Transport::Datagram => format!("{address}/udp"),
    }
}

/// Signals within this time are one.
const SAME_ORDER: Duration = Duration::from_millis(500);
/// How long a flow of datagrams that the server has refused is not asked for again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// For everything but connections and their channels: listeners, a few warm channels, files for a moment.
const RESERVED_DESCRIPTORS: usize = 32;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
