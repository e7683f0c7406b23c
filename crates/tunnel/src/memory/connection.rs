//! The state that both ends of a connection in memory share: the bytes under way in each direction, and how it ended.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future as _;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

use super::random::Random;

/// A connection between two addresses.
pub(super) struct Connection {
    /// Of the end that has dialed, and of the one that was dialed.
    pub(super) addresses: [SocketAddr; 2],
    state: Mutex<State>,
    /// For each end: a reset has arrived.
    resets: [Notify; 2],
}

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Dialed,
    Accepted,
}

struct State {
    ends: [End; 2],
    /// Nothing arrives any more, and nobody is told so.
    is_silent: bool,
    max_delay: Duration,
    random: Random,
}

/// One end, and what is on its way there.
struct End {
    inbound: VecDeque<Segment>,
    /// Bytes in it.
    inbound_len: usize,
    /// As many as there may be.
    capacity: usize,
    /// The latest moment at which something in it arrives.
    arrives: Instant,
    is_reset: bool,
    has_shut_down: bool,
    is_gone: bool,
    resets_on_drop: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    timer: Option<Pin<Box<Sleep>>>,
}

struct Segment {
    at: Instant,
    content: Content,
}

enum Content {
    /// Bytes, of which so many were read.
    Data(Vec<u8>, usize),
    /// Nothing more comes.
    Fin,
}

impl Side {
    fn index(self) -> usize {
        match self {
            Self::Dialed => 0,
            Self::Accepted => 1,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Dialed => Self::Accepted,
            Self::Accepted => Self::Dialed,
        }
    }
}

impl Connection {
    /// A connection whose bytes take `max_delay` at most. Each direction has room for `capacity` bytes.
    pub(super) fn new(
        addresses: [SocketAddr; 2],
        max_delay: Duration,
        capacity: usize,
        random: Random,
    ) -> Self {
        let ends = [End::new(capacity), End::new(capacity)];
        Self {
            addresses,
            state: Mutex::new(State { ends, is_silent: false, max_delay, random }),
            resets: Default::default(),
        }
    }

    /// Resets the connection for both ends; what has not arrived is lost.
    pub(super) fn cut(&self) {
        let mut state = self.state();
        state.is_silent = false;
        for side in [Side::Dialed, Side::Accepted] {
            self.reset_end(&mut state, side);
        }
    }

    /// Lets nothing arrive from now on, with no word to either end.
    pub(super) fn silence(&self) {
        self.state().is_silent = true;
    }

    /// Whether both ends are in use, and something that is sent arrives.
    pub(super) fn is_standing(&self) -> bool {
        let state = self.state();
        !state.is_silent && state.ends.iter().all(|end| !end.is_gone && !end.is_reset)
    }

    /// Ends that are in use.
    pub(super) fn open_ends(&self) -> usize {
        self.state().ends.iter().filter(|end| !end.is_gone).count()
    }

    pub(super) fn set_reset_on_drop(&self, side: Side, resets: bool) {
        self.state().end(side).resets_on_drop = resets;
    }

    pub(super) fn poll_read_ready(&self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        let is_silent = state.is_silent;
        let end = state.end(side);
        let now = Instant::now();
        if end.is_reset || end.has_arrived(now) {
            end.timer = None;
            return Poll::Ready(());
        }
        end.reader = Some(cx.waker().clone());
        let next = end.inbound.front().map(|segment| segment.at).filter(|_| !is_silent);
        let Some(at) = next else { return Poll::Pending };
        let timer = end.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx)
    }

    pub(super) fn read(&self, side: Side, places: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut state = self.state();
        let is_silent = state.is_silent;
        let end = state.end(side);
        let now = Instant::now();
        let mut read = 0;
        for place in places {
            let mut filled = 0;
            while filled < place.len() {
                let Some(Segment { at, content: Content::Data(bytes, begun) }) = end.inbound.front_mut()
                else {
                    break;
                };
                if *at > now {
                    break;
                }
                let len = (place.len() - filled).min(bytes.len() - *begun);
                place[filled..filled + len].copy_from_slice(&bytes[*begun..*begun + len]);
                filled += len;
                *begun += len;
                if *begun == bytes.len() {
                    end.inbound.pop_front();
                }
            }
            read += filled;
        }
        if read > 0 {
            end.inbound_len -= read;
            if !is_silent && let Some(writer) = state.end(side.other()).writer.take() {
                writer.wake();
            }
            return Ok(read);
        }
        match end.inbound.front() {
            Some(Segment { at, content: Content::Fin }) if *at <= now => Ok(0),
            _ if end.is_reset => Err(Errno::CONNRESET.into()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn poll_write_ready(&self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        let has_room = state.room(side) > 0;
        let end = state.end(side);
        if end.is_reset || end.has_shut_down || has_room {
            return Poll::Ready(());
        }
        end.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn write(&self, side: Side, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state();
        let room = state.room(side);
        let end = state.end(side);
        if end.is_reset {
            return Err(Errno::CONNRESET.into());
        }
        if end.has_shut_down {
            return Err(Errno::PIPE.into());
        }
        let mut bytes = Vec::new();
        for slice in slices {
            let len = slice.len().min(room - bytes.len());
            bytes.extend_from_slice(&slice[..len]);
        }
        let len = bytes.len();
        if len == 0 {
            let is_empty = slices.iter().all(|slice| slice.is_empty());
            return if is_empty { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        if state.end(side.other()).is_gone && !state.is_silent {
            // Nobody is there to take it, which is answered with a reset.
            self.reset_end(&mut state, side);
        } else {
            state.send(side.other(), Content::Data(bytes, 0));
        }
        Ok(len)
    }

    pub(super) fn shut_down(&self, side: Side) -> io::Result<()> {
        let mut state = self.state();
        let end = state.end(side);
        if end.is_reset {
            return Err(Errno::NOTCONN.into());
        }
        if !std::mem::replace(&mut end.has_shut_down, true) {
            state.send(side.other(), Content::Fin);
        }
        Ok(())
    }

    /// Lets one end go, as the system does: with something unread, the other side sees a reset.
    pub(super) fn close(&self, side: Side) {
        let mut state = self.state();
        let is_silent = state.is_silent;
        let end = state.end(side);
        end.is_gone = true;
        (end.reader, end.writer, end.timer) = (None, None, None);
        let resets = end.resets_on_drop || end.inbound_len > 0;
        let was_reset = end.is_reset;
        let had_shut_down = end.has_shut_down;
        end.inbound.clear();
        end.inbound_len = 0;
        if was_reset || is_silent {
        } else if resets {
            self.reset_end(&mut state, side.other());
        } else {
            if !had_shut_down {
                state.send(side.other(), Content::Fin);
            }
            // What the other side may be waiting to write meets nobody.
            if let Some(writer) = state.end(side.other()).writer.take() {
                writer.wake();
            }
        }
    }

    /// Waits until a reset has arrived.
    pub(super) async fn reset(&self, side: Side) -> io::Error {
        loop {
            let arrived = self.resets[side.index()].notified();
            if self.state().end(side).is_reset {
                return Errno::CONNRESET.into();
            }
            arrived.await;
        }
    }

    fn reset_end(&self, state: &mut State, side: Side) {
        let end = state.end(side);
        if end.is_gone {
            return;
        }
        end.is_reset = true;
        let now = Instant::now();
        end.inbound.retain(|segment| segment.at <= now);
        end.inbound_len = end.inbound.iter().map(Segment::len).sum();
        for waker in [end.reader.take(), end.writer.take()].into_iter().flatten() {
            waker.wake();
        }
        self.resets[side.index()].notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side.index()]
    }

    /// How much of what this end writes is taken now.
    fn room(&mut self, side: Side) -> usize {
        let peer = self.end(side.other());
        peer.capacity.saturating_sub(peer.inbound_len)
    }

    /// Sends something to an end. It arrives in order, some of it at once.
    fn send(&mut self, to: Side, content: Content) {
        let most = u64::try_from(self.max_delay.as_millis()).unwrap_or(u64::MAX);
        let is_delayed = most > 0 && self.random.chance(1, 2);
        let delay = if is_delayed { self.random.below(most) + 1 } else { 0 };
        let is_silent = self.is_silent;
        let end = self.end(to);
        end.arrives = end.arrives.max(Instant::now() + Duration::from_millis(delay));
        // What is lost on the way takes up room at the sender, too.
        let at = if is_silent { end.arrives + NEVER } else { end.arrives };
        let segment = Segment { at, content };
        end.inbound_len += segment.len();
        end.inbound.push_back(segment);
        if !is_silent && let Some(reader) = end.reader.take() {
            reader.wake();
        }
    }
}

impl End {
    fn new(capacity: usize) -> Self {
        Self {
            inbound: VecDeque::new(),
            inbound_len: 0,
            capacity,
            arrives: Instant::now(),
            is_reset: false,
            has_shut_down: false,
            is_gone: false,
            resets_on_drop: false,
            reader: None,
            writer: None,
            timer: None,
        }
    }

    fn has_arrived(&self, now: Instant) -> bool {
        self.inbound.front().is_some_and(|segment| segment.at <= now)
    }
}

impl Segment {
    fn len(&self) -> usize {
        match &self.content {
            Content::Data(bytes, begun) => bytes.len() - begun,
            Content::Fin => 0,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let ends = state.ends.each_ref().map(|end| {
            (
                ("inbound", end.inbound_len),
                ("reset", end.is_reset),
                ("shut down", end.has_shut_down),
                ("gone", end.is_gone),
            )
        });
        f.debug_struct("Connection")
            .field("addresses", &self.addresses)
            .field("is_silent", &state.is_silent)
            .field("ends", &ends)
            .finish()
    }
}

/// Longer than any test waits.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
