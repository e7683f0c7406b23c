//! Trees of files with all that a tree can have, and what is in one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use crate::harness::home::set_mode;
use crate::harness::payload::{digest, noise};

/// Makes a tree with empty, small, large and sparse files, odd names, links and permissions.
pub(crate) fn plant(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("deep/er/still"))?;
    fs::create_dir(root.join("empty directory"))?;
    let write = |name: &[u8], bytes: &[u8], mode: u32| -> Result<()> {
        let path = root.join(OsStr::from_bytes(name));
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        set_mode(&path, mode)
    };
    write(b"empty", b"", 0o644)?;
    write(b"program", b"#!/bin/sh\n", 0o755)?;
    write(b"secret", b"secret", 0o600)?;
    write(b"deep/er/still/large", &noise(5 * 1024 * 1024 + 7)?, 0o640)?;
    write(b"deep/one chunk", &noise(1024 * 1024)?, 0o644)?;
    write(b"odd \xff\n\x1b[31m name", b"odd", 0o644)?;
    write("\u{202e}ümlaut".as_bytes(), b"umlaut", 0o644)?;
    write(&[b'n'; 255], b"long", 0o644)?;
    let sparse = File::create(root.join("sparse"))?;
    sparse.set_len(20 * 1024 * 1024)?;
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 9 * 1024 * 1024)?;
    symlink("deep/one chunk", root.join("link"))?;
    symlink("/nowhere/at all", root.join("deep/dangling"))?;
    fs::hard_link(root.join("program"), root.join("deep/program too"))?;
    let mut age = 0;
    for (path, _) in entries(root)?.into_iter().rev() {
        let path = root.join(path);
        if !path.is_symlink() {
            age += 1;
            let time = UNIX_EPOCH + Duration::new(1_000_000_000 + age, 123_456_789);
            File::open(&path)?.set_modified(time)?;
        }
    }
    set_mode(&root.join("deep/er"), 0o750)?;
    Ok(())
}

/// What is in a tree, and of which kind, with mode, time and content.
pub(crate) fn entries(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let within = root.join(&directory);
        for entry in fs::read_dir(&within).with_context(|| within.display().to_string())? {
            let path = directory.join(entry?.file_name());
            let full = root.join(&path);
            let metadata = fs::symlink_metadata(&full)?;
            let (mode, time) = (metadata.mode() & 0o7777, (metadata.mtime(), metadata.mtime_nsec()));
            let shown = if metadata.is_symlink() {
                format!("link to {:?}", fs::read_link(&full)?)
            } else if metadata.is_dir() {
                directories.push(path.clone());
                format!("directory {mode:o} {time:?}")
            } else {
                format!("file {mode:o} {time:?} {} {}", metadata.len(), digest(&fs::read(&full)?))
            };
            found.insert(path, shown);
        }
    }
    Ok(found)
}

/// Checks that two trees are the same.
pub(crate) fn expect_same(one: &Path, other: &Path) -> Result<()> {
    let (one, other) = (entries(one)?, entries(other)?);
    for (path, shown) in &one {
        ensure!(other.get(path) == Some(shown), "{path:?}: {shown} has become {:?}", other.get(path));
    }
    ensure!(
        one.len() == other.len(),
        "there is more: {:?}",
        other.keys().find(|path| !one.contains_key(*path))
    );
    Ok(())
}
