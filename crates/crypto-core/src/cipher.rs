//! AES-256-CTR (NIST SP 800-38A) with the counter block of section 6.

use core::fmt;

use aes::Aes256;
use ctr::cipher::{InnerIvInit as _, KeyInit as _, StreamCipher as _, StreamCipherCoreWrapper};
use ctr::{CtrCore, flavors};

use crate::secret::Secret;

/// An AES-256 key, expanded once.
pub struct CtrKey(Aes256);

impl CtrKey {
    /// Expands a key.
    #[must_use]
    pub fn new(key: &Secret<32>) -> Self {
        Self(Aes256::new(key.expose().into()))
    }

    /// Encrypts or decrypts `data` in place. The counter block is `sequence` u64 BE, then the block's
    /// index u64 BE, counted from 0: each sequence number may be used once under a key.
    pub fn apply(&self, sequence: u64, data: &mut [u8]) {
        let mut counter = [0; 16];
        counter[..8].copy_from_slice(&sequence.to_be_bytes());
        let core = CtrCore::<&Aes256, flavors::Ctr64BE>::inner_iv_init(&self.0, &counter.into());
        StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
    }
}

impl fmt::Debug for CtrKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CtrKey([redacted])")
    }
}
