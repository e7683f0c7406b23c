//! The way of events from the threads of a transfer to its user.

use std::sync::Arc;
use std::time::Duration;

use ::files::event::Event;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

/// An event of one of the streams of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferEvent {
    /// The number of the stream, from 0: [`Event::Advanced`] is about the file that has begun last on the same one.
    pub stream: u16,
    /// What has happened.
    pub event: Event,
}

/// The events of all streams of a transfer.
#[derive(Debug)]
pub(super) struct Events {
    waiting: mpsc::Receiver<TransferEvent>,
    ended: Arc<Notify>,
    next_wait: Instant,
}

impl Events {
    /// The next one; `None` once all streams have ended. Can be dropped and called again.
    pub(super) async fn next(&mut self) -> Option<TransferEvent> {
        // Those that wait are taken at once, and other tasks have their turn all the same.
        tokio::task::consume_budget().await;
        match self.waiting.try_recv() {
            Ok(event) => return Some(event),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        // Many come in that time. To wake this task for each of them would take as long as a small file does.
        tokio::select! {
            () = self.ended.notified() => {}
            () = sleep_until(self.next_wait) => {}
        }
        let event = self.waiting.recv().await?;
        self.next_wait = Instant::now() + PAUSE;
        Some(event)
    }
}

/// Where the streams of a transfer get their senders from.
#[derive(Debug)]
pub(super) struct EventSenders {
    events: mpsc::Sender<TransferEvent>,
    ended: Arc<Notify>,
}

impl EventSenders {
    /// With the events that their senders send.
    pub(super) fn new() -> (Self, Events) {
        let (events, waiting) = mpsc::channel(MAX_WAITING);
        let ended = Arc::new(Notify::new());
        let received = Events { waiting, ended: Arc::clone(&ended), next_wait: Instant::now() };
        (Self { events, ended }, received)
    }

    /// The one of the stream with this number.
    pub(super) fn of(&self, stream: u16) -> EventSender {
        EventSender { stream, events: self.events.clone(), ended: Arc::clone(&self.ended) }
    }
}

/// Hands the events of a stream on to the transfer, as long as somebody takes them.
#[derive(Debug)]
pub(super) struct EventSender {
    stream: u16,
    events: mpsc::Sender<TransferEvent>,
    ended: Arc<Notify>,
}

impl EventSender {
    pub(super) fn send(&self, event: Event) {
        // Without anybody who takes them the transfer is being stopped.
        self.events.blocking_send(TransferEvent { stream: self.stream, event }).ok();
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        self.ended.notify_one();
    }
}

/// Most events that wait for the user of the transfer: more than there are in [`PAUSE`].
pub(super) const MAX_WAITING: usize = 4096;
/// Between two waits for events: so short that nobody notices it.
const PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn all_events_come_in_their_order_and_the_end_behind_them() {
        let (senders, mut events) = EventSenders::new();
        let sender = senders.of(3);
        drop(senders);
        let count = 10 * MAX_WAITING;
        let sending = thread::spawn(move || {
            for bytes in 0..u64::try_from(count).unwrap() {
                sender.send(Event::Advanced { bytes, is_moved: true });
            }
        });
        for expected in 0..u64::try_from(count).unwrap() {
            let TransferEvent { stream, event } = events.next().await.unwrap();
            assert_eq!((stream, event), (3, Event::Advanced { bytes: expected, is_moved: true }));
        }
        assert_eq!(events.next().await, None);
        sending.join().unwrap();
    }

    #[tokio::test]
    async fn others_have_their_turn_though_there_is_always_an_event() {
        let (senders, mut events) = EventSenders::new();
        for _ in 0..MAX_WAITING {
            senders.events.try_send(TransferEvent { stream: 0, event: Event::AllFound }).unwrap();
        }
        let other = tokio::spawn(async {});
        for _ in 0..MAX_WAITING / 2 {
            events.next().await.unwrap();
        }
        assert!(other.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_not_waited_for() {
        let (senders, mut events) = EventSenders::new();
        let sender = senders.of(0);
        let begun = Instant::now();
        senders.events.try_send(TransferEvent { stream: 0, event: Event::AllFound }).unwrap();
        // This one was waited for, so that the next wait would be at the end of the pause.
        assert!(events.next().await.is_some());
        events.next_wait = begun + PAUSE;
        drop(senders);
        drop(sender);
        assert_eq!(events.next().await, None);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
