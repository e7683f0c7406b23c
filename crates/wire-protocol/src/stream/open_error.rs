//! Why a stream was not opened.

use std::io;

use super::error::error_in;
use super::relay_error::RelayError;
use crate::Error;
use crate::message::RefusedCode;

/// Why a stream was not opened. `C` is the idle channel, which a refusal gives back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError<C, E = io::Error> {
    /// The other side does not want the stream. The channel is good for another one.
    #[error("{}", Error::Refused(*code))]
    Refused {
        /// Why it does not.
        code: RefusedCode,
        /// The channel, idle again.
        channel: C,
    },
    /// The channel is of no use any more. It was closed in good order where [`Error::Closed`] is inside.
    #[error(transparent)]
    Failed(E),
}

impl<C> From<OpenError<C>> for io::Error {
    fn from(error: OpenError<C>) -> Self {
        match error {
            OpenError::Refused { code, .. } => Error::Refused(code).into(),
            OpenError::Failed(error) => error,
        }
    }
}

impl<C> From<OpenError<C, Self>> for RelayError {
    fn from(error: OpenError<C, Self>) -> Self {
        match error {
            OpenError::Refused { code, .. } => Self::Channel(Error::Refused(code).into()),
            OpenError::Failed(error) => error,
        }
    }
}

impl<C> From<io::Error> for OpenError<C> {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl<C, E> OpenError<C, E> {
    /// The same, with what `change` makes of the error that has ended the channel.
    pub fn map_failed<F>(self, change: impl FnOnce(E) -> F) -> OpenError<C, F> {
        match self {
            Self::Refused { code, channel } => OpenError::Refused { code, channel },
            Self::Failed(error) => OpenError::Failed(change(error)),
        }
    }
}

impl<C> OpenError<C, RelayError> {
    /// Whether no byte of the stream has reached its target, so that it can be opened again elsewhere. A cut channel means so
    /// only where nothing was sent behind the Open, which is what `early` holds.
    #[must_use]
    pub fn is_retryable(&self, early: &[u8]) -> bool {
        let error = match self {
            Self::Refused { code, .. } => return *code == RefusedCode::Stopping,
            Self::Failed(RelayError::Channel(error)) => error,
            Self::Failed(_) => return false,
        };
        match error_in(error) {
            Some(Error::Closed) => true,
            Some(Error::Truncated) | None => early.is_empty(),
            Some(_) => false,
        }
    }
}
