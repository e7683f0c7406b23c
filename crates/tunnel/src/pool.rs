//! Keeps channels whose handshakes are done before they are needed, so that opening a stream costs no round trip.
//!
//! A channel whose stream has ended well comes back. How many are kept follows what is asked for: each time that
//! none is there one more is wanted from then on, and what lies around unused is wanted less and less.

mod connect;
mod state;

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use wire_protocol::stream::Channel;

use self::state::{Aged, Reachability, SETTLE_AFTER, State};
use crate::backoff::{Backoff, MAX_PAUSE};
use crate::closing::close;
use crate::dial::in_time;
use crate::network_monitor::NetworkMonitor;

pub use self::connect::{Attempt, Connect, Fault};
pub use self::state::MAX_WARM;

/// A pool of channels to one server whose handshakes are done in advance.
pub struct Pool<C: Connect> {
    connector: C,
    state: Mutex<State<C::Socket>>,
    /// A channel has come back, or the server can be reached again.
    changed: Notify,
    /// Something is left to be said on a channel that has come back.
    unsettled: Notify,
    /// Fewer channels are warm than are wanted, or the server has turned out to be unreachable.
    wanting: Notify,
    /// A server that is out of reach is to be tried at once.
    retry: Notify,
    /// The server does not let the client in any more.
    denied: Notify,
    /// Handshakes at once: a burst of connections is not to be a burst of RSA.
    handshakes: Arc<Semaphore>,
    /// The same for streams that have lost their channels, all at one moment, and whose clients have tickets for new ones.
    takeovers: Arc<Semaphore>,
    /// Nothing is kept any more.
    ended: CancellationToken,
}

impl<C: Connect> Pool<C> {
    /// A pool without channels: [`Pool::keep_up`] makes them.
    pub fn new(connector: C) -> Arc<Self> {
        Arc::new(Self {
            connector,
            state: Mutex::new(State::new()),
            changed: Notify::new(),
            unsettled: Notify::new(),
            wanting: Notify::new(),
            retry: Notify::new(),
            denied: Notify::new(),
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES.into())),
            takeovers: Arc::new(Semaphore::new(MAX_TAKEOVERS.into())),
            ended: CancellationToken::new(),
        })
    }

    /// What makes the channels.
    pub fn connector(&self) -> &C {
        &self.connector
    }

    /// How many channels are warm.
    pub fn idle(&self) -> usize {
        self.state().idle()
    }

    /// Whether the server can be reached, as far as is known.
    pub fn is_up(&self) -> bool {
        self.state().reachability == Reachability::Up
    }

    /// A channel: a warm one, a new one, or the first that comes back until `deadline`.
    ///
    /// # Errors
    /// [`Connect::no_channel`] at the deadline, or an error that is [`Fault::Permanent`].
    pub async fn get(self: &Arc<Self>, deadline: Instant) -> Result<Channel<C::Socket>, C::Error> {
        self.get_by(&self.handshakes, deadline).await
    }

    /// As [`Pool::get`], for a stream that has lost its channel, as all others are likely to have.
    ///
    /// # Errors
    /// Those of [`Pool::get`].
    pub async fn get_for_takeover(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<Channel<C::Socket>, C::Error> {
        self.get_by(&self.takeovers, deadline).await
    }

    async fn get_by(
        self: &Arc<Self>,
        permits: &Arc<Semaphore>,
        deadline: Instant,
    ) -> Result<Channel<C::Socket>, C::Error> {
        let waited = timeout_at(deadline, self.wait_for_one(permits)).await;
        waited.unwrap_or_else(|_| Err(self.connector.no_channel()))
    }

    async fn wait_for_one(
        self: &Arc<Self>,
        permits: &Arc<Semaphore>,
    ) -> Result<Channel<C::Socket>, C::Error> {
        if let Some(channel) = self.take_idle() {
            return Ok(channel);
        }
        self.state().want_more();
        loop {
            let changed = self.changed.notified();
            if let Some(channel) = self.take_idle() {
                return Ok(channel);
            }
            if self.state().reachability == Reachability::Down {
                changed.await;
                continue;
            }
            // One of the tasks that wait asks; the others wait for its answer, or for a channel that comes back.
            let at_limit = self.state().wait_at_limit(Instant::now());
            if let Some(next) = at_limit {
                timeout_at(next, changed).await.ok();
                continue;
            }
            // The turn of this one for a handshake, or a channel that comes back: what is first counts.
            let permit = tokio::select! {
                biased;
                () = changed => continue,
                permit = Arc::clone(permits).acquire_owned() => permit,
            };
            let error = match self.connect(permit.ok()).await {
                Ok(channel) => {
                    self.state().end_limit();
                    return Ok(channel);
                }
                Err(error) => error,
            };
            match error.fault() {
                Fault::TooManyChannels => self.begin_limit(),
                Fault::Permanent => return Err(error),
                Fault::Denied { .. } | Fault::Passing => self.lost(&error),
            }
        }
    }

    /// Waits until the server says that it does not let the client in any more: see [`Fault::Denied`].
    pub async fn denied(&self) {
        self.denied.notified().await;
    }

    /// Takes back a channel whose stream has ended well.
    pub fn put(&self, channel: Channel<C::Socket>) {
        let is_settled = channel.is_settled();
        let mut state = self.state();
        let kept = if self.ended.is_cancelled() { Err(channel) } else { state.keep(channel, Instant::now()) };
        drop(state);
        match kept {
            Ok(()) => {
                self.changed.notify_one();
                if !is_settled {
                    self.unsettled.notify_one();
                }
            }
            Err(surplus) => drop(tokio::spawn(close(surplus))),
        }
    }

    /// Connects for the first time, then keeps channels warm and the server in sight, until [`Pool::end`].
    /// `connected` is called each time that the server has become reachable.
    ///
    /// # Errors
    /// An error that is [`Fault::Permanent`]: above all a server that is not the one that is trusted. An error that
    /// is [`Fault::Denied`], as long as the server has never let the client in.
    pub async fn keep_up(self: &Arc<Self>, connected: impl Fn()) -> Result<(), C::Error> {
        tokio::select! {
            ended = self.keep_connected(connected) => ended,
            never = self.settle() => match never {},
        }
    }

    async fn keep_connected(self: &Arc<Self>, connected: impl Fn()) -> Result<(), C::Error> {
        let mut denials = Denials::BeforeFirstContact;
        let mut backoff = Backoff::default();
        loop {
            match self.handshake_anew().await {
                Ok(channel) => {
                    self.found(channel);
                    connected();
                    denials = Denials::Endured;
                    let since = Instant::now();
                    self.stay_up().await?;
                    // A server that can be reached for a moment only is not asked in quick succession.
                    if since.elapsed() >= MAX_PAUSE {
                        backoff = Backoff::default();
                    }
                }
                Err(error) => match error.fault() {
                    Fault::Permanent => return Err(error),
                    Fault::Denied { .. } if denials == Denials::BeforeFirstContact => return Err(error),
                    Fault::Denied { .. } | Fault::TooManyChannels | Fault::Passing => self.lost(&error),
                },
            }
            // A stream that waits for a channel does not wait for the whole of a long pause.
            tokio::select! {
                biased;
                () = self.ended.cancelled() => return Ok(()),
                () = self.retry.notified() => backoff = Backoff::default(),
                () = sleep(backoff.next_pause().min(MAX_PAUSE)) => {}
            }
        }
    }

    /// Keeps channels warm while the server can be reached.
    async fn stay_up(self: &Arc<Self>) -> Result<(), C::Error> {
        let mut next_look = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next_look) => {
                    self.look_after_idle().await;
                    next_look = Instant::now() + self.state().look_every();
                }
                () = self.wanting.notified() => {}
                () = self.ended.cancelled() => return Ok(()),
            }
            loop {
                {
                    let state = self.state();
                    if state.reachability == Reachability::Down || self.ended.is_cancelled() {
                        return Ok(());
                    }
                    if !state.is_short() {
                        break;
                    }
                }
                match self.handshake().await {
                    Ok(channel) => self.put(channel),
                    Err(error) => match error.fault() {
                        Fault::Permanent => return Err(error),
                        // The channels that there are have to do.
                        Fault::TooManyChannels => {
                            self.state().want_fewest();
                            break;
                        }
                        Fault::Denied { .. } | Fault::Passing => {
                            self.lost(&error);
                            return Ok(());
                        }
                    },
                }
            }
        }
    }

    /// Wants fewer where many lay around, and asks those that have been idle for long whether they still stand.
    async fn look_after_idle(&self) {
        let Aged { surplus, doubtful } = self.state().age(Instant::now());
        for channel in surplus {
            tokio::spawn(close(channel));
        }
        let mut asked = JoinSet::new();
        for mut channel in doubtful {
            asked.spawn(async move { in_time(channel.ping()).await.map(|_| channel) });
        }
        while let Some(answer) = asked.join_next().await {
            match answer.map_err(io::Error::other).flatten() {
                Ok(channel) => self.put(channel),
                Err(error) => tracing::debug!(%error, "an idle channel is gone"),
            }
        }
    }

    /// Says what is left to be said on channels that nobody has used again at once, with what else was said there.
    async fn settle(&self) -> Infallible {
        loop {
            self.unsettled.notified().await;
            loop {
                sleep(SETTLE_AFTER).await;
                let (due, are_more) = self.state().take_unsettled(Instant::now());
                for channel in due {
                    self.settle_one(channel).await;
                }
                if !are_more {
                    break;
                }
            }
        }
    }

    async fn settle_one(&self, mut channel: Channel<C::Socket>) {
        match in_time(channel.settle()).await {
            Ok(()) => self.put(channel),
            Err(error) => tracing::debug!(%error, "an idle channel is gone"),
        }
    }

    /// Drops all idle channels without a word: they are as likely to be dead as one that has just turned out to be, and nothing
    /// shows it. Many streams find that out at once, so that it is done once in a while alone: what was made since then is good.
    pub fn drop_idle(&self) {
        let dropped = self.state().take_old(Instant::now());
        for mut channel in dropped.into_iter().filter(|channel| !channel.is_settled()) {
            // The server has a stream wait for this, if it is there.
            tokio::spawn(async move { in_time(channel.settle()).await });
        }
        self.wanting.notify_one();
    }

    /// Drops idle channels that are likely to be dead, each time that a monitor tells of what may have left them so, and tries a
    /// server at once that is out of reach: it may be within by now.
    pub async fn follow(&self, monitor: Option<&NetworkMonitor>) -> Infallible {
        let Some(monitor) = monitor else { return pending().await };
        let mut disturbances = monitor.disturbances();
        loop {
            let disturbance = disturbances.changed().await;
            let is_outdated = |socket: &C::Socket| disturbance.outdates(C::path(socket).as_ref());
            let outdated = self.state().take_outdated(is_outdated);
            if !outdated.is_empty() {
                let channels = outdated.len();
                tracing::info!(?disturbance, channels, "the network has changed: leaving idle channels");
            }
            drop(outdated);
            self.wanting.notify_one();
            self.retry.notify_one();
        }
    }

    /// Lets go of all idle channels, in good order, and of every one that comes back. Waits for handshakes that are under way,
    /// for [`END_DEADLINE`] at most.
    pub async fn end(&self) {
        self.ended.cancel();
        let mut closing = JoinSet::new();
        for channel in self.state().take_all() {
            closing.spawn(close(channel));
        }
        timeout(END_DEADLINE, async {
            closing.join_all().await;
            // No handshake is under way any more once all permits are here.
            self.handshakes.acquire_many(MAX_HANDSHAKES.into()).await.ok();
            self.takeovers.acquire_many(MAX_TAKEOVERS.into()).await.ok();
        })
        .await
        .ok();
    }

    /// As [`Pool::handshake`], with another one as soon as the network has changed: the first may wait for an answer that never comes.
    async fn handshake_anew(self: &Arc<Self>) -> Result<Channel<C::Socket>, C::Error> {
        loop {
            tokio::select! {
                biased;
                connected = self.handshake() => return connected,
                () = self.retry.notified() => {}
            }
        }
    }

    async fn handshake(self: &Arc<Self>) -> Result<Channel<C::Socket>, C::Error> {
        let permit = Arc::clone(&self.handshakes).acquire_owned().await;
        self.connect(permit.ok()).await
    }

    /// Connects, on a task of its own: a handshake that has begun is not given up, even if its channel is wanted no longer. To
    /// the server that would be a failure, and count against this client.
    async fn connect(
        self: &Arc<Self>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Channel<C::Socket>, C::Error> {
        let (give, given) = oneshot::channel();
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            // On the heap, so that its room is used again for the next one: that of a large task begins at a multiple of 128, and
            // is seldom found fit for another once something that lasts lies beside it.
            let connected = Box::pin(pool.connector.connect()).await;
            if let Err(Ok(unwanted)) = give.send(connected) {
                if pool.ended.is_cancelled() {
                    close(unwanted).await;
                } else {
                    pool.put(unwanted);
                }
            }
            drop(permit);
        });
        given.await.unwrap_or_else(|_| Err(self.connector.no_channel()))
    }

    fn take_idle(&self) -> Option<Channel<C::Socket>> {
        let mut state = self.state();
        let taken = state.take();
        if state.is_short() {
            self.wanting.notify_one();
        }
        taken
    }

    fn begin_limit(&self) {
        if self.state().begin_limit(Instant::now()) {
            tracing::warn!("the server lets this client have no more channels: connections wait");
        }
    }

    fn found(&self, channel: Channel<C::Socket>) {
        self.state().reachability = Reachability::Up;
        self.put(channel);
        self.changed.notify_waiters();
    }

    fn lost(&self, error: &C::Error) {
        let before = std::mem::replace(&mut self.state().reachability, Reachability::Down);
        if before == Reachability::Up {
            tracing::warn!(%error, "the server is out of reach: trying again");
        } else {
            tracing::info!(%error, "the server is not to be reached: trying again");
        }
        self.wanting.notify_one();
        if error.fault() == (Fault::Denied { is_final: true }) {
            self.denied.notify_waiters();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<C::Socket>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Connect + fmt::Debug> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("connector", &self.connector).finish_non_exhaustive()
    }
}

/// What it means that the server does not let the client in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Denials {
    /// The client was never let in: somebody has to do something about it, and is there to be told.
    BeforeFirstContact,
    /// It was let in before, and may be again.
    Endured,
}

const MAX_HANDSHAKES: u8 = 8;
/// Half of what a server takes from one source at once.
const MAX_TAKEOVERS: u8 = 32;
/// How long the end of a pool, and of what has to end with it, may take.
pub const END_DEADLINE: Duration = Duration::from_secs(2);
