//! Lists of paths in files: what has failed, and what is to be moved again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
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

    /// Adds a path. One with a NUL in it is the name of nothing, which only a server that lies tells of: it is left out.
    pub(super) fn add(&mut self, entry: &[u8]) -> Result<(), FilesError> {
        if entry.contains(&0) {
            return Ok(());
        }
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
    fn separate_by_nul(&mut self) -> io::Result<()> {
        self.separator = 0;
        self.file.flush()?;
        end_lines_with_nul(self.file.get_mut())
    }
}

/// Replaces all line breaks in a file, piece by piece, and goes to its end.
fn end_lines_with_nul(file: &mut (impl Read + Write + Seek)) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    loop {
        file.seek(SeekFrom::Start(offset))?;
        let read = match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let lines = &mut piece[..read];
        lines.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = 0);
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(lines)?;
        offset = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
}

/// Bytes of a list that are in memory at once.
const PIECE: usize = 64 * 1024;

/// Reads such a list.
pub(super) fn read(path: &Path) -> Result<BTreeSet<Vec<u8>>, FilesError> {
    let bytes = std::fs::read(path).map_err(failed("read", path))?;
    Ok(split(&bytes))
}

fn split(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    let separator = if bytes.contains(&0) { 0 } else { b'\n' };
    bytes.split(|&byte| byte == separator).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::LocalFile { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

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
        assert_eq!(write(&[b"a", b"c\nd"]), b"a\0c\nd\0");
        assert!(matches!(FailureList::create(folder.path()), Err(FilesError::LocalFile { .. })));
        assert!(matches!(read(&folder.path().join("none")), Err(FilesError::LocalFile { .. })));
    }
    #[test]
    fn a_name_with_a_nul_which_no_file_has_spoils_no_list() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("failed");
        let mut list = FailureList::create(&file).unwrap();
        for entry in [&b"a"[..], b"b\0c", b"d"] {
            list.add(entry).unwrap();
        }
        list.finish().unwrap();
        assert_eq!(read(&file).unwrap(), [b"a".to_vec(), b"d".to_vec()].into());
    }

    /// A file that counts how much is read of it at once.
    struct Watched {
        file: Cursor<Vec<u8>>,
        most: usize,
    }

    impl Read for Watched {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.most = self.most.max(buffer.len());
            // Files may give less than there is.
            let most = buffer.len().min(50_001);
            self.file.read(&mut buffer[..most])
        }
    }

    impl Write for Watched {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.file.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Watched {
        fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
            self.file.seek(position)
        }
    }

    #[test]
    fn a_long_list_is_rewritten_in_pieces() {
        let content: Vec<u8> = b"some/path\n".iter().copied().cycle().take(1_000_000).collect();
        let mut watched = Watched { file: Cursor::new(content.clone()), most: 0 };
        end_lines_with_nul(&mut watched).unwrap();
        watched.write_all(b"next").unwrap();
        assert!(watched.most <= PIECE, "{}", watched.most);
        let expected: Vec<u8> = content.iter().map(|&byte| if byte == b'\n' { 0 } else { byte }).collect();
        assert!(watched.file.into_inner() == [&expected[..], b"next"].concat());
    }
}
