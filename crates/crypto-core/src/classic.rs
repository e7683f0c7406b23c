//! The two tutorial exchanges, as PyCryptodome speaks them (section 9): RSA-OAEP with SHA-1, and AES-EAX.
//!
//! Neither is authenticated nor forward-secret. They are kept for the programs that speak them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use aes::{Aes128, Aes192, Aes256};
use eax::aead::{Aead as _, KeyInit as _};
use eax::{Eax, Nonce};
use rand_core::TryCryptoRng;
use rsa::oaep;
use rsa::traits::{PublicKeyParts as _, RandomizedDecryptor as _, RandomizedEncryptor as _};
use sha1::Sha1;
use zeroize::Zeroizing;

use crate::identity::{self, PublicKey};
use crate::secret::Secret;
use crate::{Error, KeyProblem, pem};

/// Bits of the key that the tutorial makes.
pub const DEFAULT_BITS: usize = 2048;
/// Length of an EAX nonce in bytes.
pub const NONCE_LEN: usize = 16;
/// Length of an EAX tag in bytes.
pub const TAG_LEN: usize = 16;

/// A private key of the rsa-oaep exchange. Never a server's identity: its failures can be told apart.
pub struct ClassicKey(rsa::PrivateKey);

impl ClassicKey {
    /// Makes a key of `bits` bits.
    ///
    /// # Errors
    /// A [`KeyProblem`] when `bits` is out of range, [`Error::Randomness`] when `rng` fails.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R, bits: usize) -> Result<Self, Error> {
        identity::generate(rng, bits).map(Self)
    }

    /// Reads a private key in PEM (PKCS#8, PKCS#1 or OpenSSH).
    ///
    /// # Errors
    /// As [`pem::read_server_key`].
    pub fn from_pem(text: &str, passphrase: Option<&[u8]>) -> Result<Self, Error> {
        let key = pem::read_private(text, passphrase)?;
        PublicKey::from_rsa(key.to_public_key())?;
        Ok(Self(key))
    }

    /// The key as PKCS#8 PEM.
    ///
    /// # Errors
    /// [`KeyProblem::Inconsistent`] when the key cannot be encoded.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, Error> {
        pem::write_plain(&self.0)
    }

    /// The public half.
    ///
    /// # Errors
    /// A [`KeyProblem`] when the key is out of range, which no key of this type is.
    pub fn public(&self) -> Result<PublicKey, Error> {
        PublicKey::from_rsa(self.0.to_public_key())
    }

    /// Decrypts one ciphertext (`PKCS1_OAEP` with its defaults), with randomness for blinding.
    ///
    /// # Errors
    /// [`Error::Authentication`] when it was not made with this key's public half, [`Error::Randomness`] when `rng`
    /// fails.
    pub fn decrypt<R: TryCryptoRng + ?Sized>(
        &self,
        rng: &mut R,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        oaep::DecryptingKey::<Sha1>::new(self.0.clone())
            .decrypt_with_rng(rng, ciphertext)
            .map(Zeroizing::new)
            .map_err(|error| match error {
                rsa::Error::Rng => Error::Randomness,
                _ => Error::Authentication,
            })
    }
}

impl fmt::Debug for ClassicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClassicKey([redacted])")
    }
}

/// Most bytes that one ciphertext under `key` holds: the modulus less two SHA-1 hashes and two.
#[must_use]
pub fn max_message_len(key: &PublicKey) -> usize {
    key.as_rsa().size() - 2 * 20 - 2
}

/// Length of a ciphertext under `key` in bytes.
#[must_use]
pub fn ciphertext_len(key: &PublicKey) -> usize {
    key.as_rsa().size()
}

/// Encrypts one message (`PKCS1_OAEP` with its defaults).
///
/// # Errors
/// [`Error::TooLong`] when the message does not fit, [`Error::Randomness`] when `rng` fails.
pub fn encrypt<R: TryCryptoRng + ?Sized>(
    rng: &mut R,
    key: &PublicKey,
    message: &[u8],
) -> Result<Vec<u8>, Error> {
    if message.len() > max_message_len(key) {
        return Err(Error::TooLong { limit: max_message_len(key) });
    }
    oaep::EncryptingKey::<Sha1>::new(key.as_rsa().clone())
        .encrypt_with_rng(rng, message)
        .map_err(|_| Error::Randomness)
}

/// A key of the aes-eax exchange.
pub enum EaxKey {
    /// 16 bytes.
    Aes128(Secret<16>),
    /// 24 bytes.
    Aes192(Secret<24>),
    /// 32 bytes.
    Aes256(Secret<32>),
}

impl EaxKey {
    /// A key of 16, 24 or 32 bytes.
    ///
    /// # Errors
    /// [`KeyProblem::Malformed`] for any other length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        let key = match bytes.len() {
            16 => Secret::from_slice(bytes).map(Self::Aes128),
            24 => Secret::from_slice(bytes).map(Self::Aes192),
            _ => Secret::from_slice(bytes).map(Self::Aes256),
        };
        key.ok_or(KeyProblem::Malformed.into())
    }

    /// `nonce | tag | ciphertext`, with a fresh nonce.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `rng` fails, [`Error::TooLong`] beyond what EAX can encrypt.
    pub fn seal<R: TryCryptoRng + ?Sized>(&self, rng: &mut R, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_LEN];
        rng.try_fill_bytes(&mut nonce).map_err(|_| Error::Randomness)?;
        self.seal_with_nonce(&nonce, message)
    }

    /// [`EaxKey::seal`] with a nonce of the caller's, for test vectors: a nonce may be used once.
    ///
    /// # Errors
    /// [`Error::TooLong`] beyond what EAX can encrypt.
    pub fn seal_with_nonce(&self, nonce: &[u8; NONCE_LEN], message: &[u8]) -> Result<Vec<u8>, Error> {
        let iv = Nonce::from(*nonce);
        let sealed = match self {
            Self::Aes128(key) => Eax::<Aes128>::new(key.expose().into()).encrypt(&iv, message),
            Self::Aes192(key) => Eax::<Aes192>::new(key.expose().into()).encrypt(&iv, message),
            Self::Aes256(key) => Eax::<Aes256>::new(key.expose().into()).encrypt(&iv, message),
        }
        .map_err(|_| Error::TooLong { limit: usize::MAX })?;
        // The crate puts the tag last, PyCryptodome's tutorial sends it before the ciphertext.
        let (ciphertext, tag) = sealed.split_at(message.len());
        Ok([nonce, tag, ciphertext].concat())
    }

    /// Opens `nonce | tag | ciphertext`.
    ///
    /// # Errors
    /// [`Error::Authentication`] when the tag is wrong or the input too short to hold one.
    pub fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Error::Authentication)?;
        let (tag, ciphertext) = rest.split_first_chunk::<TAG_LEN>().ok_or(Error::Authentication)?;
        let iv = Nonce::from(*nonce);
        let sealed = [ciphertext, tag].concat();
        match self {
            Self::Aes128(key) => Eax::<Aes128>::new(key.expose().into()).decrypt(&iv, sealed.as_slice()),
            Self::Aes192(key) => Eax::<Aes192>::new(key.expose().into()).decrypt(&iv, sealed.as_slice()),
            Self::Aes256(key) => Eax::<Aes256>::new(key.expose().into()).decrypt(&iv, sealed.as_slice()),
        }
        .map(Zeroizing::new)
        .map_err(|_| Error::Authentication)
    }
}

impl fmt::Debug for EaxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EaxKey([redacted])")
    }
}
