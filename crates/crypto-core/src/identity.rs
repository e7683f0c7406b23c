//! Identities: RSA keys (RFC 8017), each for one role.
//!
//! A server's key only decrypts secrets (RSAES-OAEP) and a client's key only signs (RSASSA-PSS). With a key pair
//! that does both, one exchange could be turned against the other, so the types do not allow it.

mod key_id;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use rand_core::TryCryptoRng;
use rsa::oaep;
use rsa::pkcs8::EncodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::traits::{RandomizedDecryptor as _, RandomizedEncryptor as _};
use sha2::Sha256;
use subtle::Choice;
use zeroize::Zeroizing;

use crate::error::{Error, KeyProblem};
use crate::hash::sha256;
use crate::mac::MacKey;
use crate::rsa_key;
use crate::secret::Secret;

pub use self::key_id::KeyId;
pub use crate::rsa_key::{DEFAULT_BITS, MAX_BITS, MIN_BITS};

/// A public key of either role, whose size and exponent were checked.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: rsa::PublicKey,
    spki: Box<[u8]>,
    id: KeyId,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// A [`KeyProblem`] when the bytes are not the one DER encoding of an RSA key of 2048 to 8192 bits with
    /// exponent 65537. A second encoding of a key would be a second id for it.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, Error> {
        // The encoding is checked before the size, so that every implementation reports the same reason. All other
        // differences between encodings are errors of DER.
        rsa_key::check_parameters(spki)?;
        let key = Self::from_rsa(rsa_key::public_key_of_spki(spki, MIN_BITS)?)?;
        if *key.spki != *spki {
            return Err(KeyProblem::Malformed.into());
        }
        Ok(key)
    }

    pub(crate) fn from_rsa(key: rsa::PublicKey) -> Result<Self, Error> {
        rsa_key::check_size(&key, MIN_BITS)?;
        let spki: Box<[u8]> =
            key.to_public_key_der().map_err(|_| KeyProblem::Malformed)?.into_vec().into_boxed_slice();
        let id = KeyId(sha256(&spki));
        Ok(Self { key, spki, id })
    }

    /// The key's id, which peers know it by.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key as SubjectPublicKeyInfo DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Length of the modulus in bits.
    #[must_use]
    pub fn bits(&self) -> usize {
        rsa_key::bits(self.key.n())
    }

    /// Encrypts a secret for the holder of this (server's) key: RSAES-OAEP with SHA-256, MGF1-SHA-256 and an empty
    /// label. The result is as long as the modulus.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `rng` fails.
    pub fn seal_secret<R: TryCryptoRng + ?Sized>(
        &self,
        rng: &mut R,
        secret: &Secret<32>,
    ) -> Result<Vec<u8>, Error> {
        oaep::EncryptingKey::<Sha256>::new(self.key.clone())
            .encrypt_with_rng(rng, secret.expose())
            .map_err(|_| Error::Randomness)
    }

    /// Checks a (client's) signature over `message`: RSASSA-PSS with SHA-256 and a salt of 32 bytes.
    ///
    /// # Errors
    /// [`Error::Authentication`] when the signature was not made with this key over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Error> {
        self.key.pss_verify::<Sha256>(message, signature).map_err(|_| Error::Authentication)
    }

    pub(crate) fn as_rsa(&self) -> &rsa::PublicKey {
        &self.key
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.id).finish()
    }
}

/// A server's identity: a private key that decrypts sealed secrets and does nothing else.
pub struct ServerKey {
    private: rsa::PrivateKey,
    public: PublicKey,
    /// The key that the replacement of a sealed secret which does not open is derived from (section 3).
    rejection: MacKey,
}

impl ServerKey {
    /// Generates a key of `bits` bits. This takes seconds.
    ///
    /// # Errors
    /// A [`KeyProblem`] when `bits` is out of range, [`Error::Randomness`] when `rng` fails.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R, bits: usize) -> Result<Self, Error> {
        let private = rsa_key::generate(rng, bits)?;
        Self::from_rsa(rng, private)
    }

    pub(crate) fn from_rsa<R: TryCryptoRng + ?Sized>(
        rng: &mut R,
        private: rsa::PrivateKey,
    ) -> Result<Self, Error> {
        let public = PublicKey::from_rsa(private.to_public_key())?;
        let rejection = MacKey::new(Secret::<32>::random(rng)?.expose());
        Ok(Self { private, public, rejection })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Decrypts a secret that was sealed to this key. `rng` supplies the blinding.
    ///
    /// This does not fail for a wrong ciphertext: one that does not decrypt, or does not hold exactly 32 bytes,
    /// gives a secret that only this process can compute, on the same path. The sender learns of it only when its
    /// Finished fails, and then nothing more.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `rng` fails.
    pub fn open_secret<R: TryCryptoRng + ?Sized>(
        &self,
        rng: &mut R,
        sealed: &[u8],
    ) -> Result<Secret<32>, Error> {
        let key = oaep::DecryptingKey::<Sha256>::new(self.private.clone());
        let opened = match key.decrypt_with_rng(rng, sealed) {
            Err(rsa::Error::Rng) => return Err(Error::Randomness),
            opened => opened.map(Zeroizing::new),
        };
        let replacement = Secret::new(self.rejection.tag(&[sealed]));
        let (valid, candidate) = match opened.ok().and_then(|bytes| Secret::from_slice(&bytes)) {
            Some(secret) => (Choice::from(1), secret),
            None => (Choice::from(0), Secret::new([0; 32])),
        };
        Ok(Secret::select(&replacement, &candidate, valid))
    }

    pub(crate) fn as_rsa(&self) -> &rsa::PrivateKey {
        &self.private
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerKey").field("id", &self.public.id).finish_non_exhaustive()
    }
}

/// A client's identity: a private key that signs and does nothing else.
pub struct ClientKey {
    private: rsa::PrivateKey,
    public: PublicKey,
}

impl ClientKey {
    /// Generates a key of `bits` bits. This takes seconds.
    ///
    /// # Errors
    /// A [`KeyProblem`] when `bits` is out of range, [`Error::Randomness`] when `rng` fails.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R, bits: usize) -> Result<Self, Error> {
        Self::from_rsa(rsa_key::generate(rng, bits)?)
    }

    pub(crate) fn from_rsa(private: rsa::PrivateKey) -> Result<Self, Error> {
        let public = PublicKey::from_rsa(private.to_public_key())?;
        Ok(Self { private, public })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`: RSASSA-PSS with SHA-256 and a salt of 32 bytes. `rng` supplies salt and blinding.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `rng` fails.
    pub fn sign<R: TryCryptoRng + ?Sized>(&self, rng: &mut R, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.private.pss_sign_with_rng::<Sha256, R>(rng, message).map_err(|_| Error::Randomness)
    }

    pub(crate) fn as_rsa(&self) -> &rsa::PrivateKey {
        &self.private
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey").field("id", &self.public.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use getrandom::SysRng;

    use super::*;

    #[test]
    fn what_does_not_open_is_replaced_and_always_the_same() {
        let key = ServerKey::generate(&mut SysRng, 2048).unwrap();
        let secret = Secret::random(&mut SysRng).unwrap();
        let mut sealed = key.public().seal_secret(&mut SysRng, &secret).unwrap();
        assert_eq!(key.open_secret(&mut SysRng, &sealed).unwrap().expose(), secret.expose());

        sealed[100] ^= 1;
        let first = key.open_secret(&mut SysRng, &sealed).unwrap();
        let second = key.open_secret(&mut SysRng, &sealed).unwrap();
        assert_eq!(first.expose(), second.expose());
        assert_ne!(first.expose(), secret.expose());

        for wrong in [&[][..], &[0; 255], &[0; 256], &[0xFF; 256], &[1; 257]] {
            let opened = key.open_secret(&mut SysRng, wrong).unwrap();
            assert_ne!(opened.expose(), &[0; 32]);
        }
    }

    #[test]
    fn a_secret_of_another_length_or_label_counts_as_not_opened() {
        let key = ServerKey::generate(&mut SysRng, 2048).unwrap();
        let public = key.public.key.clone();
        let seal = |label: &[u8], message: &[u8]| {
            oaep::EncryptingKey::<Sha256>::new_with_label(public.clone(), label)
                .encrypt_with_rng(&mut SysRng, message)
                .unwrap()
        };
        let foreign = b"sockseal v1 server key";
        for (label, message) in [(&b""[..], &[9; 31][..]), (b"", &[9; 33]), (foreign, &[9; 32])] {
            let opened = key.open_secret(&mut SysRng, &seal(label, message)).unwrap();
            assert_ne!(opened.expose(), &[9; 32]);
        }
        assert_eq!(key.open_secret(&mut SysRng, &seal(b"", &[9; 32])).unwrap().expose(), &[9; 32]);
    }

    #[test]
    fn signatures_bind_message_and_key() {
        let (alice, bob) = (
            ClientKey::generate(&mut SysRng, 2048).unwrap(),
            ClientKey::generate(&mut SysRng, 2048).unwrap(),
        );
        let signature = alice.sign(&mut SysRng, b"hello").unwrap();
        assert_eq!(alice.public().verify(b"hello", &signature), Ok(()));
        assert_eq!(alice.public().verify(b"hellO", &signature), Err(Error::Authentication));
        assert_eq!(bob.public().verify(b"hello", &signature), Err(Error::Authentication));
        assert_eq!(alice.public().verify(b"hello", &signature[1..]), Err(Error::Authentication));
    }

    #[test]
    fn keys_out_of_range_are_refused_by_size() {
        assert_eq!(
            ServerKey::generate(&mut SysRng, 1024).unwrap_err(),
            KeyProblem::TooSmall { bits: 1024 }.into()
        );
        assert_eq!(
            ClientKey::generate(&mut SysRng, 8193).unwrap_err(),
            KeyProblem::TooLarge { bits: 8193 }.into()
        );
        let small = rsa::PrivateKey::new(&mut SysRng, 1024).unwrap().to_public_key();
        let spki = small.to_public_key_der().unwrap();
        assert_eq!(
            PublicKey::from_spki_der(spki.as_bytes()).unwrap_err(),
            KeyProblem::TooSmall { bits: 1024 }.into()
        );
    }

    #[test]
    fn spki_with_trailing_bytes_is_refused() {
        let key = ClientKey::generate(&mut SysRng, 2048).unwrap();
        let mut spki = key.public().spki_der().to_vec();
        assert_eq!(PublicKey::from_spki_der(&spki).unwrap(), *key.public());
        spki.push(0);
        assert_eq!(PublicKey::from_spki_der(&spki).unwrap_err(), KeyProblem::Malformed.into());
    }

    /// A small key whose algorithm has no NULL parameters: its encoding is reported before its size.
    #[test]
    fn the_encoding_of_a_key_is_checked_before_its_size() {
        let small = rsa::PrivateKey::new(&mut SysRng, 1024).unwrap().to_public_key();
        let der = small.to_public_key_der().unwrap();
        let der = der.as_bytes();
        let algorithm =
            der.windows(15).position(|bytes| bytes.starts_with(&[0x30, 0x0D, 0x06, 0x09])).unwrap();
        assert_eq!(der[..2], [0x30, 0x81], "one byte of length");
        let mut other = [&der[..algorithm], &[0x30, 0x0B], &der[algorithm + 2..algorithm + 13]].concat();
        other.extend_from_slice(&der[algorithm + 15..]);
        other[2] -= 2;
        assert_eq!(PublicKey::from_spki_der(&other).unwrap_err(), KeyProblem::Malformed.into());
        assert_eq!(PublicKey::from_spki_der(der).unwrap_err(), KeyProblem::TooSmall { bits: 1024 }.into());
    }
}
