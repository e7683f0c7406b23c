//! Frames: how messages travel before there are keys (section 3).
//!
//! ```text
//! "SKS" | version 0x01 | kind u8 | 0x00 | length u16 BE | body
//! ```

use alloc::vec::Vec;

use serde::Serialize;

use crate::codec::{MAX_MESSAGE_LEN, encode};
use crate::error::{Error, Foreign, InvalidMessage, PeerMisbehaved};

/// Length of a frame header in bytes.
pub const HEADER_LEN: usize = 8;

/// The kind of a frame, which says what message it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameKind {
    /// A client asks for the server's key.
    KeyRequest,
    /// A server gives its key.
    KeyOffer,
    /// A client starts a handshake.
    ClientHello,
    /// A server answers.
    ServerHello,
    /// A server gives up.
    Abort,
}

impl FrameKind {
    fn to_byte(self) -> u8 {
        match self {
            Self::KeyRequest => 1,
            Self::KeyOffer => 2,
            Self::ClientHello => 3,
            Self::ServerHello => 4,
            Self::Abort => 5,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, InvalidMessage> {
        Ok(match byte {
            1 => Self::KeyRequest,
            2 => Self::KeyOffer,
            3 => Self::ClientHello,
            4 => Self::ServerHello,
            5 => Self::Abort,
            unknown => return Err(InvalidMessage::UnknownKind(unknown)),
        })
    }
}

/// Length of the whole frame that `prefix` begins, or `None` while the header is not complete. Wrong bytes are
/// refused as soon as they are there.
///
/// # Errors
/// [`InvalidMessage`] when this cannot become a frame.
pub fn frame_len(prefix: &[u8]) -> Result<Option<usize>, InvalidMessage> {
    let magic = &prefix[..prefix.len().min(MAGIC.len())];
    if magic != &MAGIC[..magic.len()] {
        return Err(InvalidMessage::NotSockseal(foreign(prefix)));
    }
    if let Some(&version) = prefix.get(3)
        && version != VERSION
    {
        return Err(InvalidMessage::Version(version));
    }
    if let Some(&kind) = prefix.get(4) {
        FrameKind::from_byte(kind)?;
    }
    if prefix.get(5).is_some_and(|&zero| zero != 0) {
        return Err(InvalidMessage::Malformed);
    }
    // Of a length that is not whole yet, the least that it can come to.
    let Some(&high) = prefix.get(6) else { return Ok(None) };
    let low = prefix.get(7).copied();
    match usize::from(u16::from_be_bytes([high, low.unwrap_or(0)])) {
        body_len @ ..=MAX_MESSAGE_LEN => Ok(low.map(|_| HEADER_LEN + body_len)),
        _ => Err(InvalidMessage::TooLong),
    }
}

/// As [`frame_len`], where only frames of these kinds may come, and a KeyRequest only without a body.
pub(crate) fn frame_len_among(prefix: &[u8], kinds: &[FrameKind]) -> Result<Option<usize>, Error> {
    // In the order of the bytes, so that the same byte is refused however many are there.
    frame_len(&prefix[..prefix.len().min(5)])?;
    let kind = prefix.get(4).map(|&byte| FrameKind::from_byte(byte)).transpose()?;
    if kind.is_some_and(|kind| !kinds.contains(&kind)) {
        return Err(PeerMisbehaved::UnexpectedMessage.into());
    }
    let len = frame_len(prefix)?;
    let has_body = prefix.iter().skip(6).take(2).any(|&byte| byte != 0);
    if kind == Some(FrameKind::KeyRequest) && has_body {
        return Err(PeerMisbehaved::UnexpectedMessage.into());
    }
    Ok(len)
}

/// Takes a whole frame apart.
///
/// # Errors
/// [`InvalidMessage`] when it is not one whole frame.
pub fn parse(frame: &[u8]) -> Result<(FrameKind, &[u8]), InvalidMessage> {
    if frame_len(frame)? != Some(frame.len()) {
        return Err(InvalidMessage::Malformed);
    }
    Ok((FrameKind::from_byte(frame[4])?, &frame[HEADER_LEN..]))
}

/// A frame with `message` as its body.
///
/// # Panics
/// As [`encode`].
#[must_use]
pub fn write<T: Serialize>(kind: FrameKind, message: &T) -> Vec<u8> {
    let mut frame = header(kind).to_vec();
    encode(message, &mut frame);
    let body_len = u16::try_from(frame.len() - HEADER_LEN).expect("the codec keeps to its limit");
    frame[6..HEADER_LEN].copy_from_slice(&body_len.to_be_bytes());
    frame
}

/// A frame without a body.
#[must_use]
pub fn write_empty(kind: FrameKind) -> Vec<u8> {
    header(kind).to_vec()
}

fn header(kind: FrameKind) -> [u8; HEADER_LEN] {
    let [s, k, s2] = MAGIC;
    [s, k, s2, VERSION, kind.to_byte(), 0, 0, 0]
}

/// Guesses who is there, for the log.
fn foreign(prefix: &[u8]) -> Foreign {
    const METHODS: [&[u8]; 8] = [b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"CONN", b"PRI "];
    if prefix.starts_with(b"SSH-") {
        Foreign::Ssh
    } else if prefix.starts_with(&[0x16, 0x03]) || prefix.starts_with(&[0x15, 0x03]) {
        Foreign::Tls
    } else if prefix.starts_with(b"HTTP/") || METHODS.iter().any(|method| prefix.starts_with(method)) {
        Foreign::Http
    } else {
        Foreign::Unknown
    }
}

const MAGIC: [u8; 3] = *b"SKS";
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Abort, AbortCode};

    #[test]
    fn a_frame_is_recognized_byte_by_byte() {
        let frame = write(FrameKind::Abort, &Abort { code: AbortCode::Busy });
        for len in 0..HEADER_LEN {
            assert_eq!(frame_len(&frame[..len]), Ok(None));
        }
        assert_eq!(frame_len(&frame), Ok(Some(frame.len())));
        assert_eq!(parse(&frame), Ok((FrameKind::Abort, &[0; 4][..])));
        assert_eq!(parse(&frame[..frame.len() - 1]), Err(InvalidMessage::Malformed));
    }

    #[test]
    fn wrong_headers_are_refused_as_soon_as_they_show() {
        let not = |foreign| Err(InvalidMessage::NotSockseal(foreign));
        for (prefix, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], not(Foreign::Http)),
            (b"\x16\x03\x01\x02\x00", not(Foreign::Tls)),
            (b"SSH-2.0-OpenSSH", not(Foreign::Ssh)),
            (b"x", not(Foreign::Unknown)),
            (b"SKX", not(Foreign::Unknown)),
            (b"SKS\x02", Err(InvalidMessage::Version(2))),
            (b"SKS\x01\x00", Err(InvalidMessage::UnknownKind(0))),
            (b"SKS\x01\x06", Err(InvalidMessage::UnknownKind(6))),
            (b"SKS\x01\x01\x01", Err(InvalidMessage::Malformed)),
            (b"SKS\x01\x01\x01\x00\x00", Err(InvalidMessage::Malformed)),
            (b"SKS\x01\x03\x00\x21", Err(InvalidMessage::TooLong)),
            (b"SKS\x01\x03\x00\x20", Ok(None)),
            (b"SKS\x01\x01\x00\x20\x01", Err(InvalidMessage::TooLong)),
            (b"SKS\x01\x01\x00\x20\x00", Ok(Some(HEADER_LEN + 8192))),
        ] {
            assert_eq!(frame_len(prefix), expected, "{prefix:?}");
        }
    }
}
