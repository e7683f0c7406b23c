//! Keys that are made once for all scenarios.

/// A key that scenarios share, because the generation of one takes a while.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Server,
    OtherServer,
    Alice,
    Mallory,
}

impl Key {
    /// The program that owns the key.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Server | Self::OtherServer => "server",
            Self::Alice | Self::Mallory => "client",
        }
    }

    /// The name of the key's file in a home.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Server | Self::OtherServer => "server.key",
            Self::Alice | Self::Mallory => "client.key",
        }
    }
}
