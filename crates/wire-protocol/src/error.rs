//! What can go wrong, grouped by who is at fault.

use core::fmt;

use crypto_core::KeyProblem;
use crypto_core::identity::KeyId;

use crate::message::{AbortCode, DeniedCode, RefusedCode, ResetCode};

/// Why a channel, or the attempt at one, has ended. Sticky: after it, every call gives the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer sent bytes that are not a message.
    #[error("{0}")]
    InvalidMessage(#[from] InvalidMessage),
    /// The peer sent a message that it may not send, or not now.
    #[error("the peer broke the protocol: {0}")]
    PeerMisbehaved(#[from] PeerMisbehaved),
    /// A tag, a binder, a Finished or a signature did not check out: the peer lacks the key that it claims, or
    /// somebody has changed what was sent. One variant, whatever the cause.
    #[error("the peer could not be authenticated, or what it sent was changed on the way")]
    Authentication,
    /// The server's key is not the one that is trusted.
    #[error("the server's key is {offered}, not {expected}")]
    ServerKeyMismatch {
        /// The key that is trusted.
        expected: KeyId,
        /// The key that was offered.
        offered: KeyId,
    },
    /// A key of the peer's cannot be used.
    #[error("the peer's key cannot be used: {0}")]
    PeerKey(KeyProblem),
    /// The server ended the handshake before there were keys. Not authenticated, so only a hint.
    #[error("the server ended the handshake: {0}")]
    Aborted(AbortCode),
    /// The server knows enough of this client to refuse it.
    #[error("the server refused this client: {0}")]
    Denied(DeniedCode),
    /// The server ended the connection in place of an answer to an invite: one that knows no invites does.
    #[error(
        "the server closed the connection without an answer to the invite: it may be too old for invites"
    )]
    InviteUnanswered,
    /// The server refused the stream.
    #[error("the server refused the stream: {0}")]
    Refused(RefusedCode),
    /// The peer gave the stream up.
    #[error("the other side gave up: {0}")]
    Reset(ResetCode),
    /// Nothing has come for [`SILENCE`](crate::channel::SILENCE) where signs of life are due.
    #[error("the other side has not been heard of for {} seconds", crate::channel::SILENCE.as_secs())]
    Silent,
    /// A flow of datagrams was ended by this side, and not by the other within [`SILENCE`](crate::channel::SILENCE).
    #[error("the other side has not taken part in the end of the datagrams")]
    EndTimedOut,
    /// The connection ended without a Close: data may be missing.
    #[error("the connection was cut off before the end")]
    Truncated,
    /// The other side has ended the channel, in good order.
    #[error("the other side has ended the channel")]
    Closed,
    /// The hello names another server, or a key that this server does not have, and no answer is left.
    #[error("the client asked for another server or another pre-shared key")]
    UnknownServerOrPsk(AbortCode),
    /// The server has too much to do: the client may come back later.
    #[error("too many handshakes are under way")]
    Busy,
    /// The caller did something out of turn.
    #[error("the channel is not in a state for that: {0}")]
    ApiMisuse(&'static str),
    /// Our own cryptography failed: no randomness, or a key that is used up.
    #[error("{0}")]
    Crypto(crypto_core::Error),
}

impl Error {
    /// What a server tells the peer about this, before there are keys. The only mapping to the wire: where it
    /// gives nothing, the connection just ends.
    #[must_use]
    pub fn abort_code(&self) -> Option<AbortCode> {
        match self {
            Self::InvalidMessage(InvalidMessage::Version(_)) => Some(AbortCode::Version),
            Self::PeerMisbehaved(PeerMisbehaved::NoCommonSuite) => Some(AbortCode::Suite),
            Self::UnknownServerOrPsk(code) => Some(*code),
            Self::Busy => Some(AbortCode::Busy),
            _ => None,
        }
    }
}

impl From<crypto_core::Error> for Error {
    fn from(error: crypto_core::Error) -> Self {
        match error {
            crypto_core::Error::Authentication => Self::Authentication,
            crypto_core::Error::Key(problem) => Self::PeerKey(problem),
            crypto_core::Error::BufferLength => Self::InvalidMessage(InvalidMessage::RecordLength),
            other => Self::Crypto(other),
        }
    }
}

/// The reason why bytes that were received are not a valid message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMessage {
    /// Another protocol altogether.
    #[error("the peer speaks {0}, not Sockseal")]
    NotSockseal(Foreign),
    /// A version that is not spoken here.
    #[error("the peer speaks version {0} of the protocol, not 1")]
    Version(u8),
    /// A frame kind that does not exist.
    #[error("the peer sent a frame of the unknown kind {0}")]
    UnknownKind(u8),
    /// Longer than the limit.
    #[error("the peer announced a message longer than the limit")]
    TooLong,
    /// A record of no length or beyond the limit.
    #[error("the peer announced a record of an impossible length")]
    RecordLength,
    /// Not the one encoding of any message.
    #[error("the peer sent a malformed message")]
    Malformed,
}

/// The other protocol that a peer seems to speak, as its first bytes show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// HTTP.
    Http,
    /// TLS.
    Tls,
    /// SSH.
    Ssh,
    /// Nobody knows.
    Unknown,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Tls => "TLS",
            Self::Ssh => "SSH",
            Self::Unknown => "an unknown protocol",
        })
    }
}

/// The rule of the protocol that a peer broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerMisbehaved {
    /// A message that does not belong here.
    #[error("a message out of turn")]
    UnexpectedMessage,
    /// A third KeyOffer, or the request for one.
    #[error("too many key offers")]
    TooManyKeyOffers,
    /// No suite that both speak.
    #[error("no suite in common")]
    NoCommonSuite,
    /// A suite or mode that was not offered.
    #[error("an answer to something that was not asked")]
    SelectedUnoffered,
    /// "settled" where nothing was settled, or the other way round.
    #[error("a client authentication policy that does not fit the mode")]
    PolicyMismatch,
    /// An offset of a resumable stream that goes back, or is beyond what was sent.
    #[error("an acknowledgement of what was not sent, or was acknowledged before")]
    OffsetOutOfRange,
    /// A proof of Resumed that is not the server's.
    #[error("an answer of a server that does not know the stream")]
    WrongProof,
    /// Records under the old key behind a key update.
    #[error("records behind a key update")]
    RecordsBehindKeyUpdate,
}
