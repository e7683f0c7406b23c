//! How the program around a running server speaks to it: asks how it is, gives it another configuration, ends it.

use cli_support::admin::Status;
use cli_support::control::{Events, Sender, channel};
use tokio::sync::oneshot;
use tunnel::address::Address;

use crate::error::Error;
use crate::reloadable_config::ReloadableConfig;

/// Speaks to a server that runs in [`serve`](crate::serve()). Clones speak to the same one.
#[derive(Debug, Clone)]
pub struct Control(Sender<ControlEvent>);

/// What a [`Control`] has said, for the server that it speaks to.
#[derive(Debug)]
pub struct ControlEvents(pub(crate) Events<ControlEvent>);

/// One thing that a server is told, and where its answer goes.
#[derive(Debug)]
pub(crate) enum ControlEvent {
    /// Go by another configuration.
    Reload {
        /// What holds from now on.
        config: ReloadableConfig,
        /// Where the server listens from now on.
        addresses: Vec<Address>,
        /// How that went.
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// Look again at who may be in.
    Recheck(oneshot::Sender<()>),
    /// Say how it is.
    Status(oneshot::Sender<Status>),
    /// Do not wait for streams any longer. Only a server that has been told to end goes by it.
    EndNow,
}

impl Control {
    /// A control, and what the server that it is for takes.
    #[must_use]
    pub fn new() -> (Self, ControlEvents) {
        let (sender, events) = channel();
        (Self(sender), ControlEvents(events))
    }

    /// Has the server go by `config` and listen on `addresses`: all of it, or nothing of it. `None` where the server
    /// has ended, or is about to.
    ///
    /// # Errors
    /// [`Error::Listen`] when an address cannot be listened on. The server goes on as before, then.
    pub async fn reload(
        &self,
        config: ReloadableConfig,
        addresses: Vec<Address>,
    ) -> Option<Result<(), Error>> {
        self.0.ask(|answer| ControlEvent::Reload { config, addresses, answer }).await
    }

    /// Has the server look again at who may do what: what is not allowed any more ends. Gives `false` where the server
    /// has ended.
    pub async fn recheck(&self) -> bool {
        self.0.ask(ControlEvent::Recheck).await.is_some()
    }

    /// How the server is; `None` where it has ended.
    pub async fn status(&self) -> Option<Status> {
        self.0.ask(ControlEvent::Status).await
    }

    /// Ends the wait for streams of a server whose shutdown has begun. Before that it does nothing.
    pub async fn end_now(&self) {
        self.0.tell(ControlEvent::EndNow).await;
    }
}
