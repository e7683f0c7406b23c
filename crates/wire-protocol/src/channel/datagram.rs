//! Datagrams of several records, as they come together.

use alloc::vec::Vec;
use core::fmt;

use crypto_core::record::MAX_PAYLOAD_LEN;

use crate::error::{Error, PeerMisbehaved};

/// The longest datagram: the longest that UDP carries over IPv4 (section 8).
pub const MAX_DATAGRAM_LEN: usize = 65_507;

/// A datagram of several records, as far as it has come. Holds no memory while there is none.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) bytes: Vec<u8>,
    /// Its last record is here: it is to be consumed.
    pub(super) is_whole: bool,
}

impl Gathered {
    pub(super) fn is_unfinished(&self) -> bool {
        !self.bytes.is_empty() && !self.is_whole
    }

    /// Takes up the next piece of a datagram. What is beyond the limit is refused before there is room for it.
    pub(super) fn add(&mut self, piece: &[u8]) -> Result<(), Error> {
        if self.bytes.len() + piece.len() > MAX_DATAGRAM_LEN {
            return Err(PeerMisbehaved::UnexpectedMessage.into());
        }
        self.bytes.reserve_exact(piece.len());
        self.bytes.extend_from_slice(piece);
        self.is_whole = piece.len() < MAX_PAYLOAD_LEN;
        Ok(())
    }
}

impl fmt::Debug for Gathered {
    /// Nothing of the content: it is plaintext.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathered").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}
