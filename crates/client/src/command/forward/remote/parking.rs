//! The parked channels of one lease: keeps enough of them waiting for the server to open streams.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cli_support::forward::RemoteForward;
use cli_support::metrics::{StreamKind, StreamOutcome};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::backoff::{Backoff, MAX_PAUSE};
use tunnel::closing::{close, into_io};
use tunnel::dial::in_time;
use tunnel::egress::{self, Opened, Request as _};
use tunnel::ingress::IngressError;
use tunnel::keep_alive::keep_alive_every;
use tunnel::relay::relay;
use tunnel::socket::Socket;
use wire_protocol::message::LEASE_LEN;
use wire_protocol::stream::{Channel, Incoming, OpenedStream};

use crate::command::forward::remote::target::TargetRequest;
use crate::command::forward::upstream::Upstream;

/// The parked channels of one lease.
pub(super) struct Parking {
    upstream: Arc<Upstream>,
    forward: Arc<RemoteForward>,
    lease: [u8; LEASE_LEN],
    /// The lease has ended, or the program drains.
    pub(super) ended: CancellationToken,
    /// The server has closed a channel that waited: it may be that it knows nothing of the lease.
    pub(super) doubted: Notify,
    /// Between attempts to park a channel that the server has closed.
    pauses: Mutex<Backoff>,
    /// How many channels wait for the server to open a stream, or are on the way there.
    waiting: AtomicUsize,
    wanted: AtomicUsize,
    /// A channel has been taken, or has failed.
    pub(super) changed: Notify,
}

impl Parking {
    /// None yet.
    pub(super) fn new(
        upstream: &Arc<Upstream>,
        forward: &Arc<RemoteForward>,
        lease: [u8; LEASE_LEN],
    ) -> Arc<Self> {
        Arc::new(Self {
            upstream: Arc::clone(upstream),
            forward: Arc::clone(forward),
            lease,
            ended: upstream.tunnels.draining.child_token(),
            doubted: Notify::new(),
            pauses: Mutex::default(),
            waiting: AtomicUsize::new(0),
            wanted: AtomicUsize::new(MIN_PARKED),
            changed: Notify::new(),
        })
    }

    /// Parks as many channels as are missing.
    pub(super) fn fill(self: &Arc<Self>) {
        while !self.is_full() {
            let slot = ParkedSlot::take(self);
            self.upstream.tunnels.spawn(park(Arc::clone(self), slot));
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= self.wanted.load(Ordering::Relaxed)
    }
}

/// A channel that waits, or is on the way there.
struct ParkedSlot(Arc<Parking>);

impl ParkedSlot {
    fn take(parking: &Arc<Parking>) -> Self {
        parking.waiting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(parking))
    }

    /// Notes that the server has opened a stream here.
    fn was_of_use(self) {
        // It was the last one: more are wanted from now on.
        if self.0.waiting.load(Ordering::Relaxed) == 1 {
            let more = |wanted: usize| (wanted < MAX_PARKED).then_some(wanted + 1);
            self.0.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok();
        }
        *self.0.pauses.lock().unwrap_or_else(PoisonError::into_inner) = Backoff::default();
    }
}

impl Drop for ParkedSlot {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

/// One channel, from parking it to its end.
async fn park(parking: Arc<Parking>, slot: ParkedSlot) {
    let mut slot = Some(slot);
    let upstream = &parking.upstream;
    let channel = async {
        let room = Arc::clone(&upstream.tunnels.parking).acquire_owned().await;
        (upstream.ingress.pool.get(Instant::now() + upstream.ingress.wait).await, room)
    };
    let (channel, _room) = tokio::select! {
        () = parking.ended.cancelled() => return,
        channel = channel => channel,
    };
    let served = match channel {
        Ok(channel) => serve(&parking, channel, &mut slot).await,
        Err(error) => Err(io::Error::other(error)),
    };
    let Err(error) = served else { return };
    tracing::debug!(%error, "a parked channel has ended");
    if slot.is_some() {
        // A channel that has failed while it waited keeps its slot for a moment, so that no other one tries at once.
        let pause = parking.pauses.lock().unwrap_or_else(PoisonError::into_inner).next_pause();
        tokio::select! {
            () = parking.ended.cancelled() => {}
            () = sleep(pause.clamp(PARK_PAUSE, MAX_PAUSE)) => {}
        }
    }
}

/// Serves what the server opens on a channel. `slot` is there as long as the channel waits.
async fn serve(
    parking: &Arc<Parking>,
    mut channel: Channel<Socket>,
    slot: &mut Option<ParkedSlot>,
) -> io::Result<()> {
    in_time(channel.park(parking.lease)).await?;
    let counters = &parking.upstream.tunnels;
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
        let incoming = match incoming {
            Ok(incoming) => incoming?,
            Err(_) if asked == Asked::ForSignOfLife => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => {
                in_time(channel.begin_ping()).await?;
                asked = Asked::ForSignOfLife;
                continue;
            }
        };
        let opened = match incoming {
            Incoming::Open(target) => (target, None),
            Incoming::OpenResumable(target, retention) => (target, Some(retention)),
            Incoming::SignOfLife => {
                asked = Asked::Nothing;
                continue;
            }
            Incoming::Close => {
                parking.doubted.notify_one();
                in_time(channel.close()).await?;
                return Err(unknown_lease());
            }
            Incoming::Park(_) | Incoming::Resume(_) => return Err(io::ErrorKind::InvalidData.into()),
        };
        if let Some(slot) = slot.take() {
            slot.was_of_use();
        }
        drop(parked.take());
        let open = counters.streams.begin();
        let request = TargetRequest::new(&parking.upstream, &parking.forward, opened);
        let counted = counters.counts.streams.begin(StreamKind::Forwarded);
        let served = serve_stream(&parking.upstream, channel, &request).await;
        if let Some(code) = request.refused() {
            counted.refuse(code);
        }
        counted.end(match served {
            Ok(_) => StreamOutcome::Completed,
            Err(_) => StreamOutcome::Failed,
        });
        let Some(idle) = served? else { return Ok(()) };
        channel = idle;
        drop(open);
        if parking.is_full() {
            close(channel).await;
            return Ok(());
        }
        // The server opens the next stream once it has heard the last word about this one.
        in_time(channel.settle()).await?;
        *slot = Some(ParkedSlot::take(parking));
        parked = Some(counters.parked.begin());
        asked = Asked::Nothing;
    }
}

/// Serves the stream whose Open has just come, and gives the channel back, idle; `None` where the stream has come to its end on
/// another one.
async fn serve_stream(
    upstream: &Upstream,
    channel: Channel<Socket>,
    request: &TargetRequest<'_>,
) -> io::Result<Option<Channel<Socket>>> {
    let terms = request.terms();
    // On the heap, each, so that a stream has no room for what it does not need.
    match Box::pin(egress::open(channel, request)).await? {
        Opened::Connection { stream: OpenedStream::Plain(stream), target } => {
            Box::pin(relay(stream, target, terms)).await.map(Some).map_err(into_io)
        }
        Opened::Connection { stream: OpenedStream::Resumable(stream), target } => {
            let carried = Box::pin(upstream.ingress.carry_resumable(stream, target, terms)).await;
            carried.map_err(|error| match error {
                IngressError::NoChannel(error) => io::Error::other(error),
                IngressError::Stream(error) => into_io(error),
            })
        }
        Opened::Over(channel) => Ok(Some(channel)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    ForSignOfLife,
}

/// The error of a lease of which the server does not know any more.
pub(super) fn unknown_lease() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the server knows the lease no longer")
}

/// Channels that wait at least, for the next connection and one more.
const MIN_PARKED: usize = 2;
/// Channels that wait at most, however many connections come at once.
const MAX_PARKED: usize = 32;
/// The least pause behind a channel that has failed while it waited.
const PARK_PAUSE: Duration = Duration::from_secs(1);
