//! How the streams of an [`Ingress`](crate::ingress::Ingress) can be taken over, and how often they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wire_protocol::message::Retention;
use wire_protocol::stream::RetentionBudget;

use crate::resumption::Resumption;

/// What an ingress asks for when it opens a stream, and what has become of such streams. Clones share it.
#[derive(Debug, Clone)]
pub struct Resumptions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` where streams are not to be taken over.
    asked: Option<(Retention, RetentionBudget)>,
    waiting: AtomicU64,
    resumed: AtomicU64,
    lost: AtomicU64,
    longest_pause_ms: AtomicU64,
}

impl Resumptions {
    /// Streams that can be taken over: each side is to keep `retention`, and this one within `budget`.
    #[must_use]
    pub fn new(retention: Retention, budget: RetentionBudget) -> Self {
        Self::of(Some((retention, budget)))
    }

    /// Streams that cannot be taken over.
    #[must_use]
    pub fn none() -> Self {
        Self::of(None)
    }

    fn of(asked: Option<(Retention, RetentionBudget)>) -> Self {
        let [waiting, resumed, lost, longest_pause_ms] = [(); 4].map(|()| AtomicU64::new(0));
        Self(Arc::new(Inner { asked, waiting, resumed, lost, longest_pause_ms }))
    }

    /// What is asked for with the next stream; `None` where there is no room for what it would keep.
    #[must_use]
    pub fn next(&self) -> Option<Resumption> {
        let (retention, budget) = self.0.asked.as_ref()?;
        Some(Resumption { retention: *retention, reservation: budget.reserve()? })
    }

    /// The bytes that are kept, or set aside.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.0.asked.as_ref().map_or(0, |(_, budget)| budget.used())
    }

    /// Streams that have no channel now.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// How often a stream was taken over.
    #[must_use]
    pub fn resumed(&self) -> u64 {
        self.0.resumed.load(Ordering::Relaxed)
    }

    /// Streams that were lost, since they were not taken over in time or not at all.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// The longest time that a stream was without a channel and was taken over then.
    #[must_use]
    pub fn longest_pause(&self) -> Duration {
        Duration::from_millis(self.0.longest_pause_ms.load(Ordering::Relaxed))
    }

    /// A stream has lost its channel. [`Waiting`] ends with what has become of it.
    pub(crate) fn interrupted(&self) -> Waiting<'_> {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting { counts: &self.0, resumed: None }
    }
}

/// A stream that waits for a channel. Dropped without a word, it is lost.
pub(crate) struct Waiting<'a> {
    counts: &'a Inner,
    resumed: Option<Duration>,
}

impl Waiting<'_> {
    /// It goes on, after a pause.
    pub(crate) fn resumed(mut self, pause: Duration) {
        self.resumed = Some(pause);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
        match self.resumed {
            Some(pause) => {
                self.counts.resumed.fetch_add(1, Ordering::Relaxed);
                let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                self.counts.longest_pause_ms.fetch_max(pause, Ordering::Relaxed);
            }
            None => {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
