//! Key files: RSA keys in PEM. PKCS#8 is written; PKCS#8, PKCS#1 and OpenSSH's own format are read, in every layout
//! that OpenSSL reads. An unsupported format is named before the user is asked for a passphrase.

mod block;
pub(crate) mod encryption;
pub(crate) mod form;
pub(crate) mod identify;

use alloc::string::String;

use rand_core::TryCryptoRng;
use rsa::pkcs8::{
    EncodePrivateKey as _, EncodePublicKey as _, EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef,
};
use rsa::{PrivateKey, pkcs1};
use ssh_key::private::KeypairData;
use zeroize::Zeroizing;

pub use self::encryption::{Encryption, Support};
pub use self::form::Form;
pub use self::identify::identify;

use self::block::Block;
use crate::error::{Error, KeyProblem};
use crate::identity::{ClientKey, PublicKey, ServerKey};
use crate::rsa_key::{MIN_BITS, bits, check_bits, number, public_key_of_pkcs1, public_key_of_spki};

/// Reads a server's key from the first private key in `pem`. `passphrase` is for an encrypted PKCS#8 file.
///
/// # Errors
/// A [`KeyProblem`] that says what is wrong with the file, or what the file is instead;
/// [`KeyProblem::NeedsPassphrase`] when its encryption is supported and `passphrase` is `None`.
/// [`Error::Randomness`] when `rng` fails.
pub fn read_server_key<R: TryCryptoRng + ?Sized>(
    rng: &mut R,
    pem: &str,
    passphrase: Option<&[u8]>,
) -> Result<ServerKey, Error> {
    ServerKey::from_rsa(rng, read_private(pem, passphrase, MIN_BITS)?)
}

/// Reads a client's key, as [`read_server_key`] does a server's.
///
/// # Errors
/// Those of [`read_server_key`].
pub fn read_client_key(pem: &str, passphrase: Option<&[u8]>) -> Result<ClientKey, Error> {
    ClientKey::from_rsa(read_private(pem, passphrase, MIN_BITS)?)
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

/// Writes a client's key, as [`write_server_key`] does a server's.
///
/// # Errors
/// Those of [`write_server_key`].
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
    write_public(key.as_rsa())
}

pub(crate) fn write_public(key: &rsa::PublicKey) -> String {
    let mut pem = key.to_public_key_pem(LineEnding::LF).expect("a key that was read can be written");
    pem.truncate(pem.trim_end().len());
    pem
}

/// Reads a public key: the first `BEGIN PUBLIC KEY` or `BEGIN RSA PUBLIC KEY` in `pem`.
///
/// # Errors
/// A [`KeyProblem`] that says what is wrong with the text, or what the text is instead.
pub fn read_public_key(pem: &str) -> Result<PublicKey, Error> {
    PublicKey::from_rsa(read_public(pem, MIN_BITS)?)
}

/// Reads a public key of at least `min_bits` bits.
pub(crate) fn read_public(pem: &str, min_bits: usize) -> Result<rsa::PublicKey, KeyProblem> {
    let block = first(pem, |label| matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY"))?;
    let der = block.decode()?;
    let key = match block.label {
        "PUBLIC KEY" => public_key_of_spki(&der, min_bits),
        _ => public_key_of_pkcs1(&der, min_bits),
    };
    key.map_err(damaged)
}

/// Reads a private key of at least `min_bits` bits. All formats share one check of the numbers.
pub(crate) fn read_private(
    pem: &str,
    passphrase: Option<&[u8]>,
    min_bits: usize,
) -> Result<PrivateKey, KeyProblem> {
    let block = first(pem, |label| label.ends_with("PRIVATE KEY") || label == "PGP PRIVATE KEY BLOCK")?;
    let is_read = matches!(
        block.label,
        "PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" | "RSA PRIVATE KEY" | "OPENSSH PRIVATE KEY"
    );
    if !is_read {
        return Err(identify::of_label(block.label).into());
    }
    if let Some(cipher) = block.header("DEK-Info") {
        return Err(Form::EncryptedPkcs1 { is_legacy: is_legacy(cipher) }.into());
    }
    let der = block.decode()?;
    match block.label {
        "PRIVATE KEY" => private_key_of_pkcs8(&der, min_bits).map_err(damaged),
        "ENCRYPTED PRIVATE KEY" => private_key_of_encrypted(&der, passphrase, min_bits),
        "RSA PRIVATE KEY" => private_key_of_pkcs1(&der, min_bits).map_err(damaged),
        _ => private_key_of_openssh(&der, min_bits),
    }
}

/// Returns the first block whose label `is_wanted`. Otherwise the error says what the text is.
fn first(text: &str, is_wanted: impl Fn(&str) -> bool) -> Result<Block<'_>, KeyProblem> {
    let mut other = None;
    for block in block::blocks(text) {
        let block = block?;
        if is_wanted(block.label) {
            return Ok(block);
        }
        other = other.or(Some(identify::of_label(block.label)));
    }
    Err(other.or_else(|| identify(text.as_bytes())).map_or(KeyProblem::Malformed, KeyProblem::from))
}

/// Returns whether OpenSSL 3 supports this cipher of a `DEK-Info` header only in its legacy provider.
fn is_legacy(cipher: &str) -> bool {
    ["DES-CBC", "RC2-", "BF-", "CAST5-", "IDEA-", "SEED-"].iter().any(|legacy| cipher.starts_with(legacy))
}

/// Reports content that does not match its PEM label as damaged.
fn damaged(problem: KeyProblem) -> KeyProblem {
    match problem {
        KeyProblem::Malformed => Form::Damaged.into(),
        problem => problem,
    }
}

fn private_key_of_encrypted(
    der: &[u8],
    passphrase: Option<&[u8]>,
    min_bits: usize,
) -> Result<PrivateKey, KeyProblem> {
    // The encryption is checked first, so that the user is not asked for a passphrase that cannot help.
    if let Some(encryption) = Encryption::unread(der).map_err(|_| Form::Damaged)? {
        return Err(KeyProblem::UnknownEncryption(encryption));
    }
    let info = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| Form::Damaged)?;
    let passphrase = passphrase.ok_or(KeyProblem::NeedsPassphrase)?;
    let decrypted = info.decrypt(passphrase).map_err(|_| KeyProblem::WrongPassphrase)?;
    // The padding is right by chance for one wrong passphrase in 256, which then fails here.
    private_key_of_pkcs8(decrypted.as_bytes(), min_bits).map_err(|problem| match problem {
        KeyProblem::Malformed => KeyProblem::WrongPassphrase,
        problem => problem,
    })
}

fn private_key_of_pkcs8(der: &[u8], min_bits: usize) -> Result<PrivateKey, KeyProblem> {
    let info = PrivateKeyInfoRef::try_from(der).map_err(|_| KeyProblem::Malformed)?;
    if info.algorithm.oid != pkcs1::ALGORITHM_OID {
        return Err(identify::of_algorithm(info.algorithm.oid).map_or(KeyProblem::NotRsa, KeyProblem::from));
    }
    private_key_of_pkcs1(info.private_key.as_bytes(), min_bits)
}

fn private_key_of_pkcs1(der: &[u8], min_bits: usize) -> Result<PrivateKey, KeyProblem> {
    let key = pkcs1::RsaPrivateKeyRef::try_from(der).map_err(|_| KeyProblem::Malformed)?;
    if key.version() == pkcs1::Version::Multi {
        return Err(Form::MultiPrime.into());
    }
    let parts = [key.modulus, key.public_exponent, key.private_exponent, key.prime1, key.prime2];
    private_key(parts.map(|part| part.as_bytes()), min_bits)
}

fn private_key_of_openssh(der: &[u8], min_bits: usize) -> Result<PrivateKey, KeyProblem> {
    if let Some(form) = identify::of_openssh(der) {
        return Err(form.into());
    }
    let key = ssh_key::PrivateKey::from_bytes(der).map_err(|_| Form::Damaged)?;
    let pair = match key.key_data() {
        KeypairData::Rsa(pair) => pair,
        KeypairData::Encrypted(_) => return Err(KeyProblem::EncryptedOpenSsh),
        _ => return Err(KeyProblem::NotRsa),
    };
    let (public, private) = (pair.public(), pair.private());
    let parts = [public.n(), public.e(), private.d(), private.p(), private.q()];
    let mut bytes = [[].as_slice(); 5];
    for (bytes, part) in bytes.iter_mut().zip(parts) {
        *bytes = part.as_positive_bytes().ok_or(Form::Damaged)?;
    }
    private_key(bytes, min_bits)
}

/// Builds a key from modulus, public exponent, private exponent and the two primes. The numbers come from a file
/// that anyone may have edited, and a key whose parts do not belong together reveals its factors with the first
/// signature.
fn private_key(parts: [&[u8]; 5], min_bits: usize) -> Result<PrivateKey, KeyProblem> {
    let [n, e, d, p, q] = parts.map(number);
    check_bits(bits(&n), min_bits)?;
    let key = PrivateKey::from_components(n, e, d, [p, q].into()).map_err(|_| KeyProblem::Inconsistent)?;
    key.validate().map_err(|_| KeyProblem::Inconsistent)?;
    Ok(key)
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
