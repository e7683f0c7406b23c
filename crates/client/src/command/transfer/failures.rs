//! Lists of paths in files: what has failed, and what is to be moved again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::files::error::FilesError;

/// A list that is written path by path: one a line, and with a NUL behind each once one has a line break in it.
#[derive(Debug)]
pub(super) struct FailureList {
    path: PathBuf,
    file: BufWriter<File>,
    separator: u8,
}

impl FailureList {
    /// Begins an empty list.
    pub(super) fn create(path: &Path) -> Result<Self, FilesError> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.map_err(failed("write", path))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), separator: b'\n' })
    }

    /// Adds a path.
    pub(super) fn add(&mut self, entry: &[u8]) -> Result<(), FilesError> {
        let added = (|| {
            if self.separator == b'\n' && entry.contains(&b'\n') {
                self.separate_by_nul()?;
            }
            self.file.write_all(entry)?;
            self.file.write_all(&[self.separator])
        })();
        added.map_err(failed("write", &self.path))
    }

    /// Ends the list.
    pub(super) fn finish(mut self) -> Result<(), FilesError> {
        self.file.flush().map_err(failed("write", &self.path))
    }

    /// Replaces the line breaks so far, which all are behind paths.
    fn separate_by_nul(&mut self) -> std::io::Result<()> {
        self.separator = 0;
        self.file.flush()?;
        let file = self.file.get_mut();
        file.rewind()?;
        let mut lines = Vec::new();
        file.read_to_end(&mut lines)?;
        lines.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = 0);
        file.rewind()?;
        file.write_all(&lines)
    }
}

/// Reads such a list.
pub(super) fn read(path: &Path) -> Result<BTreeSet<Vec<u8>>, FilesError> {
    let bytes = std::fs::read(path).map_err(failed("read", path))?;
    Ok(split(&bytes))
}

fn split(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    let separator = if bytes.contains(&0) { 0 } else { b'\n' };
    bytes.split(|&byte| byte == separator).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::LocalFile { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("failed");
        let write = |entries: &[&[u8]]| {
            let mut list = FailureList::create(&file).unwrap();
            entries.iter().for_each(|entry| list.add(entry).unwrap());
            list.finish().unwrap();
            assert_eq!(read(&file).unwrap(), entries.iter().map(|entry| entry.to_vec()).collect());
            std::fs::read(&file).unwrap()
        };
        assert_eq!(write(&[]), b"");
        assert_eq!(write(&[b"b", b"a \xff"]), b"b\na \xff\n");
        assert_eq!(write(&[b"a", b"b", b"c\nd", b"e"]), b"a\0b\0c\nd\0e\0");
        assert!(matches!(FailureList::create(folder.path()), Err(FilesError::LocalFile { .. })));
        assert!(matches!(read(&folder.path().join("none")), Err(FilesError::LocalFile { .. })));
    }
}
