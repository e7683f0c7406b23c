//! Key files: generating and writing them, and reading them with a passphrase where they have one.

use std::path::Path;

use clap::Args;
use crypto_core::identity::{ClientKey, DEFAULT_BITS, KeyId, MAX_BITS, MIN_BITS, ServerKey};
use crypto_core::psk::PreSharedKey;
use crypto_core::{KeyProblem, pem};
use getrandom::SysRng;
use zeroize::Zeroizing;

use crate::home::Home;
use crate::questioner::Questioner;
use crate::{Error, private_file};

/// An identity that is kept in a file, a server's or a client's.
pub trait Identity: Sized {
    /// The name of its file in a home.
    const FILE_NAME: &'static str;

    /// Generates a key of `bits` bits.
    ///
    /// # Errors
    /// Those of `crypto-core`'s key generation.
    fn generate(bits: usize) -> Result<Self, crypto_core::Error>;

    /// Parses a key from PEM.
    ///
    /// # Errors
    /// Those of `crypto-core`'s reader.
    fn from_pem(text: &str, passphrase: Option<&[u8]>) -> Result<Self, crypto_core::Error>;

    /// Encodes the key as PEM.
    ///
    /// # Errors
    /// Those of `crypto-core`'s writer.
    fn to_pem(&self, passphrase: Option<&[u8]>) -> Result<Zeroizing<String>, crypto_core::Error>;

    /// The id of the public half.
    fn id(&self) -> KeyId;
}

impl Identity for ServerKey {
    const FILE_NAME: &'static str = "server.key";

    fn generate(bits: usize) -> Result<Self, crypto_core::Error> {
        Self::generate(&mut SysRng, bits)
    }

    fn from_pem(text: &str, passphrase: Option<&[u8]>) -> Result<Self, crypto_core::Error> {
        pem::read_server_key(&mut SysRng, text, passphrase)
    }

    fn to_pem(&self, passphrase: Option<&[u8]>) -> Result<Zeroizing<String>, crypto_core::Error> {
        pem::write_server_key(&mut SysRng, self, passphrase)
    }

    fn id(&self) -> KeyId {
        self.public().id()
    }
}

impl Identity for ClientKey {
    const FILE_NAME: &'static str = "client.key";

    fn generate(bits: usize) -> Result<Self, crypto_core::Error> {
        Self::generate(&mut SysRng, bits)
    }

    fn from_pem(text: &str, passphrase: Option<&[u8]>) -> Result<Self, crypto_core::Error> {
        pem::read_client_key(text, passphrase)
    }

    fn to_pem(&self, passphrase: Option<&[u8]>) -> Result<Zeroizing<String>, crypto_core::Error> {
        pem::write_client_key(&mut SysRng, self, passphrase)
    }

    fn id(&self) -> KeyId {
        self.public().id()
    }
}

/// Options of `keygen`.
#[derive(Debug, Args)]
pub struct Keygen {
    /// Bits of the RSA key
    #[arg(long, default_value_t = DEFAULT_BITS, value_parser = bits)]
    bits: usize,
    /// Protect the key with a passphrase, which is asked for
    #[arg(long)]
    passphrase_prompt: bool,
    /// Replace the key that is there
    #[arg(long)]
    pub force: bool,
}

impl Default for Keygen {
    fn default() -> Self {
        Self { bits: DEFAULT_BITS, passphrase_prompt: false, force: false }
    }
}

/// Reads an identity from its file in `home`, and asks for the passphrase where the file has one.
///
/// # Errors
/// An [`Error`] that names the file.
pub fn read<K: Identity>(home: &Home) -> Result<K, Error> {
    with_passphrase(&home.file(K::FILE_NAME), K::from_pem)
}

/// Generates an identity and writes its file.
///
/// # Errors
/// [`Error::Exists`] when the file exists and `options` do not say to replace it; otherwise an [`Error`] that names
/// the file.
pub fn make<K: Identity>(home: &Home, options: &Keygen) -> Result<K, Error> {
    let path = home.file(K::FILE_NAME);
    home.create()?;
    // Writing the file checks this again. Here the check saves a question and a minute.
    if !options.force && !private_file::is_absent(&path)? {
        return Err(Error::Exists { path });
    }
    let passphrase = if options.passphrase_prompt { Some(ask_new_passphrase(&path)?) } else { None };
    let key = K::generate(options.bits)?;
    let pem = key.to_pem(passphrase.as_ref().map(|passphrase| passphrase.as_slice()))?;
    if options.force {
        private_file::replace(&path, pem.as_bytes())?;
    } else {
        private_file::create_new(&path, pem.as_bytes())?;
    }
    Ok(key)
}

/// Reads a pre-shared key.
///
/// # Errors
/// An [`Error`] that names the file.
pub fn read_psk(path: &Path) -> Result<PreSharedKey, Error> {
    let text = private_file::read_text(path)?;
    PreSharedKey::from_text(&text).map_err(|source| Error::Key { path: path.into(), source })
}

/// Reads a key file with `parse`, and asks for a passphrase if `parse` needs one.
pub(crate) fn with_passphrase<K>(
    path: &Path,
    parse: impl Fn(&str, Option<&[u8]>) -> Result<K, crypto_core::Error>,
) -> Result<K, Error> {
    let failed = |source| Error::Key { path: path.into(), source };
    let content = private_file::read(path)?;
    // Text of any encoding may surround a key in PEM. Content that is another known format is reported as such.
    if std::str::from_utf8(&content).is_err()
        && let Some(form) = pem::identify(&content)
    {
        return Err(failed(KeyProblem::from(form).into()));
    }
    let text = Zeroizing::new(String::from_utf8_lossy(&content).into_owned());
    let parsed = match parse(&text, None) {
        Err(crypto_core::Error::Key(KeyProblem::NeedsPassphrase)) => {
            let passphrase = ask(path, &format!("Passphrase for {}: ", path.display()))?;
            parse(&text, Some(&passphrase))
        }
        parsed => parsed,
    };
    parsed.map_err(failed)
}

/// Asks twice for a new passphrase, and compares the answers.
fn ask_new_passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let first = ask(path, &format!("New passphrase for {}: ", path.display()))?;
    if first.is_empty() {
        return Err(Error::EmptyPassphrase);
    }
    let second = ask(path, "The same again: ")?;
    if *first == *second { Ok(first) } else { Err(Error::PassphraseMismatch) }
}

fn ask(path: &Path, question: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let questioner = Questioner::find().map_err(|_| Error::NoTerminal { path: path.into() })?;
    questioner.ask_secret(question).map_err(|source| Error::Stdio { stream: questioner.name(), source })
}

/// Parses the size of a key in bits.
fn bits(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bits) if (MIN_BITS..=MAX_BITS).contains(&bits) => Ok(bits),
        _ => Err(format!("{MIN_BITS} to {MAX_BITS}")),
    }
}
