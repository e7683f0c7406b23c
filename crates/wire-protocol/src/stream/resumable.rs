//! A resumable stream without its channel: what names it, how far it has come, and what is kept of it (section 7.7).

use std::boxed::Box;
use std::fmt;
use std::time::Duration;

use crypto_core::schedule::Side;
use crypto_core::stream_secret::{StreamId, StreamSecret};

use super::retained::Retained;
use crate::channel::Position;
use crate::codec::encode;
use crate::handshake::Exporter;
use crate::message::{PROOF_LEN, Resume, Resumed, Retention};
use crate::{Error, PeerMisbehaved};

/// What names a resumable stream, and proves that a side was there when it was opened.
pub(crate) struct StreamIdentity {
    secret: StreamSecret,
    id: StreamId,
    /// How often the stream was taken over.
    generation: u32,
}

impl StreamIdentity {
    /// Of the stream with this number on the channel of `exporter`.
    pub(crate) fn new(exporter: &Exporter, number: u64) -> Self {
        let secret = exporter.stream_secret(number);
        Self { id: secret.id(), secret, generation: 0 }
    }

    pub(crate) fn id(&self) -> StreamId {
        self.id
    }
}

/// How far a stream has come in each direction: the bytes that were sent and taken, an end counted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// This side's, the end included.
    pub(crate) sent: u64,
    /// The other side has taken so many of them.
    pub(crate) acknowledged: u64,
    /// Whether this side's end was said.
    pub(crate) has_ended: bool,
    /// The other side's bytes that were taken, the end included.
    pub(crate) received: u64,
    /// Whether the other side's end was taken.
    pub(crate) has_end: bool,
}

impl Progress {
    /// Where the stream goes on once the other side has said that it has taken all before `received`.
    ///
    /// # Errors
    /// [`PeerMisbehaved::OffsetOutOfRange`] where it has taken less before, or more than was sent.
    pub(crate) fn position(&self, received: u64, retention: Retention) -> Result<Position, Error> {
        if !(self.acknowledged..=self.sent).contains(&received) {
            return Err(PeerMisbehaved::OffsetOutOfRange.into());
        }
        Ok(Position {
            sent: received,
            end_sent: self.has_ended && received == self.sent,
            received: self.received,
            end_received: self.has_end,
            retention,
        })
    }
}

/// A resumable stream that has no channel.
pub struct Suspended {
    pub(crate) identity: StreamIdentity,
    pub(crate) retention: Retention,
    pub(crate) retained: Box<Retained>,
    pub(crate) received: u64,
    pub(crate) has_end: bool,
}

impl Suspended {
    /// The id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.identity.id
    }

    /// How often the stream was taken over.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.identity.generation
    }

    /// How long the stream may stay without a channel.
    #[must_use]
    pub fn hold(&self) -> Duration {
        Duration::from_secs(self.retention.hold_seconds.into())
    }

    /// The bytes of memory that are kept of it.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.retained.memory()
    }

    /// Whether this side has nothing to lose any more: both have said their ends, and it has taken all of the other's.
    #[must_use]
    pub fn has_taken_all(&self) -> bool {
        self.retained.has_ended() && self.has_end
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress {
            sent: self.retained.sent(),
            acknowledged: self.retained.acknowledged(),
            has_ended: self.retained.has_ended(),
            received: self.received,
            has_end: self.has_end,
        }
    }

    /// What the client says to take the stream over once more, and its proof.
    pub(crate) fn next_resume(&mut self, exporter: &Exporter) -> (Resume, [u8; PROOF_LEN]) {
        let StreamIdentity { secret, id, generation } = &mut self.identity;
        *generation = generation.saturating_add(1);
        let resume =
            Resume { id: id.0, generation: *generation, received: self.received, retention: self.retention };
        (resume, secret.proof(Side::Client, exporter.transcript(), &[&encoded(&resume)]))
    }

    /// Checks the server's answer to what this client has said.
    ///
    /// # Errors
    /// [`PeerMisbehaved::WrongProof`]; [`PeerMisbehaved::OffsetOutOfRange`] for what it says that it has taken, and for a
    /// window or a hold above what the client has said.
    pub(crate) fn check_resumed(
        &self,
        exporter: &Exporter,
        resume: &Resume,
        resumed: &Resumed,
        proof: &[u8; PROOF_LEN],
    ) -> Result<Position, Error> {
        let fields = [&*encoded(resume), &*encoded(resumed)];
        self.identity
            .secret
            .verify(Side::Server, exporter.transcript(), &fields, proof)
            .map_err(|_| PeerMisbehaved::WrongProof)?;
        if resumed.retention != resumed.retention.min(resume.retention) {
            return Err(PeerMisbehaved::OffsetOutOfRange.into());
        }
        self.progress().position(resumed.received, resumed.retention)
    }

    /// Goes on from `position`: what the other side has not taken goes out again.
    pub(crate) fn resume_at(&mut self, position: &Position) {
        self.retention = position.retention;
        self.retained.set_window(position.retention.window);
        self.retained.resume_at(position.sent);
    }

    /// What a server keeps of the stream once it is over.
    #[must_use]
    pub fn into_tombstone(self) -> Tombstone {
        let progress = self.progress();
        Tombstone { identity: self.identity, retention: self.retention, progress }
    }
}

impl fmt::Debug for Suspended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suspended")
            .field("id", &self.identity.id)
            .field("generation", &self.identity.generation)
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}

/// A resumable stream that is over, of which the server knows the offsets alone: so that the loss of the last Acknowledge does
/// not look like the loss of the stream.
pub struct Tombstone {
    identity: StreamIdentity,
    retention: Retention,
    progress: Progress,
}

impl Tombstone {
    /// How long it is to be kept.
    #[must_use]
    pub fn hold(&self) -> Duration {
        Duration::from_secs(self.retention.hold_seconds.into())
    }
}

impl fmt::Debug for Tombstone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tombstone").field("id", &self.identity.id).finish_non_exhaustive()
    }
}

/// What a client says to take a stream over, with what a server needs to judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeRequest {
    pub(crate) resume: Resume,
    pub(crate) proof: [u8; PROOF_LEN],
}

impl ResumeRequest {
    /// The id of the stream that is meant.
    #[must_use]
    pub fn id(&self) -> StreamId {
        StreamId(self.resume.id)
    }

    /// How often the client has taken it over, this time included.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.resume.generation
    }

    /// How far it claims to have come.
    pub(crate) fn received(&self) -> u64 {
        self.resume.received
    }
}

/// What a server knows of a stream that may be taken over, be it held, in use on another channel, or over.
///
/// It says whether a Resume is good without having the stream itself: so that a stream in use is let go only for the client
/// that it belongs to.
pub struct ResumeVerifier {
    secret: StreamSecret,
    generation: u32,
}

impl ResumeVerifier {
    pub(crate) fn new(identity: &StreamIdentity) -> Self {
        let secret = StreamSecret::new(crypto_core::secret::Secret::new(*identity.secret.expose()));
        Self { secret, generation: identity.generation }
    }

    /// One for a stream that does not exist: it says no after the same work.
    ///
    /// # Errors
    /// [`Error::Crypto`] where there is no randomness.
    pub fn unknown() -> Result<Self, Error> {
        let secret = crypto_core::secret::Secret::random(&mut getrandom::SysRng)?;
        Ok(Self { secret: StreamSecret::new(secret), generation: u32::MAX })
    }

    /// Whether the request is good on the channel of `exporter`: its proof is right, and its generation higher than the last one.
    #[must_use]
    pub fn permits(&self, request: &ResumeRequest, exporter: &Exporter) -> bool {
        let fields = [&*encoded(&request.resume)];
        let proof = self.secret.verify(Side::Client, exporter.transcript(), &fields, &request.proof);
        proof.is_ok() && request.resume.generation > self.generation
    }

    /// Whether no request with a higher generation was good since.
    #[must_use]
    pub fn is_latest(&self, request: &ResumeRequest) -> bool {
        request.resume.generation == self.generation
    }

    /// Takes note of the generation of a request that was good: a lower or equal one is not, from now on.
    pub fn note(&mut self, request: &ResumeRequest) {
        self.generation = self.generation.max(request.resume.generation);
    }
}

impl fmt::Debug for ResumeVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeVerifier").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// What the server answers to `request`, and its proof; the caller has found the request to be good.
pub(crate) fn resumed_proof(
    secret: &StreamSecret,
    exporter: &Exporter,
    request: &ResumeRequest,
    position: &Position,
) -> [u8; PROOF_LEN] {
    let resumed = Resumed { received: position.received, retention: position.retention };
    let fields = [&*encoded(&request.resume), &*encoded(&resumed)];
    secret.proof(Side::Server, exporter.transcript(), &fields)
}

/// The parts of a stream that a server's answer needs.
pub(crate) trait Resumable {
    fn identity(&mut self) -> &mut StreamIdentity;
    fn progress(&self) -> Progress;
    fn retention(&self) -> Retention;

    /// Where the stream goes on by `request`, and the proof of the answer.
    ///
    /// # Errors
    /// [`PeerMisbehaved::OffsetOutOfRange`].
    fn answer(
        &mut self,
        request: &ResumeRequest,
        exporter: &Exporter,
    ) -> Result<(Position, [u8; PROOF_LEN]), Error> {
        let retention = self.retention().min(request.resume.retention);
        let position = self.progress().position(request.received(), retention)?;
        let identity = self.identity();
        identity.generation = request.resume.generation;
        Ok((position, resumed_proof(&identity.secret, exporter, request, &position)))
    }
}

impl Resumable for Suspended {
    fn identity(&mut self) -> &mut StreamIdentity {
        &mut self.identity
    }

    fn progress(&self) -> Progress {
        self.progress()
    }

    fn retention(&self) -> Retention {
        self.retention
    }
}

impl Resumable for Tombstone {
    fn identity(&mut self) -> &mut StreamIdentity {
        &mut self.identity
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn retention(&self) -> Retention {
        self.retention
    }
}

fn encoded<T: serde::Serialize>(fields: &T) -> std::vec::Vec<u8> {
    let mut bytes = std::vec::Vec::new();
    encode(fields, &mut bytes);
    bytes
}
