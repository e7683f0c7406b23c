//! What admission counts.

use cli_support::metrics::{Count, Durations};

/// Penalties of sources, and the wait for RSA.
#[derive(Debug, Default)]
pub(crate) struct AdmissionCounts {
    /// Garbage and failed proofs that were charged to a source.
    pub(crate) charged: Count,
    /// Tickets that were of no use.
    pub(crate) tickets_refused: Count,
    /// Times that a source was banned.
    pub(crate) banned: Count,
    /// How long RSA operations have waited for a thread.
    pub(crate) rsa_wait: Durations,
    /// RSA operations that were given up for want of time or room.
    pub(crate) rsa_dropped: Count,
}
