//! How the program around forwards that run speaks to them: asks how they are, ends them.

use cli_support::admin::Status;
use cli_support::control::{Events, Sender, channel};
use tokio::sync::oneshot;

/// Speaks to forwards that run in [`Forwards::run`](crate::command::forward::Forwards::run). Clones speak to the same
/// ones.
#[derive(Debug, Clone)]
pub struct Control(Sender<ControlEvent>);

/// What a [`Control`] has said, for the forwards that it speaks to.
#[derive(Debug)]
pub struct ControlEvents(pub(crate) Events<ControlEvent>);

/// One thing that forwards are told, and where its answer goes.
#[derive(Debug)]
pub(crate) enum ControlEvent {
    /// Say how it is.
    Status(oneshot::Sender<Status>),
    /// Do not wait for connections any longer. Only forwards that are ending go by it.
    EndNow,
}

impl Control {
    /// A control, and what the forwards that it is for take.
    #[must_use]
    pub fn new() -> (Self, ControlEvents) {
        let (sender, events) = channel();
        (Self(sender), ControlEvents(events))
    }

    /// How the forwards are; `None` where they have ended.
    pub async fn status(&self) -> Option<Status> {
        self.0.ask(ControlEvent::Status).await
    }

    /// Ends the wait for connections of forwards whose end has begun. Before that it does nothing.
    pub async fn end_now(&self) {
        self.0.tell(ControlEvent::EndNow).await;
    }
}
