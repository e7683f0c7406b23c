//! Work away from its crew: what has much to do leaves for a task of its own, and may come back.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use wire_protocol::record::batch;
use wire_protocol::stream::Pace;

use super::{Job, Shared, Work};

/// Takes note that the job which is being done has moved so many bytes at once. Where they are many it leaves its crew: other
/// jobs are not to wait for more of that. Outside a crew this means nothing.
pub fn note(bytes: usize) {
    if bytes >= MUCH {
        Place::InCrew.wish_to_change();
    }
}

/// The pace of a stream that has no limit, but [leaves its crew](note) once it carries much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unlimited;

impl Pace for Unlimited {
    fn note(&self, bytes: usize) -> Option<tokio::time::Instant> {
        note(bytes);
        None
    }

    fn records(&self) -> usize {
        batch()
    }
}

/// Leaves the crew, so that what follows may hold up its thread. Outside a crew this means nothing.
pub async fn leave() {
    Place::InCrew.change().await;
}

/// Goes on in the crew again, where it has left one.
pub async fn come_back() {
    Place::Away.change().await;
}

/// Where work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    InCrew,
    Away,
}

thread_local! {
    /// Where the work is done that is done on this thread, as far as it is any of a crew's.
    static HERE: Cell<Option<Place>> = const { Cell::new(None) };
    /// It is to go on at the other place.
    static CHANGES: Cell<bool> = const { Cell::new(false) };
}

impl Place {
    /// Does work at this place. `true` with what comes of it if it is to go on at the other one.
    pub(super) fn poll(
        self,
        work: Pin<&mut (dyn Future<Output = ()> + Send)>,
        cx: &mut Context<'_>,
    ) -> (Poll<()>, bool) {
        HERE.set(Some(self));
        CHANGES.set(false);
        let _nowhere = OnDrop(|| HERE.set(None));
        (work.poll(cx), CHANGES.get())
    }

    /// Has the work that is done now go on at the other place once it waits, if it is at this one.
    fn wish_to_change(self) -> bool {
        let is_here = HERE.get() == Some(self);
        if is_here {
            CHANGES.set(true);
        }
        is_here
    }

    /// Goes on at the other place, if it is at this one.
    async fn change(self) {
        let mut asked = false;
        poll_fn(|_| {
            if asked || !self.wish_to_change() {
                return Poll::Ready(());
            }
            asked = true;
            Poll::Pending
        })
        .await;
    }
}

/// Also where the work panics.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Work that has left its crew, as a task of its own.
pub(super) struct Away {
    crew: Arc<Shared>,
    /// `None` once it is done, or has come back.
    work: Option<Work>,
}

impl Away {
    pub(super) fn new(crew: Arc<Shared>, work: Work) -> Self {
        Self { crew, work: Some(work) }
    }
}

impl Future for Away {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &mut self.work else { return Poll::Ready(()) };
        match Place::Away.poll(work.as_mut(), cx) {
            (Poll::Pending, true) => {
                if let Some(work) = self.work.take() {
                    Job::begin(&self.crew, work);
                }
                Poll::Ready(())
            }
            (polled, _) => polled,
        }
    }
}

/// Bytes at once that nothing but bulk data comes in.
const MUCH: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::task::{block_in_place, yield_now};

    use super::super::Crew;
    use super::super::tests::all;
    use super::*;

    /// As many as there are hands, and one: if they stayed, nobody would be left to do the last one.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_job_that_has_left_may_hold_up_its_thread() {
        let crew = Crew::gather();
        let meet = Arc::new(Barrier::new(3));
        let (done, results) = mpsc::unbounded_channel();
        for _ in 0..3 {
            let (done, meet) = (done.clone(), Arc::clone(&meet));
            crew.spawn(async move {
                let in_crew = tokio::task::id();
                leave().await;
                block_in_place(|| meet.wait());
                done.send(in_crew == tokio::task::id()).ok();
            });
        }
        drop(done);
        assert_eq!(all(results).await, [false; 3]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_job_may_leave_and_come_back_again_and_again() {
        let crew = Crew::gather();
        let (done, results) = mpsc::unbounded_channel();
        for _ in 0..8 {
            let done = done.clone();
            crew.spawn(async move {
                for _ in 0..50 {
                    // Where it is already.
                    come_back().await;
                    done.send(HERE.get() == Some(Place::InCrew)).ok();
                    leave().await;
                    leave().await;
                    done.send(HERE.get() == Some(Place::Away)).ok();
                    tokio::time::sleep(Duration::from_micros(50)).await;
                    done.send(HERE.get() == Some(Place::Away)).ok();
                    come_back().await;
                    yield_now().await;
                    done.send(HERE.get() == Some(Place::InCrew)).ok();
                }
            });
        }
        drop(done);
        assert_eq!(all(results).await, [true; 8 * 50 * 4]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stream_that_carries_much_leaves() {
        let crew = Crew::gather();
        let (done, results) = mpsc::unbounded_channel();
        for bytes in [MUCH - 1, MUCH] {
            let done = done.clone();
            crew.spawn(async move {
                assert_eq!(Unlimited.note(bytes), None);
                yield_now().await;
                done.send((bytes, HERE.get())).ok();
            });
        }
        drop(done);
        let mut results = all(results).await;
        results.sort_unstable_by_key(|(bytes, _)| *bytes);
        assert_eq!(results, [(MUCH - 1, Some(Place::InCrew)), (MUCH, Some(Place::Away))]);
    }

    #[tokio::test]
    async fn outside_a_crew_there_is_nothing_to_leave() {
        leave().await;
        come_back().await;
        assert_eq!(Unlimited.note(MUCH), None);
    }
}
