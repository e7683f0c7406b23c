//! AES in EAX mode (Bellare, Rogaway, Wagner 2003) without associated data, with the nonce and tag lengths of
//! PyCryptodome.

use alloc::vec::Vec;
use core::fmt;

use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncrypt, BlockSizeUser, InnerIvInit as _, Key, KeyInit, StreamCipherCore as _};
use aes::{Aes128, Aes192, Aes256};
use cmac::{Cmac, Mac as _};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use rand_core::TryCryptoRng;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::{Error, KeyProblem};

/// Default length of an EAX nonce in bytes.
pub const NONCE_LEN: usize = 16;
/// Longest nonce in bytes. EAX and PyCryptodome have no limit; longer nonces have no use.
pub const MAX_NONCE_LEN: usize = 255;
/// Default length of an EAX tag in bytes.
pub const TAG_LEN: usize = 16;
/// Shortest tag in bytes that PyCryptodome accepts.
pub const MIN_TAG_LEN: usize = 2;
/// Longest tag in bytes: a block.
pub const MAX_TAG_LEN: usize = 16;

/// The lengths that both sides have to agree on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EaxLengths {
    nonce: usize,
    tag: usize,
}

impl EaxLengths {
    /// Lengths with a nonce of 1 to [`MAX_NONCE_LEN`] bytes and a tag of [`MIN_TAG_LEN`] to [`MAX_TAG_LEN`] bytes;
    /// `None` for any other.
    #[must_use]
    pub fn new(nonce: usize, tag: usize) -> Option<Self> {
        let fits = (1..=MAX_NONCE_LEN).contains(&nonce) && (MIN_TAG_LEN..=MAX_TAG_LEN).contains(&tag);
        fits.then_some(Self { nonce, tag })
    }

    /// Bytes that sealing adds to a message.
    #[must_use]
    pub fn overhead(self) -> usize {
        self.nonce + self.tag
    }
}

impl Default for EaxLengths {
    fn default() -> Self {
        Self { nonce: NONCE_LEN, tag: TAG_LEN }
    }
}

/// A key of the aes-eax exchange (section 9).
pub enum EaxKey {
    /// A key of 16 bytes.
    Aes128(Secret<16>),
    /// A key of 24 bytes.
    Aes192(Secret<24>),
    /// A key of 32 bytes.
    Aes256(Secret<32>),
}

impl EaxKey {
    /// Copies a key of 16, 24 or 32 bytes.
    ///
    /// # Errors
    /// [`KeyProblem::AesKeyLength`] for any other length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        let key = match bytes.len() {
            16 => Secret::from_slice(bytes).map(Self::Aes128),
            24 => Secret::from_slice(bytes).map(Self::Aes192),
            _ => Secret::from_slice(bytes).map(Self::Aes256),
        };
        key.ok_or(KeyProblem::AesKeyLength { len: bytes.len() }.into())
    }

    /// Seals `message` under a fresh nonce: `nonce | tag | ciphertext`.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `rng` fails.
    pub fn seal<R: TryCryptoRng + ?Sized>(
        &self,
        rng: &mut R,
        lengths: EaxLengths,
        message: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; MAX_NONCE_LEN];
        let nonce = &mut nonce[..lengths.nonce];
        rng.try_fill_bytes(nonce).map_err(|_| Error::Randomness)?;
        Ok(self.seal_with_nonce(nonce, lengths.tag, message))
    }

    /// Seals under the caller's nonce, for test vectors: a nonce may be used once. A tag length above
    /// [`MAX_TAG_LEN`] counts as [`MAX_TAG_LEN`].
    #[must_use]
    pub fn seal_with_nonce(&self, nonce: &[u8], tag_len: usize, message: &[u8]) -> Vec<u8> {
        let mut bytes = message.to_vec();
        let tag = match self {
            Self::Aes128(key) => seal::<Aes128>(key.expose().into(), nonce, &mut bytes),
            Self::Aes192(key) => seal::<Aes192>(key.expose().into(), nonce, &mut bytes),
            Self::Aes256(key) => seal::<Aes256>(key.expose().into(), nonce, &mut bytes),
        };
        [nonce, &tag[..tag_len.min(MAX_TAG_LEN)], &bytes].concat()
    }

    /// Opens `nonce | tag | ciphertext`.
    ///
    /// # Errors
    /// [`Error::Authentication`] when the tag is wrong or the input too short to hold one.
    pub fn open(&self, lengths: EaxLengths, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (nonce, rest) = sealed.split_at_checked(lengths.nonce).ok_or(Error::Authentication)?;
        let (tag, ciphertext) = rest.split_at_checked(lengths.tag).ok_or(Error::Authentication)?;
        let mut bytes = Zeroizing::new(ciphertext.to_vec());
        let is_good = match self {
            Self::Aes128(key) => open::<Aes128>(key.expose().into(), nonce, tag, &mut bytes),
            Self::Aes192(key) => open::<Aes192>(key.expose().into(), nonce, tag, &mut bytes),
            Self::Aes256(key) => open::<Aes256>(key.expose().into(), nonce, tag, &mut bytes),
        };
        if is_good { Ok(bytes) } else { Err(Error::Authentication) }
    }
}

impl fmt::Debug for EaxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EaxKey([redacted])")
    }
}

trait Cipher: BlockSizeUser<BlockSize = U16> + BlockCipherEncrypt + Clone + KeyInit {}

impl<C: BlockSizeUser<BlockSize = U16> + BlockCipherEncrypt + Clone + KeyInit> Cipher for C {}

/// Encrypts in place and returns the tag.
fn seal<C: Cipher>(key: &Key<C>, nonce: &[u8], bytes: &mut [u8]) -> [u8; MAX_TAG_LEN] {
    let start = omac::<C>(key, 0, nonce);
    apply_key_stream::<C>(key, &start, bytes);
    tag::<C>(key, &start, bytes)
}

/// Decrypts in place where the tag is right and returns whether it is.
fn open<C: Cipher>(key: &Key<C>, nonce: &[u8], expected: &[u8], bytes: &mut [u8]) -> bool {
    let start = omac::<C>(key, 0, nonce);
    let tag = tag::<C>(key, &start, bytes);
    let is_good = tag[..expected.len().min(MAX_TAG_LEN)].ct_eq(expected).into();
    if is_good {
        apply_key_stream::<C>(key, &start, bytes);
    }
    is_good
}

fn tag<C: Cipher>(key: &Key<C>, start: &[u8; 16], ciphertext: &[u8]) -> [u8; MAX_TAG_LEN] {
    let (header, body) = (omac::<C>(key, 1, &[]), omac::<C>(key, 2, ciphertext));
    core::array::from_fn(|at| start[at] ^ header[at] ^ body[at])
}

/// CMAC over `data`, preceded by a block that holds `purpose`, which separates nonce, header and ciphertext.
fn omac<C: Cipher>(key: &Key<C>, purpose: u8, data: &[u8]) -> [u8; 16] {
    let mut mac = <Cmac<C> as KeyInit>::new(key);
    mac.update(&[0; 15]);
    mac.update(&[purpose]);
    mac.update(data);
    mac.finalize().into_bytes().into()
}

fn apply_key_stream<C: Cipher>(key: &Key<C>, start: &[u8; 16], bytes: &mut [u8]) {
    CtrCore::<C, Ctr128BE>::inner_iv_init(C::new(key), start.into()).apply_keystream_partial(bytes.into());
}
