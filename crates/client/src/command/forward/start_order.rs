//! The order in which forwards have their first attempt.

use tokio::sync::oneshot;

/// Lets the first attempts come one after the other, in the order of the command line: with port 0 that is how what is
/// announced is told apart.
#[derive(Default)]
pub(super) struct StartOrder {
    before: Option<oneshot::Receiver<()>>,
    /// Dropped once this one has had its attempt.
    done: Option<oneshot::Sender<()>>,
}

impl StartOrder {
    /// The place behind this one.
    pub(super) fn next(&mut self) -> Self {
        let (done, before) = oneshot::channel();
        self.done = Some(done);
        Self { before: Some(before), done: None }
    }

    /// Waits until all before this one have had their attempt. The next one waits until what this gives is dropped.
    pub(super) async fn reached(self) -> Option<oneshot::Sender<()>> {
        if let Some(before) = self.before {
            before.await.ok();
        }
        self.done
    }
}
