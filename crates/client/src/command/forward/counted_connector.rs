//! What makes the channels of a pool, and counts them.

use std::sync::Arc;
use std::time::Instant;

use tunnel::network_path::NetworkPath;
use tunnel::pool::{Attempt as _, Connect};
use tunnel::socket::Socket;
use wire_protocol::stream::Channel;

use crate::Error;
use crate::command::forward::counts::ForwardCounts;
use crate::connect::Connector;

/// Makes channels as its connector does, and counts what comes of it.
#[derive(Debug)]
pub(super) struct CountedConnector {
    connector: Connector,
    counts: Arc<ForwardCounts>,
}

impl CountedConnector {
    pub(super) fn new(connector: Connector, counts: Arc<ForwardCounts>) -> Self {
        Self { connector, counts }
    }

    /// The server's address, as it is shown.
    pub(super) fn address(&self) -> String {
        self.connector.address()
    }
}

impl Connect for CountedConnector {
    type Socket = Socket;
    type Error = Error;

    async fn connect(&self) -> Result<Channel<Socket>, Error> {
        let begun = Instant::now();
        let connected = self.connector.connect().await;
        match &connected {
            Ok(channel) => self.counts.connected.note(channel.session().mode.into(), begun.elapsed()),
            Err(error) => self.counts.not_connected.one(error.fault().into()),
        }
        connected
    }

    fn path(socket: &Socket) -> Option<NetworkPath> {
        NetworkPath::of(socket)
    }

    fn no_channel(&self) -> Error {
        self.connector.no_channel()
    }
}
