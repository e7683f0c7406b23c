//! The two tutorial exchanges, as PyCryptodome speaks them (section 9): RSA-OAEP and AES-EAX.
//!
//! Neither is authenticated nor forward-secret. They are kept for the programs that speak them.

mod eax;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use rand_core::TryCryptoRng;
use rsa::oaep;
use rsa::pkcs8::EncodePublicKey as _;
use rsa::traits::{PublicKeyParts as _, RandomizedDecryptor as _, RandomizedEncryptor as _};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

pub use self::eax::{EaxKey, EaxLengths, MAX_NONCE_LEN, MAX_TAG_LEN, MIN_TAG_LEN, NONCE_LEN, TAG_LEN};

use crate::hash::sha256;
use crate::identity::{KeyId, PublicKey};
use crate::rsa_key;
use crate::{Error, pem};

/// Bits of the key that the tutorial generates.
pub const DEFAULT_BITS: usize = 2048;
/// Fewest bits of a key that only decrypts: the tutorials' peers have such keys, and their users have chosen them.
/// Nothing is encrypted to a key below [`crate::identity::MIN_BITS`].
pub const MIN_RECEIVING_BITS: usize = 1024;

/// The hash of OAEP and of its MGF1, as PyCryptodome and WebCrypto use it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OaepHash {
    /// SHA-1, the default of `PKCS1_OAEP`.
    #[default]
    Sha1,
    /// SHA-256.
    Sha256,
}

impl OaepHash {
    fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// A private key of the rsa-oaep exchange. It must never be a server's identity, since its decryption failures are
/// distinguishable.
pub struct ClassicKey(rsa::PrivateKey);

impl ClassicKey {
    /// Makes a key of `bits` bits.
    ///
    /// # Errors
    /// A [`KeyProblem`](crate::KeyProblem) when `bits` is out of range, [`Error::Randomness`] when `rng` fails.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R, bits: usize) -> Result<Self, Error> {
        rsa_key::generate(rng, bits).map(Self)
    }

    /// Reads a private key in PEM (PKCS#8, PKCS#1 or OpenSSH) of at least [`MIN_RECEIVING_BITS`] bits.
    ///
    /// # Errors
    /// Those of [`pem::read_server_key`].
    pub fn from_pem(text: &str, passphrase: Option<&[u8]>) -> Result<Self, Error> {
        let key = pem::read_private(text, passphrase, MIN_RECEIVING_BITS)?;
        rsa_key::check_size(&key, MIN_RECEIVING_BITS)?;
        Ok(Self(key))
    }

    /// Encodes the key as PKCS#8 PEM.
    ///
    /// # Errors
    /// [`KeyProblem::Inconsistent`](crate::KeyProblem::Inconsistent) when the key cannot be encoded.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, Error> {
        pem::write_plain(&self.0)
    }

    /// The public half as `BEGIN PUBLIC KEY`, without a newline at the end.
    #[must_use]
    pub fn public_pem(&self) -> String {
        pem::write_public(&self.0.to_public_key())
    }

    /// The id of the public half.
    #[must_use]
    pub fn id(&self) -> KeyId {
        id(&self.0.to_public_key())
    }

    /// Length of the modulus in bits.
    #[must_use]
    pub fn bits(&self) -> usize {
        rsa_key::bits(self.0.n())
    }

    /// Length of a ciphertext under the public half in bytes.
    #[must_use]
    pub fn ciphertext_len(&self) -> usize {
        self.0.size()
    }

    /// Decrypts one ciphertext (`PKCS1_OAEP`). `rng` supplies the blinding.
    ///
    /// # Errors
    /// [`Error::Authentication`] when the ciphertext was not made with this key's public half and this hash,
    /// [`Error::Randomness`] when `rng` fails.
    pub fn decrypt<R: TryCryptoRng + ?Sized>(
        &self,
        rng: &mut R,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let key = self.0.clone();
        match hash {
            OaepHash::Sha1 => oaep::DecryptingKey::<Sha1>::new(key).decrypt_with_rng(rng, ciphertext),
            OaepHash::Sha256 => oaep::DecryptingKey::<Sha256>::new(key).decrypt_with_rng(rng, ciphertext),
        }
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

/// The id of the public key in `pem`, which must have at least [`MIN_RECEIVING_BITS`] bits.
///
/// # Errors
/// Those of [`pem::read_public_key`].
pub fn public_key_id(pem: &str) -> Result<KeyId, Error> {
    let key = pem::read_public(pem, MIN_RECEIVING_BITS)?;
    rsa_key::check_size(&key, MIN_RECEIVING_BITS)?;
    Ok(id(&key))
}

/// Most bytes that one ciphertext under `key` holds: the length of the modulus less two hash lengths and two bytes.
#[must_use]
pub fn max_message_len(key: &PublicKey, hash: OaepHash) -> usize {
    key.as_rsa().size() - 2 * hash.len() - 2
}

/// Length of a ciphertext under `key` in bytes.
#[must_use]
pub fn ciphertext_len(key: &PublicKey) -> usize {
    key.as_rsa().size()
}

/// Encrypts one message (`PKCS1_OAEP`).
///
/// # Errors
/// [`Error::TooLong`] when the message does not fit, [`Error::Randomness`] when `rng` fails.
pub fn encrypt<R: TryCryptoRng + ?Sized>(
    rng: &mut R,
    key: &PublicKey,
    hash: OaepHash,
    message: &[u8],
) -> Result<Vec<u8>, Error> {
    if message.len() > max_message_len(key, hash) {
        return Err(Error::TooLong { limit: max_message_len(key, hash) });
    }
    let key = key.as_rsa().clone();
    match hash {
        OaepHash::Sha1 => oaep::EncryptingKey::<Sha1>::new(key).encrypt_with_rng(rng, message),
        OaepHash::Sha256 => oaep::EncryptingKey::<Sha256>::new(key).encrypt_with_rng(rng, message),
    }
    .map_err(|_| Error::Randomness)
}

fn id(key: &rsa::PublicKey) -> KeyId {
    let spki = key.to_public_key_der().expect("a key that was read can be written");
    KeyId(sha256(spki.as_bytes()))
}
