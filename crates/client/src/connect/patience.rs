//! How long a client waits for a server that is busy.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tunnel::backoff::Backoff;
use tunnel::dial::DEADLINE;

use crate::error::Error;

/// How long a client puts up with a server that has too much to do: as long as it would wait for a handshake.
pub(crate) struct Patience {
    ends: Instant,
    pauses: Backoff,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { ends: Instant::now() + DEADLINE, pauses: Backoff::up_to(MAX_BUSY_PAUSE) }
    }

    /// Waits before the next attempt, where the server was busy and there is time for one.
    pub(crate) async fn endure(&mut self, error: Error) -> Result<(), Error> {
        let next = Instant::now() + self.pauses.next_pause();
        if !error.is_busy() || next >= self.ends {
            return Err(error);
        }
        tracing::debug!(%error, "the server is busy: trying again");
        sleep_until(next).await;
        Ok(())
    }
}

/// The longest pause between two attempts to connect to a server that is busy.
const MAX_BUSY_PAUSE: Duration = Duration::from_secs(1);
