//! Key files: RSA keys in PEM. PKCS#8 is written; PKCS#8, PKCS#1 and OpenSSH's own format are read.

use alloc::string::String;

use rand_core::TryCryptoRng;
use rsa::pkcs1::{DecodeRsaPrivateKey as _, DecodeRsaPublicKey as _};
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::pkcs8::{DecodePublicKey as _, PrivateKeyInfoRef};
use rsa::{BoxedUint, PrivateKey};
use ssh_key::private::KeypairData;
use zeroize::Zeroizing;

use crate::identity::{ClientKey, PublicKey, ServerKey};
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
    let key = match label(pem)? {
        "PUBLIC KEY" => rsa::PublicKey::from_public_key_pem(pem.trim_end()).map_err(|error| match error {
            rsa::pkcs8::spki::Error::OidUnknown { .. } => KeyProblem::NotRsa,
            _ => KeyProblem::Malformed,
        }),
        "RSA PUBLIC KEY" => rsa::PublicKey::from_pkcs1_pem(pem.trim_end()).map_err(|_| KeyProblem::Malformed),
        _ => Err(KeyProblem::Malformed),
    };
    PublicKey::from_rsa(key?)
}

pub(crate) fn read_private(pem: &str, passphrase: Option<&[u8]>) -> Result<PrivateKey, Error> {
    let pem = pem.trim();
    let key = match label(pem)? {
        "PRIVATE KEY" => PrivateKey::from_pkcs8_pem(pem).map_err(|error| pkcs8_problem(&error))?,
        "ENCRYPTED PRIVATE KEY" => {
            let passphrase = passphrase.ok_or(KeyProblem::NeedsPassphrase)?;
            PrivateKey::from_pkcs8_encrypted_pem(pem, passphrase).map_err(|_| KeyProblem::WrongPassphrase)?
        }
        "RSA PRIVATE KEY" => PrivateKey::from_pkcs1_pem(pem).map_err(|_| KeyProblem::Malformed)?,
        "OPENSSH PRIVATE KEY" => read_openssh(pem)?,
        _ => return Err(KeyProblem::Malformed.into()),
    };
    // The numbers come from a file that anyone may have edited: a key whose parts do not belong together
    // leaks its factors with the first signature.
    key.validate().map_err(|_| KeyProblem::Inconsistent)?;
    Ok(key)
}

fn read_openssh(pem: &str) -> Result<PrivateKey, Error> {
    let key = ssh_key::PrivateKey::from_openssh(pem).map_err(|_| KeyProblem::Malformed)?;
    let pair = match key.key_data() {
        KeypairData::Rsa(pair) => pair,
        KeypairData::Encrypted(_) => return Err(KeyProblem::EncryptedOpenSsh.into()),
        _ => return Err(KeyProblem::NotRsa.into()),
    };
    let number = |mpint: &ssh_key::Mpint| {
        mpint.as_positive_bytes().map(BoxedUint::from_be_slice_vartime).ok_or(KeyProblem::Malformed)
    };
    let (public, private) = (pair.public(), pair.private());
    PrivateKey::from_components(
        number(public.n())?,
        number(public.e())?,
        number(private.d())?,
        [number(private.p())?, number(private.q())?].into(),
    )
    .map_err(|_| KeyProblem::Inconsistent.into())
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

fn pkcs8_problem(error: &rsa::pkcs8::Error) -> KeyProblem {
    match error {
        rsa::pkcs8::Error::PublicKey(rsa::pkcs8::spki::Error::OidUnknown { .. }) => KeyProblem::NotRsa,
        _ => KeyProblem::Malformed,
    }
}

fn label(pem: &str) -> Result<&str, KeyProblem> {
    let rest = pem.trim_start().strip_prefix("-----BEGIN ").ok_or(KeyProblem::Malformed)?;
    rest.split_once("-----").map(|(label, _)| label).ok_or(KeyProblem::Malformed)
}
