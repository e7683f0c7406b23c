//! The policy for anonymous clients: those that the file of clients does not list.

/// The policy for anonymous clients: those that the file of clients does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnonymousPolicy {
    /// Anonymous clients are refused. As long as no client at all has been allowed, this machine may still send
    /// messages.
    Refuse,
    /// Anonymous clients may send messages and use the pipe.
    Admit,
}
