//! The id by which a key is known, and its text form.

use core::fmt;
use core::str::FromStr;

use base64ct::{Base64Unpadded, Encoding as _};
use rand_core::TryCryptoRng;

use crate::error::{Error, KeyProblem};
use crate::secret::Secret;

/// The id of a public key: the SHA-256 of its SubjectPublicKeyInfo DER. It is printed as OpenSSH prints
/// fingerprints: `SHA256:` and unpadded base64. A server that has only pre-shared keys has [`KeyId::random`] instead.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 32]);

impl KeyId {
    /// An id for a server without an RSA key, whose pre-shared keys name it.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `rng` fails.
    pub fn random<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, Error> {
        Ok(Self(*Secret::random(rng)?.expose()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; 43];
        let text = Base64Unpadded::encode(&self.0, &mut buffer).expect("32 bytes are 43 characters");
        write!(f, "SHA256:{text}")
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = Error;

    /// Parses `SHA256:` and base64. A padding `=` at the end is accepted, since some tools print it.
    fn from_str(text: &str) -> Result<Self, Error> {
        let decode = |encoded: &str| {
            let encoded = encoded.strip_suffix('=').unwrap_or(encoded);
            let mut id = [0; 32];
            match Base64Unpadded::decode(encoded, &mut id) {
                Ok(decoded) if decoded.len() == 32 => Some(Self(id)),
                _ => None,
            }
        };
        let problem = match text.strip_prefix("SHA256:") {
            Some(encoded) => match decode(encoded) {
                Some(id) => return Ok(id),
                None => "behind SHA256: it needs 43 characters of base64, and there is something else",
            },
            None if decode(text).is_some() => "SHA256: is missing before it",
            None if is_hex(text) => "it is in hexadecimal, and has to be SHA256: and 43 characters of base64",
            None => "it has to be SHA256: and 43 characters of base64",
        };
        Err(KeyProblem::Fingerprint(problem).into())
    }
}

/// Returns whether `text` is a fingerprint in hexadecimal, as other programs print it.
fn is_hex(text: &str) -> bool {
    let digits = text.strip_prefix("MD5:").unwrap_or(text);
    digits.len() >= 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn key_ids_print_and_parse() {
        let id = KeyId([0xA5; 32]);
        let text = id.to_string();
        assert!(text.starts_with("SHA256:") && !text.ends_with('='));
        assert_eq!(text.parse::<KeyId>().unwrap(), id);
        assert_eq!((text.clone() + "=").parse::<KeyId>().unwrap(), id);
        for bad in ["", "SHA256:", "MD5:aa", &text[1..], &text[..49]] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad}");
        }
    }
}
