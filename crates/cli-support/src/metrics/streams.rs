//! Counts streams by their kind and by how they have ended.

use std::fmt;
use std::sync::OnceLock;

use crate::metrics::count::Count;
use crate::metrics::family::FamilyWriter;
use crate::metrics::label::{Label, RefusalReason, StreamKind, StreamOutcome};

/// Counts the streams of a program.
#[derive(Debug, Default)]
pub struct StreamCounts {
    begun: Count<StreamKind>,
    ended: Count<(StreamKind, StreamOutcome)>,
    refused: Count<RefusalReason>,
}

impl StreamCounts {
    /// One more has begun, which is open until the result is dropped.
    pub fn begin(&self, kind: StreamKind) -> CountedStream<'_> {
        self.note_begun(kind);
        CountedStream { counts: self, kind, refused: OnceLock::new(), outcome: StreamOutcome::Failed }
    }

    /// One more has begun. [`StreamCounts::note_ended`] has to follow.
    pub fn note_begun(&self, kind: StreamKind) {
        self.begun.one(kind);
    }

    /// One that had begun has ended.
    pub fn note_ended(&self, kind: StreamKind, outcome: StreamOutcome) {
        self.ended.one((kind, outcome));
    }

    /// One was refused, which has ended by that.
    pub fn note_refused(&self, reason: RefusalReason) {
        self.refused.one(reason);
    }

    /// Those that were refused.
    #[must_use]
    pub fn refused(&self) -> &Count<RefusalReason> {
        &self.refused
    }

    /// How many have broken off.
    #[must_use]
    pub fn failed(&self) -> u64 {
        StreamKind::ALL.iter().map(|kind| self.ended.get((*kind, StreamOutcome::Failed))).sum()
    }

    /// Writes the families.
    ///
    /// # Errors
    /// Those of the output, which is memory.
    pub fn write(&self, families: &mut FamilyWriter<'_>) -> fmt::Result {
        let help = "Streams that were asked for, those that were refused included.";
        families.counters("sockseal_streams_begun", help, None, &self.begun)?;
        families.counters(
            "sockseal_streams_ended",
            "Streams that have ended, by outcome.",
            None,
            &self.ended,
        )?;
        families.counters(
            "sockseal_streams_refused",
            "Streams that were refused, by reason.",
            None,
            &self.refused,
        )?;
        families.gauges_by("sockseal_streams_open", "Streams that are open now.", |kind: StreamKind| {
            self.open(kind)
        })
    }

    /// How many are open. What has ended is read first, so that none is counted as open that is not.
    fn open(&self, kind: StreamKind) -> u64 {
        use StreamOutcome::{Completed, Failed, Refused, Revoked};
        let ended = [Completed, Refused, Failed, Revoked].map(|outcome| self.ended.get((kind, outcome)));
        self.begun.get(kind).saturating_sub(ended.into_iter().sum())
    }
}

/// A stream that is open, and counted so until this is dropped. Without a word of how it has ended, it has failed.
#[derive(Debug)]
#[must_use = "dropped at once, it has failed"]
pub struct CountedStream<'a> {
    counts: &'a StreamCounts,
    kind: StreamKind,
    refused: OnceLock<RefusalReason>,
    outcome: StreamOutcome,
}

impl CountedStream<'_> {
    /// It is refused for this reason, however it ends then.
    pub fn refuse(&self, reason: impl Into<RefusalReason>) {
        // The first reason is the one that the peer is told.
        self.refused.set(reason.into()).ok();
    }

    /// Whether it was refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.get().is_some()
    }

    /// It has ended so.
    pub fn end(mut self, outcome: StreamOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for CountedStream<'_> {
    fn drop(&mut self) {
        let outcome = match self.refused.get() {
            Some(reason) => {
                self.counts.note_refused(*reason);
                StreamOutcome::Refused
            }
            None => self.outcome,
        };
        self.counts.note_ended(self.kind, outcome);
    }
}

#[cfg(test)]
mod tests {
    use wire_protocol::message::RefusedCode;

    use super::*;

    #[test]
    fn a_stream_has_one_end() {
        let counts = StreamCounts::default();
        counts.begin(StreamKind::Tcp).end(StreamOutcome::Completed);
        let refused = counts.begin(StreamKind::Tcp);
        refused.refuse(RefusedCode::Busy);
        refused.refuse(RefusedCode::Stopping);
        refused.end(StreamOutcome::Completed);
        let open = counts.begin(StreamKind::Tcp);
        drop(counts.begin(StreamKind::Udp));
        let ended = |kind, outcome| counts.ended.get((kind, outcome));
        assert_eq!(ended(StreamKind::Tcp, StreamOutcome::Completed), 1);
        assert_eq!(ended(StreamKind::Tcp, StreamOutcome::Refused), 1);
        assert_eq!(ended(StreamKind::Udp, StreamOutcome::Failed), 1);
        assert_eq!((counts.refused.get(RefusalReason::Busy), counts.refused.sum()), (1, 1));
        assert_eq!((counts.open(StreamKind::Tcp), counts.open(StreamKind::Udp)), (1, 0));
        open.end(StreamOutcome::Revoked);
        assert_eq!((counts.begun.sum(), counts.ended.sum(), counts.open(StreamKind::Tcp)), (4, 4, 0));
    }
}
