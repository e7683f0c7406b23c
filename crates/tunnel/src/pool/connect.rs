//! How a pool makes channels, and what an attempt that fails means for the next ones.

use std::fmt;
use std::future::Future;

use tokio::io::{AsyncRead, AsyncWrite};
use wire_protocol::stream::Channel;

use crate::network_path::NetworkPath;

/// Makes the channels of a pool, all to one server.
pub trait Connect: Send + Sync + 'static {
    /// The socket that a channel is on.
    type Socket: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug + 'static;
    /// Why there is no channel.
    type Error: Attempt + fmt::Display + Send + 'static;

    /// Connects and does the handshake.
    fn connect(&self) -> impl Future<Output = Result<Channel<Self::Socket>, Self::Error>> + Send;

    /// The way of a connection through the network; `None` where there is none to be told.
    fn path(socket: &Self::Socket) -> Option<NetworkPath> {
        let _unknown = socket;
        None
    }

    /// The error of somebody who has waited for a channel in vain.
    fn no_channel(&self) -> Self::Error;
}

/// The error of an attempt to make a channel, which tells whether further attempts make sense.
pub trait Attempt {
    /// What it means.
    fn fault(&self) -> Fault;
}

/// The kind of a failed attempt to make a channel, which decides whether another attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Trying again does not mend it: the server is not the one that is trusted, or something is wrong on this side.
    Permanent,
    /// The server does not want this client, or is none. It may say so for a while only, and some of it anybody in between
    /// can say: so it counts only as long as the client has never been let in, and for what waits to be taken over by it.
    Denied {
        /// Whether the server has proven who it is, and says that it will not let the client in wherever it comes from: what it held
        /// for the client is lost.
        is_final: bool,
    },
    /// The client has as many channels as the server lets it have.
    TooManyChannels,
    /// It passes: trying again may do.
    Passing,
}
