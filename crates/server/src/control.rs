//! Control of a running server by the program around it: status, reload, recheck and end.

use std::sync::Weak;

use cli_support::admin::Status;
use cli_support::control::{Events, Sender, channel};
use cli_support::status_server::MetricsFormat;
use tokio::sync::oneshot;
use tunnel::address::Address;

use crate::error::Error;
use crate::reloadable_config::ReloadableConfig;
use crate::server::Server;

/// Sends control events to a server that runs in [`serve`](crate::serve()). Clones send to the same server.
#[derive(Debug, Clone)]
pub struct Control(Sender<ControlEvent>);

/// The receiving end of a [`Control`], which [`serve`](crate::serve()) takes.
#[derive(Debug)]
pub struct ControlEvents(pub(crate) Events<ControlEvent>);

/// A control event, with the sender for its answer.
#[derive(Debug)]
pub(crate) enum ControlEvent {
    /// Applies another configuration.
    Reload {
        /// The new configuration.
        config: ReloadableConfig,
        /// The addresses to listen on.
        addresses: Vec<Address>,
        /// Receives the result.
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// Checks again which clients may stay, and what they may do.
    Recheck(oneshot::Sender<()>),
    /// Asks for the server's status.
    Status(oneshot::Sender<Status>),
    /// Asks for the metrics.
    Metrics(MetricsFormat, oneshot::Sender<String>),
    /// The new configuration could not be read.
    NotReloaded,
    /// Asks for what all connections share, to be looked at from another thread.
    Server(oneshot::Sender<Weak<Server>>),
    /// Ends the wait for open streams. The event has no effect before the server was told to end.
    EndNow,
}

impl Control {
    /// Creates a control, and the receiving end for the server that it controls.
    #[must_use]
    pub fn new() -> (Self, ControlEvents) {
        let (sender, events) = channel();
        (Self(sender), ControlEvents(events))
    }

    /// Has the server apply `config` and listen on `addresses`, either both or neither. `None` where the server has
    /// ended, or is about to.
    ///
    /// # Errors
    /// [`Error::Listen`] when the server cannot listen on an address. It keeps its configuration then.
    pub async fn reload(
        &self,
        config: ReloadableConfig,
        addresses: Vec<Address>,
    ) -> Option<Result<(), Error>> {
        self.0.ask(|answer| ControlEvent::Reload { config, addresses, answer }).await
    }

    /// Has the server check all permissions again, and end streams that are no longer permitted. Returns `false`
    /// where the server has ended.
    pub async fn recheck(&self) -> bool {
        self.0.ask(ControlEvent::Recheck).await.is_some()
    }

    /// The status of the server; `None` where it has ended.
    pub async fn status(&self) -> Option<Status> {
        self.0.ask(ControlEvent::Status).await
    }

    /// The metrics of the server; `None` where it has ended.
    pub async fn metrics(&self, format: MetricsFormat) -> Option<String> {
        self.0.ask(|answer| ControlEvent::Metrics(format, answer)).await
    }

    /// Has the server count a configuration that could not be read.
    pub async fn note_not_reloaded(&self) {
        self.0.tell(ControlEvent::NotReloaded).await;
    }

    /// What all connections of the server share; `None` where it has ended.
    pub(crate) async fn server(&self) -> Option<Weak<Server>> {
        self.0.ask(ControlEvent::Server).await
    }

    /// Ends the wait for streams of a server whose shutdown has begun. The call has no effect before that.
    pub async fn end_now(&self) {
        self.0.tell(ControlEvent::EndNow).await;
    }
}
