//! HMAC-SHA-256 (RFC 2104) with a key that is prepared once.

use core::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::Error;

/// Length of a tag in bytes.
pub const TAG_LEN: usize = 32;

/// An HMAC-SHA-256 key with its two padded blocks already hashed.
#[derive(Clone)]
pub struct MacKey(Hmac<Sha256>);

impl MacKey {
    /// Prepares a key of any length.
    ///
    /// # Panics
    /// Never: HMAC takes keys of every length.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of every length"))
    }

    /// The tag of the concatenation of `parts`. It is as secret as the caller's use of it.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_LEN] {
        let mut hmac = self.0.clone();
        for part in parts {
            hmac.update(part);
        }
        hmac.finalize().into_bytes().into()
    }

    /// Compares `tag` with the tag of `parts` in constant time.
    ///
    /// # Errors
    /// [`Error::Authentication`] when they differ.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> Result<(), Error> {
        if bool::from(self.tag(parts).ct_eq(tag)) { Ok(()) } else { Err(Error::Authentication) }
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortened_and_flipped_tags_are_refused() {
        let key = MacKey::new(b"key");
        let mut tag = key.tag(&[b"a", b"bc"]);
        assert_eq!(tag, key.tag(&[b"abc"]));
        assert_eq!(key.verify(&[b"abc"], &tag[..31]), Err(Error::Authentication));
        tag[31] ^= 1;
        assert_eq!(key.verify(&[b"abc"], &tag), Err(Error::Authentication));
    }
}
