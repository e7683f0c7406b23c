//! What serves one kind of streams.

use std::future::Future;
use std::io;

use tunnel::socket::Socket;
use wire_protocol::stream::Channel;

use crate::access::Permit;
use crate::services::request::RequestContext;

/// Serves the streams of one kind.
pub(crate) trait Handler {
    /// Serves the stream whose Open has just come on `channel`, and that the policy permits, or refuses it. Gives the channel back, idle;
    /// `None` where it has ended with the stream.
    ///
    /// # Errors
    /// Whatever ends the channel before its end.
    fn serve(
        &self,
        channel: Channel<Socket>,
        request: RequestContext<'_>,
        permit: Permit,
    ) -> impl Future<Output = io::Result<Option<Channel<Socket>>>> + Send;
}
