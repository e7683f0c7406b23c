//! What can go wrong, grouped by who is at fault.

use crate::pem::encryption::Encryption;
use crate::pem::form::Form;

/// Why a cryptographic operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tag, padding, signature or shared secret did not check out.
    ///
    /// One opaque variant, whatever the cause: the difference would only help an attacker.
    #[error("authentication failed")]
    Authentication,
    /// A key, ours or a peer's, cannot be used.
    #[error("{0}")]
    Key(#[from] KeyProblem),
    /// The plaintext is longer than the operation takes; the limit in bytes.
    #[error("the message is longer than {limit} bytes")]
    TooLong {
        /// The most bytes that fit.
        limit: usize,
    },
    /// A buffer handed in does not have the shape that the operation needs.
    #[error("a buffer of the wrong length was passed in")]
    BufferLength,
    /// Every sequence number of a key has been used: the channel has to end.
    #[error("the key is used up")]
    KeyExhausted,
    /// The source of randomness failed.
    #[error("the random number generator failed")]
    Randomness,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyProblem {
    /// Not a key in a format that is read here.
    #[error("not a key in a known format (PEM: PKCS#8, PKCS#1 or OpenSSH)")]
    Malformed,
    /// A key, but not for RSA.
    #[error("not an RSA key")]
    NotRsa,
    /// The modulus is too short to be safe.
    #[error("the RSA key has {bits} bits, fewer than the 2048 that are the minimum")]
    TooSmall {
        /// Length of the modulus in bits.
        bits: usize,
    },
    /// The modulus is so long that it would serve to exhaust us.
    #[error("the RSA key has {bits} bits, more than the 8192 that are the maximum")]
    TooLarge {
        /// Length of the modulus in bits.
        bits: usize,
    },
    /// A public exponent other than 65537.
    #[error("the RSA key's public exponent is not 65537")]
    Exponent,
    /// The private numbers do not belong together.
    #[error("the RSA key is inconsistent")]
    Inconsistent,
    /// The key is encrypted and no passphrase was given.
    #[error("the key is protected by a passphrase")]
    NeedsPassphrase,
    /// The key is encrypted and the passphrase does not open it.
    #[error("the passphrase does not open the key")]
    WrongPassphrase,
    /// The key is encrypted in a way that is not read here.
    #[error("the key is encrypted with {0}, which is not read")]
    UnknownEncryption(Encryption),
    /// An OpenSSH key with a passphrase: `ssh-keygen -p -m PKCS8` turns it into one that is read here.
    #[error("OpenSSH keys with a passphrase are not read")]
    EncryptedOpenSsh,
    /// Something else than a key in a form that is read here.
    #[error(transparent)]
    Form(#[from] Form),
    /// A file of a pre-shared key that is not its one line.
    #[error("not a pre-shared key: {0}")]
    PreSharedKey(&'static str),
    /// A file of ticket keys that is not its one line.
    #[error("not a ticket key: it has to be one line, sockseal-ticket-key-v1 and 32 bytes in base64")]
    TicketKey,
    /// A text that is not `SHA256:` and the base64 of 32 bytes.
    #[error("not a fingerprint: {0}")]
    Fingerprint(&'static str),
    /// An AES key as bytes with a line end behind them, which an editor or `echo` puts there.
    #[error("the AES key has {len} bytes, and a line end behind them that does not belong to it")]
    AesKeyLineEnd {
        /// Bytes without the line end.
        len: usize,
    },
    /// An AES key that was said to be in hexadecimal.
    #[error("the AES key is not 32, 48 or 64 hexadecimal digits")]
    AesKeyNoHex,
    /// A key of another length than 16, 24 or 32 bytes.
    #[error("the AES key has {len} bytes instead of 16, 24 or 32")]
    AesKeyLength {
        /// Bytes there are.
        len: usize,
    },
}
