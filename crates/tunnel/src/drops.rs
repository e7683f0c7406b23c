//! Counts dropped datagrams for `status`, and logs them, once for each flow and reason.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;
use wire_protocol::channel::MAX_DATAGRAM_LEN;
use wire_protocol::stream::Dropped;

/// Counts the datagrams that a program has dropped. Clones share one count.
#[derive(Debug, Clone, Default)]
pub struct DropCounter(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    dropped: AtomicU64,
    lines: Mutex<Lines>,
}

/// How many lines the log may still take: a flood of datagrams must not be a flood of lines.
#[derive(Debug, Default)]
struct Lines {
    /// When the last of the lines that have been written would be due, were they written one after the other.
    next: Option<Instant>,
    held_back: u64,
}

/// Counts and logs the dropped datagrams of one flow. Clones are of the same flow.
#[derive(Debug, Clone)]
pub struct FlowDrops(Arc<Flow>);

#[derive(Debug)]
struct Flow {
    counter: DropCounter,
    name: String,
    reasons: Mutex<Vec<Said>>,
}

/// What the log has been told of one reason.
#[derive(Debug)]
struct Said {
    reason: DropReason,
    last: Option<Instant>,
    /// Dropped and not told yet.
    untold: u64,
}

/// The reason why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// It is longer than this many bytes.
    TooLong(usize),
    /// It is longer than the path to where it goes takes.
    PathLimit,
    /// So many datagrams of the flow wait already.
    QueueFull(usize),
    /// So many bytes of all flows at the socket wait already.
    BytesWaiting(usize),
    /// The client may have so many bytes a second.
    Rate(u64),
    /// There is no channel for the flow.
    NoChannel,
    /// The server has refused the flow.
    Refused,
    /// The flow ended while it waited.
    Ended,
    /// The system has no room for it in what it sends.
    SendBuffer,
    /// The system does not send it.
    NotSent(std::io::ErrorKind),
    /// It does not have the form that a SOCKS client's has, or is not the client's.
    NotSocks,
}

impl DropCounter {
    /// How many have been dropped since the program started.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// For a flow that the log calls `name`, which is fit for it.
    #[must_use]
    pub fn flow(&self, name: String) -> FlowDrops {
        FlowDrops(Arc::new(Flow { counter: self.clone(), name, reasons: Mutex::default() }))
    }

    /// Whether a line may be written now, and how many have not been since the last one.
    fn admit_line(&self, now: Instant) -> Option<u64> {
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let next = lines.next.map_or(now, |next| next.max(now));
        if next >= now + LINE_EVERY * LINES_AT_ONCE {
            lines.held_back += 1;
            return None;
        }
        lines.next = Some(next + LINE_EVERY);
        Some(std::mem::take(&mut lines.held_back))
    }
}

impl FlowDrops {
    /// One of `len` bytes has been dropped.
    pub fn note(&self, reason: DropReason, len: usize) {
        let Flow { counter, name, .. } = &*self.0;
        counter.0.dropped.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut reasons = self.0.reasons();
        let place = reasons.iter().position(|said| said.reason == reason).unwrap_or_else(|| {
            reasons.push(Said { reason, last: None, untold: 0 });
            reasons.len() - 1
        });
        let said = &mut reasons[place];
        said.untold += 1;
        if said.last.is_some_and(|last| now < last + REPEAT_EVERY) {
            return;
        }
        if let Some(held_back) = counter.admit_line(now) {
            let dropped = said.untold;
            (said.last, said.untold) = (Some(now), 0);
            let held_back = (held_back > 0).then_some(held_back);
            tracing::warn!(flow = name, bytes = len, %reason, dropped, held_back, "datagram dropped");
        }
    }

    /// The relay has dropped one of `len` bytes.
    pub fn note_relay(&self, why: &Dropped<'_>, len: usize) {
        self.note(DropReason::of_relay(why), len);
    }

    /// How many of the flow have been dropped that the log has not been told of yet.
    #[cfg(test)]
    fn untold(&self) -> u64 {
        self.0.reasons().iter().map(|said| said.untold).sum()
    }
}

impl Flow {
    fn reasons(&self) -> MutexGuard<'_, Vec<Said>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has been dropped since the last line is told at the end of the flow.
impl Drop for Flow {
    fn drop(&mut self) {
        let now = Instant::now();
        for Said { reason, untold, .. } in self.reasons().iter().filter(|said| said.untold > 0) {
            if let Some(held_back) = self.counter.admit_line(now) {
                let held_back = (held_back > 0).then_some(held_back);
                tracing::warn!(flow = self.name, %reason, dropped = untold, held_back, "datagrams dropped");
            }
        }
    }
}

impl DropReason {
    fn of_relay(why: &Dropped<'_>) -> Self {
        match why {
            Dropped::TooLong => Self::TooLong(MAX_DATAGRAM_LEN),
            Dropped::NotTaken(error) if Errno::from_io_error(error) == Some(Errno::MSGSIZE) => {
                Self::PathLimit
            }
            Dropped::NotTaken(error) if error.kind() == std::io::ErrorKind::WouldBlock => Self::SendBuffer,
            Dropped::NotTaken(error) => Self::NotSent(error.kind()),
            // The relay has found another reason, which is of the local socket in any case.
            _ => Self::NotSent(std::io::ErrorKind::Other),
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(limit) => write!(f, "longer than {limit} bytes"),
            Self::PathLimit => f.write_str("longer than its path takes"),
            Self::QueueFull(limit) => write!(f, "{limit} datagrams of the flow wait already"),
            Self::BytesWaiting(limit) => write!(f, "{limit} bytes of all flows wait already"),
            Self::Rate(limit) => write!(f, "more than {limit} bytes a second"),
            Self::NoChannel => f.write_str("there is no channel for the flow"),
            Self::Refused => f.write_str("the other side has refused the flow"),
            Self::Ended => f.write_str("the flow has ended"),
            Self::SendBuffer => f.write_str("the system's send buffer is full"),
            Self::NotSent(kind) => write!(f, "the system does not send it: {kind}"),
            Self::NotSocks => f.write_str("no datagram of the SOCKS client"),
        }
    }
}

/// A flow that goes on dropping for the same reason is told of again.
const REPEAT_EVERY: Duration = Duration::from_secs(60);
/// Lines of the log, in the long run; what is more is counted.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// And at once.
const LINES_AT_ONCE: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_flow_and_reason_is_told_once_a_minute_and_the_rest_is_counted() {
        let counter = DropCounter::default();
        let (one, other) = (counter.flow("one".into()), counter.flow("other".into()));
        let rate = DropReason::Rate(1000);
        for flow in [&one, &other, &one] {
            flow.note(rate, 100);
            flow.note(DropReason::TooLong(65507), 65527);
        }
        assert_eq!((counter.count(), one.untold(), other.untold()), (6, 2, 0));
        tokio::time::advance(REPEAT_EVERY).await;
        one.note(rate, 100);
        assert_eq!((counter.count(), one.untold()), (7, 1), "the other reason has not come again");
    }

    #[tokio::test(start_paused = true)]
    async fn many_flows_do_not_flood_the_log() {
        let counter = DropCounter::default();
        let flows: Vec<_> = (0..1000).map(|number| counter.flow(number.to_string())).collect();
        let told = |flows: &[FlowDrops]| flows.iter().filter(|flow| flow.untold() == 0).count();
        flows.iter().for_each(|flow| flow.note(DropReason::PathLimit, 1));
        assert_eq!((counter.count(), told(&flows)), (1000, 16));
        tokio::time::advance(LINE_EVERY * 5).await;
        flows.iter().for_each(|flow| flow.note(DropReason::PathLimit, 1));
        assert_eq!(counter.count(), 2000);
        assert_eq!(flows.iter().filter(|flow| flow.untold() < 2).count(), 21);
    }

    #[test]
    fn reasons_give_their_limits() {
        let errno = |errno: Errno| std::io::Error::from(errno);
        for (why, expected) in [
            (Dropped::TooLong, "longer than 65507 bytes"),
            (Dropped::NotTaken(&errno(Errno::MSGSIZE)), "longer than its path takes"),
            (Dropped::NotTaken(&errno(Errno::AGAIN)), "the system's send buffer is full"),
            (
                Dropped::NotTaken(&errno(Errno::NETUNREACH)),
                "the system does not send it: network unreachable",
            ),
        ] {
            assert_eq!(DropReason::of_relay(&why).to_string(), expected);
        }
        assert_eq!(DropReason::Rate(5000).to_string(), "more than 5000 bytes a second");
    }
}
