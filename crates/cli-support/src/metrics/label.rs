//! Labels: the enums whose variants are the only values that a label can have, so that no peer can make it grow.

use std::fmt::Debug;

use wire_protocol::message::{RefusedCode, Target};
use wire_protocol::stream::Direction;

/// One label, whose values are the variants of an enum.
pub trait Label: Copy + PartialEq + Debug + 'static {
    /// The name of the label.
    const KEY: &'static str;
    /// All values.
    const ALL: &'static [Self];

    /// The value as it is written.
    fn text(self) -> &'static str;
}

/// The labels of a family: none, one, or two.
pub trait Labels: Copy + Debug + 'static {
    /// All combinations of values, in the order of [`Labels::index`].
    fn all() -> Vec<Self>;
    /// The place of this one among all.
    fn index(self) -> usize;
    /// Names and values, as they are written.
    fn pairs(self) -> Vec<(&'static str, &'static str)>;
}

impl Labels for () {
    fn all() -> Vec<Self> {
        vec![()]
    }

    fn index(self) -> usize {
        0
    }

    fn pairs(self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }
}

impl<L: Label> Labels for L {
    fn all() -> Vec<Self> {
        L::ALL.to_vec()
    }

    fn index(self) -> usize {
        L::ALL.iter().position(|label| *label == self).unwrap_or_default()
    }

    fn pairs(self) -> Vec<(&'static str, &'static str)> {
        vec![(L::KEY, self.text())]
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    fn all() -> Vec<Self> {
        A::ALL.iter().flat_map(|one| B::ALL.iter().map(|other| (*one, *other))).collect()
    }

    fn index(self) -> usize {
        self.0.index() * B::ALL.len() + self.1.index()
    }

    fn pairs(self) -> Vec<(&'static str, &'static str)> {
        vec![(A::KEY, self.0.text()), (B::KEY, self.1.text())]
    }
}

/// Defines an enum whose variants are the values of one [`Label`](crate::metrics::Label), with the name of the label behind
/// the name of the enum and the text of a value behind each variant.
#[macro_export]
macro_rules! label {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident($key:literal) {
            $($(#[$about:meta])* $variant:ident = $text:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $name {
            $($(#[$about])* $variant,)+
        }

        impl $crate::metrics::Label for $name {
            const KEY: &'static str = $key;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

label! {
    /// The program that is measured.
    pub enum ProgramLabel("program") {
        /// The server.
        Server = "server",
        /// The client.
        Client = "client",
    }
}

label! {
    /// The kind of a stream.
    pub enum StreamKind("kind") {
        /// A connection to a host.
        Tcp = "tcp",
        /// Datagrams to a host.
        Udp = "udp",
        /// A connection to a unix socket.
        Unix = "unix",
        /// A connection to a service of the configuration.
        Service = "service",
        /// A message.
        Message = "message",
        /// The pipe.
        Pipe = "pipe",
        /// Files of a share, and lists of shares.
        Files = "files",
        /// A question of the client about itself.
        Diagnosis = "diagnosis",
        /// The wait for what comes in at an address that is listened on.
        Listen = "listen",
        /// What has come in there.
        Forwarded = "forwarded",
    }
}

impl From<&Target> for StreamKind {
    fn from(target: &Target) -> Self {
        match target {
            Target::Message => Self::Message,
            Target::Pipe => Self::Pipe,
            Target::Tcp { .. } => Self::Tcp,
            Target::Udp { .. } => Self::Udp,
            Target::Unix { .. } => Self::Unix,
            Target::Service { .. } => Self::Service,
            Target::Listen { .. } => Self::Listen,
            Target::Forwarded { .. } => Self::Forwarded,
            Target::Files { .. } | Target::Shares => Self::Files,
            Target::Diagnosis { .. } => Self::Diagnosis,
        }
    }
}

label! {
    /// How a stream has ended.
    pub enum StreamOutcome("outcome") {
        /// Both sides have said that there is no more.
        Completed = "completed",
        /// The side that was asked did not want it.
        Refused = "refused",
        /// It broke off.
        Failed = "failed",
        /// The client has lost the right to it.
        Revoked = "revoked",
    }
}

label! {
    /// Why a stream was refused.
    pub enum RefusalReason("reason") {
        /// There is nothing of the kind.
        NotOffered = "not_offered",
        /// The client may not have it.
        NotAllowed = "not_allowed",
        /// There is no room for it.
        Busy = "busy",
        /// The target refuses connections.
        TargetRefused = "target_refused",
        /// There is no way to the target.
        TargetUnreachable = "target_unreachable",
        /// The name has no address.
        UnknownHost = "unknown_host",
        /// The target does not answer.
        TargetTimedOut = "target_timed_out",
        /// The server is about to end.
        Stopping = "stopping",
        /// Another client or program listens on the address.
        AddressInUse = "address_in_use",
        /// The address is none of the machine's.
        AddressNotAvailable = "address_not_available",
        /// The system does not let the server listen there.
        ListenDenied = "listen_denied",
        /// There is no socket at the path.
        NoSuchSocket = "no_such_socket",
        /// The system does not let the target be reached.
        TargetDenied = "target_denied",
        /// The client has moved as many bytes as it may in a period.
        QuotaUsedUp = "quota_used_up",
    }
}

impl From<RefusedCode> for RefusalReason {
    fn from(code: RefusedCode) -> Self {
        match code {
            RefusedCode::NotOffered => Self::NotOffered,
            RefusedCode::NotAllowed => Self::NotAllowed,
            RefusedCode::Busy => Self::Busy,
            RefusedCode::TargetRefused => Self::TargetRefused,
            RefusedCode::TargetUnreachable => Self::TargetUnreachable,
            RefusedCode::UnknownHost => Self::UnknownHost,
            RefusedCode::TargetTimedOut => Self::TargetTimedOut,
            RefusedCode::Stopping => Self::Stopping,
            RefusedCode::AddressInUse => Self::AddressInUse,
            RefusedCode::AddressNotAvailable => Self::AddressNotAvailable,
            RefusedCode::ListenDenied => Self::ListenDenied,
            RefusedCode::NoSuchSocket => Self::NoSuchSocket,
            RefusedCode::TargetDenied => Self::TargetDenied,
            RefusedCode::QuotaUsedUp { .. } => Self::QuotaUsedUp,
        }
    }
}

label! {
    /// The way that something went, as the program sees it.
    pub enum DirectionLabel("direction") {
        /// From the peer.
        Received = "received",
        /// To the peer.
        Sent = "sent",
    }
}

impl From<Direction> for DirectionLabel {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Received => Self::Received,
            Direction::Sent => Self::Sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_combination_has_a_place_of_its_own() {
        fn check<L: Labels>() {
            let all = L::all();
            let places: Vec<usize> = all.iter().map(|labels| labels.index()).collect();
            assert_eq!(places, (0..all.len()).collect::<Vec<_>>());
            let mut pairs: Vec<_> = all.iter().map(|labels| labels.pairs()).collect();
            pairs.sort();
            pairs.dedup();
            assert_eq!(pairs.len(), all.len());
        }
        check::<()>();
        check::<StreamKind>();
        check::<RefusalReason>();
        check::<(StreamKind, StreamOutcome)>();
    }
}
