//! Whether clients that nobody has allowed may come in.

/// Whether clients that nobody has allowed may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnonymousPolicy {
    /// They may not. Only while nobody has been allowed yet, messages are taken from this machine.
    Refuse,
    /// They may send messages and use the pipe.
    Admit,
}
