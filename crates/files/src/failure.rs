//! What ends the work on one entry, or on all of them.

use wire_protocol::message::FilesCode;

use crate::error::Error;

/// Why an entry is not received.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This entry alone has failed.
    Entry(FilesCode),
    /// The exchange has ended.
    Exchange(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Exchange(error)
    }
}

impl From<FilesCode> for Failure {
    fn from(code: FilesCode) -> Self {
        Self::Entry(code)
    }
}
