//! Files that another process writes for the same sender: a server that goes on in a new process may have an earlier transfer in the old
//! one, which waits for a connection that is gone.

use std::thread;
use std::time::Duration;

use wire_protocol::message::FilesCode;
use wire_protocol::stream::SILENCE;

use crate::cause::Cause;
use crate::error::Error;
use crate::failure::Failure;
use crate::framing::Output;
use crate::partial::place::PartialPlace;
use crate::receiver::exchange::Exchange;

/// How often it is looked whether the other process has ended its work.
const INTERVAL: Duration = Duration::from_millis(100);

/// Longer than a transfer whose sender is gone takes to notice that.
pub const PATIENCE: Duration = SILENCE.saturating_add(Duration::from_secs(5));

impl<W: Output> Exchange<'_, W> {
    /// Opens what is at a place of its sender's by `open`, which may find another process at it: then it waits for that one to end.
    ///
    /// # Errors
    /// Those of `open`, [`FilesCode::Busy`] where it takes too long; what ends the exchange.
    pub(super) fn outwait<T>(
        &mut self,
        place: &PartialPlace,
        open: impl Fn() -> Result<T, Cause>,
    ) -> Result<T, Failure> {
        loop {
            match open() {
                Err(Cause { code: FilesCode::Busy, .. }) if place.is_locked() => {}
                opened => return Ok(opened?),
            }
            // Entries that are complete get their names first: the other process may take long.
            self.commit()?;
            self.writer.flush()?;
            while place.is_locked() {
                if self.is_stopped() {
                    return Err(Error::Stopped.into());
                }
                if self.patience.is_zero() {
                    return Err(FilesCode::Busy.into());
                }
                thread::sleep(INTERVAL);
                self.patience = self.patience.saturating_sub(INTERVAL);
            }
        }
    }
}
