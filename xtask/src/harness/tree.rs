//! Trees of files that are moved, and what has arrived of them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::harness::payload::noise;

/// Writes a file whose content depends on its name and size alone.
pub(crate) fn make_file(path: &Path, size: usize) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut content = noise(size)?;
    for (byte, mark) in content.iter_mut().zip(path.file_name().unwrap_or_default().as_bytes()) {
        *byte ^= mark;
    }
    fs::write(path, content).with_context(|| path.display().to_string())
}

/// Whether there is the same in two places: names, kinds and bytes. Unfinished files do not count.
pub(crate) fn same_trees(one: &Path, other: &Path) -> Result<bool> {
    let (kind, other_kind) = (fs::symlink_metadata(one), fs::symlink_metadata(other));
    let (Ok(kind), Ok(other_kind)) = (kind, other_kind) else { return Ok(false) };
    if kind.file_type() != other_kind.file_type() {
        return Ok(false);
    }
    if kind.is_symlink() {
        return Ok(fs::read_link(one)? == fs::read_link(other)?);
    }
    if !kind.is_dir() {
        return same_bytes(one, other);
    }
    let inside = names(one)?;
    if inside != names(other)? {
        return Ok(false);
    }
    for name in inside {
        if !same_trees(&one.join(&name), &other.join(&name))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Checks that whatever has arrived is whole: each file below `goal` has the bytes of the one below `source`.
pub(crate) fn nothing_partial(source: &Path, goal: &Path) -> Result<()> {
    for name in names(goal)? {
        let (there, here) = (source.join(&name), goal.join(&name));
        let kind = fs::symlink_metadata(&here)?;
        if kind.is_dir() {
            nothing_partial(&there, &here)?;
        } else if kind.is_file() {
            ensure!(there.is_file() && same_bytes(&there, &here)?, "{} is not whole", here.display());
        }
    }
    Ok(())
}

/// The names in a directory, in order, but for those of unfinished files.
fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    names.retain(|name| !is_unfinished(name));
    names.sort();
    Ok(names)
}

/// Whether a name is one of those that unfinished files and their journals have.
pub(crate) fn is_unfinished(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".") && (name.ends_with(b".part") || name.ends_with(b".journal"))
}

fn same_bytes(one: &Path, other: &Path) -> Result<bool> {
    let open = |path: &Path| File::open(path).with_context(|| path.display().to_string());
    let (mut one, mut other) = (open(one)?, open(other)?);
    let (mut some, mut others) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let read = one.read(&mut some)?;
        if read == 0 {
            return Ok(other.read(&mut others)? == 0);
        }
        if other.read_exact(&mut others[..read]).is_err() || some[..read] != others[..read] {
            return Ok(false);
        }
    }
}

const PIECE: usize = 1024 * 1024;
