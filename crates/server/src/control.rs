//! How the program around a running server speaks to it: asks how it is, gives it another configuration, ends it.

use program::address::Address;
use program::admin::Status;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, Live};

/// Speaks to a server that runs in [`serve`](crate::serve()). Clones speak to the same one.
#[derive(Debug, Clone)]
pub struct Control(mpsc::Sender<ControlEvent>);

/// What a [`Control`] has said, for the server that it speaks to.
#[derive(Debug)]
pub struct ControlEvents(mpsc::Receiver<ControlEvent>);

/// One thing that a server is told, and where its answer goes.
#[derive(Debug)]
pub(crate) enum ControlEvent {
    /// Go by another configuration.
    Reload {
        /// What holds from now on.
        live: Live,
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
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        (Self(sender), ControlEvents(receiver))
    }

    /// Has the server go by `live` and listen on `addresses`: all of it, or nothing of it. `None` where the server
    /// has ended, or is about to.
    ///
    /// # Errors
    /// [`Error::Listen`] when an address cannot be listened on. The server goes on as before, then.
    pub async fn reload(&self, live: Live, addresses: Vec<Address>) -> Option<Result<(), Error>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(ControlEvent::Reload { live, addresses, answer }).await.ok()?;
        answered.await.ok()
    }

    /// Has the server look again at who may do what: what is not allowed any more ends. Gives `false` where the server
    /// has ended.
    pub async fn recheck(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.0.send(ControlEvent::Recheck(answer)).await.is_ok() && answered.await.is_ok()
    }

    /// How the server is; `None` where it has ended.
    pub async fn status(&self) -> Option<Status> {
        let (answer, answered) = oneshot::channel();
        self.0.send(ControlEvent::Status(answer)).await.ok()?;
        answered.await.ok()
    }

    /// Ends the wait for streams of a server whose shutdown has begun. Before that it does nothing.
    pub async fn end_now(&self) {
        // A server that has ended already needs not be told.
        self.0.send(ControlEvent::EndNow).await.ok();
    }
}

impl ControlEvents {
    /// The next event. Never ready once nobody can speak to the server any more. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> ControlEvent {
        match self.0.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

/// Events that wait for the server. It takes each at once, but for a reload, which binds sockets.
const MAX_WAITING: usize = 16;
