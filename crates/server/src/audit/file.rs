//! The file of the audit log: lines are appended, each as a whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A file that lines are appended to, by several processes.
#[derive(Debug)]
pub(super) struct AuditFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl AuditFile {
    /// Opens the file, or makes one that its owner alone can read.
    ///
    /// # Errors
    /// [`Error::Audit`], also for what is no file.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Audit { path: path.into(), source };
        // A pipe that nobody reads would hold up whoever opens it.
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(failed(io::Error::other("it is not a file")));
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        Ok(Self { file, path: path.into() })
    }

    /// Appends a line, its end included.
    ///
    /// # Errors
    /// The system's. Nothing of the line stays then, unless another process has appended to it already.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let mut left = line;
        while !left.is_empty() {
            let written = match self.file.write(left) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => Ok(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                Err(error) => Err(error),
            };
            match written {
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(error) => {
                    self.take_back(line.len() - left.len());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Removes what was appended last, if it is still the end of the file.
    fn take_back(&mut self, written: usize) {
        let Ok(written @ 1..) = u64::try_from(written) else { return };
        let end = self.file.stream_position();
        let len = self.file.metadata().map(|metadata| metadata.len());
        if let (Ok(end), Ok(len)) = (end, len)
            && end == len
        {
            self.file.set_len(end.saturating_sub(written)).ok();
        }
    }
}
