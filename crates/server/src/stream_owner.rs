//! Whose a resumable stream is (section 7.7 of the protocol).

use std::sync::Arc;

use tunnel::resumable_streams::{Client, ResumableStreams};

use crate::access::Principal;
use crate::open::OpenTarget;

/// The resumable streams of the clients of a server.
pub(crate) type Streams = ResumableStreams<StreamOwner>;

/// Whose a stream is, and what it leads to: shared with the session that has it open.
#[derive(Debug, Clone)]
pub(crate) struct StreamOwner {
    /// The client, as it was judged when the stream was opened, or taken over last.
    pub(crate) principal: Arc<Principal>,
    /// As it was opened; `None` for whoever asks for one.
    pub(crate) open: Option<Arc<OpenTarget>>,
}

impl Client for StreamOwner {
    fn is_same(&self, other: &Self) -> bool {
        self.principal.identity == other.principal.identity
    }

    fn renew(&mut self, client: &Self) {
        self.principal = Arc::clone(&client.principal);
    }
}

impl StreamOwner {
    /// As the server calls the client.
    pub(crate) fn name(&self) -> &str {
        &self.principal.name
    }

    /// What the stream leads to, as it is shown.
    pub(crate) fn target(&self) -> Option<String> {
        self.open.as_ref().map(|open| open.target.to_string())
    }
}
