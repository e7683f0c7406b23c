//! The hybrid exchange: X25519 (RFC 7748) beside ML-KEM-768 (FIPS 203), fresh on both sides of every
//! handshake (sections 2 and 3).
//!
//! The key schedule takes both results, so that the channel stays secret as long as one of the two problems stays
//! hard.

use core::fmt;

use ml_kem::array::Array;
use ml_kem::kem::{Decapsulate as _, KeyExport as _};
use ml_kem::ml_kem_768;
use rand_core::TryCryptoRng;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::Error;
use crate::secret::Secret;

/// Length of an X25519 public value in bytes.
pub const X25519_LEN: usize = 32;
/// Length of an ML-KEM-768 encapsulation key in bytes.
pub const ENCAPSULATION_KEY_LEN: usize = 1184;
/// Length of an ML-KEM-768 ciphertext in bytes.
pub const CIPHERTEXT_LEN: usize = 1088;

/// The result of an exchange, known to both sides: the 32 bytes of X25519, then the 32 of ML-KEM.
pub type SharedSecret = Secret<64>;

/// The client's half of an exchange, which waits for the server's values.
pub struct ClientExchange {
    x25519: StaticSecret,
    ml_kem: ml_kem_768::DecapsulationKey,
}

/// The server's values, which [`ClientExchange::finish`] takes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "exactly what the ServerHello carries")]
pub struct ServerShare {
    /// The server's X25519 public value.
    pub x25519: [u8; X25519_LEN],
    /// The ML-KEM-768 ciphertext.
    pub ciphertext: [u8; CIPHERTEXT_LEN],
}

impl ClientExchange {
    /// Generates fresh keys from 32 bytes of `rng` for X25519, then 64 (`d`, `z`) for ML-KEM.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `rng` fails.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, Error> {
        let x25519 = Secret::<32>::random(rng)?;
        let seed = Secret::<64>::random(rng)?;
        Ok(Self {
            x25519: StaticSecret::from(*x25519.expose()),
            ml_kem: ml_kem_768::DecapsulationKey::from_seed(Array::from(*seed.expose())),
        })
    }

    /// The X25519 public value for the ClientHello.
    #[must_use]
    pub fn x25519(&self) -> [u8; X25519_LEN] {
        PublicKey::from(&self.x25519).to_bytes()
    }

    /// The ML-KEM-768 encapsulation key for the ClientHello.
    #[must_use]
    pub fn encapsulation_key(&self) -> [u8; ENCAPSULATION_KEY_LEN] {
        self.ml_kem.encapsulation_key().to_bytes().into()
    }

    /// Computes the shared secret from the server's values. The keys are consumed, since they serve one exchange.
    ///
    /// # Errors
    /// [`Error::Authentication`] when the X25519 result is all zero, since the peer's value was of low order. A
    /// wrong ML-KEM ciphertext is no error: it gives a secret that the peer does not have (implicit rejection, FIPS
    /// 203 section 6.3).
    pub fn finish(
        self,
        x25519: &[u8; X25519_LEN],
        ciphertext: &[u8; CIPHERTEXT_LEN],
    ) -> Result<SharedSecret, Error> {
        let ml_kem = self.ml_kem.decapsulate(&Array::from(*ciphertext));
        combine(&self.x25519, x25519, ml_kem.into())
    }
}

/// Computes the server's whole part: fresh values in answer to the client's, and the shared secret. Draws 32 bytes
/// of `rng` for X25519, then 32 (`m`) for ML-KEM.
///
/// # Errors
/// [`Error::Authentication`] for an X25519 value of low order or an encapsulation key that FIPS 203's modulus
/// check refuses, [`Error::Randomness`] when `rng` fails.
pub fn respond<R: TryCryptoRng + ?Sized>(
    rng: &mut R,
    x25519: &[u8; X25519_LEN],
    encapsulation_key: &[u8; ENCAPSULATION_KEY_LEN],
) -> Result<(ServerShare, SharedSecret), Error> {
    let client_key = ml_kem_768::EncapsulationKey::new(&Array::from(*encapsulation_key))
        .map_err(|_| Error::Authentication)?;
    let secret = Secret::<32>::random(rng)?;
    let message = Secret::<32>::random(rng)?;

    let secret = StaticSecret::from(*secret.expose());
    // The deterministic form takes its 32 random bytes as an argument, so that a failing source of randomness can
    // be an error here. The bytes are drawn fresh above.
    let (ciphertext, ml_kem) = client_key.encapsulate_deterministic(&Array::from(*message.expose()));
    let share = ServerShare { x25519: PublicKey::from(&secret).to_bytes(), ciphertext: ciphertext.into() };
    Ok((share, combine(&secret, x25519, ml_kem.into())?))
}

impl fmt::Debug for ClientExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientExchange(..)")
    }
}

fn combine(own: &StaticSecret, theirs: &[u8; 32], ml_kem: [u8; 32]) -> Result<SharedSecret, Error> {
    let ml_kem = Secret::new(ml_kem);
    let x25519 = own.diffie_hellman(&PublicKey::from(*theirs));
    // RFC 7748 section 6.1: without this check a peer could force a secret that everyone knows.
    if !x25519.was_contributory() {
        return Err(Error::Authentication);
    }
    let mut shared = Secret::new([0; 64]);
    shared.expose_mut()[..32].copy_from_slice(x25519.as_bytes());
    shared.expose_mut()[32..].copy_from_slice(ml_kem.expose());
    Ok(shared)
}
