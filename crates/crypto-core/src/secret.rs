//! Secret bytes: wiped when dropped, never printed, never compared with `==`.

use core::fmt;

use rand_core::TryCryptoRng;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::Error;

/// `N` secret bytes.
///
/// `Clone`, `PartialEq` and serde are left out on purpose. The bytes move with the value, so a copy may stay on the
/// stack where it was made: wiping is the best effort that safe Rust allows, not a guarantee.
pub struct Secret<const N: usize>(Zeroizing<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Takes over bytes that are secret from now on.
    #[must_use]
    pub fn new(bytes: [u8; N]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Draws `N` fresh bytes from `rng`.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `rng` fails.
    pub fn random<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, Error> {
        let mut secret = Self::new([0; N]);
        rng.try_fill_bytes(secret.0.as_mut_slice()).map_err(|_| Error::Randomness)?;
        Ok(secret)
    }

    /// Copies `slice` into a secret; `None` where it is not exactly `N` bytes long.
    #[must_use]
    pub fn from_slice(slice: &[u8]) -> Option<Self> {
        slice.try_into().ok().map(Self::new)
    }

    /// The secret bytes. Each use should make plain where they go.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    pub(crate) fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }

    /// Returns `taken` where `choice` is set, else `other`, without a branch on `choice`.
    pub(crate) fn select(other: &Self, taken: &Self, choice: Choice) -> Self {
        let mut chosen = Self::new([0; N]);
        for ((byte, a), b) in chosen.0.iter_mut().zip(other.0.iter()).zip(taken.0.iter()) {
            *byte = u8::conditional_select(a, b, choice);
        }
        chosen
    }
}

impl<const N: usize> ConstantTimeEq for Secret<N> {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;

    use super::*;

    #[test]
    fn debug_shows_no_byte() {
        assert_eq!(format!("{:?}", Secret::new([0x41; 4])), "Secret([redacted])");
    }

    #[test]
    fn select_follows_the_choice() {
        let (a, b) = (Secret::new([1; 3]), Secret::new([2; 3]));
        assert_eq!(Secret::select(&a, &b, Choice::from(0)).expose(), &[1; 3]);
        assert_eq!(Secret::select(&a, &b, Choice::from(1)).expose(), &[2; 3]);
    }
}
