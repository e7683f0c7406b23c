//! The terms on which a stream is carried: its limit of bytes per second, its idle limit, and its end.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wire_protocol::message::ResetCode;
use wire_protocol::stream::{Direction, Pace, ResumeVerifier, StreamId};

use crate::drops::DropReason;
use crate::network_monitor::NetworkMonitor;
use crate::network_path::NetworkPath;
use crate::resumption::Resumption;
use crate::resumptions::Resumptions;
use crate::traffic::{ConnectionTraffic, Traffic};

/// The terms of one stream, such as its limit of bytes per second, which the program that carries it sets.
pub trait Terms: Send + Sync {
    /// The limit of bytes a second of a connection.
    type Pace: Pace;

    /// The limit of bytes a second of a connection.
    fn pace(&self) -> Self::Pace;

    /// Takes note of bytes that were sent along with the opening of a stream, in front of its pace.
    fn note_early(&self, len: usize) {
        self.pace().note(len, Direction::Sent);
    }

    /// Whether a datagram of `len` bytes may pass now in a direction.
    ///
    /// # Errors
    /// The reason for which it is dropped.
    fn admit_datagram(&self, len: usize, direction: Direction) -> Result<(), DropReason>;

    /// How long there may be no datagram until their stream ends.
    fn udp_timeout(&self) -> Duration;

    /// What this side asks for when it opens a stream for a connection, so that it can be taken over; `None` where it cannot.
    fn resumption(&self) -> Option<Resumption> {
        None
    }

    /// Waits until the channel of the stream, whose connection is on this path, is likely to be dead, as far as this machine alone can
    /// tell: what can go on on another channel does.
    fn outdated(&self, path: Option<NetworkPath>) -> impl Future<Output = ()> + Send {
        let _nobody_tells = path;
        pending()
    }

    /// Takes note of a stream that the other side was asked for, and can take over from now on: its id, and what judges a request to do so.
    fn note_asked(&self, asked: (StreamId, ResumeVerifier)) {
        drop(asked);
    }

    /// Waits until the other side takes over, on another channel, the stream that it was asked for last: this one is to let it go.
    fn taken_over(&self) -> impl Future<Output = ()> + Send {
        pending()
    }

    /// Waits until the stream is to be broken off, and gives the reason, which the other side is told.
    fn stopped(&self) -> impl Future<Output = ResetCode> + Send;

    /// The reason of [`Terms::stopped`], where there is one by now.
    fn stop_reason(&self) -> Option<ResetCode>;

    /// Waits until no more datagrams are to be carried: their stream ends well then.
    fn drained(&self) -> impl Future<Output = ()> + Send + 'static;
}

/// Terms without a limit of bytes per second, under which a stream is never stopped early.
#[derive(Debug, Clone)]
pub struct Unlimited {
    /// See [`Terms::udp_timeout`].
    pub udp_timeout: Duration,
    /// Counts what the stream carries.
    pub traffic: Traffic,
    /// How streams of this side's can be taken over.
    pub resumptions: Option<Resumptions>,
    /// Cancelled once the program waits no longer for what is open.
    pub ending: CancellationToken,
    /// What tells that a channel is likely to be dead; `None` where nothing does.
    pub monitor: Option<Arc<NetworkMonitor>>,
}

impl Terms for Unlimited {
    type Pace = ConnectionTraffic;

    fn pace(&self) -> ConnectionTraffic {
        self.traffic.connection()
    }

    fn note_early(&self, len: usize) {
        self.traffic.note_bytes(len, Direction::Sent);
    }

    fn admit_datagram(&self, len: usize, direction: Direction) -> Result<(), DropReason> {
        self.traffic.note_datagram(len, direction);
        Ok(())
    }

    fn udp_timeout(&self) -> Duration {
        self.udp_timeout
    }

    fn resumption(&self) -> Option<Resumption> {
        self.resumptions.as_ref()?.next()
    }

    fn outdated(&self, path: Option<NetworkPath>) -> impl Future<Output = ()> + Send {
        // On the heap, so that what has no monitor has no room for it, and what has one has room once.
        let outdated = self.monitor.as_ref().map(|monitor| Box::pin(monitor.outdated(path)));
        async {
            match outdated {
                Some(outdated) => outdated.await,
                None => pending().await,
            }
        }
    }

    async fn stopped(&self) -> ResetCode {
        self.ending.cancelled().await;
        ResetCode::Stopping
    }

    fn stop_reason(&self) -> Option<ResetCode> {
        self.ending.is_cancelled().then_some(ResetCode::Stopping)
    }

    fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        pending()
    }
}
