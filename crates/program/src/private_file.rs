//! Files that hold secrets: for their owner alone, whole or not at all.

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::Error;

/// Reads a file with a secret, which nobody but its owner may be able to read.
///
/// # Errors
/// [`Error::File`], [`Error::Exposed`] when others can read it, [`Error::FileTooLong`] above 64 KiB.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    read_guarded(path, 0o077, MAX_LEN)
}

/// Reads text that others may know but not change: it decides whom to trust.
///
/// # Errors
/// [`Error::File`], also when it is not UTF-8; [`Error::Exposed`] when others can write it;
/// [`Error::FileTooLong`] above 16 MiB.
pub fn read_public_text(path: &Path) -> Result<String, Error> {
    let content = read_guarded(path, 0o022, MAX_PUBLIC_LEN)?;
    into_text(path, &content).map(str::to_owned)
}

/// Reads a file that must have none of the permissions in `forbidden`.
fn read_guarded(path: &Path, forbidden: u32, limit: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    // The file that was opened is the one that is judged: a check of the path could be of another file.
    let file = File::open(path).map_err(Error::file("read", path))?;
    let metadata = file.metadata().map_err(Error::file("read", path))?;
    if metadata.is_file() && metadata.mode() & forbidden != 0 {
        return Err(Error::Exposed { path: path.into(), mode: metadata.mode() & 0o7777 });
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let room = usize::try_from(metadata.len().min(limit)).unwrap_or_default() + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    (&file).take(limit + 1).read_to_end(&mut content).map_err(Error::file("read", path))?;
    if u64::try_from(content.len()).is_ok_and(|len| len > limit) {
        return Err(Error::FileTooLong { path: path.into(), limit });
    }
    Ok(content)
}

/// As [`read`], for text.
///
/// # Errors
/// As [`read`]; [`Error::File`] when it is not UTF-8.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, Error> {
    let content = read(path)?;
    into_text(path, &content).map(|text| Zeroizing::new(text.to_owned()))
}

fn into_text<'a>(path: &Path, content: &'a [u8]) -> Result<&'a str, Error> {
    std::str::from_utf8(content).map_err(|error| {
        let source = io::Error::new(io::ErrorKind::InvalidData, error);
        Error::File { action: "read", path: path.into(), source }
    })
}

/// Writes a file with mode 0600, replacing what is there: others see the old one or the new one, never a part.
///
/// # Errors
/// [`Error::File`].
pub fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let file = staged(path, content)?;
    file.persist(path).map_err(|error| error.error).map_err(Error::file("write", path))?;
    Ok(())
}

/// As [`replace`], but leaves a file that is there alone.
///
/// # Errors
/// [`Error::Exists`], [`Error::File`].
pub fn create_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    let file = staged(path, content)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::Exists { path: path.into() })
        }
        Err(error) => Err(Error::File { action: "write", path: path.into(), source: error.error }),
    }
}

/// The content in a temporary file beside `path`, with mode 0600 and on the disk.
fn staged(path: &Path, content: &[u8]) -> Result<tempfile::NamedTempFile, Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(Error::file("write", path))?;
    file.write_all(content).map_err(Error::file("write", path))?;
    file.as_file().sync_all().map_err(Error::file("write", path))?;
    Ok(file)
}

/// Most bytes that a file with a secret has.
const MAX_LEN: u64 = 65536;
/// Most bytes that a file of known servers or allowed clients has.
const MAX_PUBLIC_LEN: u64 = 16 << 20;
