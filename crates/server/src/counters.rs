//! What a running server counts. Each event is counted where it happens, and never by who has caused it: that would grow with
//! strangers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use cli_support::label;
use cli_support::metrics::{Count, DirectionLabel, Durations, RefusalReason, StreamCounts, StreamKind};
use wire_protocol::message::Mode;

use crate::access::Refusal;
use crate::admission::Rejection;
use crate::admission::fault::Fault;
use crate::meter::Moved;

/// All that is counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: Count,
    pub(crate) not_accepted: Count,
    /// Connections that got no handshake.
    pub(crate) turned_away: Count<TurnedAway>,
    /// Handshakes that have come to nothing.
    pub(crate) failed: Count<HandshakeFailure>,
    /// How long handshakes took that have let a client in.
    pub(crate) handshakes: Durations<HandshakeMode>,
    pub(crate) tickets_issued: Count,
    pub(crate) streams: StreamCounts,
    pub(crate) resumption: ResumptionCounts,
    pub(crate) received: Count<StreamKind>,
    pub(crate) sent: Count<StreamKind>,
    pub(crate) datagrams: Count<DirectionLabel>,
    /// How long it took to reach the target of a connection.
    pub(crate) dialed: Durations,
    pub(crate) not_dialed: Count<RefusalReason>,
    pub(crate) files_moved: Count<DirectionLabel>,
    pub(crate) files_failed: Count<DirectionLabel>,
    pub(crate) files_unchanged: Count<DirectionLabel>,
    pub(crate) file_bytes: Count<DirectionLabel>,
    pub(crate) invites_used: Count,
    pub(crate) invites_refused: Count<InviteRefusal>,
    pub(crate) reloads: Count<ReloadOutcome>,
    /// When the configuration was applied last, in seconds since the Unix epoch; 0 for never.
    reloaded_at: AtomicU64,
}

impl Counters {
    /// Counts what a stream of this kind has moved.
    pub(crate) fn add_moved(&self, kind: StreamKind, moved: Moved) {
        if moved == Moved::default() {
            return;
        }
        self.received.add(kind, moved.received);
        self.sent.add(kind, moved.sent);
        self.datagrams.add(DirectionLabel::Received, moved.received_datagrams);
        self.datagrams.add(DirectionLabel::Sent, moved.sent_datagrams);
    }

    /// The configuration was read again.
    pub(crate) fn note_reload(&self, outcome: ReloadOutcome) {
        self.reloads.one(outcome);
        if outcome == ReloadOutcome::Applied {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.reloaded_at.store(since.as_secs(), Ordering::Relaxed);
        }
    }

    /// When the configuration was applied last, in seconds since the Unix epoch; `None` for never.
    pub(crate) fn reloaded_at(&self) -> Option<u64> {
        Some(self.reloaded_at.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }
}

label! {
    /// Why a stream was lost that waited for its client.
    pub(crate) enum StreamLoss("reason") {
        /// The client has not come back in time.
        Expired = "expired",
        /// The client has lost the right to it.
        Revoked = "revoked",
        /// The server has ended.
        Stopped = "stopped",
        /// As many streams waited already as may.
        Full = "full",
    }
}

/// What has become of resumable streams.
#[derive(Debug, Default)]
pub(crate) struct ResumptionCounts {
    /// Streams that were taken over.
    pub(crate) resumed: Count,
    /// Streams that were lost while they waited.
    pub(crate) lost: Count<StreamLoss>,
}

label! {
    /// Why a connection got no handshake.
    pub(crate) enum TurnedAway("reason") {
        /// Too many handshakes are in progress.
        Busy = "busy",
        /// The source has failed too often.
        Banned = "banned",
        /// A proxy did not say who connects, or not in time.
        Proxy = "proxy",
    }
}

impl From<Rejection> for TurnedAway {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Busy => Self::Busy,
            Rejection::Penalized => Self::Banned,
        }
    }
}

label! {
    /// Why a handshake has come to nothing.
    pub(crate) enum HandshakeFailure("reason") {
        /// The client has sent garbage, or lacks a key.
        NotAuthentic = "not_authentic",
        /// The client has proved who it is, and may not connect.
        Denied = "denied",
        /// The client has as many channels as it may have.
        TooManyChannels = "too_many_channels",
        /// The server had no time for it.
        Busy = "busy",
        /// The client has left, or was too slow. First contacts are among these, which ask for the server's key alone.
        Unfinished = "unfinished",
    }
}

impl From<Fault> for HandshakeFailure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Client => Self::NotAuthentic,
            Fault::Denied => Self::Denied,
            Fault::Full => Self::TooManyChannels,
            Fault::Busy => Self::Busy,
            Fault::Nobody => Self::Unfinished,
        }
    }
}

label! {
    /// By what a client has come in.
    pub(crate) enum HandshakeMode("mode") {
        /// By RSA, with a key or anonymously.
        Rsa = "rsa",
        /// By a pre-shared key.
        Psk = "psk",
        /// By a ticket of an earlier channel.
        Ticket = "ticket",
        /// By RSA, with an invite.
        Invite = "invite",
    }
}

impl HandshakeMode {
    /// Of a handshake, which was one with an invite or without.
    pub(crate) fn of(mode: Mode, with_invite: bool) -> Self {
        match mode {
            _ if with_invite => Self::Invite,
            Mode::Rsa => Self::Rsa,
            Mode::Psk => Self::Psk,
            Mode::Resumption => Self::Ticket,
        }
    }
}

label! {
    /// Why an invite was of no use.
    pub(crate) enum InviteRefusal("reason") {
        /// There is no such invite.
        Unknown = "unknown",
        /// The files cannot be used.
        NoFile = "no_file",
        /// It was used before.
        Taken = "taken",
        /// It has expired.
        Expired = "expired",
        /// It was revoked.
        Revoked = "revoked",
        /// The client does not have the line.
        Wrong = "wrong",
        /// The client comes from elsewhere than it may.
        Network = "network",
        /// Another client has the name.
        NameTaken = "name_taken",
    }
}

impl From<Refusal> for InviteRefusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown => Self::Unknown,
            Refusal::NoFile => Self::NoFile,
            Refusal::Taken { .. } => Self::Taken,
            Refusal::Expired => Self::Expired,
            Refusal::Revoked => Self::Revoked,
            Refusal::Wrong | Refusal::WrongProof => Self::Wrong,
            Refusal::Network => Self::Network,
            Refusal::NameTaken => Self::NameTaken,
        }
    }
}

label! {
    /// What has come of reading the configuration again.
    pub(crate) enum ReloadOutcome("outcome") {
        /// The server goes by it.
        Applied = "applied",
        /// The configuration stays as it was.
        Failed = "failed",
    }
}
