//! The signals that tell a program to end. A library takes none of them: `main` translates them for the library.

use std::io;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::emulate_default_handler;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::terminal;

/// SIGTERM and SIGINT, and SIGHUP where that is wanted, which no longer end the process once this type listens for them.
#[derive(Debug)]
pub struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    first: Option<Instant>,
    last: i32,
}

/// The meaning of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The program ends after what is open has come to its end.
    InOrder,
    /// The program ends at once, since this is not the first signal.
    Now,
}

impl EndSignals {
    /// Starts to listen for both signals.
    ///
    /// # Errors
    /// The system's error when it does not deliver signals.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        terminal::leave_to_program(&[SIGTERM, SIGINT]);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: None,
            first: None,
            last: SIGTERM,
        })
    }

    /// As [`EndSignals::listen`], for SIGHUP too, unless the process was started to ignore that, as by `nohup`, or where that is unknown.
    ///
    /// # Errors
    /// Those of [`EndSignals::listen`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn listen_for_hangup() -> io::Result<Self> {
        let mut signals = Self::listen()?;
        if terminal::ignored_signals() & (1 << (SIGHUP - 1)) == 0 {
            terminal::leave_to_program(&[SIGHUP]);
            signals.hangup = Some(signal(SignalKind::hangup())?);
        }
        Ok(signals)
    }

    /// The number of the signal that came last.
    #[must_use]
    pub fn last(&self) -> i32 {
        self.last
    }

    /// Waits for the next signal. The future is cancel-safe.
    pub async fn next(&mut self) -> End {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => self.last = SIGTERM,
                _ = self.interrupt.recv() => self.last = SIGINT,
                () = hung_up(self.hangup.as_mut()) => self.last = SIGHUP,
            }
            match self.first {
                None => {
                    self.first = Some(Instant::now());
                    return End::InOrder;
                }
                // The signal may arrive twice, such as once at the process and once at its group.
                Some(first) if first.elapsed() < SAME_SIGNAL => {}
                Some(_) => return End::Now,
            }
        }
    }
}

/// Waits for a SIGHUP; for ever where that is not listened for.
async fn hung_up(hangup: Option<&mut Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

/// Ends the process as a signal does by default, so that the one that waits for it knows that it was interrupted.
pub fn end_by(signal: i32) {
    // Where that is not possible, the exit code tells it.
    emulate_default_handler(signal).ok();
}

/// Signals within this time of the first count as one.
const SAME_SIGNAL: Duration = Duration::from_millis(500);
