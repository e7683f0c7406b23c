//! The layout of a record: its lengths and the type of its payload.

use crate::Error;
use crate::mac::TAG_LEN;

/// Length of the record header in bytes.
pub const HEADER_LEN: usize = 2;
/// Most bytes of payload in a record.
pub const MAX_PAYLOAD_LEN: usize = 16384;
/// Most bytes of ciphertext in a record: payload, type and padding.
pub const MAX_CIPHERTEXT_LEN: usize = 16640;
/// Length of the longest record in bytes.
pub const MAX_RECORD_LEN: usize = HEADER_LEN + MAX_CIPHERTEXT_LEN + TAG_LEN;
/// Bytes that a record without padding adds to its payload: header, type and tag.
pub const OVERHEAD: usize = HEADER_LEN + 1 + TAG_LEN;

/// The type of a record's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentType {
    /// A message of the handshake.
    Handshake,
    /// A message about the channel or its stream.
    Control,
    /// Bytes of the stream.
    Data,
}

impl ContentType {
    pub(super) fn to_byte(self) -> u8 {
        match self {
            Self::Handshake => 1,
            Self::Control => 2,
            Self::Data => 3,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Handshake),
            2 => Some(Self::Control),
            3 => Some(Self::Data),
            _ => None,
        }
    }
}

/// Returns the length in bytes of the whole record that starts with `header`, after checking it against the limits.
///
/// # Errors
/// [`Error::BufferLength`] when the header announces no ciphertext at all or more than [`MAX_CIPHERTEXT_LEN`].
pub fn record_len(header: [u8; HEADER_LEN]) -> Result<usize, Error> {
    match usize::from(u16::from_be_bytes(header)) {
        ciphertext_len @ 1..=MAX_CIPHERTEXT_LEN => Ok(HEADER_LEN + ciphertext_len + TAG_LEN),
        _ => Err(Error::BufferLength),
    }
}
