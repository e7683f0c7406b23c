//! The kinds of what a client can be permitted.

use std::fmt;

/// A kind of permission, by the name of its option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    Messages,
    Pipe,
    Tcp,
    Udp,
    Unix,
    Service,
    Listen,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages => "messages",
            Self::Pipe => "pipe",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::Service => "service",
            Self::Listen => "listen",
        })
    }
}
