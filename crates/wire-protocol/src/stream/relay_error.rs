//! How a relay between a channel and something plain ends badly.

use std::io;

use crate::message::ResetCode;

/// The error of a relay between a channel and a plain connection, or an input and an output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The channel failed: data may be missing on either side.
    #[error(transparent)]
    Channel(io::Error),
    /// The input could not be read. The other side has been told.
    #[error("the input could not be read: {0}")]
    Input(#[source] io::Error),
    /// The output could not be written. The other side has been told, or learns of it as a cut connection.
    #[error("the output could not be written: {0}")]
    Output(#[source] io::Error),
    /// This side has stopped the relay before its end. The other side has been told, where it still listened.
    #[error("{0}")]
    Stopped(ResetCode),
}
