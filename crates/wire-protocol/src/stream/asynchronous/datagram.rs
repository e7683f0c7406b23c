//! The relay of datagrams (section 7.1): a local socket on one side, a channel on the other, one task.
//!
//! ```text
//!   local -> a record or several each, while nothing waits to go out -> channel
//!   local <- what it takes at once, the rest is dropped     <- channel
//! ```
//!
//! Nothing here waits for the one while the other could go on, so that two sides that both write never wait for each
//! other, and nothing is queued: a channel that is slower than the local socket leaves datagrams there, where the
//! system drops them. What is dropped here the local socket is told of, with the reason.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UdpSocket;
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::Connection;
use crate::channel::{Event, HEARTBEAT, MAX_DATAGRAM_LEN, SILENCE};
use crate::message::{ControlMessage, RefusedCode};
use crate::record::{SLOT_LEN, grow};
use crate::stream::error::end_timed_out;
use crate::stream::memory;
use crate::stream::phase::{Answer, Streaming};
use crate::{Error, PeerMisbehaved};

/// A local socket for datagrams, which a relay receives from and sends to.
pub trait DatagramSocket {
    /// Receives a datagram into `buf` and gives its length. What does not fit is cut off: there is room for everything
    /// that UDP carries.
    ///
    /// # Errors
    /// `ConnectionRefused`, `HostUnreachable`, `NetworkUnreachable` and `PermissionDenied` when an earlier datagram
    /// came to nothing, which changes nothing; `UnexpectedEof` when there is to be no more, on which the flow ends as
    /// if it had been idle; any other breaks the flow off.
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Sends a datagram if that can be done at once.
    ///
    /// # Errors
    /// `WouldBlock`, or whatever else the datagram is lost to. The flow goes on.
    fn try_send(&mut self, datagram: &[u8]) -> io::Result<()>;

    /// Ready once [`DatagramSocket::try_send`] is of use: a socket that is new to the reactor refuses everything.
    /// Asked for once, at the start.
    ///
    /// # Errors
    /// Those of the socket.
    fn poll_send_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Is told of a datagram of `len` bytes that the relay has dropped.
    fn dropped(&mut self, _len: usize, _why: &Dropped<'_>) {}
}

/// The reason why the relay has dropped a datagram.
#[derive(Debug)]
#[non_exhaustive]
pub enum Dropped<'a> {
    /// It came from the local socket and is longer than [`MAX_DATAGRAM_LEN`].
    TooLong,
    /// The local socket did not take it.
    NotTaken(&'a io::Error),
}

/// A socket that is connected to the one it exchanges datagrams with.
impl DatagramSocket for UdpSocket {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(Self::poll_recv(self, cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn try_send(&mut self, datagram: &[u8]) -> io::Result<()> {
        send_past_earlier_errors(|| Self::try_send(self, datagram))
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_send_ready(self, cx)
    }
}

/// Sends with `send`, again where that fails: what became of an earlier datagram (that nobody was there, or that it was too
/// long for the path) is told to whoever sends the next one, which then has not gone out. Only an error that stays is the
/// datagram's own.
///
/// # Errors
/// `WouldBlock`, at once, or what it fails with the last time.
pub fn send_past_earlier_errors(mut send: impl FnMut() -> io::Result<usize>) -> io::Result<()> {
    let mut tries = SEND_TRIES;
    loop {
        tries -= 1;
        match send() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && tries > 0 => {}
            sent => return sent.map(drop),
        }
    }
}

/// The numbers of datagrams that a relay has carried and dropped by its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatagramsEnd {
    /// Datagrams from the local socket that went into the channel.
    pub sent: u64,
    /// Datagrams from the channel that the local socket took.
    pub received: u64,
    /// Datagrams from the local socket that were dropped because they are longer than [`MAX_DATAGRAM_LEN`].
    pub too_long: u64,
    /// Datagrams from the channel that the local socket did not take.
    pub not_taken: u64,
}

/// Relays datagrams over the stream that is open or opening, until there has been none for `idle` in either
/// direction, or for [`ANSWERED_IDLE`] where all that was asked has been answered, or the other side says that.
/// [`Connection::finish`] gives the channel then, idle.
///
/// All has been answered where whoever opened the stream has sent nothing since the first answer, and as many answers have
/// come as questions were asked: so it is with a resolver's clients, each of which is a flow of its own.
///
/// # Errors
/// [`Error::Refused`] when the other side does not want the stream; [`Connection::finish`] gives the channel then, too.
/// [`Error::Closed`] when it has closed the channel instead. After every other error the channel is in the middle
/// of something and of no use: those of the local socket, `TimedOut` when the other side has not been heard of
/// for [`SILENCE`] or has not answered the end of the stream by then, and whatever else ends a channel.
pub async fn relay_datagrams<S, P, D>(
    stream: &mut Connection<S, P>,
    local: &mut D,
    idle: Duration,
) -> io::Result<DatagramsEnd>
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: Streaming,
    D: DatagramSocket,
{
    poll_fn(|cx| local.poll_send_ready(cx)).await?;
    stream.reading.receiver.expect_datagrams();
    let now = Instant::now();
    let asks = stream.writing.sender.has_opened();
    let mut flow = Flow {
        stream,
        local,
        idle,
        end: DatagramsEnd::default(),
        refused: None,
        last_datagram: now,
        asks,
        is_conversation: false,
        ended_by_peer: None,
    };
    let mut alarm = pin!(sleep_until(now + HEARTBEAT));
    poll_fn(|cx| flow.poll(cx, alarm.as_mut())).await
}

struct Flow<'a, S, P, D> {
    stream: &'a mut Connection<S, P>,
    local: &'a mut D,
    idle: Duration,
    end: DatagramsEnd,
    refused: Option<RefusedCode>,
    last_datagram: Instant,
    /// This side has opened the stream: what it sends counts as a question, what the other side sends as an answer.
    asks: bool,
    /// Something was asked after an answer had come: more is likely to follow.
    is_conversation: bool,
    /// Since when the other side has said its last word on the stream, to which our answer is on its way.
    ended_by_peer: Option<Instant>,
}

/// Whether something has changed, so that there may be more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Made,
    None,
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Streaming, D: DatagramSocket> Flow<'_, S, P, D> {
    fn poll(&mut self, cx: &mut Context<'_>, mut alarm: Pin<&mut Sleep>) -> Poll<io::Result<DatagramsEnd>> {
        loop {
            let now = Instant::now();
            let received = self.receive(cx, now)?;
            let flushed = self.stream.writing.poll_flush(&mut self.stream.io, cx);
            let blocked = flushed.is_pending();
            match flushed {
                Poll::Ready(Ok(())) if self.is_over() => return Poll::Ready(self.outcome()),
                Poll::Ready(Ok(())) => {
                    if self.send(cx, now)? == Progress::Made {
                        continue;
                    }
                }
                // That the other side is gone already changes nothing about its refusal, and whatever else it
                // has said last tells more than that it takes nothing any more.
                Poll::Ready(Err(_)) if self.refused.is_some() => return Poll::Ready(self.outcome()),
                Poll::Ready(Err(error)) if received == Progress::None => return Poll::Ready(Err(error)),
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
            if received == Progress::Made {
                continue;
            }
            self.stream.reading.handle_timeout()?;
            let expiry = match self.ended_by_peer {
                Some(since) if now >= since + SILENCE => return Poll::Ready(Err(end_timed_out())),
                Some(since) => Some(since + SILENCE),
                None => self.stream.reading.poll_timeout(),
            };
            let duties = if blocked { [None; 2] } else { self.duties() };
            let due = duties.into_iter().chain([expiry]).flatten().min().unwrap_or(now + HEARTBEAT);
            if alarm.is_elapsed() || due < alarm.deadline() {
                alarm.as_mut().reset(due);
            }
            ready!(alarm.as_mut().poll(cx));
        }
    }

    /// Takes one event from the channel. None behind the other side's end: they are not this stream's.
    fn receive(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<Progress> {
        let Connection { io, reading, phase, .. } = &mut *self.stream;
        if reading.receiver.has_ended() {
            return Ok(Progress::None);
        }
        let Poll::Ready(event) = reading.poll_event(io, cx) else { return Ok(Progress::None) };
        match event? {
            Event::Data => {
                let datagram = reading.receiver.data();
                match self.local.try_send(datagram) {
                    Ok(()) => self.end.received += 1,
                    Err(error) => {
                        self.end.not_taken += 1;
                        self.local.dropped(datagram.len(), &Dropped::NotTaken(&error));
                    }
                }
                reading.receiver.consume_datagram();
                self.last_datagram = now;
                self.is_conversation |= !self.asks && self.end.sent > 0;
            }
            Event::Opened => phase.note(Answer::Opened),
            Event::EndOfStream | Event::Ping(_) | Event::Pong(_) => {}
            Event::Refused(code) => {
                phase.note(Answer::Refused(code));
                self.refused = Some(code);
            }
            Event::Close => {
                // It is answered, as far as the socket takes that at once.
                let _answered = self.stream.writing.poll_flush(&mut self.stream.io, cx);
                return Err(Error::Closed.into());
            }
            _ => return Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
        }
        if reading.receiver.has_ended() {
            self.ended_by_peer.get_or_insert(now);
        }
        Ok(Progress::Made)
    }

    /// Seals what is to be said next, while nothing waits to go out.
    fn send(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<Progress> {
        let streaming = self.stream.writing.sender.is_streaming();
        let has_ended = self.stream.reading.receiver.has_ended();
        if streaming && (has_ended || self.idle_end().is_some_and(|end| now >= end)) {
            self.stream.writing.control(&ControlMessage::EndOfStream)?;
        } else if streaming {
            self.take_datagrams(cx, now)?;
        }
        self.stream.writing.handle_timeout()?;
        Ok(if self.stream.writing.unsent().is_empty() { Progress::None } else { Progress::Made })
    }

    /// Seals the datagrams that the local socket has, until they fill a write.
    fn take_datagrams(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<()> {
        // For as long as there are datagrams: a flow that waits for one holds none.
        let mut buffer = memory::take();
        grow(&mut buffer, MAX_RECEIVED_LEN);
        let taken = self.take_datagrams_into(&mut buffer, cx, now);
        memory::give_back(buffer);
        taken
    }

    fn take_datagrams_into(
        &mut self,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
        now: Instant,
    ) -> io::Result<()> {
        let writing = &mut self.stream.writing;
        while writing.unsent().len() < SLOT_LEN {
            match self.local.poll_recv(cx, buffer) {
                Poll::Ready(Ok(len)) => {
                    self.last_datagram = now;
                    if len > MAX_DATAGRAM_LEN {
                        self.end.too_long += 1;
                        self.local.dropped(len, &Dropped::TooLong);
                        continue;
                    }
                    writing.datagram(&buffer[..len])?;
                    self.end.sent += 1;
                    self.is_conversation |= self.asks && self.end.received > 0;
                }
                Poll::Ready(Err(error)) if is_of_an_earlier_one(&error) => {}
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.idle = Duration::ZERO;
                    break;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Whether whoever has opened the stream has got an answer to each question, and has asked nothing since.
    fn is_answered(&self) -> bool {
        let (sent, received) = (self.end.sent, self.end.received);
        let (questions, answers) = if self.asks { (sent, received) } else { (received, sent) };
        !self.is_conversation && questions > 0 && answers >= questions
    }

    fn is_over(&self) -> bool {
        self.stream.writing.sender.is_idle()
    }

    fn outcome(&self) -> io::Result<DatagramsEnd> {
        self.refused.map_or(Ok(self.end), |code| Err(Error::Refused(code).into()))
    }

    /// When something has to be said, unless something else happens before.
    fn duties(&self) -> [Option<Instant>; 2] {
        let idle_end = self.idle_end().filter(|_| self.stream.writing.sender.is_streaming());
        [self.stream.writing.poll_timeout(), idle_end]
    }

    /// When the flow has been idle for long enough; never, where that is beyond the clock.
    fn idle_end(&self) -> Option<Instant> {
        let idle = if self.is_answered() { self.idle.min(ANSWERED_IDLE) } else { self.idle };
        self.last_datagram.checked_add(idle)
    }
}

/// Whether an earlier datagram has come to nothing: the socket is as good as before.
fn is_of_an_earlier_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::PermissionDenied
    )
}

/// How long a flow lasts once all that was asked on it has been answered (section 7.1): longer than a resolver's client
/// waits before it asks again, and short enough that a busy resolver does with a few channels.
pub const ANSWERED_IDLE: Duration = Duration::from_secs(5);
/// Room for the longest datagram that there is, over IPv6 too: so the length of one that is too long is known.
const MAX_RECEIVED_LEN: usize = 65_535;
/// One for the error that an earlier datagram has left, one for another that comes meanwhile, and the one that counts.
const SEND_TRIES: u8 = 3;
