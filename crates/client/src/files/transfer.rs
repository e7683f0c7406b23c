//! A transfer that runs: its events, its stop and its end.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::error::FilesError;
use super::events::{Events, TransferEvent};
use super::names::Names;
use super::stop::Stop;
use super::summary::Summary;

/// A transfer that runs. Dropped before its end, it is stopped.
#[derive(Debug)]
pub struct Transfer {
    events: Events,
    streams: Vec<JoinHandle<Result<(), FilesError>>>,
    stop: Stop,
    names: Arc<Names>,
    summary: Summary,
}

impl Transfer {
    pub(super) fn new(
        events: Events,
        streams: Vec<JoinHandle<Result<(), FilesError>>>,
        stop: Stop,
        names: Names,
        summary: Summary,
    ) -> Self {
        Self { events, streams, stop, names: Arc::new(names), summary }
    }

    /// The next event; `None` once all streams have ended. Events that nobody takes hold the transfer up. Can be dropped and
    /// called again.
    pub async fn next(&mut self) -> Option<TransferEvent> {
        let event = self.events.next().await?;
        self.summary.add(&event.event);
        Some(event)
    }

    /// The sum of the events so far.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// How many streams it has.
    #[must_use]
    pub fn streams(&self) -> u16 {
        u16::try_from(self.streams.len()).unwrap_or(u16::MAX)
    }

    /// How the user of the transfer names the paths in its events.
    #[must_use]
    pub fn names(&self) -> Arc<Names> {
        Arc::clone(&self.names)
    }

    /// What stops it.
    #[must_use]
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// Waits for the end. Entries that have failed are no error of the transfer: [`Summary::failed`] counts them.
    ///
    /// # Errors
    /// What has ended it before its end: [`FilesError::Transfer`], [`FilesError::Stdio`], [`FilesError::Stopped`].
    pub async fn finish(mut self) -> Result<Summary, FilesError> {
        while self.next().await.is_some() {}
        let mut first_error = None;
        for stream in std::mem::take(&mut self.streams) {
            let ended = stream.await.unwrap_or_else(|error| {
                let source = std::io::Error::other(error);
                Err(FilesError::Stdio { stream: "a thread", source })
            });
            // Where one fails the others are stopped, which says nothing.
            if let (None | Some(FilesError::Stopped), Err(error)) = (&first_error, ended) {
                first_error = Some(error);
            }
        }
        self.stop.forget_sockets();
        first_error.map_or(Ok(self.summary), Err)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if !self.streams.is_empty() {
            self.stop.stop();
        }
    }
}
