//! The idle channel over `AsyncRead + AsyncWrite`: opening streams, answering those of the other side, and the end.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::task::coop::unconstrained;
use tokio::time::timeout;

use super::connection::{Channel, OpeningStream, SecureStream, unexpected};
use crate::Error;
use crate::channel::Event;
use crate::message::{ControlMessage, LEASE_LEN, RefusedCode, Retention, Target};
use crate::stream::deadline::CLOSE_DEADLINE;
use crate::stream::error::{idle_for, not_closed};
use crate::stream::open_error::OpenError;
use crate::stream::phase::{Open, Opening};
use crate::stream::resumable::ResumeRequest;
use crate::stream::session::{Peer, idle_timeout};

/// A message of the other side on an idle channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A stream: to be answered with [`Channel::answer_open`] or [`Channel::refuse_open`].
    Open(Target),
    /// A stream that can be taken over: to be answered with [`Channel::begin_answer_resumable`], or as [`Incoming::Open`].
    OpenResumable(Target, Retention),
    /// That a stream is taken over: to be answered with [`Channel::answer_resume`], [`Channel::answer_resume_over`] or
    /// [`Channel::answer_gone`].
    Resume(ResumeRequest),
    /// That this side opens streams from now on, under this lease: with [`Channel::open`].
    Park([u8; LEASE_LEN]),
    /// Nothing but to be known to be there: its Ping has been answered, or it has answered ours.
    SignOfLife,
    /// The end: to be answered with [`Channel::close`].
    Close,
}

impl<S> Channel<S> {
    /// Whether all is said of the resumable stream that was last on the channel. A client's last Acknowledge, for which the server
    /// waits, goes along with what is said next, or with [`Channel::settle`].
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.writing.sender.has_deferred()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// Opens a stream and waits until it stands.
    ///
    /// # Errors
    /// [`OpenError`]; [`Error::ApiMisuse`] inside where it is the other side that opens the streams of this channel, or has an
    /// Open to be answered.
    pub async fn open(self, target: &Target) -> Result<SecureStream<S>, OpenError<Self>> {
        self.begin_open(target).map_err(io::Error::from)?.confirm().await
    }

    /// Opens a stream, to be sent with the next flush and confirmed with [`OpeningStream::confirm`].
    ///
    /// # Errors
    /// [`Error::ApiMisuse`], as for [`Channel::open`].
    pub fn begin_open(mut self, target: &Target) -> Result<OpeningStream<S>, Error> {
        self.writing.control(&ControlMessage::Open { target: target.clone() })?;
        Ok(self.into_phase(Opening::default()))
    }

    /// Asks the other side to listen, and waits until it does. Gives the port.
    ///
    /// # Errors
    /// As [`Channel::open`].
    pub async fn open_listen(self, target: &Target) -> Result<(SecureStream<S>, u16), OpenError<Self>> {
        self.begin_open(target).map_err(io::Error::from)?.confirm_listening().await
    }

    /// Waits for the other side to open a stream; `None` when it closes the channel instead. Pings are answered. A
    /// server closes a channel that has been idle for as long as its limits say.
    ///
    /// # Errors
    /// `TimedOut` when the channel was closed for having been idle, else whatever ends it.
    pub async fn next_open(&mut self) -> io::Result<Option<Target>> {
        loop {
            let incoming = match self.idle_timeout() {
                Some(limit) => match timeout(limit, self.next_incoming()).await {
                    Ok(incoming) => incoming,
                    Err(_) => return Err(self.close_idle(limit).await),
                },
                None => self.next_incoming().await,
            };
            match incoming? {
                Incoming::Open(target) => return Ok(Some(target)),
                Incoming::SignOfLife => {}
                // Who asks in this way for the next stream keeps none.
                Incoming::OpenResumable(target, _) => return Ok(Some(target)),
                Incoming::Resume(_) => self.answer_gone(Duration::ZERO).await?,
                Incoming::Park(_) => return Err(unexpected()),
                Incoming::Close => return Ok(None),
            }
        }
    }

    /// How long a client may leave the channel idle; `None` at the client.
    fn idle_timeout(&self) -> Option<Duration> {
        matches!(self.session.peer, Peer::Client(_)).then(|| idle_timeout(&self.session))
    }

    /// Says Close, and waits for the other side's as long as section 8 says. Gives the reason.
    async fn close_idle(&mut self, limit: Duration) -> io::Error {
        // Whether the other side closes too makes no difference to why.
        self.exchange_closes().await.ok();
        idle_for(limit)
    }

    /// Waits for what the other side wants of the channel, for as long as that takes. Can be dropped and called again.
    ///
    /// # Errors
    /// Whatever ends the channel.
    pub async fn next_incoming(&mut self) -> io::Result<Incoming> {
        match self.any_event().await? {
            Event::Open(target) => Ok(Incoming::Open(target)),
            Event::OpenResumable(target, retention) => Ok(Incoming::OpenResumable(target, retention)),
            Event::Resume(resume, proof) => Ok(Incoming::Resume(ResumeRequest { resume, proof })),
            Event::Park(lease) => Ok(Incoming::Park(lease)),
            Event::Ping(_) | Event::Pong(_) => Ok(Incoming::SignOfLife),
            Event::Close => Ok(Incoming::Close),
            _ => Err(unexpected()),
        }
    }

    /// Answers the other side's Open: the stream stands.
    ///
    /// # Errors
    /// Those of the socket; [`Error::ApiMisuse`] when there is no Open to answer.
    pub async fn answer_open(self) -> io::Result<SecureStream<S>> {
        let mut stream = self.begin_answer()?;
        stream.flush_all().await?;
        Ok(stream)
    }

    /// Answers the other side's Open: the stream stands. To be sent with the next flush, or by [`tunnel()`]: where data came
    /// with the Open, together with what the plain connection says to it, or as soon as the other side says anything
    /// else, or after [`HEARTBEAT`].
    ///
    /// [`tunnel()`]: crate::stream::tunnel()
    /// [`HEARTBEAT`]: crate::channel::HEARTBEAT
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] when there is no Open to answer.
    pub fn begin_answer(mut self) -> Result<SecureStream<S>, Error> {
        self.writing.control(&ControlMessage::Opened)?;
        Ok(self.into_phase(Open))
    }

    /// Answers the other side's Open of a listen target: this side listens, on `port`.
    ///
    /// # Errors
    /// As [`Channel::answer_open`].
    pub async fn answer_listen(mut self, port: u16) -> io::Result<SecureStream<S>> {
        self.say(&ControlMessage::Listening { port }).await?;
        Ok(self.into_phase(Open))
    }

    /// Answers the other side's Open: there will be no stream. Gives the channel back, idle.
    ///
    /// # Errors
    /// As [`Channel::answer_open`].
    pub async fn refuse_open(mut self, code: RefusedCode) -> io::Result<Self> {
        self.say(&ControlMessage::Refused { code }).await?;
        Ok(self)
    }

    /// Parks the channel: from now on the other side opens streams (see [`Channel::next_incoming`]).
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn park(&mut self, lease: [u8; LEASE_LEN]) -> io::Result<()> {
        self.say(&ControlMessage::Park { lease }).await
    }

    /// Ends the channel: both sides say Close once all that they received has reached its place, so that after
    /// this nothing is in doubt. What has crossed our Close never stood, and is discarded. Where the other side has said Close
    /// already, this one answers it.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the other side is gone without a Close, `TimedOut` when it has not said it after
    /// [`CLOSE_DEADLINE`], or has not taken our answer to it by then.
    pub async fn close(mut self) -> io::Result<()> {
        if !self.reading.receiver.is_closed() {
            return self.exchange_closes().await;
        }
        timeout(CLOSE_DEADLINE, async {
            self.flush_all().await?;
            self.io.shutdown().await
        })
        .await
        .map_err(|_| not_closed())?
    }

    /// Says what is left to be said of the resumable stream that was last on the channel: within a second, and of a channel that is
    /// dropped before, or the server has the stream wait for its client.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn settle(&mut self) -> io::Result<()> {
        self.writing.answer_deferred()?;
        self.flush_all().await
    }

    /// Whether the channel still stands, as far as can be seen without waiting: what has arrived is looked at.
    #[must_use]
    pub fn is_standing(&mut self) -> bool {
        loop {
            // A task that has used up its turn would find nothing, whatever there is.
            let event = pin!(unconstrained(poll_fn(|cx| self.reading.poll_event(&mut self.io, cx))));
            match event.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return true,
                // A Ping is answered with what is sent next.
                Poll::Ready(Ok(Event::Ping(_) | Event::Pong(_))) => {}
                Poll::Ready(_) => return false,
            }
        }
    }
}
