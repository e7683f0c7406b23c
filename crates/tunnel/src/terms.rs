//! The terms on which a stream is carried: its limit of bytes per second, its idle limit, and its end.

use std::future::Future;
use std::time::Duration;

use wire_protocol::message::ResetCode;
use wire_protocol::stream::Pace;

use crate::drops::DropReason;

/// The terms of one stream, such as its limit of bytes per second, which the program that carries it sets.
pub trait Terms: Send + Sync {
    /// The limit of bytes a second of a connection.
    type Pace: Pace;

    /// The limit of bytes a second of a connection.
    fn pace(&self) -> Self::Pace;

    /// Whether a datagram of `len` bytes may pass now.
    ///
    /// # Errors
    /// The reason for which it is dropped.
    fn admit_datagram(&self, len: usize) -> Result<(), DropReason>;

    /// How long there may be no datagram until their stream ends.
    fn udp_timeout(&self) -> Duration;

    /// Waits until the stream is to be broken off, and gives the reason, which the other side is told.
    fn stopped(&self) -> impl Future<Output = ResetCode> + Send;

    /// The reason of [`Terms::stopped`], where there is one by now.
    fn stop_reason(&self) -> Option<ResetCode>;

    /// Waits until no more datagrams are to be carried: their stream ends well then.
    fn drained(&self) -> impl Future<Output = ()> + Send + 'static;
}

/// Terms without a limit of bytes per second, under which a stream is never stopped early.
#[derive(Debug, Clone, Copy)]
pub struct Unlimited {
    /// See [`Terms::udp_timeout`].
    pub udp_timeout: Duration,
}

impl Terms for Unlimited {
    type Pace = ();

    fn pace(&self) {}

    fn admit_datagram(&self, _: usize) -> Result<(), DropReason> {
        Ok(())
    }

    fn udp_timeout(&self) -> Duration {
        self.udp_timeout
    }

    fn stopped(&self) -> impl Future<Output = ResetCode> + Send {
        std::future::pending()
    }

    fn stop_reason(&self) -> Option<ResetCode> {
        None
    }

    fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }
}
