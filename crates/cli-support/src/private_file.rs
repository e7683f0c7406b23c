//! Files that hold secrets, or decide whom to trust: written as a whole, and protected from other users.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::Error;

/// Reads a file with a secret, which only its owner may be able to read.
///
/// # Errors
/// [`Error::File`], [`Error::Exposed`] when other users can read the file, [`Error::FileTooLong`] above 64 KiB,
/// [`Error::ForeignFile`] and [`Error::OpenFolder`] when another user could have created it.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    read_guarded(path, 0o077, MAX_LEN)
}

/// Reads text that other users may read but not change, since it decides whom to trust.
///
/// # Errors
/// [`Error::File`], also when the text is not UTF-8, [`Error::Exposed`] when other users can write the file,
/// [`Error::FileTooLong`] above 16 MiB, [`Error::ForeignFile`] and [`Error::OpenFolder`] when another user could
/// have created it.
pub fn read_public_text(path: &Path) -> Result<String, Error> {
    let content = read_guarded(path, 0o022, MAX_PUBLIC_LEN)?;
    into_text(path, &content).map(str::to_owned)
}

/// Reads a file that must have none of the permissions in `forbidden`, and at most `limit` bytes.
fn read_guarded(path: &Path, forbidden: u32, limit: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    // The checks apply to the opened file, since the path could lead to another file in the meantime.
    let file = File::open(path).map_err(Error::file("read", path))?;
    let metadata = file.metadata().map_err(Error::file("read", path))?;
    check_owner(path, &metadata)?;
    // A pipe, such as a shell's <(...), is in no folder, and belongs to this process alone.
    if metadata.is_file() {
        if metadata.mode() & forbidden != 0 {
            return Err(Error::Exposed { path: path.into(), mode: metadata.mode() & 0o7777 });
        }
        check_folders(path)?;
    }
    // The buffer has its full capacity from the beginning, since a buffer that grows leaves copies of a secret in
    // memory.
    let room = usize::try_from(metadata.len().min(limit)).unwrap_or_default() + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    (&file).take(limit + 1).read_to_end(&mut content).map_err(Error::file("read", path))?;
    if u64::try_from(content.len()).is_ok_and(|len| len > limit) {
        return Err(Error::FileTooLong { path: path.into(), limit });
    }
    Ok(content)
}

/// Returns whether no file of this name exists. Trust is built on the answer, so an uncertain answer is an error: a
/// dangling link or an unreadable folder does not prove absence, and in a folder that other users can change the
/// file may have been removed a moment ago.
///
/// # Errors
/// [`Error::File`], [`Error::DanglingLink`], [`Error::OpenFolder`], [`Error::ForeignFile`].
pub fn is_absent(path: &Path) -> Result<bool, Error> {
    if exists(path)? {
        return Ok(false);
    }
    for folder in folders(path) {
        if exists(folder)? {
            let real = fs::canonicalize(folder).map_err(Error::file("read", folder))?;
            // A folder that does not exist yet will belong to this user, so that a sticky bit is enough for the
            // folder above it.
            let is_its_own = folders(path).next() == Some(folder);
            check_chain(path, &real, if is_its_own { Sticky::IsNotEnough } else { Sticky::IsEnough })?;
            check_links(path, folder)?;
            break;
        }
    }
    Ok(true)
}

/// The folders that contain `path`, the innermost first.
fn folders(path: &Path) -> impl Iterator<Item = &Path> {
    let named = |folder: &Path| !folder.as_os_str().is_empty();
    path.ancestors().skip(1).map(move |folder| if named(folder) { folder } else { Path::new(".") })
}

/// Returns whether a file of this name exists. A dangling link is an error.
fn exists(path: &Path) -> Result<bool, Error> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => Err(Error::DanglingLink { path: path.into() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::file("read", path)(error)),
        },
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

/// Checks the owner, who decides the content of the file. The administrator could change every file anyway.
fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    let owner = metadata.uid();
    if is_trusted(owner) { Ok(()) } else { Err(Error::ForeignFile { path: path.into(), owner }) }
}

fn is_trusted(owner: u32) -> bool {
    owner == ROOT || owner == geteuid().as_raw()
}

/// Checks the folders of the file, in which another user could replace it. Where links lead to the file, the folder
/// of each link is checked too.
fn check_folders(path: &Path) -> Result<(), Error> {
    let real = fs::canonicalize(path).map_err(Error::file("read", path))?;
    if let Some(folder) = real.parent() {
        check_chain(path, folder, Sticky::IsNotEnough)?;
    }
    check_links(path, path)
}

/// Checks the links in `way`, since a user who can change or replace a link can make it lead elsewhere.
fn check_links(path: &Path, way: &Path) -> Result<(), Error> {
    for component in way.ancestors().filter(|component| !component.as_os_str().is_empty()) {
        let metadata = fs::symlink_metadata(component).map_err(Error::file("read", component))?;
        if metadata.is_symlink() {
            check_owner(component, &metadata)?;
            let folder = folder_of(component);
            let folder = fs::canonicalize(&folder).map_err(Error::file("read", &folder))?;
            check_chain(path, &folder, Sticky::IsEnough)?;
        }
    }
    Ok(())
}

/// Whether a sticky folder is safe enough: all users may create files in it, but not change those of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sticky {
    IsEnough,
    IsNotEnough,
}

/// Checks the folder of `path` and all folders above it, since a user who can move one of them can replace it.
fn check_chain(path: &Path, folder: &Path, sticky: Sticky) -> Result<(), Error> {
    for (depth, folder) in folder.ancestors().enumerate() {
        let metadata = fs::metadata(folder).map_err(Error::file("read", folder))?;
        if depth == 0 {
            check_owner(folder, &metadata)?;
        }
        let sticky = if depth == 0 { sticky } else { Sticky::IsEnough };
        if is_open(&metadata, sticky) {
            let mode = metadata.mode() & 0o7777;
            return Err(Error::OpenFolder { path: path.into(), folder: folder.into(), mode });
        }
    }
    Ok(())
}

fn is_open(metadata: &Metadata, sticky: Sticky) -> bool {
    let mode = metadata.mode();
    match sticky {
        Sticky::IsNotEnough => mode & 0o022 != 0,
        Sticky::IsEnough if mode & 0o1000 != 0 => false,
        // On many systems each user has a group of the same number, for which folders further up are writable.
        Sticky::IsEnough => mode & 0o002 != 0 || (mode & 0o020 != 0 && metadata.gid() != metadata.uid()),
    }
}

/// Reads a file with a secret as [`read`] does, as text.
///
/// # Errors
/// Those of [`read`], and [`Error::File`] when the content is not UTF-8.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, Error> {
    let content = read(path)?;
    into_text(path, &content).map(|text| Zeroizing::new(text.to_owned()))
}

/// Reads a file with secrets as [`read_text`] does, which may be as long as 16 MiB.
///
/// # Errors
/// Those of [`read_text`].
pub fn read_long_text(path: &Path) -> Result<Zeroizing<String>, Error> {
    let content = read_guarded(path, 0o077, MAX_PUBLIC_LEN)?;
    into_text(path, &content).map(|text| Zeroizing::new(text.to_owned()))
}

fn into_text<'a>(path: &Path, content: &'a [u8]) -> Result<&'a str, Error> {
    std::str::from_utf8(content).map_err(|error| {
        let source = io::Error::new(io::ErrorKind::InvalidData, error);
        Error::File { action: "read", path: path.into(), source }
    })
}

/// Writes a file with mode 0600, replacing an existing one. Readers see the old file or the new one, never a part.
/// After the return a power failure does not bring the old file back.
///
/// # Errors
/// [`Error::File`] when the file cannot be written or renamed.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let file = staged(path, content)?;
    file.persist(path).map_err(|error| error.error).map_err(Error::file("write", path))?;
    keep_name(path)
}

/// Writes a file as [`replace`] does that [`read_public_text`] or [`read_long_text`] is to read again.
///
/// # Errors
/// Those of [`replace`], and [`Error::FileTooLong`] above 16 MiB, which nobody could read.
pub fn replace_long(path: &Path, content: &[u8]) -> Result<(), Error> {
    if u64::try_from(content.len()).is_ok_and(|len| len > MAX_PUBLIC_LEN) {
        return Err(Error::FileTooLong { path: path.into(), limit: MAX_PUBLIC_LEN });
    }
    replace(path, content)
}

/// Writes a file as [`replace`] does, unless it exists.
///
/// # Errors
/// [`Error::Exists`] when the file exists, [`Error::File`] when it cannot be written.
pub fn create_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    let file = staged(path, content)?;
    match file.persist_noclobber(path) {
        Ok(_) => keep_name(path),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::Exists { path: path.into() })
        }
        Err(error) => Err(Error::File { action: "write", path: path.into(), source: error.error }),
    }
}

/// Writes the content to a temporary file beside `path`, with mode 0600, and syncs it to the disk.
fn staged(path: &Path, content: &[u8]) -> Result<tempfile::NamedTempFile, Error> {
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder_of(path))
        .map_err(Error::file("write", path))?;
    file.write_all(content).map_err(Error::file("write", path))?;
    file.as_file().sync_all().map_err(Error::file("write", path))?;
    Ok(file)
}

/// Syncs the folder of `path` to the disk, since the name of a file is not part of the file.
///
/// # Errors
/// [`Error::File`] when the folder cannot be synced, unless its file system does not do that at all.
pub fn keep_name(path: &Path) -> Result<(), Error> {
    let synced = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    match synced {
        // Some file systems, such as those of a network, do not support this.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        synced => synced.map_err(Error::file("write", path)),
    }
}

fn folder_of(path: &Path) -> PathBuf {
    folders(path).next().unwrap_or(Path::new("/")).into()
}

/// Most bytes in a file with a secret.
const MAX_LEN: u64 = 65536;
/// Most bytes in a file of known servers, allowed clients or invites.
const MAX_PUBLIC_LEN: u64 = 16 << 20;
/// The administrator's user id.
const ROOT: u32 = 0;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A folder with a file that passes all checks.
    fn good() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inner").join("secret");
        fs::create_dir(path.parent().unwrap()).unwrap();
        set_mode(path.parent().unwrap(), 0o700);
        create_new(&path, b"secret").unwrap();
        read(&path).unwrap();
        (folder, path)
    }

    #[test]
    fn a_file_in_a_folder_that_others_can_change_is_refused() {
        let (outer, path) = good();
        let inner = path.parent().unwrap();
        for (mode, is_good) in
            [(0o700, true), (0o755, true), (0o770, false), (0o775, false), (0o777, false), (0o1777, false)]
        {
            set_mode(inner, mode);
            for read in [read(&path).map(drop), read_public_text(&path).map(drop)] {
                match read {
                    Ok(()) => assert!(is_good, "{mode:o}"),
                    Err(Error::OpenFolder { folder, mode: said, .. }) => {
                        assert!(!is_good && folder.ends_with("inner") && said == mode, "{mode:o}");
                    }
                    Err(error) => panic!("{mode:o}: {error}"),
                }
            }
            let absent = is_absent(&inner.join("other"));
            assert_eq!(absent.is_ok(), is_good, "{mode:o}: {absent:?}");
        }
        set_mode(inner, 0o700);
        // A folder further up is as bad, unless it is sticky like /tmp.
        for (mode, is_good) in [(0o755, true), (0o1777, true), (0o777, false)] {
            set_mode(outer.path(), mode);
            assert_eq!(read(&path).is_ok(), is_good, "{mode:o}");
            assert_eq!(is_absent(&inner.join("other")).is_ok(), is_good, "{mode:o}");
            assert_eq!(is_absent(&outer.path().join("none").join("other")).is_ok(), is_good, "{mode:o}");
        }
    }

    #[test]
    fn files_and_folders_of_another_user_are_refused() {
        let (_outer, path) = good();
        // Only the administrator can change the owner of a file.
        if chown(&path, Some(4711), None).is_err() {
            return;
        }
        assert!(matches!(read(&path), Err(Error::ForeignFile { owner: 4711, .. })));
        chown(&path, Some(0), None).unwrap();
        let inner = path.parent().unwrap();
        chown(inner, Some(4711), None).unwrap();
        assert!(
            matches!(read(&path), Err(Error::ForeignFile { owner: 4711, path }) if path.ends_with("inner"))
        );
        assert!(is_absent(&inner.join("other")).is_err());
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let (_outer, path) = good();
        let most = usize::try_from(MAX_PUBLIC_LEN).unwrap();
        assert!(matches!(replace_long(&path, &vec![b'#'; most + 1]), Err(Error::FileTooLong { .. })));
        assert_eq!(read(&path).unwrap().as_slice(), b"secret");
        replace_long(&path, &vec![b'#'; most]).unwrap();
        read_long_text(&path).unwrap();
    }

    #[test]
    fn a_link_is_checked_where_it_is_and_where_it_leads() {
        let (outer, path) = good();
        let links = outer.path().join("links");
        fs::create_dir(&links).unwrap();
        let link = links.join("link");
        symlink(&path, &link).unwrap();
        for (links_mode, inner_mode, is_good) in
            [(0o755, 0o700, true), (0o1777, 0o700, true), (0o777, 0o700, false), (0o755, 0o777, false)]
        {
            set_mode(&links, links_mode);
            set_mode(path.parent().unwrap(), inner_mode);
            assert_eq!(read(&link).is_ok(), is_good, "{links_mode:o}, {inner_mode:o}");
        }
        // A link further up on the way is checked, too.
        set_mode(path.parent().unwrap(), 0o700);
        let way = links.join("way");
        symlink(path.parent().unwrap(), &way).unwrap();
        for (links_mode, is_good) in [(0o755, true), (0o1777, true), (0o777, false)] {
            set_mode(&links, links_mode);
            assert_eq!(read(&way.join("secret")).is_ok(), is_good, "{links_mode:o}");
            assert_eq!(is_absent(&way.join("other")).is_ok(), is_good, "{links_mode:o}");
            assert_eq!(is_absent(&way.join("no").join("other")).is_ok(), is_good, "{links_mode:o}");
        }
    }

    #[test]
    fn only_a_file_that_certainly_does_not_exist_is_absent() {
        let (outer, path) = good();
        assert!(!is_absent(&path).unwrap());
        assert!(is_absent(&outer.path().join("other")).unwrap());
        assert!(is_absent(&outer.path().join("no").join("such").join("folder")).unwrap());
        let nowhere = outer.path().join("nowhere");
        symlink("/no/such/place", &nowhere).unwrap();
        assert!(matches!(is_absent(&nowhere), Err(Error::DanglingLink { .. })));
        // This stands for a home that is not mounted.
        assert!(matches!(is_absent(&nowhere.join("file")), Err(Error::DanglingLink { .. })));
        let around = outer.path().join("around");
        symlink(&around, &around).unwrap();
        assert!(is_absent(&around).is_err());
        assert!(is_absent(&path.join("below")).is_err());
    }
}
