//! Where on this machine files are stored that come from a server.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ::files::directory::Directory;
use ::files::path::RelativePath;
use ::files::receiver::Placed;
use cli_support::private_file::keep_name;

use super::error::FilesError;
use super::put::relative;

/// A destination: beneath a directory that exists.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub(super) directory: Directory,
    /// What of the way to it may be missing, and is made.
    pub(super) base: RelativePath,
    pub(super) placed: Placed,
}

impl Destination {
    /// What the user's own `path` means: a directory to store into, where it is one, is written as one or `has_many`, else the name for
    /// the only source. Links on the way are followed.
    pub(super) fn resolve(path: &Path, has_many: bool, is_dry_run: bool) -> Result<Self, FilesError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FilesError::LocalFile { action: "write to", path, source }
        };
        let is_directory = has_many || is_written_as_directory(path) || path.is_dir();
        let placed = if is_directory { Placed::Into } else { Placed::As };
        if is_directory && !is_dry_run {
            // Of a path that ends in `/.` the system makes nothing.
            let path: PathBuf = path.components().collect();
            let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
            let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
            fs::create_dir_all(&path).map_err(failed(&path))?;
            // What arrives in a folder is only kept where the folder is.
            for folder in missing {
                keep_name(folder).map_err(|error| failed(folder)(io::Error::other(error)))?;
            }
        }
        let mut existing = if is_directory { path } else { parent(path) };
        let mut missing = if is_directory { Vec::new() } else { vec![name(path)?] };
        while let Err(error) = fs::metadata(existing) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(failed(existing)(error));
            }
            missing.push(name(existing)?);
            existing = parent(existing);
        }
        missing.reverse();
        let directory = Directory::open_trusted(existing).map_err(failed(existing))?;
        Ok(Self { directory, base: relative(&missing.join(&b'/'))?, placed })
    }
}

fn is_written_as_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.") || path.file_name().is_none()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn name(path: &Path) -> Result<Vec<u8>, FilesError> {
    let name = path.file_name().map(|name| name.as_bytes().to_vec());
    name.ok_or_else(|| FilesError::LocalFile {
        action: "write to",
        path: PathBuf::from(path),
        source: io::ErrorKind::NotFound.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_stored_into_and_anything_else_is_the_new_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir(at("there")).unwrap();
        fs::write(at("file"), "").unwrap();
        let check = |path: &str, has_many, base: &str, placed| {
            let destination = Destination::resolve(&at(path), has_many, true).unwrap();
            assert_eq!(destination.base.as_bytes(), base.as_bytes(), "{path}");
            assert_eq!(destination.placed, placed, "{path}");
        };
        check("there", false, "", Placed::Into);
        check("there/.", false, "", Placed::Into);
        check("new", false, "new", Placed::As);
        check("file", false, "file", Placed::As);
        check("there/new", false, "new", Placed::As);
        check("a/b/new", false, "a/b/new", Placed::As);
        check("new/", false, "new", Placed::Into);
        check("a/b/", false, "a/b", Placed::Into);
        check("new", true, "new", Placed::Into);
        assert!(!at("a").exists() && !at("new").exists(), "a dry run makes nothing");
        Destination::resolve(&at("a/b/"), false, false).unwrap();
        assert!(at("a/b").is_dir());
        Destination::resolve(&at("c/."), false, false).unwrap();
        assert!(at("c").is_dir());
        assert!(Destination::resolve(&at("file/x"), false, false).is_err());
        assert!(Destination::resolve(&at("file"), true, false).is_err());
    }
}
