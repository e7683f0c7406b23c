//! AES-256-CTR (NIST SP 800-38A) with the counter block of section 6.

use core::fmt;

use record_kernels::ctr::{Aes256Ctr, Counter};

use crate::secret::Secret;

/// An AES-256 key, expanded once.
pub struct CtrKey(Aes256Ctr);

impl CtrKey {
    /// Expands a key.
    #[must_use]
    pub fn new(key: &Secret<32>) -> Self {
        Self(Aes256Ctr::new(key.expose()))
    }

    /// Encrypts or decrypts `data` in place. The counter block is `sequence` u64 BE, then the block's index u64 BE,
    /// counted from 0. Each sequence number may be used once under a key.
    pub fn apply(&self, sequence: u64, data: &mut [u8]) {
        self.0.apply(Counter { sequence, block: 0 }, data);
    }
}

impl fmt::Debug for CtrKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CtrKey([redacted])")
    }
}
