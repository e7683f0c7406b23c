//! `-R`: the server listens for this client, and what comes in there is carried to a target here.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cli_support::forward::{RemoteForward, TargetSpec, Transport};
use crypto_core::secret::Secret;
use getrandom::SysRng;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::address::Address;
use tunnel::backoff::{Backoff, MAX_PAUSE};
use tunnel::closing::close;
use tunnel::datagram_target::DatagramTarget;
use tunnel::dial::{PROMPT, in_time, refusal};
use tunnel::escape::escape;
use tunnel::keep_alive::keep_alive_every;
use tunnel::network::Network;
use tunnel::pool::{Attempt as _, Fault};
use tunnel::proxy_header::{self, ProxyHeader};
use tunnel::socket::Socket;
use wire_protocol::message::{LEASE_LEN, ListenAddress, ListenKind, RefusedCode, ResetCode, Target};
use wire_protocol::stream::{
    Channel, Incoming, OpenError, RelayError, SecureStream, error_in, relay_datagrams, tunnel,
};

use super::{Event, Kind, Site, shown};
use crate::Error;

/// Keeps the server listening, again and again, until the program ends.
///
/// # Errors
/// [`Error::Replaced`] where another program of this client listens there from now on: each would take it from the other
/// again and again. One that trying again does not mend; and, as long as the server has never listened, that it does not want to.
pub(super) async fn keep(site: Arc<Site>, forward: RemoteForward, turn: Turn) -> Result<(), Error> {
    let Turn { before, mut done } = turn;
    if let Some(before) = before {
        before.await.ok();
    }
    let (mut address, kind) = forward.to_wire();
    let forward = Arc::new(forward);
    let mut history = History::NeverHeld;
    let mut pauses = Backoff::default();
    let replaced = |address: &ListenAddress| Error::Replaced {
        listen: address.to_string(),
        address: site.pool.connector().address(),
    };
    while !site.is_draining() {
        let claimed = tokio::select! {
            biased;
            () = site.tunnels.draining.cancelled() => break,
            claimed = claim(&site, &address, kind) => claimed,
        };
        let done = done.take();
        match claimed {
            Ok(lease) => {
                // What was chosen once is asked for from then on: somebody may have been told of it.
                if let ListenAddress::Port { port, .. } = &mut address {
                    *port = lease.port;
                }
                announce(&site, &forward, &address, kind);
                drop(done);
                history = History::HeldBefore;
                let since = Instant::now();
                let ended = hold(&site, &forward, lease).await;
                if since.elapsed() >= STABLE {
                    pauses = Backoff::default();
                }
                if !site.is_draining() {
                    let error = ended.err();
                    if error.as_ref().is_some_and(is_replaced) {
                        return Err(replaced(&address));
                    }
                    let error = error.map(tracing::field::display);
                    tracing::warn!(listen = %address, error, "the server has stopped listening: asking again");
                }
            }
            Err(error) if error.fault() == Fault::Permanent && !matches!(error, Error::NoChannel { .. }) => {
                return Err(error);
            }
            Err(error)
                if history == History::NeverHeld && (error.fault() == Fault::Denied || is_busy(&error)) =>
            {
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(listen = %address, %error, "the server does not listen: asking again");
            }
        }
        tokio::select! {
            () = site.tunnels.draining.cancelled() => {}
            () = sleep(pauses.next_pause().min(MAX_PAUSE)) => {}
        }
    }
    Ok(())
}

/// Lets the first attempts come one after the other, in the order of the command line: with port 0 that is how what is
/// announced is told apart.
#[derive(Default)]
pub(super) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    /// Dropped once this one has had its attempt.
    done: Option<oneshot::Sender<()>>,
}

impl Turn {
    /// The turn behind this one.
    pub(super) fn next(&mut self) -> Self {
        let (done, before) = oneshot::channel();
        self.done = Some(done);
        Self { before: Some(before), done: None }
    }
}

/// Whether the server has listened for this client before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    /// Somebody is there to be told that it does not want to.
    NeverHeld,
    HeldBefore,
}

/// A server that listens.
struct Lease {
    stream: SecureStream<Socket>,
    id: [u8; LEASE_LEN],
    port: u16,
}

async fn claim(site: &Site, address: &ListenAddress, kind: ListenKind) -> Result<Lease, Error> {
    let channel = site.pool.get(Instant::now() + site.wait).await?;
    let id = *Secret::random(&mut SysRng).map_err(cli_support::Error::from)?.expose();
    let target = Target::Listen { address: address.clone(), kind, lease: id };
    let source = match in_time(async { Ok(channel.open_listen(&target).await) }).await {
        Ok(Ok((stream, port))) => return Ok(Lease { stream, id, port }),
        Ok(Err(OpenError::Refused { code, channel })) => {
            site.pool.put(channel);
            wire_protocol::Error::Refused(code).into()
        }
        Ok(Err(error)) => error.into(),
        Err(error) => error,
    };
    Err(Error::Listening { address: address.to_string(), source })
}

fn announce(site: &Site, forward: &RemoteForward, address: &ListenAddress, kind: ListenKind) {
    let transport = match kind {
        ListenKind::Datagram => Transport::Datagram,
        ListenKind::Stream | ListenKind::Socks => Transport::Stream,
    };
    let target = forward.target.as_ref().map_or_else(|| "socks".to_owned(), ToString::to_string);
    let address = shown(address, transport);
    site.tunnels.observer.tell(&Event::Listening {
        kind: Kind::Remote,
        address: &address,
        target: Some(&target),
    });
}

/// Keeps enough channels parked for as long as the lease holds.
async fn hold(site: &Arc<Site>, forward: &Arc<RemoteForward>, lease: Lease) -> io::Result<()> {
    let Lease { mut stream, id, .. } = lease;
    let _lease = (site.tunnels.leases.begin(), site.tunnels.streams.begin());
    let parking = Arc::new(Parking {
        site: Arc::clone(site),
        forward: Arc::clone(forward),
        lease: id,
        ended: site.tunnels.draining.child_token(),
        doubted: Notify::new(),
        pauses: Mutex::default(),
        waiting: AtomicUsize::new(0),
        wanted: AtomicUsize::new(MIN_PARKED),
        changed: Notify::new(),
    });
    // Whichever way this ends, parked channels that wait end with it, and those in use when they come to wait again.
    let _ended = parking.ended.clone().drop_guard();
    loop {
        while parking.waiting.load(Ordering::Relaxed) < parking.wanted.load(Ordering::Relaxed) {
            let place = Place::take(&parking);
            site.tunnels.tracker.spawn(park(Arc::clone(&parking), place));
        }
        tokio::select! {
            () = site.tunnels.draining.cancelled() => {
                // The server stops listening with this.
                close(in_time(stream.finish()).await?).await;
                return Ok(());
            }
            ended = stream.hold() => return end(stream, ended).await,
            () = parking.doubted.notified() => {
                // Where the lease has ended, its own channel says so, and why.
                if let Ok(ended) = timeout(REASON_DEADLINE, stream.hold()).await {
                    return end(stream, ended).await;
                }
                // One that is gone would be noticed only once it has been silent for too long.
                match timeout(DOUBT_DEADLINE, stream.ping()).await {
                    Ok(Ok(_)) => site.tell_of_several_servers(),
                    Ok(Err(error)) => return Err(error),
                    Err(_) => return Err(unknown_lease()),
                }
            }
            () = parking.changed.notified() => {}
        }
    }
}

/// A lease that the server has ended in good order is let go of in good order.
async fn end(stream: SecureStream<Socket>, ended: io::Result<()>) -> io::Result<()> {
    ended?;
    close(in_time(stream.finish()).await?).await;
    Ok(())
}

/// The parked channels of one lease.
struct Parking {
    site: Arc<Site>,
    forward: Arc<RemoteForward>,
    lease: [u8; LEASE_LEN],
    ended: CancellationToken,
    /// The server has closed a channel that waited: it may be that it knows nothing of the lease.
    doubted: Notify,
    /// Between attempts to park a channel that the server has closed.
    pauses: Mutex<Backoff>,
    /// How many wait for the server to open a stream, or are on the way there.
    waiting: AtomicUsize,
    wanted: AtomicUsize,
    /// One has been taken, or has failed.
    changed: Notify,
}

/// A channel that waits, or is on the way there.
struct Place(Arc<Parking>);

impl Place {
    fn take(parking: &Arc<Parking>) -> Self {
        parking.waiting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(parking))
    }

    /// The server has opened a stream here.
    fn was_of_use(self) {
        // The last one: more are wanted from now on.
        if self.0.waiting.load(Ordering::Relaxed) == 1 {
            let more = |wanted: usize| (wanted < MAX_PARKED).then_some(wanted + 1);
            self.0.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok();
        }
        *self.0.pauses.lock().unwrap_or_else(PoisonError::into_inner) = Backoff::default();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

/// One channel, from parking it to its end.
async fn park(parking: Arc<Parking>, place: Place) {
    let mut place = Some(place);
    let site = &parking.site;
    let channel = async {
        let room = Arc::clone(&site.tunnels.parking).acquire_owned().await;
        (site.pool.get(Instant::now() + site.wait).await, room)
    };
    let (channel, _room) = tokio::select! {
        () = parking.ended.cancelled() => return,
        channel = channel => channel,
    };
    let served = match channel {
        Ok(channel) => serve(&parking, channel, &mut place).await,
        Err(error) => Err(io::Error::other(error)),
    };
    let Err(error) = served else { return };
    tracing::debug!(%error, "a parked channel has ended");
    if place.is_some() {
        // One that has failed while it waited keeps its place for a moment, so that no other one tries at once.
        let pause = parking.pauses.lock().unwrap_or_else(PoisonError::into_inner).next_pause();
        tokio::select! {
            () = parking.ended.cancelled() => {}
            () = sleep(pause.clamp(PARK_PAUSE, MAX_PAUSE)) => {}
        }
    }
}

/// Serves what the server opens on a channel that waits. `place` is there as long as it does.
async fn serve(
    parking: &Arc<Parking>,
    mut channel: Channel<Socket>,
    place: &mut Option<Place>,
) -> io::Result<()> {
    in_time(channel.park(parking.lease)).await?;
    let counters = &parking.site.tunnels;
    let mut parked = Some(counters.parked.begin());
    let mut asked = Asked::Nothing;
    let ping_every = keep_alive_every(&channel);
    loop {
        let incoming = tokio::select! {
            biased;
            () = parking.ended.cancelled() => {
                close(channel).await;
                return Ok(());
            }
            incoming = timeout(ping_every, channel.next_incoming()) => incoming,
        };
        match incoming {
            Ok(incoming) => match incoming? {
                Incoming::Open(target) => {
                    if let Some(place) = place.take() {
                        place.was_of_use();
                    }
                    drop(parked.take());
                    let open = counters.streams.begin();
                    channel = answer(parking, channel, target).await?;
                    drop(open);
                    if parking.waiting.load(Ordering::Relaxed) >= parking.wanted.load(Ordering::Relaxed) {
                        close(channel).await;
                        return Ok(());
                    }
                    *place = Some(Place::take(parking));
                    parked = Some(counters.parked.begin());
                    asked = Asked::Nothing;
                }
                Incoming::SignOfLife => asked = Asked::Nothing,
                Incoming::Close => {
                    parking.doubted.notify_one();
                    in_time(channel.close()).await?;
                    return Err(unknown_lease());
                }
                Incoming::Park(_) => return Err(io::ErrorKind::InvalidData.into()),
            },
            Err(_) if asked == Asked::ForSignOfLife => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => {
                in_time(channel.begin_ping()).await?;
                asked = Asked::ForSignOfLife;
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    ForSignOfLife,
}

/// Serves one stream that the server has opened, and gives the channel back.
async fn answer(parking: &Parking, channel: Channel<Socket>, target: Target) -> io::Result<Channel<Socket>> {
    let (address, visitor) = match (target, &parking.forward.target) {
        (Target::Forwarded { origin, destination }, Some(TargetSpec::Tcp { host, port })) => {
            (Address::Tcp { host: host.clone(), port: *port }, Some((origin, destination)))
        }
        (Target::Forwarded { origin, destination }, Some(TargetSpec::Unix(path))) => {
            (Address::Unix(path.into()), Some((origin, destination)))
        }
        (Target::Tcp { host, port }, None) => (Address::Tcp { host, port }, None),
        (Target::Forwarded { .. }, Some(TargetSpec::Udp { host, port })) => {
            return answer_datagrams(parking, channel, host, *port).await;
        }
        (Target::Udp { host, port }, None) => return answer_datagrams(parking, channel, &host, port).await,
        _ => {
            return channel.refuse_open(RefusedCode::NotOffered).await;
        }
    };
    let asked = Instant::now();
    let mut socket = match reach(&parking.site.network, &address).await {
        Ok(socket) => socket,
        Err(error) => {
            tracing::info!(target = %address, %error, "the target cannot be reached");
            return channel.refuse_open(refusal(&error)).await;
        }
    };
    socket.reset_on_drop();
    if let Some((origin, destination)) = visitor
        && parking.site.header == ProxyHeader::V2
    {
        let header = proxy_header::v2(origin.parse().ok(), destination.parse().ok(), None);
        if let Err(error) = socket.write_all(&header).await {
            return channel.refuse_open(refusal(&error)).await;
        }
    }
    let stream = if asked.elapsed() < PROMPT {
        channel.begin_answer()?
    } else {
        // The server has waited for long, and does not wait for ever.
        channel.answer_open().await?
    };
    match tunnel(stream, socket, ()).await {
        Ok(channel) => Ok(channel),
        Err(RelayError::Channel(error) | RelayError::Input(error) | RelayError::Output(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Connects to a target. Names go at the expense of other targets', and not of the server's own.
async fn reach(network: &Network, address: &Address) -> io::Result<Socket> {
    match address {
        Address::Tcp { host, port } => {
            let candidates = network.resolve_for(VISITORS, host, *port).await?;
            network.dial_first(candidates).await.map(|(socket, _)| socket)
        }
        Address::Unix(_) => network.dial(address).await,
    }
}

/// As [`answer`], for a flow of datagrams.
async fn answer_datagrams(
    parking: &Parking,
    channel: Channel<Socket>,
    host: &str,
    port: u16,
) -> io::Result<Channel<Socket>> {
    let drops = parking.site.tunnels.drops.flow(format!("to {}:{port}", escape(host.as_bytes())));
    let resolved = parking.site.network.resolve_for(VISITORS, host, port).await;
    let connected = resolved.and_then(|candidates| DatagramTarget::connect(candidates, drops, |_| {}));
    match connected {
        Ok(mut socket) => {
            let mut stream = channel.answer_open().await?;
            relay_datagrams(&mut stream, &mut socket, parking.site.udp_timeout).await?;
            stream.finish().await
        }
        Err(error) => {
            tracing::info!(host, port, %error, "datagrams cannot be sent there");
            channel.refuse_open(refusal(&error)).await
        }
    }
}

fn unknown_lease() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the server knows the lease no longer")
}

/// Whether another program of this client listens there from now on.
fn is_replaced(error: &io::Error) -> bool {
    matches!(error_in(error), Some(wire_protocol::Error::Reset(ResetCode::Replaced)))
}

/// Whether the server refused because somebody else has the address.
fn is_busy(error: &Error) -> bool {
    let Error::Listening { source, .. } = error else { return false };
    matches!(error_in(source), Some(wire_protocol::Error::Refused(code)) if *code != RefusedCode::Stopping)
}

/// For whom the names of targets are looked up: whoever comes in at the server may name many that nobody answers for.
const VISITORS: &str = "visitors";
/// Channels that wait at least, for the next connection and one more.
const MIN_PARKED: usize = 2;
/// And at most, however many connections come at once.
const MAX_PARKED: usize = 32;
const PARK_PAUSE: Duration = Duration::from_secs(1);
/// How long the reason for the end of a lease may be behind the end of a channel that was parked for it.
const REASON_DEADLINE: Duration = Duration::from_millis(500);
/// How long the channel of a lease may take for a sign of life, once there is reason to doubt it.
const DOUBT_DEADLINE: Duration = Duration::from_secs(5);
/// A lease that has held for so long has done well: the next attempts come as quickly as the first ones did.
const STABLE: Duration = Duration::from_secs(10);
