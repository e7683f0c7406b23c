//! Why a text does not say what to forward.

/// Why a text does not say what to forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}: {text:?} should be {expected}")]
pub struct ForwardError {
    /// As it was given.
    pub(super) text: String,
    /// What is wrong with it.
    pub(super) problem: ForwardProblem,
    /// What may be written.
    pub(super) expected: &'static str,
}

impl ForwardError {
    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> ForwardProblem {
        self.problem
    }
}

/// What is wrong with a text that does not say what to forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardProblem {
    /// The listening side cannot be read.
    #[error("no place to listen")]
    Listen,
    /// Nothing follows the listening side.
    #[error("no target")]
    NoTarget,
    /// The target cannot be read.
    #[error("no valid target")]
    Target,
    /// A port by the name of its service.
    #[error("a port is a number, such as 80 for http")]
    PortName,
    /// A path does not start with a slash, or has a control character in it.
    #[error("not an absolute path")]
    Path,
    /// A host or path is longer than any that works.
    #[error("a host or path that is too long")]
    TooLong,
    /// Not the name of a service.
    #[error("a service's name is 1 to 64 characters out of A-Z a-z 0-9 . _ -")]
    ServiceName,
    /// A service where only the server has any.
    #[error("only the server has services")]
    NoServices,
    /// Datagrams where there are only connections.
    #[error("/udp does not go with that")]
    Datagrams,
}
