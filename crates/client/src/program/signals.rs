//! What the `client` program is told while it runs: by signals, and by commands of the same user.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use cli_support::admin::{AdminSocket, Answer, Command};
use cli_support::end_signals::{End, EndSignals, end_by};
use cli_support::home::Home;
use cli_support::service_manager::ServiceManager;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::error::Error;

/// The signal that has interrupted a command, where one has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interruption(Arc<AtomicI32>);

impl Interruption {
    /// Listens for signals: the first one cancels what is returned, and the next one ends the process.
    ///
    /// # Errors
    /// [`Error::Runtime`] where the system gives no signals.
    pub(crate) fn listen(&self) -> Result<CancellationToken, Error> {
        let mut signals = EndSignals::listen_for_hangup().map_err(Error::Runtime)?;
        let (signal, interrupted) = (Arc::clone(&self.0), CancellationToken::new());
        let first = interrupted.clone();
        tokio::spawn(async move {
            while signals.next().await == End::InOrder {
                signal.store(signals.last(), Ordering::SeqCst);
                first.cancel();
            }
            end_by(signals.last());
        });
        Ok(interrupted)
    }

    /// Ends the process by the signal, where there was one.
    pub(crate) fn end_process(&self) {
        let signal = self.0.load(Ordering::SeqCst);
        if signal != 0 {
            end_by(signal);
        }
    }
}

/// Where a running client's orders come from.
#[derive(Debug)]
pub(crate) struct Signals {
    end: EndSignals,
    admin: Option<AdminSocket>,
}

impl Signals {
    /// Listens for signals, and for commands in `home`. Without a folder for the latter the client forwards all the same.
    ///
    /// # Errors
    /// [`Error::Runtime`] where the system gives no signals.
    pub(crate) fn listen(home: &Home) -> Result<Self, Error> {
        let admin = AdminSocket::bind(home, "client");
        let admin =
            admin.inspect_err(|error| tracing::info!(%error, "commands cannot reach this client")).ok();
        Ok(Self { end: EndSignals::listen().map_err(Error::Runtime)?, admin })
    }

    /// Passes on what comes, for as long as the forwards run. `shutdown` is cancelled by the first signal to end; a second
    /// one ends the forwards without waiting for their connections.
    pub(crate) async fn pass_on(
        mut self,
        control: Control,
        shutdown: CancellationToken,
        mut manager: ServiceManager,
    ) {
        loop {
            tokio::select! {
                end = self.end.next() => match end {
                    End::InOrder => {
                        manager.stopping();
                        shutdown.cancel();
                    }

                    End::Now => control.end_now().await,
                },
                () = manager.alive_is_due() => manager.alive(),
                (command, responder) = AdminSocket::next_of(self.admin.as_mut()) => {
                    let answer = match command {
                        Command::Status => control.status().await.map(Box::new).map(Answer::Status),
                        Command::Reload | Command::Recheck => Some(Answer::Failed {
                            error: "a client reads its configuration when it starts, and only then".into(),
                            hint: Some("end it and start it again".into()),
                        }),
                    };
                    if let Some(answer) = answer {
                        responder.answer(&answer);
                    }
                }
            }
        }
    }
}
