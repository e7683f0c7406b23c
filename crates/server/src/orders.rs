//! What a running server is told: by signals, and by commands of the same user.

use std::fmt;

use program::address::Address;
use program::admin::{AdminSocket, Answer, Command, Responder};
use program::home::Home;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Error, Live};

/// Where a server's orders come from.
#[derive(Debug)]
pub struct Orders {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    admin: Option<AdminSocket>,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// End.
    Stop,
    /// Read the configuration again, and say how that went where somebody waits for it.
    Reload(Option<Responder>),
    /// Look again at who may be in.
    Recheck,
    /// Say how it is.
    Tell(Responder),
}

impl Orders {
    /// Listens for signals, and for commands in `home`. Without a folder for the latter the server runs all the same.
    ///
    /// # Errors
    /// [`Error::Runtime`] where the system gives no signals.
    pub fn listen(home: &Home) -> Result<Self, Error> {
        let admin = AdminSocket::bind(home, "server");
        let admin =
            admin.inspect_err(|error| tracing::warn!(%error, "commands cannot reach this server")).ok();
        let on = |kind| signal(kind).map_err(Error::Runtime);
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
            admin,
        })
    }

    /// The next order. Can be dropped and called again.
    pub(crate) async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Stop,
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.hangup.recv() => Order::Reload(None),
            (command, responder) = AdminSocket::next_of(self.admin.as_mut()) => match command {
                Command::Status => Order::Tell(responder),
                Command::Reload => Order::Reload(Some(responder)),
                Command::Recheck => {
                    responder.answer(&Answer::Done);
                    Order::Recheck
                }
            },
        }
    }
}

/// Reads again what a server goes by, and where it listens. Whatever is wrong is found before anything is changed.
pub struct Reload(Box<Read>);

type Read = dyn FnMut() -> Result<(Live, Vec<Address>), Error> + Send;

impl Reload {
    /// With this function.
    pub fn new(read: impl FnMut() -> Result<(Live, Vec<Address>), Error> + Send + 'static) -> Self {
        Self(Box::new(read))
    }

    pub(crate) fn read(&mut self) -> Result<(Live, Vec<Address>), Error> {
        (self.0)()
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").finish_non_exhaustive()
    }
}
