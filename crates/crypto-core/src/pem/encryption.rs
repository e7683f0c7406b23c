//! Encryptions of PKCS#8 (RFC 8018, RFC 7292) that are not supported, by name.

use core::fmt;

use rsa::pkcs8::der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use rsa::pkcs8::der::{self, Decode as _, Reader as _, SliceReader, Tag, Tagged as _};
use rsa::pkcs8::pkcs5::EncryptionScheme;
use rsa::pkcs8::pkcs5::pbes2::{PBES2_OID, PBKDF2_OID};
use rsa::pkcs8::spki::AlgorithmIdentifierRef;

/// An encryption of a key that is not supported here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encryption {
    name: &'static str,
    support: Support,
}

/// The programs that can decrypt a key, and so convert it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Support {
    /// Every version of OpenSSL.
    OpenSsl,
    /// OpenSSL 3 with its legacy provider.
    OpenSslLegacy,
    /// PyCryptodome 3, but no OpenSSL up to 3.0.
    PyCryptodome,
}

impl Encryption {
    /// The programs that support this encryption.
    #[must_use]
    pub fn support(self) -> Support {
        self.support
    }

    pub(super) const fn new(name: &'static str, support: Support) -> Self {
        Self { name, support }
    }

    /// Finds the unsupported part of a PKCS#8 file's encryption; `None` where all parts are supported.
    ///
    /// # Errors
    /// An error of DER when the file is not an encrypted PKCS#8 file.
    pub(super) fn unread(der: &[u8]) -> der::Result<Option<Self>> {
        let scheme = AnyRef::from_der(der)?.sequence(|info| {
            let scheme = AlgorithmIdentifierRef::decode(info)?;
            <&OctetStringRef>::decode(info)?;
            Ok::<_, der::Error>(scheme)
        })?;
        if matches!(EncryptionScheme::try_from(scheme), Ok(EncryptionScheme::Pbes2(_))) {
            return Ok(None);
        }
        let unread = parts(scheme)?.into_iter().flatten().find_map(named);
        Ok(Some(unread.unwrap_or(Self::new("parameters that are not known here", Support::OpenSsl))))
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The algorithms of a scheme: key derivation, its pseudorandom function, and cipher.
fn parts(scheme: AlgorithmIdentifierRef<'_>) -> der::Result<[Option<ObjectIdentifier>; 3]> {
    if scheme.oid != PBES2_OID {
        return Ok([Some(scheme.oid), None, None]);
    }
    let parameters = scheme.parameters.ok_or(Tag::Sequence.value_error())?;
    parameters.sequence(|parameters| {
        let derivation = AlgorithmIdentifierRef::decode(parameters)?;
        let cipher = AlgorithmIdentifierRef::decode(parameters)?;
        let function = match derivation.parameters {
            Some(details) if derivation.oid == PBKDF2_OID => pseudorandom_function(details)?,
            _ => None,
        };
        Ok([Some(derivation.oid), function, Some(cipher.oid)])
    })
}

/// The pseudorandom function of PBKDF2, its last parameter. HMAC-SHA-1 is the default where it is absent.
fn pseudorandom_function(details: AnyRef<'_>) -> der::Result<Option<ObjectIdentifier>> {
    let mut reader = SliceReader::new(details.value())?;
    let mut function = None;
    while !reader.is_finished() {
        let part = AnyRef::decode(&mut reader)?;
        if part.tag() == Tag::Sequence {
            let algorithm = part.sequence(|algorithm| {
                let oid = ObjectIdentifier::decode(algorithm)?;
                while !algorithm.is_finished() {
                    AnyRef::decode(algorithm)?;
                }
                Ok::<_, der::Error>(oid)
            })?;
            function = Some(algorithm);
        }
    }
    Ok(function)
}

/// Names the encryption after its unsupported algorithm `oid`; `None` where that algorithm is supported.
fn named(oid: ObjectIdentifier) -> Option<Encryption> {
    if READ.contains(&oid) {
        return None;
    }
    let known = UNREAD.iter().find(|(known, ..)| *known == oid);
    Some(known.map_or(
        Encryption::new("an algorithm that is not known here", Support::OpenSsl),
        |(_, name, support)| Encryption::new(name, *support),
    ))
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const READ: [ObjectIdentifier; 13] = [
    PBKDF2_OID,
    // scrypt.
    oid("1.3.6.1.4.1.11591.4.11"),
    // HMAC with SHA-1, -224, -256, -384 and -512.
    oid("1.2.840.113549.2.7"),
    oid("1.2.840.113549.2.8"),
    oid("1.2.840.113549.2.9"),
    oid("1.2.840.113549.2.10"),
    oid("1.2.840.113549.2.11"),
    // DES-EDE3-CBC; AES-128, -192 and -256 in CBC; AES-128 and -256 in GCM.
    oid("1.2.840.113549.3.7"),
    oid("2.16.840.1.101.3.4.1.2"),
    oid("2.16.840.1.101.3.4.1.22"),
    oid("2.16.840.1.101.3.4.1.42"),
    oid("2.16.840.1.101.3.4.1.6"),
    oid("2.16.840.1.101.3.4.1.46"),
];

const UNREAD: [(ObjectIdentifier, &str, Support); 42] = [
    (oid("1.2.840.113549.1.5.1"), "PBES1 (MD2 and DES)", Support::OpenSslLegacy),
    (oid("1.2.840.113549.1.5.3"), "PBES1 (MD5 and DES)", Support::OpenSslLegacy),
    (oid("1.2.840.113549.1.5.4"), "PBES1 (MD2 and RC2)", Support::OpenSslLegacy),
    (oid("1.2.840.113549.1.5.6"), "PBES1 (MD5 and RC2)", Support::OpenSslLegacy),
    (oid("1.2.840.113549.1.5.10"), "PBES1 (SHA-1 and DES)", Support::OpenSslLegacy),
    (oid("1.2.840.113549.1.5.11"), "PBES1 (SHA-1 and RC2)", Support::OpenSslLegacy),
    (oid("1.2.840.113549.1.12.1.1"), "PKCS#12's PBE (SHA-1 and RC4)", Support::OpenSslLegacy),
    (oid("1.2.840.113549.1.12.1.2"), "PKCS#12's PBE (SHA-1 and 40-bit RC4)", Support::OpenSslLegacy),
    (oid("1.2.840.113549.1.12.1.3"), "PKCS#12's PBE (SHA-1 and triple DES)", Support::OpenSsl),
    (oid("1.2.840.113549.1.12.1.4"), "PKCS#12's PBE (SHA-1 and two-key triple DES)", Support::OpenSsl),
    (oid("1.2.840.113549.1.12.1.5"), "PKCS#12's PBE (SHA-1 and RC2)", Support::OpenSslLegacy),
    (oid("1.2.840.113549.1.12.1.6"), "PKCS#12's PBE (SHA-1 and 40-bit RC2)", Support::OpenSslLegacy),
    (oid("1.2.840.113549.2.6"), "PBKDF2 with HMAC-MD5", Support::OpenSsl),
    (oid("1.2.840.113549.2.12"), "PBKDF2 with HMAC-SHA-512/224", Support::OpenSsl),
    (oid("1.2.840.113549.2.13"), "PBKDF2 with HMAC-SHA-512/256", Support::OpenSsl),
    (oid("2.16.840.1.101.3.4.2.13"), "PBKDF2 with HMAC-SHA3-224", Support::PyCryptodome),
    (oid("2.16.840.1.101.3.4.2.14"), "PBKDF2 with HMAC-SHA3-256", Support::PyCryptodome),
    (oid("2.16.840.1.101.3.4.2.15"), "PBKDF2 with HMAC-SHA3-384", Support::PyCryptodome),
    (oid("2.16.840.1.101.3.4.2.16"), "PBKDF2 with HMAC-SHA3-512", Support::PyCryptodome),
    (oid("1.3.14.3.2.7"), "DES-CBC", Support::OpenSslLegacy),
    (oid("1.2.840.113549.3.2"), "RC2-CBC", Support::OpenSslLegacy),
    (oid("1.3.6.1.4.1.3029.1.2"), "Blowfish-CBC", Support::OpenSslLegacy),
    (oid("1.3.6.1.4.1.188.7.1.1.2"), "IDEA-CBC", Support::OpenSslLegacy),
    (oid("1.2.410.200004.1.4"), "SEED-CBC", Support::OpenSslLegacy),
    (oid("1.2.392.200011.61.1.1.1.2"), "Camellia-128-CBC", Support::OpenSsl),
    (oid("1.2.392.200011.61.1.1.1.3"), "Camellia-192-CBC", Support::OpenSsl),
    (oid("1.2.392.200011.61.1.1.1.4"), "Camellia-256-CBC", Support::OpenSsl),
    (oid("1.2.410.200046.1.1.2"), "ARIA-128-CBC", Support::OpenSsl),
    (oid("1.2.410.200046.1.1.7"), "ARIA-192-CBC", Support::OpenSsl),
    (oid("1.2.410.200046.1.1.12"), "ARIA-256-CBC", Support::OpenSsl),
    (oid("1.2.156.10197.1.104.2"), "SM4-CBC", Support::OpenSsl),
    (oid("2.16.840.1.101.3.4.1.1"), "AES-128-ECB", Support::OpenSsl),
    (oid("2.16.840.1.101.3.4.1.3"), "AES-128-OFB", Support::OpenSsl),
    (oid("2.16.840.1.101.3.4.1.4"), "AES-128-CFB", Support::OpenSsl),
    (oid("2.16.840.1.101.3.4.1.21"), "AES-192-ECB", Support::OpenSsl),
    (oid("2.16.840.1.101.3.4.1.23"), "AES-192-OFB", Support::OpenSsl),
    (oid("2.16.840.1.101.3.4.1.24"), "AES-192-CFB", Support::OpenSsl),
    (oid("2.16.840.1.101.3.4.1.26"), "AES-192-GCM", Support::PyCryptodome),
    (oid("2.16.840.1.101.3.4.1.41"), "AES-256-ECB", Support::OpenSsl),
    (oid("2.16.840.1.101.3.4.1.43"), "AES-256-OFB", Support::OpenSsl),
    (oid("2.16.840.1.101.3.4.1.44"), "AES-256-CFB", Support::OpenSsl),
    (oid("1.2.156.10197.1.401.3.1"), "PBKDF2 with HMAC-SM3", Support::OpenSsl),
];
