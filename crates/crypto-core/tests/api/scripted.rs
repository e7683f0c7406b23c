//! A source of "randomness" whose bytes a test gives beforehand, and that fails after the last of them.

use std::fmt;

use rand_core::{TryCryptoRng, TryRng};

/// Returns the given bytes, then fails.
pub(crate) struct Scripted(Vec<u8>);

/// The error after the last byte.
#[derive(Debug)]
pub(crate) struct Exhausted;

impl Scripted {
    pub(crate) fn new(parts: &[&[u8]]) -> Self {
        Self(parts.concat())
    }

    /// A source that fails at once.
    pub(crate) fn broken() -> Self {
        Self(Vec::new())
    }

    /// Returns whether all bytes were used.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryRng for Scripted {
    type Error = Exhausted;

    fn try_next_u32(&mut self) -> Result<u32, Exhausted> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Exhausted> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, place: &mut [u8]) -> Result<(), Exhausted> {
        if place.len() > self.0.len() {
            return Err(Exhausted);
        }
        place.copy_from_slice(&self.0[..place.len()]);
        self.0.drain(..place.len());
        Ok(())
    }
}

impl TryCryptoRng for Scripted {}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the script is over")
    }
}

impl std::error::Error for Exhausted {}
