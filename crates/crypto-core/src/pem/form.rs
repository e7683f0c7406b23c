//! The contents of files that hold no key in a supported form.

/// The content of a file that holds no key in a supported form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Form {
    /// The file is empty or holds white space only.
    #[error("the file is empty")]
    Empty,
    /// A `BEGIN` line without its `END` line.
    #[error("the end is missing, the line that ends its PEM block: the file was cut off")]
    CutOff,
    /// The content of a PEM block is not base64.
    #[error("it is damaged: between its BEGIN and END lines is not what they say")]
    Damaged,
    /// The lines of PEM end in a backslash and an `n`, as inside a JSON string.
    #[error("its lines end in the two characters \\n instead of a line end")]
    EscapedLines,
    /// Text in UTF-16, as some editors and shells write it.
    #[error("it is text in UTF-16, not in UTF-8")]
    Utf16,
    /// A PKCS#1 key in OpenSSL's old encryption, whose key derivation is a single MD5.
    #[error("it is an RSA key with a passphrase in the encryption of old (DEK-Info), which is not read")]
    EncryptedPkcs1 {
        /// Whether reading it takes OpenSSL's legacy provider.
        is_legacy: bool,
    },
    /// A key in PuTTY's own format.
    #[error("it is a PuTTY key (.ppk), which is not read")]
    Putty {
        /// Whether the key has a passphrase.
        is_encrypted: bool,
    },
    /// A key in the format of SSH Communications Security's programs.
    #[error("it is a private key of SSH.com's programs, which is not read")]
    SshCom,
    /// A public key in the format of OpenSSH or of RFC 4716.
    #[error("it is an SSH public key, not a key in PEM")]
    SshPublic,
    /// A public key where a private one is needed.
    #[error("it is a public key, and the private one is needed")]
    Public,
    /// A private key where a public one is needed.
    #[error("it is a private key, and the public one is needed")]
    Private,
    /// An X.509 certificate or a request for one.
    #[error("it is a certificate or a request for one, not a key")]
    Certificate,
    /// PEM with another label.
    #[error("it is PEM, but of something else than a key")]
    OtherPem,
    /// An RSA key that is restricted to RSASSA-PSS (RFC 4055).
    #[error("it is an RSA-PSS key: one that is marked for PSS signatures alone, which is not read")]
    RsaPss {
        /// Whether the key is PKCS#1 under its own label.
        is_pkcs1: bool,
    },
    /// An RSA key of three or more primes.
    #[error("it is an RSA key of more than two primes, which is not read")]
    MultiPrime,
    /// A key for another algorithm, by the algorithm's name.
    #[error("not an RSA key but one for {0}")]
    Algorithm(&'static str),
    /// A private key in DER.
    #[error("it is a key in DER, not in PEM")]
    DerPrivate,
    /// An encrypted private key in DER.
    #[error("it is an encrypted key in DER, not in PEM")]
    DerEncrypted,
    /// A public key in DER.
    #[error("it is a public key in DER, not in PEM")]
    DerPublic,
    /// The base64 of a key, without the lines around it.
    #[error("it is a key without its BEGIN and END lines")]
    Unframed {
        /// The label that the lines need.
        label: &'static str,
    },
    /// A PKCS#12 key store.
    #[error("it is a PKCS#12 file, in which a key may be")]
    Pkcs12,
    /// A JSON Web Key (RFC 7517).
    #[error("it is a JSON Web Key, not a key in PEM")]
    Jwk,
    /// An RSA key in XML, as .NET writes it.
    #[error("it is an RSA key in XML, not in PEM")]
    Xml,
    /// A key of age, which is for X25519.
    #[error("it is an age key, not an RSA key")]
    Age,
    /// An OpenPGP key.
    #[error("it is an OpenPGP key, not a key in PEM")]
    Pgp,
    /// One of Sockseal's pre-shared keys.
    #[error("it is a pre-shared key, not an RSA key")]
    Psk,
    /// One of Sockseal's fingerprints.
    #[error("it is a fingerprint, not a key")]
    Fingerprint,
}
