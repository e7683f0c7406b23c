//! What ends the work on one entry, or on all of them.

use std::io;

use wire_protocol::message::FilesCode;

use crate::cause::Cause;
use crate::error::Error;

/// Why an entry is not received.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This entry alone has failed.
    Entry(Cause),
    /// The exchange has ended.
    Exchange(Error),
}

impl Failure {
    /// What a call on files has failed with.
    pub(crate) fn of_disk(error: io::Error) -> Self {
        Self::Entry(error.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Exchange(error)
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self::Entry(cause)
    }
}

impl From<FilesCode> for Failure {
    fn from(code: FilesCode) -> Self {
        Self::Entry(code.into())
    }
}
