//! What serves one kind of streams.

use std::future::Future;
use std::io;

use tunnel::socket::Socket;
use wire_protocol::stream::{Channel, OpenedStream};

use crate::access::Permit;
use crate::services::request::RequestContext;

/// What has become of a stream.
#[derive(Debug)]
pub(crate) enum Served {
    /// It is over, or was refused: the channel is idle.
    Idle(Channel<Socket>),
    /// The channel has ended with it.
    Ended,
    /// It stands, and its target is connected to: the two are to be relayed.
    Connection { stream: OpenedStream<Socket>, target: Socket },
}

impl From<Option<Channel<Socket>>> for Served {
    /// The channel is `None` where it has ended.
    fn from(channel: Option<Channel<Socket>>) -> Self {
        channel.map_or(Self::Ended, Self::Idle)
    }
}

/// Serves the streams of one kind.
pub(crate) trait Handler {
    /// Serves the stream whose Open has just come on `channel`, and that the policy permits, or refuses it.
    ///
    /// # Errors
    /// Whatever ends the channel before its end.
    fn serve(
        &self,
        channel: Channel<Socket>,
        request: &RequestContext<'_>,
        permit: Permit,
    ) -> impl Future<Output = io::Result<Served>> + Send;
}
