//! The way from the program around a library to what runs in it: questions and commands go in, answers come back.

use tokio::sync::{mpsc, oneshot};

/// Makes a way for events of type `E`: the end that speaks, and the end that what runs listens at.
#[must_use]
pub fn channel<E>() -> (Sender<E>, Events<E>) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (Sender(sender), Events(receiver))
}

/// The end that speaks. Clones speak to the same listener.
#[derive(Debug)]
pub struct Sender<E>(mpsc::Sender<E>);

/// The end that listens.
#[derive(Debug)]
pub struct Events<E>(mpsc::Receiver<E>);

impl<E> Clone for Sender<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> Sender<E> {
    /// Sends the event that `event` makes around the place for its answer, and waits for that answer. Gives `None`
    /// where the listener has ended, or drops the place without an answer.
    pub async fn ask<A>(&self, event: impl FnOnce(oneshot::Sender<A>) -> E) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        self.0.send(event(answer)).await.ok()?;
        answered.await.ok()
    }

    /// Sends an event that needs no answer. A listener that has ended already needs not be told.
    pub async fn tell(&self, event: E) {
        self.0.send(event).await.ok();
    }
}

impl<E> Events<E> {
    /// The next event. Never ready once nobody can speak any more. May be dropped and called again.
    pub async fn next(&mut self) -> E {
        match self.0.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

/// Events that wait for the listener. It takes each at once, but for those that have it bind sockets.
const MAX_WAITING: usize = 16;
