//! The signals that tell a program to end. A library takes none of them: `main` makes of them what it tells the library.

use std::io;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::terminal;

/// SIGTERM and SIGINT, which do not end the process any more once this listens for them.
#[derive(Debug)]
pub struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
    first: Option<Instant>,
}

/// What the signals say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// End, and let what is open come to its end.
    InOrder,
    /// End now: somebody has asked before, and is in a hurry.
    Now,
}

impl EndSignals {
    /// Listens for both from now on.
    ///
    /// # Errors
    /// Those of the system, where it gives no signals.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn listen() -> io::Result<Self> {
        terminal::leave_to_program(&[SIGTERM, SIGINT]);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            first: None,
        })
    }

    /// Waits for the next of them. May be dropped and called again.
    pub async fn next(&mut self) -> End {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            match self.first {
                None => {
                    self.first = Some(Instant::now());
                    return End::InOrder;
                }
                // The same signal by two ways, such as to a process and to its group.
                Some(first) if first.elapsed() < SAME_SIGNAL => {}
                Some(_) => return End::Now,
            }
        }
    }
}

/// Signals within this time are one.
const SAME_SIGNAL: Duration = Duration::from_millis(500);
