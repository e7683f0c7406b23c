//! RSA keys as numbers (RFC 8017): the accepted sizes and exponent, key generation, and the encodings of a public
//! key, SubjectPublicKeyInfo and PKCS#1.

use rand_core::TryCryptoRng;
use rsa::pkcs8::spki::SubjectPublicKeyInfoRef;
use rsa::{BoxedUint, pkcs1};

use crate::error::{Error, KeyProblem};
use crate::pem::identify;

/// Fewest bits that a modulus may have.
pub const MIN_BITS: usize = 2048;
/// Most bits that a modulus may have: computing with a larger one would serve a denial of service.
pub const MAX_BITS: usize = 8192;
/// Bits of a key that is generated without a given size.
pub const DEFAULT_BITS: usize = 3072;

/// Generates a key with two primes and the exponent 65537.
pub(crate) fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R, bits: usize) -> Result<rsa::PrivateKey, Error> {
    check_bits(bits, MIN_BITS)?;
    rsa::PrivateKey::new(rng, bits).map_err(|_| Error::Randomness)
}

/// Checks that a public or private key has an accepted size and exponent.
pub(crate) fn check_size(key: &impl rsa::traits::PublicKeyParts, min_bits: usize) -> Result<(), KeyProblem> {
    check_bits(bits(key.n()), min_bits)?;
    if *key.e() == BoxedUint::from(65537u64) { Ok(()) } else { Err(KeyProblem::Exponent) }
}

/// Checks that a modulus has an accepted size.
pub(crate) fn check_bits(bits: usize, min_bits: usize) -> Result<(), KeyProblem> {
    match bits {
        _ if bits < min_bits => Err(KeyProblem::TooSmall { bits }),
        ..=MAX_BITS => Ok(()),
        _ => Err(KeyProblem::TooLarge { bits }),
    }
}

/// Length of a modulus in bits.
pub(crate) fn bits(modulus: &BoxedUint) -> usize {
    usize::try_from(modulus.bit_width_vartime()).unwrap_or(usize::MAX)
}

/// Checks that an RSA key's parameters are NULL: a key without them would have a second id.
pub(crate) fn check_parameters(der: &[u8]) -> Result<(), KeyProblem> {
    let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| KeyProblem::Malformed)?;
    let is_rsa = info.algorithm.oid == pkcs1::ALGORITHM_OID;
    let are_null = info.algorithm.parameters.is_some_and(|parameters| parameters.is_null());
    if is_rsa && !are_null { Err(KeyProblem::Malformed) } else { Ok(()) }
}

/// Reads a SubjectPublicKeyInfo. A key that is restricted to RSASSA-PSS (RFC 4055) is refused: it must not be
/// encrypted to, and would have a second id.
pub(crate) fn public_key_of_spki(der: &[u8], min_bits: usize) -> Result<rsa::PublicKey, KeyProblem> {
    let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| KeyProblem::Malformed)?;
    if info.algorithm.oid != pkcs1::ALGORITHM_OID {
        return Err(identify::of_algorithm(info.algorithm.oid).map_or(KeyProblem::NotRsa, KeyProblem::from));
    }
    public_key_of_pkcs1(info.subject_public_key.as_bytes().ok_or(KeyProblem::Malformed)?, min_bits)
}

/// Reads an RSAPublicKey of PKCS#1 (RFC 8017, appendix A.1.1).
pub(crate) fn public_key_of_pkcs1(der: &[u8], min_bits: usize) -> Result<rsa::PublicKey, KeyProblem> {
    let key = pkcs1::RsaPublicKeyRef::try_from(der).map_err(|_| KeyProblem::Malformed)?;
    let n = number(key.modulus.as_bytes());
    check_bits(bits(&n), min_bits)?;
    rsa::PublicKey::new(n, number(key.public_exponent.as_bytes())).map_err(|_| KeyProblem::Malformed)
}

/// Converts big-endian bytes to a number.
pub(crate) fn number(bytes: &[u8]) -> BoxedUint {
    BoxedUint::from_be_slice_vartime(bytes)
}
