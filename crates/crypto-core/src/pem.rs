//! Key files: RSA keys in PEM. PKCS#8 is written; PKCS#8, PKCS#1 and OpenSSH's own format are read.

use alloc::string::String;

use rand_core::TryCryptoRng;
use rsa::pkcs8::spki::SubjectPublicKeyInfoRef;
use rsa::pkcs8::{
    EncodePrivateKey as _, EncodePublicKey as _, EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef,
    SecretDocument,
};
use rsa::{BoxedUint, PrivateKey, pkcs1, pkcs8};
use ssh_key::private::KeypairData;
use zeroize::Zeroizing;

use crate::identity::{ClientKey, PublicKey, ServerKey, bits, check_bits};
use crate::{Error, KeyProblem};

/// Reads a server's key. `passphrase` is for an encrypted PKCS#8 file.
///
/// # Errors
/// A [`KeyProblem`] that says what is wrong with the file; [`KeyProblem::NeedsPassphrase`] when it is
/// encrypted and there is no passphrase. [`Error::Randomness`] when `rng` fails.
pub fn read_server_key<R: TryCryptoRng + ?Sized>(
    rng: &mut R,
    pem: &str,
    passphrase: Option<&[u8]>,
) -> Result<ServerKey, Error> {
    ServerKey::from_rsa(rng, read_private(pem, passphrase)?)
}

/// Reads a client's key; see [`read_server_key`].
///
/// # Errors
/// As [`read_server_key`].
pub fn read_client_key(pem: &str, passphrase: Option<&[u8]>) -> Result<ClientKey, Error> {
    ClientKey::from_rsa(read_private(pem, passphrase)?)
}

/// Writes a server's key as PKCS#8, encrypted (scrypt, AES-256-CBC) where there is a passphrase.
///
/// # Errors
/// [`Error::Randomness`] when `rng` fails.
pub fn write_server_key<R: TryCryptoRng + ?Sized>(
    rng: &mut R,
    key: &ServerKey,
    passphrase: Option<&[u8]>,
) -> Result<Zeroizing<String>, Error> {
    write_private(rng, key.as_rsa(), passphrase)
}

/// Writes a client's key; see [`write_server_key`].
///
/// # Errors
/// As [`write_server_key`].
pub fn write_client_key<R: TryCryptoRng + ?Sized>(
    rng: &mut R,
    key: &ClientKey,
    passphrase: Option<&[u8]>,
) -> Result<Zeroizing<String>, Error> {
    write_private(rng, key.as_rsa(), passphrase)
}

/// Writes a public key as `BEGIN PUBLIC KEY` (SubjectPublicKeyInfo), without a newline at the end.
///
/// # Panics
/// Never: a key that was read can be written.
#[must_use]
pub fn write_public_key(key: &PublicKey) -> String {
    let mut pem = key.as_rsa().to_public_key_pem(LineEnding::LF).expect("a key that was read can be written");
    pem.truncate(pem.trim_end().len());
    pem
}

/// Reads a public key: `BEGIN PUBLIC KEY` or `BEGIN RSA PUBLIC KEY`.
///
/// # Errors
/// A [`KeyProblem`] that says what is wrong with it.
pub fn read_public_key(pem: &str) -> Result<PublicKey, Error> {
    let (label, document) = SecretDocument::from_pem(pem.trim()).map_err(|_| KeyProblem::Malformed)?;
    let key = match label {
        "PUBLIC KEY" => public_key_of_spki(document.as_bytes()),
        "RSA PUBLIC KEY" => public_key_of_pkcs1(document.as_bytes()),
        _ => Err(KeyProblem::Malformed),
    };
    PublicKey::from_rsa(key?)
}

/// Reads a private key. Whatever the container, the numbers in it are checked in one place.
pub(crate) fn read_private(pem: &str, passphrase: Option<&[u8]>) -> Result<PrivateKey, Error> {
    let pem = pem.trim();
    if pem.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----") {
        return read_openssh(pem);
    }
    if pem.starts_with("-----BEGIN EC PRIVATE KEY-----") {
        return Err(KeyProblem::NotRsa.into());
    }
    let (label, document) = SecretDocument::from_pem(pem).map_err(|_| KeyProblem::Malformed)?;
    match label {
        "PRIVATE KEY" => {
            let info = PrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| KeyProblem::Malformed)?;
            private_key_of_pkcs8(&info)
        }
        "ENCRYPTED PRIVATE KEY" => {
            let passphrase = passphrase.ok_or(KeyProblem::NeedsPassphrase)?;
            let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
                .map_err(|_| KeyProblem::Malformed)?;
            let decrypted = info.decrypt(passphrase).map_err(|error| match error {
                pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }) => {
                    KeyProblem::UnknownEncryption
                }
                _ => KeyProblem::WrongPassphrase,
            })?;
            // A wrong passphrase gets this far once in 256 times: the padding looks right by chance.
            let info =
                PrivateKeyInfoRef::try_from(decrypted.as_bytes()).map_err(|_| KeyProblem::WrongPassphrase)?;
            private_key_of_pkcs8(&info)
        }
        "RSA PRIVATE KEY" => private_key_of_pkcs1(document.as_bytes()),
        _ => Err(KeyProblem::Malformed.into()),
    }
}

/// Reads a SubjectPublicKeyInfo. A key that is marked for RSASSA-PSS alone (RFC 4055) is not read: it may not be
/// encrypted to, and it would be known by a second id.
pub(crate) fn public_key_of_spki(der: &[u8]) -> Result<rsa::PublicKey, KeyProblem> {
    let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| KeyProblem::Malformed)?;
    if info.algorithm.oid != pkcs1::ALGORITHM_OID {
        return Err(KeyProblem::NotRsa);
    }
    public_key_of_pkcs1(info.subject_public_key.as_bytes().ok_or(KeyProblem::Malformed)?)
}

fn public_key_of_pkcs1(der: &[u8]) -> Result<rsa::PublicKey, KeyProblem> {
    let key = pkcs1::RsaPublicKeyRef::try_from(der).map_err(|_| KeyProblem::Malformed)?;
    let n = number(key.modulus.as_bytes());
    check_bits(bits(&n))?;
    rsa::PublicKey::new(n, number(key.public_exponent.as_bytes())).map_err(|_| KeyProblem::Malformed)
}

fn private_key_of_pkcs8(info: &PrivateKeyInfoRef<'_>) -> Result<PrivateKey, Error> {
    if info.algorithm.oid != pkcs1::ALGORITHM_OID {
        return Err(KeyProblem::NotRsa.into());
    }
    private_key_of_pkcs1(info.private_key.as_bytes())
}

fn private_key_of_pkcs1(der: &[u8]) -> Result<PrivateKey, Error> {
    let key = pkcs1::RsaPrivateKeyRef::try_from(der).map_err(|_| KeyProblem::Malformed)?;
    private_key(
        [key.modulus, key.public_exponent, key.private_exponent, key.prime1, key.prime2]
            .map(|part| part.as_bytes()),
    )
}

fn read_openssh(pem: &str) -> Result<PrivateKey, Error> {
    let key = ssh_key::PrivateKey::from_openssh(pem).map_err(|_| KeyProblem::Malformed)?;
    let pair = match key.key_data() {
        KeypairData::Rsa(pair) => pair,
        KeypairData::Encrypted(_) => return Err(KeyProblem::EncryptedOpenSsh.into()),
        _ => return Err(KeyProblem::NotRsa.into()),
    };
    let (public, private) = (pair.public(), pair.private());
    let parts = [public.n(), public.e(), private.d(), private.p(), private.q()];
    let mut bytes = [[].as_slice(); 5];
    for (bytes, part) in bytes.iter_mut().zip(parts) {
        *bytes = part.as_positive_bytes().ok_or(KeyProblem::Malformed)?;
    }
    private_key(bytes)
}

/// A key of modulus, public and private exponent and the two primes. They come from a file that anyone may have
/// edited: a key whose parts do not belong together gives its factors away with the first signature.
fn private_key(parts: [&[u8]; 5]) -> Result<PrivateKey, Error> {
    let [n, e, d, p, q] = parts.map(number);
    check_bits(bits(&n))?;
    let key = PrivateKey::from_components(n, e, d, [p, q].into()).map_err(|_| KeyProblem::Inconsistent)?;
    key.validate().map_err(|_| KeyProblem::Inconsistent)?;
    Ok(key)
}

fn number(bytes: &[u8]) -> BoxedUint {
    BoxedUint::from_be_slice_vartime(bytes)
}

pub(crate) fn write_plain(key: &PrivateKey) -> Result<Zeroizing<String>, Error> {
    key.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyProblem::Inconsistent.into())
}

fn write_private<R: TryCryptoRng + ?Sized>(
    mut rng: &mut R,
    key: &PrivateKey,
    passphrase: Option<&[u8]>,
) -> Result<Zeroizing<String>, Error> {
    let Some(passphrase) = passphrase else { return write_plain(key) };
    let der = key.to_pkcs8_der().map_err(|_| KeyProblem::Inconsistent)?;
    PrivateKeyInfoRef::try_from(der.as_bytes())
        .map_err(|_| KeyProblem::Inconsistent)?
        .encrypt_with_rng(&mut rng, passphrase)
        .map_err(|_| Error::Randomness)?
        .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
        .map_err(|_| KeyProblem::Inconsistent.into())
}
