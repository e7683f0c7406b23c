//! Room in a share that is set aside for content before it comes.

use std::fmt;
use std::sync::Arc;

use wire_protocol::message::FilesCode;

use crate::control::Room;

/// Bytes that are set aside. What is not spent is given back when this is dropped.
pub(super) struct Reservation {
    room: Arc<dyn Room>,
    bytes: u64,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Reservation {
    /// Sets `bytes` aside.
    pub(super) fn new(room: &Arc<dyn Room>, bytes: u64) -> Result<Self, FilesCode> {
        if bytes > 0 {
            room.reserve(bytes)?;
        }
        Ok(Self { room: Arc::clone(room), bytes })
    }

    /// Sets more aside.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), FilesCode> {
        self.room.reserve(bytes)?;
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    /// So many of the bytes lie in the share now.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Bytes that lay in the share lie there no more.
    pub(super) fn release(&self, bytes: u64) {
        if bytes > 0 {
            self.room.release(bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}
