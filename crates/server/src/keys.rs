//! The keys of a server: reading them, making them on first use, and recording pre-shared keys so that they can be
//! revoked by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cli_support::home::Home;
use cli_support::identity::{self, Identity as _, Keygen};
use cli_support::questioner::Questioner;
use cli_support::{output, private_file};
use crypto_core::identity::{KeyId, ServerKey};
use crypto_core::psk::PreSharedKey;
use getrandom::SysRng;

use crate::access::AccessFile;
use crate::audit::Event;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::settings::Identity;

/// Reads the server's identity: the key of its home, which is made on first use, or the pre-shared keys in `psks`.
///
/// # Errors
/// [`Error::Program`] that names the file, [`Error::DuplicatePsk`], [`Error::NameTaken`] by a client with a key.
pub fn read_identity(home: &Home, psks: &[PathBuf], access: &AccessFile) -> Result<Identity, Error> {
    if psks.is_empty() {
        return Ok(Identity::Key(Arc::new(read_or_make_key(home)?)));
    }
    let psks = read_psks(psks)?;
    note_psks(access, &psks)?;
    Ok(Identity::Psk(psks))
}

/// Returns whether [`read_identity`] would only read files, and make none.
#[must_use]
pub fn has_identity(home: &Home, psks: &[PathBuf]) -> bool {
    !psks.is_empty() || home.file(ServerKey::FILE_NAME).exists()
}

fn read_or_make_key(home: &Home) -> Result<ServerKey, Error> {
    if private_file::is_absent(&home.file(ServerKey::FILE_NAME))? {
        match identity::make(home, &Keygen::default()) {
            // Another server of the same home was quicker, and its key is used.
            Err(cli_support::Error::Exists { .. }) => {}
            made => return Ok(made?),
        }
    }
    Ok(identity::read(home)?)
}

fn read_psks(files: &[PathBuf]) -> Result<BTreeMap<String, Arc<PreSharedKey>>, Error> {
    let mut psks = BTreeMap::new();
    for path in files {
        let psk = identity::read_psk(path)?;
        if let Some(double) = psks.insert(psk.id().to_owned(), Arc::new(psk)) {
            return Err(Error::DuplicatePsk { id: double.id().to_owned() });
        }
    }
    Ok(psks)
}

/// Records keys that were made elsewhere, so that each can be revoked here by its name.
fn note_psks(access: &AccessFile, psks: &BTreeMap<String, Arc<PreSharedKey>>) -> Result<(), Error> {
    let noted = access.read().and_then(|known| {
        let unknown = |name: &&String| known.as_ref().is_none_or(|known| !known.knows_psk(name));
        let names: Vec<&String> = psks.keys().filter(unknown).collect();
        if names.is_empty() {
            return Ok(());
        }
        access.edit(|access| names.into_iter().try_for_each(|name| access.note_psk(name)))
    });
    match noted {
        // A file that cannot be written is tolerated. A key that cannot be revoked, since another client has its
        // name, is not.
        Err(Error::Program(error)) => {
            tracing::warn!(%error, "these pre-shared keys cannot be revoked by name");
            Ok(())
        }
        noted => noted,
    }
}

/// Makes a pre-shared key, into a file or to standard output. A second one of the same name needs a confirmation,
/// since it does not replace the first where that is in use.
///
/// # Errors
/// [`Error::PskExists`] where the user refused, or could not be asked and `force` is not set; those of
/// [`make_psk`].
pub fn keygen_psk(home: &Home, name: &str, out: Option<&Path>, force: bool) -> Result<(), Error> {
    if !force {
        if let Some(path) = out.filter(|path| path.exists()) {
            return Err(cli_support::Error::Exists { path: path.into() }.into());
        }
        let is_known = AccessFile::new(home.clone()).read()?.is_some_and(|access| access.has_psk(name));
        if is_known {
            let again = Error::PskExists { name: name.into() };
            let Ok(questioner) = Questioner::find() else { return Err(again) };
            let failed = |source| cli_support::Error::Stdio { stream: questioner.name(), source };
            let question = format!("{again}, and goes on being good. Make another one of that name?");
            if !questioner.confirm(&question).map_err(failed)? {
                return Err(again);
            }
        }
    }
    let text = make_psk(home, name)?;
    let path = out.map(|path| path.display().to_string());
    match out {
        None if output::is_json() => {}
        None => output::print_as_it_is(&text)?,
        Some(path) if force => private_file::replace(path, text.as_bytes())?,
        Some(path) => private_file::create_new(path, text.as_bytes())?,
    }
    let text = if path.is_none() { Some(&**text) } else { None };
    Outcome::Psk { name, text, path: path.as_deref() }.tell().map(drop)
}

/// Makes a pre-shared key for the client `name`, and returns the text of its file.
///
/// # Errors
/// [`Error::NameTaken`], [`Error::BadName`], [`Error::Program`].
pub fn make_psk(home: &Home, name: &str) -> Result<zeroize::Zeroizing<String>, Error> {
    let file = AccessFile::new(home.clone());
    file.audit().ready()?;
    let server_id = read_or_make_psk_server_id(home)?;
    file.edit(|access| access.note_psk(name))?;
    file.audit().note(&Event::PskMade { client: name });
    file.audit().finish()?;
    let psk = PreSharedKey::generate(&mut SysRng, name, server_id).map_err(cli_support::Error::from)?;
    Ok(psk.to_text())
}

/// The id that the pre-shared keys of this home are bound to, which is random, and not a secret.
fn read_or_make_psk_server_id(home: &Home) -> Result<KeyId, Error> {
    let path = home.file(PSK_SERVER_ID_FILE);
    home.create()?;
    if private_file::is_absent(&path)? {
        let id = KeyId::random(&mut SysRng).map_err(cli_support::Error::from)?;
        match private_file::create_new(&path, format!("{id}\n").as_bytes()) {
            Err(cli_support::Error::Exists { .. }) => {}
            written => return Ok(written.map(|()| id)?),
        }
    }
    let text = private_file::read_text(&path)?;
    Ok(text.trim().parse().map_err(|source| cli_support::Error::Key { path, source })?)
}

const PSK_SERVER_ID_FILE: &str = "psk-server-id";
