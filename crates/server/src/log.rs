//! Limits on log lines that unauthenticated peers can cause, and reports of the number of suppressed lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cli_support::log_limit::LogLimit;

/// The limits, by kind of line.
#[derive(Debug)]
pub(crate) struct LogLimits {
    /// A connection failed. fail2ban reads these lines, so that there are enough of them for every source that goes
    /// on.
    pub(crate) failed: LogLimit,
    /// A client was refused, with advice on how to allow it.
    pub(crate) refused: LogLimit,
    /// An invite was tried by somebody who has what another one was given, or has sent: strangers cannot cause these lines.
    pub(crate) betrayed: LogLimit,
    /// A connection was rejected, or evicted.
    pub(crate) turned_away: LogLimit,
    /// A handshake failed without a fault of the client.
    pub(crate) unfinished: LogLimit,
    /// A connection could not be accepted.
    pub(crate) not_accepted: LogLimit,
    /// A connected client did not get a stream.
    pub(crate) stream_refused: LogLimit,
    /// A connection of a connected client ended early.
    pub(crate) ended_early: LogLimit,
    /// What clients can cause in a share. Threads of transfers have them too.
    pub(crate) files: Arc<FilesLogLimits>,
    /// Lines that were suppressed and reported since the start.
    suppressed: AtomicU64,
}

/// The limits of lines on shares.
#[derive(Debug)]
pub(crate) struct FilesLogLimits {
    /// The directory of a share could not be opened.
    pub(crate) share_failed: LogLimit,
    /// The system did not let an entry of a share be read or written.
    pub(crate) entry_failed: LogLimit,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            failed: LogLimit::new(300),
            refused: LogLimit::new(30),
            betrayed: LogLimit::new(30),
            turned_away: LogLimit::new(5),
            unfinished: LogLimit::new(5),
            not_accepted: LogLimit::new(2),
            stream_refused: LogLimit::new(100),
            ended_early: LogLimit::new(100),
            files: Arc::new(FilesLogLimits {
                share_failed: LogLimit::new(5),
                entry_failed: LogLimit::new(20),
            }),
            suppressed: AtomicU64::new(0),
        }
    }
}

impl LogLimits {
    /// The number of lines that were suppressed since the start, as of the last report.
    pub(crate) fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }

    /// Reports the number of lines that were suppressed since the last report.
    pub(crate) fn tell_once(&self) {
        let kinds = [
            (&self.failed, "more connections failed"),
            (&self.refused, "more clients were refused"),
            (&self.betrayed, "more invites were tried by somebody else"),
            (&self.turned_away, "more connections were turned away"),
            (&self.unfinished, "more handshakes came to nothing"),
            (&self.not_accepted, "more connections could not be accepted"),
            (&self.stream_refused, "more streams were refused"),
            (&self.ended_early, "more connections ended early"),
            (&self.files.share_failed, "more shares could not be opened"),
            (&self.files.entry_failed, "more entries of shares could not be read or written"),
        ];
        for (limit, what) in kinds {
            match limit.take_suppressed() {
                0 => {}
                count => {
                    self.suppressed.fetch_add(count, Ordering::Relaxed);
                    tracing::warn!(count, "{what}");
                }
            }
        }
    }
}
