//! The commands that a running program understands.

use std::fmt;
use std::str::FromStr;

/// A command to a running program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Asks for the program's status.
    Status,
    /// Tells the program to read its configuration again.
    Reload,
    /// Tells the program to check all permissions again, and to end streams that are no longer permitted.
    Recheck,
}

impl Command {
    /// All commands.
    pub(super) const ALL: [Self; 3] = [Self::Status, Self::Reload, Self::Recheck];

    /// The command's word in the admin protocol.
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
