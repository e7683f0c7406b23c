//! The errors of the crate, grouped by who is at fault.

use crate::pem::encryption::Encryption;
use crate::pem::form::Form;

/// The reason why a cryptographic operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tag, padding, signature or shared secret is not valid.
    ///
    /// There is one opaque variant for every cause, since the difference would only help an attacker.
    #[error("authentication failed")]
    Authentication,
    /// A key, ours or a peer's, cannot be used.
    #[error("{0}")]
    Key(#[from] KeyProblem),
    /// The plaintext is longer than the operation takes.
    #[error("the message is longer than {limit} bytes")]
    TooLong {
        /// The most bytes that fit.
        limit: usize,
    },
    /// The caller passed a buffer of another length than the operation needs.
    #[error("a buffer of the wrong length was passed in")]
    BufferLength,
    /// Every sequence number of a key has been used, so that the channel has to end.
    #[error("the key is used up")]
    KeyExhausted,
    /// The source of randomness failed.
    #[error("the random number generator failed")]
    Randomness,
}

/// The reason why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyProblem {
    /// The text is not a key in a known format.
    #[error("not a key in a known format (PEM: PKCS#8, PKCS#1 or OpenSSH)")]
    Malformed,
    /// The key is for another algorithm than RSA.
    #[error("not an RSA key")]
    NotRsa,
    /// The modulus is too short to be safe.
    #[error("the RSA key has {bits} bits, fewer than the 2048 that are the minimum")]
    TooSmall {
        /// Length of the modulus in bits.
        bits: usize,
    },
    /// The modulus is so long that computing with it would serve a denial of service.
    #[error("the RSA key has {bits} bits, more than the 8192 that are the maximum")]
    TooLarge {
        /// Length of the modulus in bits.
        bits: usize,
    },
    /// The public exponent is not 65537.
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
    /// The key is encrypted with an algorithm that is not supported.
    #[error("the key is encrypted with {0}, which is not read")]
    UnknownEncryption(Encryption),
    /// The key is an OpenSSH key with a passphrase: `ssh-keygen -p -m PKCS8` converts it to a format that is read.
    #[error("OpenSSH keys with a passphrase are not read")]
    EncryptedOpenSsh,
    /// The file holds something other than a key in a supported format.
    #[error(transparent)]
    Form(#[from] Form),
    /// The file of a pre-shared key does not hold the one line of its format.
    #[error("not a pre-shared key: {0}")]
    PreSharedKey(&'static str),
    /// The file of ticket keys does not hold the one line of its format.
    #[error("not a ticket key: it has to be one line, sockseal-ticket-key-v1 and 32 bytes in base64")]
    TicketKey,
    /// The text is not `SHA256:` and the base64 of 32 bytes.
    #[error("not a fingerprint: {0}")]
    Fingerprint(&'static str),
    /// The file of an AES key holds the key's bytes and a line end, which an editor or `echo` appends.
    #[error("the AES key has {len} bytes, and a line end behind them that does not belong to it")]
    AesKeyLineEnd {
        /// Number of bytes without the line end.
        len: usize,
    },
    /// The AES key was declared to be in hexadecimal and is not.
    #[error("the AES key is not 32, 48 or 64 hexadecimal digits")]
    AesKeyNoHex,
    /// The AES key is not 16, 24 or 32 bytes long.
    #[error("the AES key has {len} bytes instead of 16, 24 or 32")]
    AesKeyLength {
        /// Number of bytes found.
        len: usize,
    },
}
