//! Randomness that is written down: each draw has a name, and its bytes come from the name.

use std::collections::VecDeque;
use std::convert::Infallible;

use chacha20::ChaCha20Rng;
use crypto_core::hash::sha256;
use rand_core::{SeedableRng as _, TryCryptoRng, TryRng};

/// The bytes of a draw.
pub(crate) fn draw(mode: &str, side: &str, name: &str, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for counter in 0u8.. {
        if bytes.len() >= len {
            break;
        }
        let seed = ["sockseal test vectors", mode, side, name].join("|");
        bytes.extend_from_slice(&sha256(&[seed.as_bytes(), &[counter]].concat()));
    }
    bytes.truncate(len);
    bytes
}

/// Hands out draws in order. A draw of another length than the next one's is RSA blinding: it changes no result, so
/// any randomness serves.
pub(crate) struct Script {
    draws: VecDeque<Vec<u8>>,
    blinding: ChaCha20Rng,
}

impl Script {
    pub(crate) fn new(draws: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { draws: draws.into_iter().collect(), blinding: ChaCha20Rng::seed_from_u64(0) }
    }

    /// Whether everything was drawn.
    pub(crate) fn is_over(&self) -> bool {
        self.draws.is_empty()
    }
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.blinding.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.blinding.try_next_u64()
    }

    fn try_fill_bytes(&mut self, place: &mut [u8]) -> Result<(), Infallible> {
        match self.draws.front() {
            Some(draw) if draw.len() == place.len() => place.copy_from_slice(draw),
            _ => return self.blinding.try_fill_bytes(place),
        }
        self.draws.pop_front();
        Ok(())
    }
}

impl TryCryptoRng for Script {}
