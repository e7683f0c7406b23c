//! What stops the threads of a transfer, and holds it to its client's rate.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use files::control::{Control, most_at_rate};
use files::error::Error;
use tokio::time::Instant;
use wire_protocol::message::{MAX_DATA_LEN, ResetCode};
use wire_protocol::stream::{Direction, Pace as _};

use crate::throttle::Throttle;

/// Whether a transfer is to end before its end, and why. Clones are of the same transfer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Halt(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    reason: Mutex<Option<ResetCode>>,
    changed: Condvar,
}

impl Halt {
    /// Has the transfer end. The first reason counts.
    pub(crate) fn stop(&self, reason: ResetCode) {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.0.changed.notify_all();
    }

    /// Why it is to end, if it is.
    pub(crate) fn reason(&self) -> Option<ResetCode> {
        *self.0.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `moment`, or until the transfer is to end, and says whether it is.
    fn wait_until(&self, moment: Instant) -> bool {
        let mut reason = self.0.reason.lock().unwrap_or_else(PoisonError::into_inner);
        while reason.is_none() {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            reason = self.0.changed.wait_timeout(reason, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// The rate of a client, and its right to the transfer.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) throttle: Throttle,
    pub(crate) halt: Halt,
    /// The way that the content of files goes.
    pub(crate) direction: Direction,
}

impl Control for Terms {
    fn moved(&self, bytes: usize) -> Result<(), Error> {
        let is_over = match self.throttle.note(bytes, self.direction) {
            Some(moment) => self.halt.wait_until(moment),
            None => self.is_stopped(),
        };
        if is_over { Err(Error::Stopped) } else { Ok(()) }
    }

    /// A client could carry anything in names.
    fn named(&self, bytes: usize) -> Result<(), Error> {
        self.moved(bytes)
    }

    fn is_stopped(&self) -> bool {
        self.halt.reason().is_some()
    }

    fn most_at_once(&self) -> usize {
        self.throttle.rate().map_or(MAX_DATA_LEN, most_at_rate)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::thread;

    use super::*;

    #[test]
    fn a_transfer_that_waits_for_its_rate_ends_at_once_when_it_is_stopped() {
        let throttle = Throttle::default();
        throttle.set_rate(NonZeroU64::new(1));
        let terms = Terms { throttle, halt: Halt::default(), direction: Direction::Sent };
        let waiting = terms.clone();
        // An hour at this rate.
        let waited = thread::spawn(move || waiting.moved(3600));
        terms.halt.stop(ResetCode::NotAllowed);
        terms.halt.stop(ResetCode::Output);
        assert!(matches!(waited.join().unwrap(), Err(Error::Stopped)));
        assert_eq!(terms.halt.reason(), Some(ResetCode::NotAllowed));
        assert!(terms.is_stopped() && terms.moved(0).is_err());
    }

    #[test]
    fn names_count_as_content_does() {
        let meter = crate::meter::Meter::default();
        let throttle = Throttle::default().metered(meter.clone());
        let terms = Terms { throttle, halt: Halt::default(), direction: Direction::Sent };
        assert!(terms.moved(3).is_ok() && terms.named(4).is_ok());
        assert_eq!(meter.bytes(), 7);
    }

    #[test]
    fn what_is_sent_at_once_holds_other_channels_of_the_client_up_for_a_moment_only() {
        let throttle = Throttle::default();
        let terms = Terms { throttle: throttle.clone(), halt: Halt::default(), direction: Direction::Sent };
        for (rate, most) in [(1, 16_384), (1_000_000, 100_000), (u64::MAX, MAX_DATA_LEN)] {
            throttle.set_rate(NonZeroU64::new(rate));
            assert_eq!(terms.most_at_once(), most, "{rate}");
        }
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let terms =
            Terms { throttle: Throttle::default(), halt: Halt::default(), direction: Direction::Sent };
        assert!(terms.moved(usize::MAX).is_ok() && !terms.is_stopped());
        assert_eq!(terms.most_at_once(), MAX_DATA_LEN);
    }
}
