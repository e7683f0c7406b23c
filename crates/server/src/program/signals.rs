//! The signals and commands that control a running `server` program.

use std::pin::pin;

use cli_support::admin::{AdminSocket, Answer, Command};
use cli_support::end_signals::{End, EndSignals};
use cli_support::home::Home;
use cli_support::service_manager::ServiceManager;
use cli_support::terminal;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tunnel::address::Address;

use crate::audit::{Audit, Event};
use crate::control::Control;
use crate::error::Error;
use crate::reloadable_config::ReloadableConfig;

/// Reads the configuration again. Errors are found before any setting changes.
pub(crate) type Reload = Box<dyn FnMut() -> Result<(ReloadableConfig, Vec<Address>), Error> + Send>;

/// The sources of control events.
#[derive(Debug)]
pub(crate) struct Signals {
    end: EndSignals,
    hangup: Signal,
    admin: Option<AdminSocket>,
    audit: Audit,
}

impl Signals {
    /// Listens for signals, and for commands in `home`. Without the folder for commands the server runs with
    /// signals only.
    ///
    /// # Errors
    /// [`Error::Runtime`] where the system does not deliver signals.
    pub(crate) fn listen(home: &Home, audit: Audit) -> Result<Self, Error> {
        let admin = AdminSocket::bind(home, "server");
        let admin =
            admin.inspect_err(|error| tracing::warn!(%error, "commands cannot reach this server")).ok();
        let end = EndSignals::listen().map_err(Error::Runtime)?;
        terminal::leave_to_program(&[SignalKind::hangup().as_raw_value()]);
        let hangup = signal(SignalKind::hangup()).map_err(Error::Runtime)?;
        Ok(Self { end, hangup, admin, audit })
    }

    /// Passes events to the server as long as it runs. The first signal to end cancels `shutdown`; a second one
    /// ends the server without waiting for its streams.
    pub(crate) async fn pass_on(
        mut self,
        control: Control,
        shutdown: CancellationToken,
        mut reload: Reload,
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
                // The result is in the log, since a signal has no answer.
                _ = self.hangup.recv() => drop(apply(&mut reload, &control, &mut manager, &self.audit).await),
                () = manager.alive_is_due() => manager.alive(),
                (command, responder) = AdminSocket::next_of(self.admin.as_mut()) => {
                    let answer = match command {
                        Command::Status => control.status().await.map(Box::new).map(Answer::Status),
                        Command::Reload => apply(&mut reload, &control, &mut manager, &self.audit).await,
                        Command::Recheck => control.recheck().await.then_some(Answer::Done),
                    };
                    if let Some(answer) = answer {
                        responder.answer(&answer);
                    }
                }
            }
        }
    }
}

/// Reads the configuration again and applies it. `None` where the server is ending.
async fn apply(
    reload: &mut Reload,
    control: &Control,
    manager: &mut ServiceManager,
    audit: &Audit,
) -> Option<Answer> {
    manager.reloading();
    let applied = match reload() {
        Ok((config, addresses)) => {
            let mut applying = pin!(control.reload(config, addresses));
            loop {
                tokio::select! {
                    applied = &mut applying => break applied?,
                    // Names that are listened on may take long to be looked up.
                    () = manager.alive_is_due() => manager.alive(),
                }
            }
        }
        Err(error) => {
            control.note_not_reloaded().await;
            Err(error)
        }
    };
    manager.status(if applied.is_ok() {
        ""
    } else {
        "the last reload has failed: the configuration is the one before"
    });
    manager.ready();
    Some(match applied {
        Ok(()) => {
            tracing::info!("the configuration is reloaded");
            audit.note(&Event::Reloaded);
            Answer::Done
        }
        Err(error) => {
            tracing::error!(%error, "the configuration stays as it was");
            audit.note(&Event::ReloadFailed { error: &error.to_string() });
            Answer::failed(&error)
        }
    })
}
