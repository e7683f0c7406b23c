//! What a parked channel of a client waits for: what has come in by one of its leases.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cli_support::metrics::{StreamCounts, StreamKind, StreamOutcome};
use tokio_util::sync::CancellationToken;
use tunnel::counter::Counter;
use tunnel::parked::{Parked, StreamEnd, StreamHolder, StreamObserver};
use tunnel::pending_queue::PendingQueue;
use tunnel::socket::Socket;
use tunnel::terms::Terms;
use wire_protocol::message::{LEASE_LEN, ListenAddress, ListenKind, Target};
use wire_protocol::stream::Channel;

/// The lease that a channel is parked for.
#[derive(Debug)]
pub(crate) struct Parking {
    pub(super) address: ListenAddress,
    pub(super) kind: ListenKind,
    pub(super) id: [u8; LEASE_LEN],
    pub(super) queue: Arc<PendingQueue>,
    pub(super) ended: CancellationToken,
}

impl Parking {
    /// What the client needs the right to.
    pub(crate) fn target(&self) -> Target {
        Target::Listen { address: self.address.clone(), kind: self.kind, lease: self.id }
    }

    /// Cancelled once the lease has ended.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Serves a parked channel to its end.
    pub(crate) async fn serve<T: Terms + StreamHolder>(
        self,
        channel: Channel<Socket>,
        forwarded: &T,
        idle_timeout: Duration,
        stopping: &CancellationToken,
        (streams, counts): (&Counter, &StreamCounts),
    ) -> io::Result<()> {
        let (queue, ended, observer) = (&*self.queue, &self.ended, &ForwardedStreams(counts));
        let parked = Parked { queue, ended, stopping, idle_timeout, streams, observer, holder: forwarded };
        parked.serve(channel, forwarded).await
    }
}

/// Counts the streams that have come in by a lease.
#[derive(Debug)]
struct ForwardedStreams<'a>(&'a StreamCounts);

impl StreamObserver for ForwardedStreams<'_> {
    fn begun(&self) {
        self.0.note_begun(StreamKind::Forwarded);
    }

    fn ended(&self, end: StreamEnd) {
        let outcome = match end {
            StreamEnd::Completed => StreamOutcome::Completed,
            StreamEnd::Refused(code) => {
                self.0.note_refused(code.into());
                StreamOutcome::Refused
            }
            StreamEnd::Failed => StreamOutcome::Failed,
        };
        self.0.note_ended(StreamKind::Forwarded, outcome);
    }
}
