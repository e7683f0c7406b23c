//! Errors of texts that should say what to forward.

/// The error of a text that does not say what to forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}: {text:?} should be {expected}")]
pub struct ForwardError {
    /// The text as the user gave it.
    pub(super) text: String,
    /// The kind of error.
    pub(super) problem: ForwardProblem,
    /// The accepted forms.
    pub(super) expected: &'static str,
}

impl ForwardError {
    /// The kind of error.
    #[must_use]
    pub fn problem(&self) -> ForwardProblem {
        self.problem
    }
}

/// The kind of error in a text that does not say what to forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardProblem {
    /// The listening side is not valid.
    #[error("no place to listen")]
    Listen,
    /// No target follows the listening side.
    #[error("no target")]
    NoTarget,
    /// The target is not valid.
    #[error("no valid target")]
    Target,
    /// The port is the name of a service instead of a number.
    #[error("a port is a number, such as 80 for http")]
    PortName,
    /// A path does not start with a slash, or contains a control character.
    #[error("not an absolute path")]
    Path,
    /// A host or path is longer than the system or the protocol accepts.
    #[error("a host or path that is too long")]
    TooLong,
    /// The name of a service is not valid.
    #[error("a service's name is 1 to 64 characters out of A-Z a-z 0-9 . _ -")]
    ServiceName,
    /// A service is the target where only the server has services.
    #[error("only the server has services")]
    NoServices,
    /// `/udp` follows a target that has only connections.
    #[error("/udp does not go with that")]
    Datagrams,
}
