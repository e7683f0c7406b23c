//! The resumable streams of a server (section 7.7 of the protocol): those that a channel carries, those that have lost theirs and
//! wait for their client, and those that are over and still known.
//!
//! ```text
//!   announce            enter                     suspend              hold is over, rights are lost
//!   --------> [ opening ] ----> [ in use ] ----------------> [ held ] ---------------------------> reset
//!                                  |    ^                       |
//!                       over, lost |    +---- take_over --------+
//!                                  v
//!                             [ over ]  offsets alone, for as long as the stream would have been held
//! ```

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use wire_protocol::handshake::Exporter;
use wire_protocol::message::Retention;
use wire_protocol::stream::{
    Interrupted, ResumeRequest, ResumeVerifier, RetentionBudget, StreamId, Suspended, Tombstone,
};

use crate::counter::{Counted, Counter};
use crate::resumption::Resumption;
use crate::socket::Socket;

/// How much the resumable streams of a server may keep, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "an argument")]
pub struct ResumptionLimits {
    /// The most that is granted to one stream.
    pub retention: Retention,
    /// Bytes that are kept of all streams of one client.
    pub per_client: u64,
    /// Bytes that are kept of all streams.
    pub total: u64,
}

impl ResumptionLimits {
    /// The longest that a stream waits for its client.
    fn hold(&self) -> Duration {
        Duration::from_secs(self.retention.hold_seconds.into())
    }
}

/// The resumable streams of a server. `C` is what it knows of the client of a stream, and of what it has open: two of one client
/// are equal in [`Client::is_same`].
#[derive(Debug)]
pub struct ResumableStreams<C> {
    limits: ResumptionLimits,
    /// Streams that wait for their clients at most, each with the descriptor of its plain connection.
    max_held: usize,
    all: RetentionBudget,
    state: Mutex<State<C>>,
    held: Counter,
    /// One fewer waits for its client.
    let_go: Notify,
    longest_pause_ms: AtomicU64,
}

impl<C> State<C> {
    /// For how long nothing was forgotten, where what is noted is remembered for `hold`: a stream that was asked for later than
    /// that is known, if its Open has come.
    fn remembers(&self, hold: Duration) -> Duration {
        self.remembers_since.elapsed().min(hold)
    }

    /// A stream that was there is lost.
    fn lose(&mut self, id: StreamId, hold: Duration) {
        if self.streams.remove(&id).is_some() {
            self.note_absent(id, Absent::Lost, hold);
        }
    }

    /// Remembers for so long why there is no such stream, and forgets what is due.
    fn note_absent(&mut self, id: StreamId, why: Absent, hold: Duration) {
        let now = Instant::now();
        if self.absent.insert(id, why).is_none() {
            self.forgotten_next.push_back((now + hold, id));
        }
        while let Some((id, is_due)) = next_to_forget(&mut self.forgotten_next, now) {
            if !is_due {
                self.remembers_since = now;
            }
            self.absent.remove(&id);
        }
    }

    /// Remembers for so long a stream that is over, and forgets what is due.
    fn note_over(&mut self, id: StreamId, hold: Duration) {
        let now = Instant::now();
        self.over.push_back((now + hold, id));
        while let Some((id, _)) = next_to_forget(&mut self.over, now) {
            if self.streams.get(&id).is_some_and(|entry| matches!(entry.phase, Phase::Over(_) | Phase::Away))
            {
                self.streams.remove(&id);
            }
        }
    }
}

/// Takes out the one that is to be forgotten next, and whether its time has come; `None` where it has not, and there is room.
fn next_to_forget(queue: &mut VecDeque<(Instant, StreamId)>, now: Instant) -> Option<(StreamId, bool)> {
    let &(until, id) = queue.front()?;
    let is_due = until <= now;
    if !is_due && queue.len() <= MAX_REMEMBERED {
        return None;
    }
    queue.pop_front();
    Some((id, is_due))
}

/// What a server knows of the client of a stream.
pub trait Client: Clone + Send + Sync + 'static {
    /// Whether both are one client, by its identity.
    fn is_same(&self, other: &Self) -> bool;

    /// The stream is taken over by the same client, of which this is known by now.
    fn renew(&mut self, client: &Self);
}

#[derive(Debug)]
struct State<C> {
    streams: HashMap<StreamId, Entry<C>>,
    /// Those that there are not, though somebody knows of them.
    absent: HashMap<StreamId, Absent>,
    /// Those that are over, with the end of the time for which they are remembered. The one that was so first is in front.
    over: VecDeque<(Instant, StreamId)>,
    /// Those that are absent, likewise: whoever asks for what there is not makes nobody's streams forgotten that are over.
    forgotten_next: VecDeque<(Instant, StreamId)>,
    /// Nothing was forgotten since then before its time.
    remembers_since: Instant,
}

/// Why there is no stream of an id that somebody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// It was there, and is lost.
    Lost,
    /// Its client was told that it was never there: so it never will be, whenever its Open comes.
    NeverThere,
}

#[derive(Debug)]
struct Entry<C> {
    client: C,
    verifier: ResumeVerifier,
    phase: Phase,
}

/// What is not there for each stream at any time is on the heap, so that the many that a channel carries have no room for it.
#[derive(Debug)]
enum Phase {
    /// It was asked for, and its target is being reached. The waker tells of what comes of it.
    Opening(Arc<Notify>),
    /// A channel carries it.
    InUse(Arc<InUse>),
    /// It waits for its client.
    Held(Box<Held>),
    /// The stream is over.
    Over(Box<Tombstone>),
    /// It is taken over at this moment.
    Away,
}

/// A stream that waits for its client.
#[derive(Debug)]
struct Held {
    interrupted: Box<Interrupted<Socket>>,
    since: Instant,
    /// The task that waits with it is told that it waits no longer.
    taken: Arc<Notify>,
    counted: Counted,
}

/// How a stream that a channel carries is taken from it.
#[derive(Debug, Default)]
struct InUse(Mutex<Request>);

#[derive(Debug, Default)]
struct Request {
    /// Who waits for the stream: the channel is to let it go.
    taker: Option<oneshot::Sender<Box<Interrupted<Socket>>>>,
    /// The task of the channel, which waits for that.
    channel: Option<Waker>,
}

impl InUse {
    /// Has the channel let the stream go, to `taker`.
    fn ask(&self, taker: oneshot::Sender<Box<Interrupted<Socket>>>) {
        let mut request = self.request();
        // An earlier request that still waits has a lower generation: its channel gets Gone.
        request.taker = Some(taker);
        if let Some(channel) = request.channel.take() {
            channel.wake();
        }
    }

    /// Ready once the channel is to let the stream go.
    fn poll_asked(&self, cx: &Context<'_>) -> Poll<()> {
        let mut request = self.request();
        if request.taker.is_some() {
            return Poll::Ready(());
        }
        if !request.channel.as_ref().is_some_and(|channel| channel.will_wake(cx.waker())) {
            request.channel = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn request(&self) -> MutexGuard<'_, Request> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that a channel carries. Dropped without a word, it is forgotten.
#[derive(Debug)]
pub struct Carried<C: Client> {
    streams: Arc<ResumableStreams<C>>,
    id: StreamId,
    in_use: Arc<InUse>,
    is_settled: bool,
}

/// What becomes of a stream that has lost its channel.
#[derive(Debug)]
pub enum Suspension<C: Client> {
    /// It waits for its client, for which somebody has to wait with it.
    Held(Hold<C>),
    /// It goes to the channel that has asked for it.
    TakenOver,
    /// As many wait already as may: it is reset.
    Full {
        /// Whether something is lost with it: not where only the client's last Acknowledge is missing.
        is_lost: bool,
    },
}

/// A stream that was asked for. Dropped before [`Announced::enter`], there is none.
#[derive(Debug)]
pub struct Announced<C: Client> {
    streams: Arc<ResumableStreams<C>>,
    id: StreamId,
    settled: Arc<Notify>,
}

/// What becomes of a request to take a stream over.
#[derive(Debug)]
pub enum Taken<C: Client> {
    /// It goes on on the channel of the request: to be answered with it.
    Stream {
        /// The stream without a channel, and its plain connection.
        interrupted: Box<Interrupted<Socket>>,
        /// What was known of its client when it was opened.
        client: C,
        /// It is carried from now on.
        carried: Carried<C>,
    },
    /// The stream is over: to be answered with this, which then goes back with [`ResumableStreams::put_back`].
    Over(Box<Tombstone>),
    /// There is none, or not for this client.
    Gone {
        /// For how long no stream was forgotten that was asked for; zero where this one was there.
        remembers: Duration,
    },
}

impl<C: Client> Taken<C> {
    /// There is none any more.
    const LOST: Self = Self::Gone { remembers: Duration::ZERO };
}

impl<C: Client> ResumableStreams<C> {
    /// None yet, within these limits. So many wait for their clients at most, each with the descriptor of its plain connection: what
    /// loses its channel beyond that is reset.
    #[must_use]
    pub fn new(limits: ResumptionLimits, max_held: usize) -> Arc<Self> {
        Arc::new(Self {
            limits,
            max_held,
            all: RetentionBudget::new(limits.total),
            state: Mutex::new(State {
                streams: HashMap::new(),
                absent: HashMap::new(),
                over: VecDeque::new(),
                forgotten_next: VecDeque::new(),
                remembers_since: Instant::now(),
            }),
            held: Counter::default(),
            let_go: Notify::new(),
            longest_pause_ms: AtomicU64::new(0),
        })
    }

    /// The budget of a client, which all its channels share.
    #[must_use]
    pub fn client_budget(&self) -> RetentionBudget {
        self.all.within(self.limits.per_client)
    }

    /// What is answered to a client that asks for `asked`, within its `budget`; `None` where there is no memory left for it.
    #[must_use]
    pub fn grant(&self, asked: Retention, budget: &RetentionBudget) -> Option<Resumption> {
        let reservation = budget.reserve()?;
        Some(Resumption { retention: asked.min(self.limits.retention), reservation })
    }

    /// What this side asks a client for, within the client's `budget`; `None` where there is no memory left for it.
    #[must_use]
    pub fn ask(&self, budget: &RetentionBudget) -> Option<Resumption> {
        self.grant(self.limits.retention, budget)
    }

    /// How many streams wait for their clients.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.count()
    }

    /// The longest time that a stream was held and was taken over then.
    #[must_use]
    pub fn longest_pause(&self) -> Duration {
        Duration::from_millis(self.longest_pause_ms.load(Ordering::Relaxed))
    }

    /// Waits until no stream waits for its client.
    pub async fn none_held(&self) {
        loop {
            let let_go = self.let_go.notified();
            if self.held() == 0 {
                return;
            }
            let_go.await;
        }
    }

    /// The bytes that are kept of all streams, or set aside for them.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.all.used()
    }

    /// A stream was asked for, as [`Channel::asked_stream`] says it: a request to take it over waits from now on until its target is
    /// reached, since its channel may be lost before that. `None` where the client was told already that there is no such stream, since
    /// its request to take it over has overtaken its Open: it is not to be served.
    ///
    /// [`Channel::asked_stream`]: wire_protocol::stream::Channel::asked_stream
    pub fn announce(
        self: &Arc<Self>,
        (id, verifier): (StreamId, ResumeVerifier),
        client: C,
    ) -> Option<Announced<C>> {
        let settled = Arc::new(Notify::new());
        let phase = Phase::Opening(Arc::clone(&settled));
        let mut state = self.state();
        if state.absent.contains_key(&id) {
            return None;
        }
        state.streams.insert(id, Entry { client, verifier, phase });
        Some(Announced { streams: Arc::clone(self), id, settled })
    }

    /// Takes over the stream that `request` is for, on the channel of `exporter`, for `client`. A channel that still carries it
    /// lets it go first. `may` decides whether the client may still have it.
    pub async fn take_over(
        self: &Arc<Self>,
        request: &ResumeRequest,
        exporter: &Exporter,
        client: &C,
        may: impl FnOnce(&C) -> bool,
    ) -> Taken<C> {
        {
            let mut state = self.state();
            let Some(entry) = state.streams.get_mut(&request.id()) else {
                // The same work as for one that there is.
                if let Ok(unknown) = ResumeVerifier::unknown() {
                    let _always_false = unknown.permits(request, exporter);
                }
                return Taken::Gone { remembers: self.note_absent(&mut state, request.id()) };
            };
            let permitted = entry.verifier.permits(request, exporter);
            if !permitted || !entry.client.is_same(client) {
                return Taken::Gone { remembers: state.remembers(self.limits.hold()) };
            }
            if !may(&entry.client) {
                return Taken::LOST;
            }
            entry.verifier.note(request);
            entry.client.renew(client);
        }
        // On the heap, so that the many other tasks of a server have no room for it.
        let taken = timeout(OPEN_DEADLINE, Box::pin(self.take(request)));
        taken.await.unwrap_or(Taken::LOST)
    }

    /// Notes that somebody asks for a stream that there is not, which will not be from now on. For how long none was forgotten; zero
    /// where this one was there.
    fn note_absent(&self, state: &mut State<C>, id: StreamId) -> Duration {
        if state.absent.get(&id) == Some(&Absent::Lost) {
            return Duration::ZERO;
        }
        let hold = self.limits.hold();
        let remembers = state.remembers(hold);
        state.note_absent(id, Absent::NeverThere, hold);
        remembers
    }

    /// As [`ResumableStreams::take_over`], for a request that is good, as long as none with a higher generation is.
    async fn take(self: &Arc<Self>, request: &ResumeRequest) -> Taken<C> {
        let id = request.id();
        let waiting = loop {
            let settled = {
                let mut state = self.state();
                let Some(entry) = state.streams.get_mut(&id) else { return Taken::LOST };
                if !entry.verifier.is_latest(request) {
                    return Taken::LOST;
                }
                match &entry.phase {
                    // Told of what comes from now on, before the state is let go.
                    Phase::Opening(settled) => Arc::clone(settled).notified_owned(),
                    _ => break self.take_settled(&mut state, id),
                }
            };
            settled.await;
        };
        let mut waiting = match waiting {
            Ok(taken) => return taken,
            Err(waiting) => waiting,
        };
        let mut given = timeout(LET_GO_DEADLINE, &mut waiting).await;
        if given.is_err() {
            // It may have been given at this moment, and must not be lost with what waits for it.
            waiting.close();
            given = waiting.try_recv().map(Ok).or(given);
        }
        match given {
            Ok(Ok(interrupted)) => self.taken(&mut self.state(), id, interrupted),
            // It has come to its end meanwhile, one way or the other.
            _ => match self.state().streams.get_mut(&id) {
                Some(entry) if matches!(entry.phase, Phase::Over(_)) => {
                    match std::mem::replace(&mut entry.phase, Phase::Away) {
                        Phase::Over(tombstone) => Taken::Over(tombstone),
                        _ => Taken::LOST,
                    }
                }
                _ => Taken::LOST,
            },
        }
    }

    /// Takes a stream that is not being opened; an error where its channel has to let it go first, which that waits for.
    fn take_settled(
        self: &Arc<Self>,
        state: &mut State<C>,
        id: StreamId,
    ) -> Result<Taken<C>, oneshot::Receiver<Box<Interrupted<Socket>>>> {
        let Some(entry) = state.streams.get_mut(&id) else { return Ok(Taken::LOST) };
        match std::mem::replace(&mut entry.phase, Phase::Away) {
            Phase::Held(held) => {
                let Held { interrupted, since, taken, counted } = *held;
                drop(counted);
                let paused = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.longest_pause_ms.fetch_max(paused, Ordering::Relaxed);
                taken.notify_one();
                self.let_go.notify_waiters();
                Ok(self.taken(state, id, interrupted))
            }
            Phase::Over(tombstone) => Ok(Taken::Over(tombstone)),
            Phase::InUse(in_use) => {
                let (taker, taken) = oneshot::channel();
                in_use.ask(taker);
                entry.phase = Phase::InUse(in_use);
                Err(taken)
            }
            phase @ (Phase::Away | Phase::Opening(_)) => {
                entry.phase = phase;
                Ok(Taken::LOST)
            }
        }
    }

    fn taken(
        self: &Arc<Self>,
        state: &mut State<C>,
        id: StreamId,
        interrupted: Box<Interrupted<Socket>>,
    ) -> Taken<C> {
        let Some(entry) = state.streams.get_mut(&id) else { return Taken::LOST };
        let in_use = Arc::new(InUse::default());
        entry.phase = Phase::InUse(Arc::clone(&in_use));
        let client = entry.client.clone();
        let carried = Carried { streams: Arc::clone(self), id, in_use, is_settled: false };
        Taken::Stream { interrupted, client, carried }
    }

    /// Keeps what is left of a stream that is over, once it was used for an answer.
    pub fn put_back(&self, id: StreamId, tombstone: Box<Tombstone>) {
        if let Some(entry) = self.state().streams.get_mut(&id) {
            entry.phase = Phase::Over(tombstone);
        }
    }

    /// Resets a stream that is still held with this generation. Whether anything is lost by that.
    fn expire(&self, id: StreamId, generation: u32) -> bool {
        let mut state = self.state();
        let Some(Entry { phase: Phase::Held(held), .. }) = state.streams.get(&id) else {
            return false;
        };
        if held.interrupted.stream.generation() != generation {
            return false;
        }
        // Where both sides have said all, and only the last word of the client is missing, nobody has lost anything.
        let has_lost = !held.interrupted.stream.has_taken_all();
        state.lose(id, self.limits.hold());
        self.let_go.notify_waiters();
        has_lost
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Client> Announced<C> {
    /// The stream stands: a channel carries it from now on, for `client`. A request that waits for it has the channel let it go at
    /// once.
    #[must_use]
    pub fn enter(self, client: C) -> Carried<C> {
        let (streams, id, in_use) = (Arc::clone(&self.streams), self.id, Arc::new(InUse::default()));
        if let Some(entry) = streams.state().streams.get_mut(&id) {
            entry.client = client;
            entry.phase = Phase::InUse(Arc::clone(&in_use));
        }
        Carried { streams, id, in_use, is_settled: false }
    }

    /// The stream stands, and cannot be taken over: a request to do so finds that it was there.
    pub fn cannot_be_taken_over(self) {
        self.streams.state().lose(self.id, self.streams.limits.hold());
    }
}

impl<C: Client> Drop for Announced<C> {
    fn drop(&mut self) {
        let mut state = self.streams.state();
        if state.streams.get(&self.id).is_some_and(|entry| matches!(entry.phase, Phase::Opening(_))) {
            state.streams.remove(&self.id);
        }
        drop(state);
        self.settled.notify_waiters();
    }
}

impl<C: Client> Carried<C> {
    /// The id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Waits until the channel is to let the stream go, for another one. One waits for it at a time; this may be gone by then.
    pub fn let_go(&self) -> impl Future<Output = ()> + Send + use<C> {
        let in_use = Arc::clone(&self.in_use);
        poll_fn(move |cx| in_use.poll_asked(cx))
    }

    /// The stream, which this side has asked for, does not stand, or not as one that can be taken over: there was none.
    pub fn never_stood(mut self) {
        self.is_settled = true;
        self.streams.state().streams.remove(&self.id);
    }

    /// Whether another channel has asked for the stream, and waits for it.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.in_use.request().taker.is_some()
    }

    /// The channel is lost: the stream waits for its client, or goes to another channel that has asked for it.
    #[must_use]
    pub fn suspend(mut self, interrupted: Box<Interrupted<Socket>>) -> Suspension<C> {
        self.is_settled = true;
        let mut state = self.streams.state();
        let taker = self.in_use.request().taker.take();
        let interrupted = match taker {
            Some(taker) => match taker.send(interrupted) {
                Ok(()) => return Suspension::TakenOver,
                Err(interrupted) => interrupted,
            },
            None => interrupted,
        };
        let Some(entry) = state.streams.get_mut(&self.id) else { return Suspension::TakenOver };
        if self.streams.held() >= self.streams.max_held {
            state.lose(self.id, self.streams.limits.hold());
            return Suspension::Full { is_lost: !interrupted.stream.has_taken_all() };
        }
        let (generation, hold) = (interrupted.stream.generation(), interrupted.stream.hold());
        let taken = Arc::new(Notify::new());
        let (since, counted) = (Instant::now(), self.streams.held.begin());
        entry.phase = Phase::Held(Box::new(Held { interrupted, since, taken: Arc::clone(&taken), counted }));
        drop(state);
        let (streams, id) = (Arc::clone(&self.streams), self.id);
        Suspension::Held(Hold { streams, id, generation, until: Instant::now() + hold, taken })
    }

    /// The stream is over. It is still known for as long as it would have been held.
    pub fn over(mut self, stream: Suspended) {
        self.is_settled = true;
        let tombstone = Box::new(stream.into_tombstone());
        let hold = tombstone.hold();
        let mut state = self.streams.state();
        if let Some(entry) = state.streams.get_mut(&self.id) {
            entry.phase = Phase::Over(tombstone);
            state.note_over(self.id, hold);
        }
    }
}

impl<C: Client> Drop for Carried<C> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.streams.state().lose(self.id, self.streams.limits.hold());
        }
    }
}

/// A stream that waits for its client.
#[derive(Debug)]
pub struct Hold<C: Client> {
    streams: Arc<ResumableStreams<C>>,
    id: StreamId,
    generation: u32,
    until: Instant,
    taken: Arc<Notify>,
}

impl<C: Client> Hold<C> {
    /// The id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Waits until it does not wait any more. `true` where the client has not come back in time: the stream is reset then. Can be
    /// dropped and called again.
    pub async fn over(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.taken.notified() => false,
            () = sleep_until(self.until) => self.end(),
        }
    }

    /// Resets the stream, where it still waits. Whether it did, and its client has lost something by that.
    pub fn end(&mut self) -> bool {
        self.streams.expire(self.id, self.generation)
    }
}

/// How long a request to take a stream over waits for the stream's target to be reached.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// How long a channel may take to let go of a stream.
const LET_GO_DEADLINE: Duration = Duration::from_secs(5);
/// Streams that are over and still known, and as many that are absent (section 8).
const MAX_REMEMBERED: usize = 65_536;
