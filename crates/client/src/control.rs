//! Control events, by which the program asks running forwards for their status, or ends them.

use cli_support::admin::Status;
use cli_support::control::{Events, Sender, channel};
use cli_support::status_server::MetricsFormat;
use tokio::sync::oneshot;

/// Sends control events to forwards that run in [`Forwards::run`](crate::command::forward::Forwards::run). Clones send
/// to the same forwards.
#[derive(Debug, Clone)]
pub struct Control(Sender<ControlEvent>);

/// The receiving end of a [`Control`], which the forwards take.
#[derive(Debug)]
pub struct ControlEvents(pub(crate) Events<ControlEvent>);

/// One thing that forwards are told, and where its answer goes.
#[derive(Debug)]
pub(crate) enum ControlEvent {
    /// Say how it is.
    Status(oneshot::Sender<Status>),
    /// Asks for the metrics.
    Metrics(MetricsFormat, oneshot::Sender<String>),
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

    /// The metrics of the forwards; `None` where they have ended.
    pub async fn metrics(&self, format: MetricsFormat) -> Option<String> {
        self.0.ask(|answer| ControlEvent::Metrics(format, answer)).await
    }

    /// Ends the wait for connections of forwards whose end has begun. Before that it does nothing.
    pub async fn end_now(&self) {
        self.0.tell(ControlEvent::EndNow).await;
    }
}
