//! Channels that are through the handshake before anybody needs them, so that opening a stream costs no round trip.
//!
//! A channel whose stream has ended well comes back. How many are kept follows what is asked for: each time that
//! none is there one more is wanted from then on, and what lies around unused is wanted less and less.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tunnel::dial::in_time;
use tunnel::socket::Socket;
use wire_protocol::message::{AbortCode, DeniedCode, RefusedCode};
use wire_protocol::stream::{SecureStream, error_in};

use crate::Error;
use crate::connect::{Connector, close};

impl State {
    /// Whether there are so few that more are made. Those that are in use are likely to come back: where many are kept,
    /// some may be missing, or each that is taken would cost a handshake and each that comes back be one too many.
    fn is_short(&self) -> bool {
        self.idle.len() < self.wanted - self.wanted / 4
    }
}

/// Warm channels to one server.
#[derive(Debug)]
pub(crate) struct Pool {
    connector: Connector,
    state: Mutex<State>,
    /// A channel has come back, or the server can be reached again.
    changed: Notify,
    /// Fewer channels are warm than are wanted, or the server has turned out to be unreachable.
    wanting: Notify,
    /// Handshakes at once: a burst of connections is not to be a burst of RSA.
    handshakes: Arc<Semaphore>,
    /// Nothing is kept any more.
    ended: CancellationToken,
}

#[derive(Debug)]
struct State {
    /// The one that was used last is at the end, and is used next.
    idle: Vec<Idle>,
    wanted: usize,
    /// The fewest that were idle since the last look.
    low_water: usize,
    link: Link,
    limit: Option<AtLimit>,
}

#[derive(Debug)]
struct Idle {
    stream: SecureStream<Socket>,
    /// Since it was last known to stand.
    since: Instant,
}

/// The client has as many channels as the server lets it have.
#[derive(Debug, Clone, Copy)]
struct AtLimit {
    /// When to ask for another one.
    next: Instant,
    /// How long to wait after that.
    pause: Duration,
}

/// Whether the server can be reached, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    /// Only the one task that tries it again and again connects.
    Down,
}

impl Pool {
    pub(crate) fn new(connector: Connector) -> Arc<Self> {
        let state = State { idle: Vec::new(), wanted: MIN_WARM, low_water: 0, link: Link::Down, limit: None };
        Arc::new(Self {
            connector,
            state: Mutex::new(state),
            changed: Notify::new(),
            wanting: Notify::new(),
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES.into())),
            ended: CancellationToken::new(),
        })
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// How many channels are warm.
    pub(crate) fn idle(&self) -> usize {
        self.state().idle.len()
    }

    /// A channel: a warm one, a new one, or the first that comes back until `deadline`.
    ///
    /// # Errors
    /// [`Error::NoChannel`] at the deadline, or an error that waiting does not mend.
    pub(crate) async fn get(self: &Arc<Self>, deadline: Instant) -> Result<SecureStream<Socket>, Error> {
        let waited = timeout_at(deadline, self.wait_for_one()).await;
        waited.unwrap_or_else(|_| Err(Error::NoChannel { address: self.address() }))
    }

    async fn wait_for_one(self: &Arc<Self>) -> Result<SecureStream<Socket>, Error> {
        if let Some(stream) = self.take_idle() {
            return Ok(stream);
        }
        self.miss();
        loop {
            let changed = self.changed.notified();
            if let Some(stream) = self.take_idle() {
                return Ok(stream);
            }
            if self.state().link == Link::Down {
                changed.await;
                continue;
            }
            // One of those that wait asks; the others wait for its answer, or for a channel that comes back.
            if let Some(next) = self.wait_at_limit() {
                timeout_at(next, changed).await.ok();
                continue;
            }
            // Whichever is first: our turn for a handshake, or somebody else's channel.
            let permit = tokio::select! {
                biased;
                () = changed => continue,
                permit = Arc::clone(&self.handshakes).acquire_owned() => permit,
            };
            let connected = self.connect(permit.ok()).await;
            match connected {
                Ok(stream) => {
                    self.state().limit = None;
                    return Ok(stream);
                }
                Err(error) if is_at_limit(&error) => self.begin_limit(),
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => self.lost(&error),
            }
        }
    }

    /// Takes back a channel whose stream has ended well.
    pub(crate) fn put(&self, stream: SecureStream<Socket>) {
        let mut state = self.state();
        if self.ended.is_cancelled() || state.idle.len() >= 2 * state.wanted + MIN_KEPT {
            drop(state);
            tokio::spawn(close(stream));
            return;
        }
        state.idle.push(Idle { stream, since: Instant::now() });
        drop(state);
        self.changed.notify_one();
    }

    /// Connects for the first time, then keeps channels warm and the server in sight, until [`Pool::end`].
    /// `connected` is told each time that the server has become reachable.
    ///
    /// # Errors
    /// One that trying again does not mend: above all a server that is not the one that is trusted.
    pub(crate) async fn keep_up(self: &Arc<Self>, connected: impl Fn()) -> Result<(), Error> {
        let mut denials = Denials::BeforeFirstContact;
        let mut backoff = backoff();
        loop {
            match self.handshake().await {
                Ok(stream) => {
                    self.found(stream);
                    connected();
                    denials = Denials::Endured;
                    let since = Instant::now();
                    self.stay_up().await?;
                    // A server that can be reached for a moment only is not asked in quick succession.
                    if since.elapsed() >= MAX_PAUSE {
                        backoff = self::backoff();
                    }
                }
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) if is_denied(&error) && denials == Denials::BeforeFirstContact => {
                    return Err(error);
                }
                Err(error) => self.lost(&error),
            }
            let pause = backoff.next().unwrap_or(MAX_PAUSE);
            // Whoever waits for a channel does not wait for the whole of a long pause.
            tokio::select! {
                biased;
                () = self.ended.cancelled() => return Ok(()),
                () = sleep(pause.min(MAX_PAUSE)) => {}
            }
        }
    }

    /// Keeps channels warm while the server can be reached.
    async fn stay_up(self: &Arc<Self>) -> Result<(), Error> {
        let mut next_look = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next_look) => {
                    self.look_after_idle().await;
                    next_look = Instant::now() + self.look_every();
                }
                () = self.wanting.notified() => {}
                () = self.ended.cancelled() => return Ok(()),
            }
            loop {
                {
                    let state = self.state();
                    if state.link == Link::Down || self.ended.is_cancelled() {
                        return Ok(());
                    }
                    if !state.is_short() {
                        break;
                    }
                }
                match self.handshake().await {
                    Ok(stream) => self.put(stream),
                    Err(error) if is_fatal(&error) => return Err(error),
                    // Those that there are have to do.
                    Err(error) if is_at_limit(&error) => {
                        self.state().wanted = MIN_WARM;
                        break;
                    }
                    Err(error) => {
                        self.lost(&error);
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Often enough that no channel is idle for as long as the server lets it be.
    fn look_every(&self) -> Duration {
        let state = self.state();
        let shortest = state.idle.iter().map(|idle| keep_alive_every(&idle.stream)).min();
        shortest.map_or(LOOK_EVERY, |shortest| shortest.min(LOOK_EVERY))
    }

    /// Wants fewer where many lay around, and asks those that have been idle for long whether they still stand.
    async fn look_after_idle(&self) {
        let look_every = self.look_every();
        let mut asked = JoinSet::new();
        {
            let mut state = self.state();
            let unused = state.low_water.saturating_sub(1);
            state.wanted = state.wanted.saturating_sub(unused.div_ceil(2)).max(MIN_WARM);
            let surplus = state.idle.len().saturating_sub(state.wanted);
            for surplus in state.idle.drain(..surplus) {
                tokio::spawn(close(surplus.stream));
            }
            let (old, recent): (Vec<_>, Vec<_>) = state
                .idle
                .drain(..)
                .partition(|idle| idle.since.elapsed() + look_every > keep_alive_every(&idle.stream));
            state.idle = recent;
            for Idle { mut stream, .. } in old {
                asked.spawn(async move { in_time(stream.ping()).await.map(|_| stream) });
            }
            state.low_water = state.idle.len() + asked.len();
        }
        while let Some(answer) = asked.join_next().await {
            match answer.map_err(io::Error::other).flatten() {
                Ok(stream) => self.put(stream),
                Err(error) => tracing::debug!(%error, "an idle channel is gone"),
            }
        }
    }

    /// Lets go of all idle channels, in good order, and of every one that comes back.
    pub(crate) async fn end(&self) {
        self.ended.cancel();
        let idle = std::mem::take(&mut self.state().idle);
        let mut closing = JoinSet::new();
        for Idle { stream, .. } in idle {
            closing.spawn(close(stream));
        }
        timeout(END_DEADLINE, async {
            closing.join_all().await;
            // None is under way any more once nobody holds a permit.
            self.handshakes.acquire_many(MAX_HANDSHAKES.into()).await.ok();
        })
        .await
        .ok();
    }

    async fn handshake(self: &Arc<Self>) -> Result<SecureStream<Socket>, Error> {
        let permit = Arc::clone(&self.handshakes).acquire_owned().await;
        self.connect(permit.ok()).await
    }

    /// Connects, on a task of its own: a handshake that has begun is not given up, even if whoever wanted it does. To the
    /// server that would be a failure, and count against us.
    async fn connect(
        self: &Arc<Self>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<SecureStream<Socket>, Error> {
        let (give, given) = oneshot::channel();
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let connected = pool.connector.connect().await;
            if let Err(Ok(unwanted)) = give.send(connected) {
                if pool.ended.is_cancelled() {
                    close(unwanted).await;
                } else {
                    pool.put(unwanted);
                }
            }
            drop(permit);
        });
        given.await.unwrap_or_else(|_| Err(Error::NoChannel { address: self.address() }))
    }

    fn take_idle(&self) -> Option<SecureStream<Socket>> {
        let mut state = self.state();
        let taken = loop {
            let Some(Idle { mut stream, .. }) = state.idle.pop() else { break None };
            if stream.is_standing() {
                break Some(stream);
            }
        };
        state.low_water = state.low_water.min(state.idle.len());
        if state.is_short() {
            self.wanting.notify_one();
        }
        taken
    }

    /// Until when to wait, where the client has as many channels as it may; `None` for the one whose turn it is to ask.
    fn wait_at_limit(&self) -> Option<Instant> {
        let mut state = self.state();
        let AtLimit { next, pause } = state.limit?;
        let now = Instant::now();
        if now < next {
            return Some(next);
        }
        state.limit = Some(AtLimit { next: now + pause, pause: (pause * 2).min(MAX_PAUSE) });
        None
    }

    fn begin_limit(&self) {
        let mut state = self.state();
        if state.limit.is_none() {
            tracing::warn!("the server lets this client have no more channels: connections wait");
            state.limit = Some(AtLimit { next: Instant::now() + LIMIT_PAUSE, pause: LIMIT_PAUSE * 2 });
        }
    }

    fn miss(&self) {
        let mut state = self.state();
        state.wanted = (state.wanted + 1).min(MAX_WARM);
    }

    fn found(&self, stream: SecureStream<Socket>) {
        self.state().link = Link::Up;
        self.put(stream);
        self.changed.notify_waiters();
    }

    fn lost(&self, error: &Error) {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.link, Link::Down);
        drop(state);
        if before == Link::Up {
            tracing::warn!(%error, "the server is out of reach: trying again");
        } else {
            tracing::info!(%error, "the server is not to be reached: trying again");
        }
        self.wanting.notify_one();
    }

    fn address(&self) -> String {
        self.connector.server().address.to_string()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

/// How often an idle channel gives a sign of life: well before the server closes it, and often enough to notice that the
/// way to it is gone.
pub(crate) fn keep_alive_every<S>(stream: &SecureStream<S>) -> Duration {
    keep_alive_within(stream.session().limits.idle_timeout_seconds)
}

/// The least limit that there is is a second (section 5): with less a server would close what it has just let in.
fn keep_alive_within(idle_timeout_seconds: u32) -> Duration {
    (Duration::from_secs(idle_timeout_seconds.max(1).into()) / 3).min(KEEP_ALIVE_EVERY)
}

/// Pauses between attempts: longer and longer, and no two clients' alike.
pub(crate) fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(MIN_PAUSE)
        .with_max_delay(MAX_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Whether the server is not the one that is meant, or something is wrong at home: it does not pass by itself.
pub(crate) fn is_fatal(error: &Error) -> bool {
    match error {
        Error::Connect { .. } | Error::Handshake { .. } | Error::Channel { .. } | Error::Listening { .. } => {
            false
        }
        Error::Program(error) => !error.is_exhaustion(),
        _ => true,
    }
}

/// Whether the server does not want this client, or is none. It may say so for a while only, and some of it anybody
/// in between can say: so it counts only as long as the client has never been let in.
pub(crate) fn is_denied(error: &Error) -> bool {
    use wire_protocol::Error;

    match protocol_error(error) {
        Some(Error::Denied(code)) => *code != DeniedCode::TooManyChannels,
        Some(Error::Aborted(code)) => *code != AbortCode::Busy,
        Some(Error::Refused(code)) => *code == RefusedCode::NotAllowed,
        Some(Error::PeerKey(_) | Error::InvalidMessage(_)) => true,
        _ => false,
    }
}

pub(crate) fn is_at_limit(error: &Error) -> bool {
    matches!(protocol_error(error), Some(wire_protocol::Error::Denied(DeniedCode::TooManyChannels)))
}

fn protocol_error(error: &Error) -> Option<&wire_protocol::Error> {
    match error {
        Error::Handshake { source, .. } | Error::Channel { source, .. } | Error::Listening { source, .. } => {
            error_in(source)
        }
        _ => None,
    }
}

/// Channels that are kept warm when nothing has been asked for in a while.
const MIN_WARM: usize = 2;
/// And at most: a burst that is larger waits for handshakes, eight at once.
pub(crate) const MAX_WARM: usize = 64;
/// As many as this, and twice as many as are wanted, are taken back in any case: what comes back costs nothing.
const MIN_KEPT: usize = 8;
const MAX_HANDSHAKES: u8 = 8;
const LOOK_EVERY: Duration = Duration::from_secs(5);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
/// How long to wait for a channel to come back before asking a server that is at its limit again.
const LIMIT_PAUSE: Duration = Duration::from_millis(200);
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
pub(crate) const END_DEADLINE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cli_support::home::Home;
    use crypto_core::psk::PreSharedKey;
    use getrandom::SysRng;
    use tokio::net::TcpListener;
    use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
    use wire_protocol::message::ServerLimits;
    use wire_protocol::stream::{Incoming, RsaPool, accept_channel};

    use super::*;
    use crate::connect::{Credentials, Server};
    use crate::trust::TrustPolicy;

    #[test]
    fn signs_of_life_come_in_time_whatever_the_limit() {
        for limit in 1..=86_400 {
            let every = keep_alive_within(limit);
            assert!(every * 2 < Duration::from_secs(limit.into()), "{limit}");
            assert!(every > Duration::ZERO && every <= KEEP_ALIVE_EVERY, "{limit}");
        }
        assert!(keep_alive_within(0) > Duration::ZERO, "or it would do nothing else");
    }

    /// A server that closes what has been idle for two seconds, as the library's stream does.
    #[tokio::test]
    async fn a_short_idle_timeout_closes_no_warm_channel() {
        let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", [7; 32]).unwrap());
        let config = Arc::new(ServerConfig {
            identity: None,
            psks: BTreeMap::from([(psk.id().to_owned(), Arc::clone(&psk))]),
            tickets: None,
            client_auth: ClientAuth::Optional,
            limits: ServerLimits { idle_timeout_seconds: 2 },
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let closed = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&closed);
        let (kept, mut is_kept) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (config, kept, counted) = (Arc::clone(&config), kept.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let accepted = accept_channel(socket, config, &RsaPool::new(1), |_| Ok(())).await;
                    let (mut stream, mut signs) = (accepted.unwrap(), 0);
                    while let Ok(Ok(Incoming::SignOfLife)) =
                        timeout(Duration::from_secs(2), stream.next_incoming()).await
                    {
                        signs += 1;
                        if signs == SIGNS {
                            kept.try_send(()).ok();
                        }
                    }
                    counted.fetch_add(1, Ordering::Relaxed);
                });
            }
        });

        let folder = tempfile::tempdir().unwrap();
        let credentials = Credentials::read(Home::resolve(Some(folder.path().into())).unwrap()).unwrap();
        let server = Server { address, pinned: None, policy: TrustPolicy::Strict, psk: Some(psk) };
        let pool = Pool::new(Connector::new(credentials, server));
        let keeping = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.keep_up(|| {}).await }
        });
        timeout(Duration::from_secs(30), is_kept.recv()).await.expect("no channel was kept up").unwrap();
        assert_eq!(closed.load(Ordering::Relaxed), 0);
        keeping.abort();
    }

    /// More than two seconds' worth of them.
    const SIGNS: usize = 5;
}
