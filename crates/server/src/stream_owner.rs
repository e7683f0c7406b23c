//! Whose a resumable stream is (section 7.7 of the protocol).

use tunnel::resumable_streams::{Client, ResumableStreams};
use wire_protocol::message::ClientIdentity;

use crate::open::OpenTarget;

/// The resumable streams of the clients of a server.
pub(crate) type Streams = ResumableStreams<StreamOwner>;

/// Whose a stream is, and what it leads to.
#[derive(Debug, Clone)]
pub(crate) struct StreamOwner {
    pub(crate) identity: ClientIdentity,
    /// As the server calls the client.
    pub(crate) name: String,
    /// As it was opened; `None` for whoever asks for one.
    pub(crate) open: Option<OpenTarget>,
}

impl Client for StreamOwner {
    fn is_same(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl StreamOwner {
    /// What the stream leads to, as it is shown.
    pub(crate) fn target(&self) -> Option<String> {
        self.open.as_ref().map(|open| open.target.to_string())
    }
}
