//! What stands where an entry is to go, and what that means for the entry.

use std::fs::File;
use std::io;

use sha2::{Digest as _, Sha256};
use wire_protocol::message::{Existing, FileTime, FilesCode, TransferOptions};

use crate::cause::Cause;
use crate::control::{Control, charge};
use crate::directory::{Directory, Kind, Status};
use crate::error::Error;
use crate::failure::Failure;
use crate::journal::{Hash, read_up_to};

/// What becomes of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The entry is there already; the SHA-256 of a file where it was compared.
    Same(Option<Hash>),
    /// The entry is to be stored.
    Store {
        /// What the entry counts for that it replaces.
        replaced: u64,
    },
}

/// A file that is offered.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfferedFile {
    pub(super) size: Option<u64>,
    pub(super) modified: FileTime,
    pub(super) sha256: Option<Hash>,
}

/// Judges a file by what stands in `directory` as `name`.
pub(super) fn judge_file(
    directory: &Directory,
    name: &[u8],
    offered: &OfferedFile,
    options: &TransferOptions,
    control: &dyn Control,
) -> Result<Verdict, Failure> {
    let Some(status) = directory.stat(name).map_err(Cause::from)? else {
        return Ok(Verdict::Store { replaced: 0 });
    };
    if let Some(sha256) = compare(directory, name, &status, offered, options, control)? {
        return Ok(Verdict::Same(sha256));
    }
    match options.existing {
        Existing::Refuse => Err(FilesCode::Exists.into()),
        Existing::Replace if status.kind == Kind::Directory => Err(FilesCode::IsDirectory.into()),
        Existing::Replace => Ok(Verdict::Store { replaced: charge_of(&status) }),
        Existing::Rename => {
            // An earlier transfer may have stored the same file under another name.
            for number in 1..=MOST_COMPARED {
                let name = numbered(name, number);
                let Some(status) = directory.stat(&name).map_err(Cause::from)? else { break };
                if let Some(sha256) = compare(directory, &name, &status, offered, options, control)? {
                    return Ok(Verdict::Same(sha256));
                }
            }
            Ok(Verdict::Store { replaced: 0 })
        }
    }
}

/// What an entry counts for that is there.
fn charge_of(status: &Status) -> u64 {
    charge(if status.kind == Kind::File { status.size } else { 0 })
}

/// Most files of other names that are compared.
const MOST_COMPARED: u32 = 100;

/// Whether it is the same file, and its SHA-256 where that says so.
fn compare(
    directory: &Directory,
    name: &[u8],
    status: &Status,
    offered: &OfferedFile,
    options: &TransferOptions,
    control: &dyn Control,
) -> Result<Option<Option<Hash>>, Failure> {
    if status.kind != Kind::File || Some(status.size) != offered.size {
        return Ok(None);
    }
    if !options.checksum {
        return Ok((options.preserve && status.modified == offered.modified).then_some(None));
    }
    let Some(expected) = offered.sha256 else { return Ok(None) };
    let Ok(file) = directory.open_file(name) else { return Ok(None) };
    let sha256 = sha256(&file, control)?;
    Ok((sha256 == Some(expected)).then_some(sha256))
}

/// The SHA-256 of a file; `None` where it cannot be read.
fn sha256(file: &File, control: &dyn Control) -> Result<Option<Hash>, Error> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut offset = 0;
    loop {
        if control.is_stopped() {
            return Err(Error::Stopped);
        }
        let Ok(read) = read_up_to(file, &mut buffer, offset) else { return Ok(None) };
        hasher.update(&buffer[..read]);
        if read < buffer.len() {
            return Ok(Some(hasher.finalize().into()));
        }
        offset += u64::try_from(read).unwrap_or(u64::MAX);
    }
}

/// Judges a link to `target`.
pub(super) fn judge_link(
    directory: &Directory,
    name: &[u8],
    target: &[u8],
    existing: Existing,
) -> io::Result<Result<Verdict, FilesCode>> {
    let Some(status) = directory.stat(name)? else { return Ok(Ok(Verdict::Store { replaced: 0 })) };
    if status.kind == Kind::Symlink && directory.read_link(name)?.as_slice() == target {
        return Ok(Ok(Verdict::Same(None)));
    }
    Ok(match existing {
        Existing::Refuse => Err(FilesCode::Exists),
        Existing::Replace if status.kind == Kind::Directory => Err(FilesCode::IsDirectory),
        Existing::Replace => Ok(Verdict::Store { replaced: charge_of(&status) }),
        Existing::Rename => {
            for number in 1..=MOST_COMPARED {
                let name = numbered(name, number);
                match directory.stat(&name)? {
                    Some(status)
                        if status.kind == Kind::Symlink
                            && directory.read_link(&name)?.as_slice() == target =>
                    {
                        return Ok(Ok(Verdict::Same(None)));
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            Ok(Verdict::Store { replaced: 0 })
        }
    })
}

/// Another name for an entry whose name is taken: `NAME (1).EXT`, cut so that it is no longer than a name may be.
pub(super) fn numbered(name: &[u8], number: u32) -> Vec<u8> {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0 && name.len() - dot <= 32);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let inserted = format!(" ({number})");
    let most = wire_protocol::message::MAX_NAME_LEN.saturating_sub(inserted.len() + extension.len());
    let mut stem = &stem[..stem.len().min(most)];
    if let (Ok(_), Err(error)) = (std::str::from_utf8(name), std::str::from_utf8(stem)) {
        // A character of UTF-8 is not cut in two.
        stem = &stem[..error.valid_up_to()];
    }
    [stem, inserted.as_bytes(), extension].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_before_the_extension() {
        for (name, numbered_name) in [
            (&b"a.txt"[..], &b"a (1).txt"[..]),
            (b"a", b"a (1)"),
            (b".profile", b".profile (1)"),
            (b"a.tar.gz", b"a.tar (1).gz"),
            (b"\xff.\xfe", b"\xff (1).\xfe"),
        ] {
            assert_eq!(numbered(name, 1), numbered_name);
        }
    }

    #[test]
    fn a_name_stays_within_its_limit() {
        for name in
            [vec![b'a'; 255], [&[b'a'; 251][..], b".txt"].concat(), [&b"a."[..], &[b'b'; 253]].concat()]
        {
            for number in [1, 99, 4_000_000_000] {
                let new = numbered(&name, number);
                assert!(new.len() <= 255 && new != name, "{new:?}");
            }
        }
        let umlauts = "ä".repeat(127);
        assert!(String::from_utf8(numbered(umlauts.as_bytes(), 1)).is_ok());
    }
}
