//! What a transfer has come to, for the log.

use cli_support::log_limit::LogLimit;
use files::event::Event;
use wire_protocol::message::FilesCode;

/// Counts the entries of a transfer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    /// Entries that were moved or made.
    pub(super) done: u64,
    /// Bytes of content that were moved.
    pub(super) bytes: u64,
    /// Entries that were there already.
    pub(super) unchanged: u64,
    /// Entries that have failed.
    pub(super) failed: u64,
    /// Why nothing at all was done.
    pub(super) refused: Option<FilesCode>,
}

impl Tally {
    /// Counts `event`. `client` and `share` say where it has happened. What the system of this machine did not let be done is logged, as far
    /// as `limit` admits it.
    pub(super) fn note(&mut self, event: &Event, client: &str, share: &str, limit: &LogLimit) {
        match event {
            Event::Advanced { bytes, is_moved: true } => self.bytes = self.bytes.saturating_add(*bytes),
            Event::Done { .. } => self.done += 1,
            Event::Unchanged { .. } => self.unchanged += 1,
            Event::Failed { path, code, system, side, .. } => {
                self.failed += 1;
                let (path, reason) = (path.display().to_string(), code.to_string());
                match system {
                    Some(error) if limit.admits() => {
                        let error = error.to_string();
                        tracing::warn!(client, share, path, reason, error, "entry of a share failed");
                    }
                    _ => tracing::debug!(client, share, path, reason, ?side, "entry failed"),
                }
            }
            _ => {}
        }
    }

    /// Whether there was anything to move.
    pub(super) fn has_entries(&self) -> bool {
        self.done + self.unchanged + self.failed > 0
    }
}
