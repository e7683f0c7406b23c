//! How far a resumable stream has come in each direction (section 7.7), as both directions of its channel know it.
//!
//! Each value has one writer: the sender what this side has sent and told, the receiver what it has taken and what the other
//! side has acknowledged. A stream that is not resumable leaves them alone.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, PeerMisbehaved};
use crate::message::Retention;
use crate::state::{StateCell, states};

/// The offsets of the stream that is open, or was last.
#[derive(Debug)]
pub(super) struct Offsets {
    resumability: StateCell<Resumability>,
    window: AtomicU32,
    hold_seconds: AtomicU32,
    /// How many resumable streams were asked for on the channel, by either side.
    opens: AtomicU64,
    /// Sender: bytes that were sealed, the end included.
    sent: AtomicU64,
    /// Receiver: bytes that the other side has acknowledged.
    acknowledged: AtomicU64,
    /// Receiver: bytes that were taken, the end included, and [`END`] where that was. In one, so that the sender never sees the one
    /// without the other.
    received: AtomicU64,
    /// Receiver: since when bytes have been taken that are not acknowledged, in nanoseconds.
    taken_since: AtomicU64,
    /// Sender: bytes that this side has acknowledged.
    told: AtomicU64,
}

/// Where a stream that is taken over goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "an argument")]
pub struct Position {
    /// The `received` of the other side: this side sends from there on.
    pub sent: u64,
    /// Whether this side's end is in that.
    pub end_sent: bool,
    /// The `received` of this side.
    pub received: u64,
    /// Whether the other side's end is in that.
    pub end_received: bool,
    /// What holds from now on.
    pub retention: Retention,
}

/// Whether the stream that is open, or was last, can be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumability {
    /// It cannot.
    None,
    /// Its opener has asked for it.
    Asked,
    /// Both sides have agreed.
    Agreed,
}

states!(Resumability { None = 0, Asked = 1, Agreed = 2 });

impl Offsets {
    pub(super) fn new() -> Self {
        Self {
            resumability: StateCell::new(Resumability::None),
            window: AtomicU32::new(0),
            hold_seconds: AtomicU32::new(0),
            opens: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            received: AtomicU64::new(0),
            taken_since: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// A stream is opened, for which its opener asks for `retention`, or for none.
    pub(super) fn begin(&self, retention: Option<Retention>) {
        let Some(retention) = retention else {
            self.resumability.set(Resumability::None);
            return;
        };
        self.opens.fetch_add(1, Ordering::Relaxed);
        for offset in [&self.sent, &self.acknowledged, &self.received, &self.told] {
            offset.store(0, Ordering::Relaxed);
        }
        self.set_retention(retention);
        self.resumability.set(Resumability::Asked);
    }

    /// The stream stands, and can be taken over.
    pub(super) fn agree(&self, retention: Retention) {
        self.set_retention(retention);
        self.resumability.set(Resumability::Agreed);
    }

    /// The stream cannot be taken over, or there is none.
    pub(super) fn decline(&self) {
        self.resumability.set(Resumability::None);
    }

    /// The stream goes on here.
    pub(super) fn resume(&self, position: &Position) {
        self.sent.store(position.sent, Ordering::Relaxed);
        self.acknowledged.store(position.sent, Ordering::Relaxed);
        let end = if position.end_received { END } else { 0 };
        self.received.store(position.received | end, Ordering::Relaxed);
        self.told.store(position.received, Ordering::Relaxed);
        self.agree(position.retention);
    }

    pub(super) fn resumability(&self) -> Resumability {
        self.resumability.get()
    }

    pub(super) fn is_agreed(&self) -> bool {
        self.resumability() == Resumability::Agreed
    }

    /// The number of the last stream that was asked for as a resumable one.
    pub(super) fn number(&self) -> u64 {
        self.opens.load(Ordering::Relaxed).saturating_sub(1)
    }

    pub(super) fn retention(&self) -> Retention {
        Retention {
            window: self.window.load(Ordering::Relaxed),
            hold_seconds: self.hold_seconds.load(Ordering::Relaxed),
        }
    }

    fn set_retention(&self, retention: Retention) {
        self.window.store(retention.window, Ordering::Relaxed);
        self.hold_seconds.store(retention.hold_seconds, Ordering::Relaxed);
    }

    /// This side has sealed `len` more bytes, or its end. Called before they can leave.
    pub(super) fn count_sent(&self, len: u64) {
        self.sent.fetch_add(len, Ordering::Release);
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Whether the other side has acknowledged all that was sent.
    pub(super) fn is_all_acknowledged(&self) -> bool {
        self.acknowledged() == self.sent.load(Ordering::Acquire)
    }

    /// The other side has taken all before `received`.
    pub(super) fn acknowledge(&self, received: u64) -> Result<(), Error> {
        if !(self.acknowledged()..=self.sent.load(Ordering::Acquire)).contains(&received) {
            return Err(PeerMisbehaved::OffsetOutOfRange.into());
        }
        self.acknowledged.store(received, Ordering::Release);
        Ok(())
    }

    pub(super) fn received(&self) -> u64 {
        self.taken().0
    }

    pub(super) fn has_end(&self) -> bool {
        self.taken().1
    }

    /// The bytes that were taken, the end included, and whether that was.
    fn taken(&self) -> (u64, bool) {
        let received = self.received.load(Ordering::Acquire);
        (received & !END, received & END != 0)
    }

    /// This side has taken `len` more bytes. The time, in nanoseconds, is asked for only where they are the first that are not
    /// acknowledged.
    pub(super) fn count_taken(&self, len: u64, now: impl FnOnce() -> u64) {
        self.count_taken_to(|received| received + len, now);
    }

    fn count_taken_to(&self, next: impl FnOnce(u64) -> u64, now: impl FnOnce() -> u64) {
        let received = self.received.load(Ordering::Relaxed);
        if received == self.told.load(Ordering::Acquire) {
            self.taken_since.store(now(), Ordering::Release);
        }
        self.received.store(next(received), Ordering::Release);
    }

    /// This side has taken the other side's end. The time is asked for as in [`Offsets::count_taken`].
    pub(super) fn count_end(&self, now: impl FnOnce() -> u64) {
        self.count_taken_to(|received| (received + 1) | END, now);
    }

    /// What this side has taken and not acknowledged.
    pub(super) fn untold(&self) -> u64 {
        self.received() - self.told.load(Ordering::Relaxed)
    }

    /// Whether an Acknowledge is due whatever the time is: for a quarter of the window, or for the other side's end, where
    /// `is_end_due`.
    pub(super) fn owes_acknowledge(&self, is_end_due: bool) -> bool {
        let (received, has_end) = self.taken();
        let untold = received - self.told.load(Ordering::Relaxed);
        let quarter = u64::from(self.window.load(Ordering::Relaxed) / 4);
        untold > 0 && (untold >= quarter || (has_end && is_end_due))
    }

    /// Since when there has been something to acknowledge, in nanoseconds.
    pub(super) fn untold_since(&self) -> Option<u64> {
        (self.untold() > 0).then(|| self.taken_since.load(Ordering::Acquire))
    }

    /// This side acknowledges all before `received`.
    pub(super) fn tell(&self, received: u64) {
        self.told.store(received, Ordering::Release);
    }

    /// Whether this side has acknowledged the other side's end.
    pub(super) fn has_told_end(&self) -> bool {
        self.taken() == (self.told.load(Ordering::Relaxed), true)
    }
}

/// The bit of an offset that tells that it is behind the end. No stream has so many bytes.
const END: u64 = 1 << 63;
