//! What a running `forward` is told: by signals, and by commands of the same user.

use program::admin::{AdminSocket, Answer, Command, Responder};
use program::home::Home;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Error;

/// Where orders come from.
#[derive(Debug)]
pub(super) struct Orders {
    terminate: Signal,
    interrupt: Signal,
    admin: Option<AdminSocket>,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Order {
    /// End.
    Stop,
    /// Say how it is.
    Tell(Responder),
}

impl Orders {
    /// Listens for signals, and for commands in `home`. Without a folder for the latter it forwards all the same.
    pub(super) fn listen(home: &Home) -> Result<Self, Error> {
        let admin = AdminSocket::bind(home, "client");
        let admin =
            admin.inspect_err(|error| tracing::info!(%error, "commands cannot reach this client")).ok();
        let on = |kind| signal(kind).map_err(Error::Runtime);
        program::terminal::leave_signals_to_program();
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())?, admin })
    }

    /// The next order. Can be dropped and called again.
    pub(super) async fn next(&mut self) -> Order {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Order::Stop,
                _ = self.interrupt.recv() => return Order::Stop,
                (command, responder) = AdminSocket::next_of(self.admin.as_mut()) => match command {
                    Command::Status => return Order::Tell(responder),
                    Command::Reload | Command::Recheck => responder.answer(&Answer::Failed {
                        error: "a client reads its configuration when it starts, and only then".into(),
                        hint: Some("end it and start it again".into()),
                    }),
                },
            }
        }
    }
}
