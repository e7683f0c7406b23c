//! What may be done with a share, in the words of the command line and of the files: `ro`, `rw` or `drop`.

use std::fmt;
use std::str::FromStr;

use wire_protocol::message::{FilesAccess, ShareAccess};

use crate::error::Error;

/// What may be done with a share, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareMode(pub ShareAccess);

impl ShareMode {
    /// All that can be done with a share.
    pub(crate) const ALL_ACCESS: [FilesAccess; 3] =
        [FilesAccess::Read, FilesAccess::Add, FilesAccess::Replace];

    /// Whether it includes `access`.
    pub(crate) fn permits(self, access: FilesAccess) -> bool {
        self.0.permits(access)
    }
}

/// `ro`, which is what a share is that nothing else is said of.
impl Default for ShareMode {
    fn default() -> Self {
        Self(ShareAccess::ReadOnly)
    }
}

impl FromStr for ShareMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "ro" => Ok(Self(ShareAccess::ReadOnly)),
            "rw" => Ok(Self(ShareAccess::ReadWrite)),
            "drop" => Ok(Self(ShareAccess::Drop)),
            _ => Err(Error::Rule { text: text.into(), problem: "is none of ro, rw and drop" }),
        }
    }
}

impl fmt::Display for ShareMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            ShareAccess::ReadOnly => "ro",
            ShareAccess::ReadWrite => "rw",
            ShareAccess::Drop => "drop",
        })
    }
}
