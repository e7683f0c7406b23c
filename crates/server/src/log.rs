//! Lines of the log that anybody can cause, each kind within a limit, and what became of the rest.

use cli_support::log_limit::{LogLimit, WINDOW};
use tokio::time::sleep;

/// The kinds of lines.
#[derive(Debug)]
pub(crate) struct LogLimits {
    /// A connection failed: what fail2ban reads. Enough of them for it to get to know every source that goes on.
    pub(crate) failed: LogLimit,
    /// A client was refused: how to let it in.
    pub(crate) refused: LogLimit,
    /// A connection was turned away, or given up.
    pub(crate) turned_away: LogLimit,
    /// A handshake came to nothing, by nobody's fault.
    pub(crate) unfinished: LogLimit,
    /// A connection cannot be accepted.
    pub(crate) not_accepted: LogLimit,
    /// A client that is in did not get a stream.
    pub(crate) stream_refused: LogLimit,
    /// A connection of a client that was in has ended early.
    pub(crate) ended_early: LogLimit,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            failed: LogLimit::new(300),
            refused: LogLimit::new(30),
            turned_away: LogLimit::new(5),
            unfinished: LogLimit::new(5),
            not_accepted: LogLimit::new(2),
            stream_refused: LogLimit::new(100),
            ended_early: LogLimit::new(100),
        }
    }
}

impl LogLimits {
    /// Tells how many lines were left out, again and again, for as long as the server runs.
    pub(crate) async fn tell(&self) -> std::convert::Infallible {
        loop {
            sleep(WINDOW).await;
            self.tell_once();
        }
    }

    /// Tells how many lines were left out since the last time.
    pub(crate) fn tell_once(&self) {
        let kinds = [
            (&self.failed, "more connections failed"),
            (&self.refused, "more clients were refused"),
            (&self.turned_away, "more connections were turned away"),
            (&self.unfinished, "more handshakes came to nothing"),
            (&self.not_accepted, "more connections could not be accepted"),
            (&self.stream_refused, "more streams were refused"),
            (&self.ended_early, "more connections ended early"),
        ];
        for (limit, what) in kinds {
            match limit.take_suppressed() {
                0 => {}
                count => tracing::warn!(count, "{what}"),
            }
        }
    }
}
