//! What a server knows of its file of clients at a moment.

use std::sync::Arc;

use crate::access::clients::Access;

/// What the file of clients says, or why it says nothing.
#[derive(Debug, Clone)]
pub(crate) enum Snapshot {
    /// What it says; `None` where there was never one, which is how it begins.
    Known(Option<Arc<Access>>),
    /// It cannot be used at the moment. Nobody is let in, and whoever is in stays: somebody may be at work on it.
    Unusable,
    /// It is gone, and with it who was revoked. Nobody is let in, and nobody stays.
    Lost,
}

impl Snapshot {
    /// Whether both are the same reading of the file, or have no reading for the same reason.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(Some(one)), Self::Known(Some(other))) => Arc::ptr_eq(one, other),
            (Self::Known(None), Self::Known(None))
            | (Self::Unusable, Self::Unusable)
            | (Self::Lost, Self::Lost) => true,
            _ => false,
        }
    }
}
