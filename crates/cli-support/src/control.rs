//! Control events: questions and commands from the program around a library to the task that runs in it, with
//! answers.

use tokio::sync::{mpsc, oneshot};

/// Creates a channel for events of type `E`: the program's end and the task's end.
#[must_use]
pub fn channel<E>() -> (Sender<E>, Events<E>) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (Sender(sender), Events(receiver))
}

/// The program's end. Clones send to the same task.
#[derive(Debug)]
pub struct Sender<E>(mpsc::Sender<E>);

/// The task's end.
#[derive(Debug)]
pub struct Events<E>(mpsc::Receiver<E>);

impl<E> Clone for Sender<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> Sender<E> {
    /// Sends the event that `event` builds around a sender for its answer, and waits for that answer. Returns
    /// `None` where the task has ended, or drops the sender without an answer.
    pub async fn ask<A>(&self, event: impl FnOnce(oneshot::Sender<A>) -> E) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        self.0.send(event(answer)).await.ok()?;
        answered.await.ok()
    }

    /// Sends an event that needs no answer. The event is dropped where the task has ended.
    pub async fn tell(&self, event: E) {
        self.0.send(event).await.ok();
    }
}

impl<E> Events<E> {
    /// Waits for the next event, forever once all senders are dropped. The future is cancel-safe.
    pub async fn next(&mut self) -> E {
        match self.0.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

/// Most events in the queue. The task takes each at once, except while an earlier event makes it bind sockets.
const MAX_WAITING: usize = 16;
