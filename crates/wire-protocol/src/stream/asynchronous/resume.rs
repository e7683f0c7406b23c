//! Resumable streams over `AsyncRead + AsyncWrite` (section 7.7): opening one, and taking one over on another channel.
//!
//! ```text
//!              begin_open_resumable        confirm_stream
//!   Channel ------------------------> OpeningStream ----> ResumableStream --> tunnel_resumable --> Channel
//!      ^                                                         ^                  | lost
//!      |                     resume, answer_resume               |                  v
//!   another Channel ---------------------------------------------+------------- Suspended
//! ```

use std::boxed::Box;
use std::fmt;
use std::io;
use std::time::Duration;

use crypto_core::stream_secret::StreamId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::connection::{Channel, Connection, OpeningStream, SecureStream, unexpected};
use crate::Error;
use crate::channel::Event;
use crate::message::{ControlMessage, MAX_HOLD_SECONDS, Retention, Target};
use crate::stream::open_error::OpenError;
use crate::stream::phase::{Answer, Open, Opening};
use crate::stream::resumable::{
    Resumable as _, ResumeRequest, ResumeVerifier, StreamIdentity, Suspended, Tombstone,
};
use crate::stream::retained::Retained;
use crate::stream::retention_budget::Reservation;

/// A stream is open that can be taken over on another channel.
pub struct Resumable {
    pub(super) identity: Box<StreamIdentity>,
    pub(super) retention: Retention,
}

impl fmt::Debug for Resumable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumable").field("id", &self.identity.id()).finish_non_exhaustive()
    }
}

/// A stream that can be taken over on another channel: what is sent is kept until the other side has acknowledged it.
///
/// It is for [`tunnel_resumable`](super::tunnel_resumable), since only what has reached a plain connection counts as taken.
pub type ResumableStream<S> = Connection<S, Resumable>;

/// A stream that stands, be it resumable or not.
#[derive(Debug)]
pub enum OpenedStream<S> {
    /// It cannot be taken over.
    Plain(SecureStream<S>),
    /// It can.
    Resumable(ResumableStream<S>),
}

/// The reason why a stream does not go on on a channel.
#[derive(Debug)]
pub enum ResumeError<C> {
    /// The channel was lost, or the other side has closed it: the stream may go on on another one.
    Lost {
        /// The stream.
        stream: Box<Suspended>,
        /// How the channel was lost.
        error: io::Error,
    },
    /// The server knows no such stream, or not for this client: it has ended. The channel is idle.
    Gone {
        /// The channel.
        channel: C,
        /// For how long the server has forgotten no stream that it was asked for: it has never had one that was asked for within this
        /// time and not answered, and never will. Zero where it had this one.
        remembers: Duration,
    },
    /// The other side has broken the protocol: the stream has ended.
    Failed(io::Error),
}

impl<S> ResumableStream<S> {
    /// What was agreed on.
    pub fn retention(&self) -> Retention {
        self.phase.retention
    }

    /// The id of the stream.
    pub fn id(&self) -> StreamId {
        self.phase.identity.id()
    }

    /// What judges a request to take the stream over.
    pub fn verifier(&self) -> ResumeVerifier {
        ResumeVerifier::new(&self.phase.identity)
    }

    /// A stream that has lost its channel before anything was done with it.
    pub fn suspend(mut self) -> Suspended {
        let received = self.reading.receiver.received();
        let has_end = self.reading.receiver.has_received_end();
        let retained = self.writing.take_retained();
        let Resumable { identity, retention } = self.phase;
        suspended(*identity, retention, retained, received, has_end)
    }
}

/// Puts together what is left of a stream without a channel.
pub(super) fn suspended(
    identity: StreamIdentity,
    retention: Retention,
    retained: Option<Box<Retained>>,
    received: u64,
    has_end: bool,
) -> Suspended {
    // There is always something that keeps what is sent of a resumable stream.
    let retained = retained.unwrap_or_else(|| Box::new(Retained::new(retention.window, Reservation::none())));
    Suspended { identity, retention, retained, received, has_end }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ResumableStream<S> {
    /// Sends the answer to the Open that was begun.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.flush_all().await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// Opens a stream that can be taken over, to be sent with the next flush and confirmed with
    /// [`OpeningStream::confirm_stream`]. What is kept of it counts on `reservation`.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`], as for [`Channel::open`], and for a target or a retention that section 7.7 does not allow.
    pub fn begin_open_resumable(
        mut self,
        target: &Target,
        retention: Retention,
        reservation: Reservation,
    ) -> Result<OpeningStream<S>, Error> {
        self.writing.control(&ControlMessage::OpenResumable { target: target.clone(), retention })?;
        self.writing.retain(Box::new(Retained::new(retention.window, reservation)));
        Ok(self.into_phase(Opening::default()))
    }

    /// Answers an [`Incoming::OpenResumable`](super::Incoming::OpenResumable): the stream stands, and can be taken over. The answer goes out with what is
    /// sent next, as that of [`Channel::begin_answer`].
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] where no such stream is asked for, and for more than was asked for.
    pub fn begin_answer_resumable(
        mut self,
        retention: Retention,
        reservation: Reservation,
    ) -> Result<ResumableStream<S>, Error> {
        self.writing.control(&ControlMessage::OpenedResumable { retention })?;
        self.writing.retain(Box::new(Retained::new(retention.window, reservation)));
        let identity = Box::new(self.stream_identity());
        Ok(self.into_phase(Resumable { identity, retention }))
    }

    /// Takes a stream over, as the client: it goes on on this channel. `limit` is how long the answer may take.
    ///
    /// # Errors
    /// [`ResumeError`].
    pub async fn resume(
        mut self,
        mut stream: Box<Suspended>,
        limit: Duration,
    ) -> Result<ResumableStream<S>, ResumeError<Self>> {
        let (resume, proof) = stream.next_resume(&self.session.exporter);
        let answered = timeout(limit, async {
            self.say(&ControlMessage::Resume { resume, proof }).await?;
            self.event().await
        });
        let event = match answered.await {
            Ok(Ok(event)) => event,
            Ok(Err(error)) => return Err(lost_or_failed(stream, error)),
            Err(_) => return Err(ResumeError::Lost { stream, error: io::ErrorKind::TimedOut.into() }),
        };
        match event {
            Event::Resumed(resumed, proof) => {
                let checked = stream.check_resumed(&self.session.exporter, &resume, &resumed, &proof);
                let position = checked.map_err(|error| ResumeError::Failed(error.into()))?;
                stream.resume_at(&position);
                let resumed = self.writing.sender.resume(&position);
                resumed.map_err(|error| ResumeError::Failed(error.into()))?;
                Ok(self.carry(*stream))
            }
            Event::Gone(seconds) => {
                Err(ResumeError::Gone { channel: self, remembers: Duration::from_secs(seconds.into()) })
            }
            Event::Close => {
                // It is answered, as far as that is still of use to the other side.
                self.flush_all().await.ok();
                Err(ResumeError::Lost { stream, error: Error::Closed.into() })
            }
            _ => Err(ResumeError::Failed(unexpected())),
        }
    }

    /// Answers an [`Incoming::Resume`](super::Incoming::Resume) that [`ResumeVerifier::permits`]: the stream, of which nothing is read or sent elsewhere any more, goes on on this channel.
    ///
    /// # Errors
    /// [`ResumeError`]: [`ResumeError::Gone`], which was said then, for a request from where the stream cannot go on.
    pub async fn answer_resume(
        mut self,
        mut stream: Box<Suspended>,
        request: &ResumeRequest,
    ) -> Result<ResumableStream<S>, ResumeError<Self>> {
        let (position, proof) = match stream.answer(request, &self.session.exporter) {
            Ok(answer) => answer,
            Err(_) => {
                return match self.answer_gone(Duration::ZERO).await {
                    Ok(()) => Err(ResumeError::Gone { channel: self, remembers: Duration::ZERO }),
                    Err(error) => Err(ResumeError::Failed(error)),
                };
            }
        };
        if let Err(error) = self.writing.resumed(proof, &position) {
            return Err(ResumeError::Failed(error.into()));
        }
        stream.resume_at(&position);
        match self.flush_all().await {
            Ok(()) => Ok(self.carry(*stream)),
            Err(error) => Err(lost_or_failed(stream, error)),
        }
    }

    /// Answers an [`Incoming::Resume`](super::Incoming::Resume) that [`ResumeVerifier::permits`] of a stream that is over.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn answer_resume_over(
        &mut self,
        stream: &mut Tombstone,
        request: &ResumeRequest,
    ) -> io::Result<()> {
        match stream.answer(request, &self.session.exporter) {
            // A client whose end has not come has another stream in mind.
            Ok((position, proof)) if position.end_sent && position.end_received => {
                self.writing.resumed(proof, &position)?;
                self.flush_all().await
            }
            Ok(_) | Err(_) => self.answer_gone(Duration::ZERO).await,
        }
    }

    /// Answers an [`Incoming::Resume`](super::Incoming::Resume): there is no such stream, or not for this client. This side has forgotten
    /// no stream that it was asked for since it `remembers`: zero where it had this one, or does not know. A day is said at most.
    ///
    /// # Errors
    /// Those of the socket; [`Error::ApiMisuse`] where nothing was asked for.
    pub async fn answer_gone(&mut self, remembers: Duration) -> io::Result<()> {
        let seconds = u32::try_from(remembers.as_secs()).unwrap_or(u32::MAX);
        let remembers_seconds = seconds.min(MAX_HOLD_SECONDS);
        self.say(&ControlMessage::Gone { remembers_seconds }).await
    }

    /// The stream goes on, from where both sides have agreed.
    fn carry(mut self, stream: Suspended) -> ResumableStream<S> {
        let Suspended { identity, retention, retained, .. } = stream;
        self.writing.retain(retained);
        self.into_phase(Resumable { identity: Box::new(identity), retention })
    }
}

impl<S> Channel<S> {
    /// The id of the resumable stream that was asked for last, and what judges a request to take it over: for whoever has to know of
    /// the stream before it stands.
    pub fn asked_stream(&self) -> (StreamId, ResumeVerifier) {
        let identity = self.stream_identity();
        (identity.id(), ResumeVerifier::new(&identity))
    }

    /// Of the resumable stream that was asked for last.
    fn stream_identity(&self) -> StreamIdentity {
        StreamIdentity::new(&self.session.exporter, self.writing.sender.stream_number())
    }
}

/// What is left where a channel fails on which a stream was to go on.
fn lost_or_failed<C>(stream: Box<Suspended>, error: io::Error) -> ResumeError<C> {
    if is_loss(&error) { ResumeError::Lost { stream, error } } else { ResumeError::Failed(error) }
}

/// Whether an error of a channel leaves its stream to go on on another one: the other side has neither given it up nor broken
/// the protocol. What is not authenticated, as a record that was changed on the way, is anybody's.
#[must_use]
pub fn is_loss(error: &io::Error) -> bool {
    !matches!(
        crate::stream::error::error_in(error),
        Some(Error::Reset(_) | Error::PeerMisbehaved(_) | Error::ApiMisuse(_) | Error::Crypto(_))
    )
}

impl<S: AsyncRead + AsyncWrite + Unpin> OpeningStream<S> {
    /// Waits until the stream stands that [`Channel::begin_open_resumable`] has opened.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn confirm_stream(mut self) -> Result<OpenedStream<S>, OpenError<Channel<S>>> {
        self.answered().await?;
        match self.phase.answer {
            Some(Answer::Opened) => {
                self.writing.forget_retained();
                Ok(OpenedStream::Plain(self.into_phase(Open)))
            }
            Some(Answer::OpenedResumable(retention)) => {
                let identity = Box::new(self.stream_identity());
                self.writing.set_window(retention.window);
                Ok(OpenedStream::Resumable(self.into_phase(Resumable { identity, retention })))
            }
            _ => {
                self.writing.forget_retained();
                Err(self.into_error())
            }
        }
    }
}

impl<S> OpeningStream<S> {
    /// As [`Channel::asked_stream`], of the resumable stream that this side asks for.
    pub fn asked_stream(&self) -> (StreamId, ResumeVerifier) {
        let identity = self.stream_identity();
        (identity.id(), ResumeVerifier::new(&identity))
    }

    /// The stream as it is to be taken over where the channel was lost before the answer came. `None` where it is not a resumable
    /// one, or was answered.
    pub fn into_suspended(mut self) -> Option<Suspended> {
        let retained = self.writing.take_retained().filter(|_| self.phase.answer.is_none())?;
        let identity = self.stream_identity();
        let retention = self.writing.sender.asked_retention();
        let received = self.reading.receiver.received();
        Some(suspended(identity, retention, Some(retained), received, false))
    }

    fn stream_identity(&self) -> StreamIdentity {
        StreamIdentity::new(&self.session.exporter, self.writing.sender.stream_number())
    }
}

impl<S, P> Connection<S, P> {
    /// What the resumable streams of the channel are tied to: for whoever judges a request to take one over.
    pub fn exporter(&self) -> &crate::handshake::Exporter {
        &self.session.exporter
    }
}
