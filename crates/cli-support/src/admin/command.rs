//! The words that a running program understands.

use std::fmt;
use std::str::FromStr;

/// What a running program can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Say how it is.
    Status,
    /// Read its configuration again.
    Reload,
    /// Look again at who may do what, and end what is not allowed any more.
    Recheck,
}

impl Command {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Status, Self::Reload, Self::Recheck];

    /// The word for it on the socket.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Reload => "reload",
            Self::Recheck => "recheck",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Command {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|command| command.word() == text).ok_or("there is no such command")
    }
}
