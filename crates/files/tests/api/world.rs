//! A directory for a test, and beside it one in which nothing may be read or changed.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use files::directory::Directory;
use tempfile::TempDir;

/// What stands in a file outside.
pub(crate) const OUTSIDE: &str = "what is outside";
/// What stands in a file inside.
pub(crate) const INSIDE: &str = "inside";

/// `inside` and `outside`, with the same names in both.
pub(crate) struct World {
    root: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let root = TempDir::new().unwrap();
        for (side, content) in [("inside/a/victim", INSIDE), ("outside", OUTSIDE)] {
            let side = root.path().join(side);
            fs::create_dir_all(side.join("sub/sub/deep")).unwrap();
            fs::write(side.join("sub/sub/deep/file"), content).unwrap();
            // The same once more further down.
            for directory in [side.clone(), side.join("sub")] {
                for name in ["file", "doomed", "from"] {
                    fs::write(directory.join(name), content).unwrap();
                }
                std::os::unix::fs::symlink(content, directory.join("link")).unwrap();
            }
        }
        for directory in ["outside", "outside/sub"] {
            fs::write(root.path().join(directory).join("secret"), OUTSIDE).unwrap();
        }
        Self { root }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    pub(crate) fn inside(&self) -> Directory {
        Directory::open_trusted(&self.path("inside")).unwrap()
    }

    /// All that is outside: names, permissions, times and contents.
    pub(crate) fn outside(&self) -> Vec<String> {
        snapshot(&self.path("outside"))
    }

    /// All that there is.
    pub(crate) fn everything(&self) -> Vec<String> {
        snapshot(self.root.path())
    }
}

fn snapshot(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    look(path, &mut found);
    found
}

fn look(path: &Path, found: &mut Vec<String>) {
    let status = fs::symlink_metadata(path).unwrap();
    let content = if status.is_symlink() {
        fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()
    } else if status.is_file() {
        fs::read(path).unwrap_or_default()
    } else {
        Vec::new()
    };
    found.push(format!(
        "{path:?} {:o} {} {}.{:09} {}",
        status.mode(),
        status.nlink(),
        status.mtime(),
        status.mtime_nsec(),
        content.escape_ascii()
    ));
    if status.is_dir() {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names.iter().for_each(|path| look(path, found));
    }
}
