//! What ends an exchange of files as a whole. The failure of one entry is an [`Event`](crate::event::Event) instead.

use std::io;

use wire_protocol::message::FilesCode;

/// The reason why an exchange has ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream has failed: what was on its way may not have arrived.
    #[error(transparent)]
    Channel(#[from] io::Error),
    /// The other side has sent what it may not send; the text says what.
    #[error("the other side broke the protocol: {0}")]
    Protocol(&'static str),
    /// The other side has refused the request.
    #[error("{0}")]
    Refused(FilesCode),
    /// It was stopped on this side.
    #[error("stopped")]
    Stopped,
    /// The output that a single file goes to cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
}
