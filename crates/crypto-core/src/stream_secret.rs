//! The secret of a resumable stream (section 7.7): what names the stream, and what proves on another channel that a side was
//! there when it was opened.
//!
//! ```text
//! exporter secret of the channel, number  ->  stream secret  ->  id            names the stream; not secret
//!                                                            ->  "resume c"    the client's proof, under T3 of the new channel
//!                                                            ->  "resume s"    the server's
//! ```
//!
//! Nothing of it travels but the id and the proofs.

use core::fmt;

use crate::Error;
use crate::kdf::expand_label;
use crate::mac::{MacKey, TAG_LEN};
use crate::secret::Secret;
use crate::side::Side;

/// Length of the id of a stream in bytes.
pub const STREAM_ID_LEN: usize = 16;

/// The id of a resumable stream, which is not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub [u8; STREAM_ID_LEN]);

impl fmt::Display for StreamId {
    /// The first eight digits in base 16 of its bytes, which is enough to tell the streams of a log apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..SHOWN_LEN].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The secret of a resumable stream. Wiped when dropped.
#[derive(Debug)]
pub struct StreamSecret(Secret<32>);

impl StreamSecret {
    /// Takes over the bytes of the secret.
    #[must_use]
    pub fn new(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The secret bytes, for test vectors and for another process of the same server.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        StreamId(*expand_label(&self.0, "stream id", &[]).expose())
    }

    /// The proof by which `side` takes the stream over, or answers that, on the channel whose T3 is `transcript`. `fields` are
    /// what it speaks for, as encoded: those of Resume, and for the server those of Resumed behind them.
    #[must_use]
    pub fn proof(&self, side: Side, transcript: &[u8; 32], fields: &[&[u8]]) -> [u8; TAG_LEN] {
        let (key, context) = self.proof_key(side);
        let mut parts = [context, transcript, &[], &[]];
        for (part, field) in parts[2..].iter_mut().zip(fields) {
            *part = field;
        }
        key.tag(&parts)
    }

    /// Checks the proof of `side` in constant time.
    ///
    /// # Errors
    /// [`Error::Authentication`] when it was not made with this secret for this channel and these `fields`.
    pub fn verify(
        &self,
        side: Side,
        transcript: &[u8; 32],
        fields: &[&[u8]],
        proof: &[u8; TAG_LEN],
    ) -> Result<(), Error> {
        match crate::mac::is_equal(&self.proof(side, transcript, fields), proof) {
            true => Ok(()),
            false => Err(Error::Authentication),
        }
    }

    fn proof_key(&self, side: Side) -> (MacKey, &'static [u8]) {
        let (label, context) = match side {
            Side::Client => ("resume c", CLIENT_CONTEXT),
            Side::Server => ("resume s", SERVER_CONTEXT),
        };
        (MacKey::new(expand_label::<32>(&self.0, label, &[]).expose()), context)
    }
}

const CLIENT_CONTEXT: &[u8] = b"sockseal v1 resume\0";
const SERVER_CONTEXT: &[u8] = b"sockseal v1 resumed\0";
const SHOWN_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    fn secret(byte: u8) -> StreamSecret {
        StreamSecret::new(Secret::new([byte; 32]))
    }

    #[test]
    fn a_proof_counts_for_its_side_channel_fields_and_stream_alone() {
        let (fields, transcript) = ([&b"fields"[..], b"more"], [7; 32]);
        let proof = secret(1).proof(Side::Client, &transcript, &fields);
        assert_eq!(secret(1).verify(Side::Client, &transcript, &fields, &proof), Ok(()));
        for (secret, side, transcript, fields) in [
            (secret(2), Side::Client, transcript, fields),
            (secret(1), Side::Server, transcript, fields),
            (secret(1), Side::Client, [8; 32], fields),
            (secret(1), Side::Client, transcript, [&b"fields"[..], b"less"]),
        ] {
            assert_eq!(secret.verify(side, &transcript, &fields, &proof), Err(Error::Authentication));
        }
        for bit in 0..TAG_LEN * 8 {
            let mut flipped = proof;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(secret(1).verify(Side::Client, &transcript, &fields, &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn streams_have_ids_of_their_own() {
        assert_ne!(secret(1).id(), secret(2).id());
        assert_eq!(StreamId([0xab; STREAM_ID_LEN]).to_string(), "abababab");
    }
}
