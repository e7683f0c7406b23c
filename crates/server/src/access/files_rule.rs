//! Rules about files: which share a client may use, and what for.

use std::fmt;
use std::str::FromStr;

use wire_protocol::message::FilesAccess;

use crate::access::name::Name;
use crate::error::Error;
use crate::share_mode::ShareMode;

/// A share that a client may use: `NAME`, for all that the share itself permits, or `NAME:ro`, `NAME:rw` or `NAME:drop`, for no
/// more than that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesRule {
    /// The name of the share.
    pub(super) share: Name,
    /// The most that the client may do; `None` for all that the share permits.
    pub(super) mode: Option<ShareMode>,
}

impl FilesRule {
    /// The name of the share.
    pub(crate) fn share(&self) -> &str {
        self.share.as_str()
    }

    /// The most that the client may do; `None` for all that the share permits.
    pub(crate) fn mode(&self) -> Option<ShareMode> {
        self.mode
    }

    /// Whether it permits this.
    pub(super) fn permits(&self, share: &str, access: FilesAccess) -> bool {
        self.share.as_str() == share && self.mode.is_none_or(|mode| mode.permits(access))
    }
}

impl FromStr for FilesRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (share, mode) = match text.split_once(':') {
            Some((share, mode)) => (share, Some(mode.parse()?)),
            None => (text, None),
        };
        Ok(Self { share: share.parse()?, mode })
    }
}

impl fmt::Display for FilesRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.share.fmt(f)?;
        self.mode.map_or(Ok(()), |mode| write!(f, ":{mode}"))
    }
}
