//! Whether what a client has open is broken off, and what the client is told then.

use std::sync::OnceLock;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use wire_protocol::message::ResetCode;

/// Whether a client has lost the right to what it has open on a channel, and why; or the server waits no longer for that.
#[derive(Debug, Default)]
pub(crate) struct Revocation {
    token: CancellationToken,
    code: OnceLock<ResetCode>,
}

impl Revocation {
    /// Of a client whose channels are broken off, at the latest, once `ending` is cancelled: because the server is stopping.
    pub(crate) fn until(ending: &CancellationToken) -> Self {
        Self { token: ending.child_token(), code: OnceLock::new() }
    }

    /// The client has lost it, for a reason that it is told. The first one counts.
    pub(crate) fn cancel(&self, code: ResetCode) {
        self.code.set(code).ok();
        self.token.cancel();
    }

    /// Waits until the client has lost it.
    pub(crate) fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    /// Whether the client has lost it.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// What the client is told.
    pub(crate) fn code(&self) -> ResetCode {
        self.code.get().copied().unwrap_or(ResetCode::Stopping)
    }
}
