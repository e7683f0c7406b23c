//! SHA-256 (FIPS 180-4), and the running hash of a handshake.

use core::fmt;

use sha2::{Digest as _, Sha256};

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The running hash of all messages of a handshake (section 4).
#[derive(Clone, Default)]
pub struct Transcript(Sha256);

impl Transcript {
    /// Starts the transcript of a handshake, before its first message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the bytes of a message as they are on the wire.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes so far. More bytes can follow.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transcript(..)")
    }
}
