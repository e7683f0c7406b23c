//! The content of the file of clients at one point in time.

use std::sync::Arc;

use crypto_core::identity::KeyId;
use crypto_core::invite::InviteId;
use jiff::Timestamp;

use crate::access::clients::Access;

/// The content of the file of clients, or the reason why there is none.
#[derive(Debug, Clone)]
pub(crate) enum Snapshot {
    /// The content of the file; `None` where the file has never existed.
    Known(Option<Arc<Access>>),
    /// The file cannot be used at the moment. No client is let in, but connected clients stay, since the file may
    /// be being edited.
    Unusable,
    /// The file is gone, and with it the list of revoked clients. No client is let in, and none may stay.
    Lost,
}

impl Snapshot {
    /// Returns by which invite the client with this key was enrolled, if by any; `None` where it is not listed, or its rights
    /// have expired.
    pub(crate) fn enrolled_by(&self, key: KeyId) -> Option<Option<InviteId>> {
        let Self::Known(Some(access)) = self else { return None };
        access.live_client(key, Timestamp::now()).map(|client| client.invite)
    }

    /// Returns whether both come from the same reading of the file, or lack the file for the same reason.
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
