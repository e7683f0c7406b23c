//! The relay of a tunnel (section 7.1): a plain connection on one side, a channel on the other, and two directions
//! that share a task until the sending one has much to do.
//!
//! ```text
//!   plain -> vectored read straight into record slots -> seal in place -> one write -> channel
//!   plain <- vectored write from where it was opened  <- open in place <- one read  <- channel
//! ```
//!
//! The two directions share the two sockets and how far each has come, no lock and no buffer; a direction holds memory
//! only while bytes are in it.

use std::boxed::Box;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::SecureStream;
use super::duplex::{Duplex, Shared, is_transient};
use super::link::{Link, Sending};
use crate::channel::Event;
use crate::message::{ControlMessage, ResetCode};
use crate::record::{MAX_BATCH, batch};
use crate::state::StateCell;
use crate::stream::{HEARTBEAT, Parts, Reading, RelayError, SILENCE, Writing};
use crate::{Error, PeerMisbehaved};

/// A limit of bytes per second, which all streams of a peer may share.
pub trait Pace: Clone + Send + Sync + 'static {
    /// Takes note of bytes that have passed. Gives the moment before which no more may; a stream that is held up
    /// still gives signs of life.
    fn note(&self, bytes: usize) -> Option<Instant>;

    /// The most records that are read at once, 1 to [`batch`]: fewer are fairer to other streams.
    fn records(&self) -> usize;
}

/// No limit.
impl Pace for () {
    fn note(&self, _: usize) -> Option<Instant> {
        None
    }

    fn records(&self) -> usize {
        batch()
    }
}

/// Relays until both directions have ended, each by itself: half-close is honored. Closes the plain connection then, and
/// gives back the channel, which is idle.
///
/// # Errors
/// [`RelayError`]. Both sockets are gone then: where the plain one is set to reset when it is dropped, as it should
/// be, what was cut off does not look as if it had ended.
pub async fn tunnel<C, P, Q>(
    stream: SecureStream<C>,
    plain: P,
    pace: Q,
) -> Result<SecureStream<C>, RelayError>
where
    C: Duplex,
    P: Duplex,
    Q: Pace,
{
    tunnel_until(stream, plain, pace, std::future::pending()).await
}

/// As [`tunnel()`], but breaks the stream off once `stop` gives a reason, which the other side is told.
///
/// # Errors
/// [`RelayError`]; [`RelayError::Stopped`] once `stop` has given a reason.
pub async fn tunnel_until<C, P, Q>(
    stream: SecureStream<C>,
    plain: P,
    pace: Q,
    stop: impl Future<Output = ResetCode>,
) -> Result<SecureStream<C>, RelayError>
where
    C: Duplex,
    P: Duplex,
    Q: Pace,
{
    let (io, Parts { session, reading, writing }) = stream.into_parts();
    let link = Arc::new(Link::new(io, plain));
    let mut sending =
        SendTask::Here(Box::pin(send_all(writing, Arc::clone(&link), pace.clone())), &link.sending);
    let mut receiving = pin!(receive_all(reading, Arc::clone(&link), pace));
    let mut stop = pin!(stop);

    let first = poll_fn(|cx| {
        if let Poll::Ready(code) = stop.as_mut().poll(cx) {
            return Poll::Ready(First::Stopped(code));
        }
        loop {
            // What came with the Open first: its target begins to work on it.
            if let Poll::Ready(received) = receiving.as_mut().poll(cx) {
                return Poll::Ready(First::Received(received));
            }
            if let Poll::Ready(sent) = Pin::new(&mut sending).poll(cx) {
                return Poll::Ready(First::Sent(sent));
            }
            if !(link.for_receiver.take_news() || link.for_sender.take_news()) {
                return Poll::Pending;
            }
        }
    });
    let (reading, writing) = match first.await {
        First::Sent(Ok(writing)) => tokio::select! {
            biased;
            code = &mut stop => {
                if give_up(writing, &link, code).await.is_ok() {
                    linger(&link.io).await;
                }
                return Err(RelayError::Stopped(code));
            }
            received = receiving => (received, Ok(writing)),
        },
        // The other side's last word tells more than a write that failed.
        First::Sent(Err(RelayError::Channel(error))) => match timeout(LAST_WORD_DEADLINE, receiving).await {
            Ok(Err(last_word)) => (Err(last_word), Err(RelayError::Channel(error))),
            _ => (Err(RelayError::Channel(error)), Err(RelayError::Channel(Error::Truncated.into()))),
        },
        First::Sent(Err(error)) => (Err(RelayError::Channel(Error::Truncated.into())), Err(error)),
        First::Received(Ok(reading)) => tokio::select! {
            biased;
            code = &mut stop => return stop_sending(sending, &link, code).await,
            sent = &mut sending => (Ok(reading), sent),
        },
        First::Received(Err(error)) => {
            if let RelayError::Output(_) = &error {
                link.give_up(ResetCode::Output);
                // A peer that takes nothing any more learns of it from the cut.
                timeout(RESET_DEADLINE, &mut sending).await.ok();
            }
            (Err(error), Err(RelayError::Channel(Error::Truncated.into())))
        }
        First::Stopped(code) => return stop_sending(sending, &link, code).await,
    };
    drop(sending);
    match (reading, writing) {
        (Ok(reading), Ok(writing)) => {
            let link = Arc::into_inner(link).ok_or_else(|| {
                RelayError::Channel(io::Error::other("a direction of the tunnel still holds its sockets"))
            })?;
            link.plain.finish();
            Ok(SecureStream::from_parts(link.io, Parts { session, reading, writing }))
        }
        // What failed on the plain side is the reason, the channel then ends with it.
        (Err(RelayError::Channel(_)), Err(error @ (RelayError::Input(_) | RelayError::Output(_)))) => {
            Err(error)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// Ends the sending direction before its time, with a reason that the other side is told.
async fn stop_sending<C: Duplex, P, T>(
    mut sending: SendTask<'_>,
    link: &Link<C, P>,
    code: ResetCode,
) -> Result<T, RelayError> {
    link.give_up(code);
    // A peer that takes nothing any more learns of it from the cut.
    if timeout(RESET_DEADLINE, &mut sending).await.is_ok() {
        linger(&link.io).await;
    }
    Err(RelayError::Stopped(code))
}

/// Whichever direction is over first.
enum First {
    Sent(Sent),
    Received(Result<Box<Reading>, RelayError>),
    /// Neither is over, and both are to end.
    Stopped(ResetCode),
}

/// The sending direction. It begins in the task of the receiving one, which is all that a short exchange needs: one
/// task that is made, and woken. Once it has much to send it gets a task, and so a core, of its own.
enum SendTask<'a> {
    Here(Pin<Box<dyn Future<Output = Sent> + Send>>, &'a StateCell<Sending>),
    Apart(AbortOnDrop<Sent>),
}

type Sent = Result<Box<Writing>, RelayError>;

impl Future for SendTask<'_> {
    type Output = Sent;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Sent> {
        if let Self::Here(work, state) = &mut *self {
            if let Poll::Ready(sent) = work.as_mut().poll(cx) {
                return Poll::Ready(sent);
            }
            if !state.get().is_apart() {
                return Poll::Pending;
            }
            let nothing: Pin<Box<dyn Future<Output = Sent> + Send>> = Box::pin(std::future::pending());
            let work = std::mem::replace(work, nothing);
            *self = Self::Apart(AbortOnDrop(tokio::spawn(work)));
        }
        match &mut *self {
            Self::Apart(task) => Pin::new(&mut task.0).poll(cx).map(flatten),
            Self::Here(..) => Poll::Pending,
        }
    }
}

async fn send_all<C: Duplex, P: Duplex, Q: Pace>(
    mut writing: Box<Writing>,
    link: Arc<Link<C, P>>,
    pace: Q,
) -> Result<Box<Writing>, RelayError> {
    let channel = RelayError::Channel;
    // The other side has spoken first, so that an answer is likely to follow at once: Opened goes along with it, or with
    // the first heartbeat. A timer of its own would cost each short stream more than it saves.
    let holds_opened = link.sending.get() == Sending::NotBegunButHeard && !writing.unsent().is_empty();
    link.sending.set(if holds_opened { Sending::HoldsOpened } else { Sending::Here });
    let mut alarm = pin!(sleep_until(due_at(writing.poll_timeout())));
    let mut input = Input::Open { slots: 1 };
    let mut held_until = None;
    loop {
        if link.sending.get() != Sending::HoldsOpened {
            // Again behind what was under way, for which a Pong has to wait.
            loop {
                writing.answer_ping().map_err(|error| channel(error.into()))?;
                if writing.unsent().is_empty() {
                    break;
                }
                poll_fn(|cx| writing.poll_send(&mut Shared(&link.io), cx)).await.map_err(channel)?;
            }
        }
        if let Some(code) = link.given_up.get() {
            return give_up(writing, &link, *code).await;
        }
        if input == Input::Ended {
            link.sending.set(link.sending.get().ended());
            if writing.sender.is_idle() {
                return Ok(writing);
            }
        }
        tokio::select! {
            biased;
            filled = poll_fn(|cx| fill(&mut writing, &mut input, pace.records(), &link.plain, cx)),
                if input != Input::Ended && held_until.is_none() => match filled {
                Ok(0) => {
                    input = Input::Ended;
                    writing.control(&ControlMessage::EndOfStream).map_err(|error| channel(error.into()))?;
                    link.tell_receiver();
                }
                Ok(len) => {
                    if input == (Input::Open { slots: batch() }) {
                        link.sending.set(Sending::Apart);
                    }
                    // What was read goes out; nothing else is read before its time.
                    held_until = pace.note(len);
                }
                Err(FillError::Channel(error)) => return Err(channel(error.into())),
                Err(FillError::Plain(error)) => {
                    give_up(writing, &link, ResetCode::Input).await?;
                    return Err(RelayError::Input(error));
                }
            },
            () = async { sleep_until(due_at(held_until)).await }, if held_until.is_some() => {
                held_until = None;
            }
            () = link.for_sender.lowered() => {}
            error = link.plain.reset(), if input == Input::Ended => {
                give_up(writing, &link, ResetCode::Input).await?;
                return Err(RelayError::Input(error));
            }
            () = &mut alarm => {
                writing.handle_timeout().map_err(|error| channel(error.into()))?;
                alarm.as_mut().reset(due_at(writing.poll_timeout()));
            }
        }
        // Whatever it was that came: Opened is held back no longer.
        link.sending.replace(Sending::HoldsOpened, Sending::Here);
    }
}

/// Whether the plain connection may still say something, and in how many records that is expected to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Open { slots: usize },
    Ended,
}

enum FillError {
    Channel(Error),
    Plain(io::Error),
}

impl From<Error> for FillError {
    fn from(error: Error) -> Self {
        Self::Channel(error)
    }
}

/// Reads from the plain connection straight into records and seals them. No record is held back for more to come.
fn fill(
    writing: &mut Writing,
    input: &mut Input,
    most: usize,
    plain: &impl Duplex,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, FillError>> {
    let Input::Open { slots } = *input else { return Poll::Ready(Ok(0)) };
    let records = slots.min(most);
    loop {
        ready!(plain.poll_read_ready(cx)).map_err(FillError::Plain)?;
        let mut room = 0;
        let filled = writing.data_with(records, |places| {
            room = places.iter().map(|place| place.len()).sum();
            plain.try_read_vectored(places).map_err(FillError::Plain)
        });
        match filled {
            Ok(len) => {
                // A connection that fills what it is given has more to say; one that does not gets less memory.
                *input = Input::Open {
                    slots: if len == room { batch() } else { len.div_ceil(room / records).max(1) },
                };
                return Poll::Ready(Ok(len));
            }
            Err(FillError::Plain(error)) if is_transient(&error) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

/// Reads what the other side still sends, until it has heard why the stream is given up and leaves: a socket that is closed
/// before that takes the reason with it.
async fn linger(io: &impl Duplex) {
    // On the heap, so that the many tunnels that never come here have no room for it.
    let mut nowhere = std::vec![0; LINGER_CHUNK];
    let heard = async {
        loop {
            let mut buffer = ReadBuf::new(&mut nowhere);
            let read = poll_fn(|cx| Pin::new(&mut Shared(io)).poll_read(cx, &mut buffer)).await;
            if read.is_err() || buffer.filled().is_empty() {
                return;
            }
        }
    };
    timeout(RESET_DEADLINE, heard).await.ok();
}

/// Says Reset, where the other side still takes it, and ends the channel.
async fn give_up<C: Duplex, P>(
    mut writing: Box<Writing>,
    link: &Link<C, P>,
    code: ResetCode,
) -> Result<Box<Writing>, RelayError> {
    let reset = writing.control(&ControlMessage::Reset { code });
    reset.map_err(|error| RelayError::Channel(error.into()))?;
    let sent = poll_fn(|cx| writing.poll_send(&mut Shared(&link.io), cx));
    if let Ok(Ok(())) = timeout(RESET_DEADLINE, sent).await {
        // Closing while the other side still sends makes it likely that the reason never arrives.
        link.io.shutdown_write().ok();
    }
    Ok(writing)
}

async fn receive_all<C: Duplex, P: Duplex, Q: Pace>(
    mut reading: Box<Reading>,
    link: Arc<Link<C, P>>,
    pace: Q,
) -> Result<Box<Reading>, RelayError> {
    let mut alarm = pin!(sleep(SILENCE));
    loop {
        let next = poll_fn(|cx| {
            // Looked at each time, right before anything is read: as soon as both ends are out, what comes next may be
            // the Open of another stream.
            if reading.receiver.is_idle() {
                return Poll::Ready(Ok(None));
            }
            reading.poll_event(&mut Shared(&link.io), cx).map_ok(Some)
        });
        let event = tokio::select! {
            biased;
            next = next => match next.map_err(RelayError::Channel)? {
                Some(event) => event,
                None => return Ok(reading),
            },
            () = link.for_receiver.lowered() => continue,
            () = &mut alarm => {
                reading.handle_timeout().map_err(|error| RelayError::Channel(error.into()))?;
                alarm.as_mut().reset(due_at(reading.poll_timeout()));
                continue;
            }
        };
        match event {
            Event::Data => {
                // Whoever has more to say than a request may be waiting for room to say it.
                if link.sending.get() == Sending::HoldsOpened {
                    link.tell_sender();
                }
                deliver(&mut reading, &link.plain, &pace).await?;
                if link.sending.get() == Sending::NotBegun {
                    link.sending.set(Sending::NotBegunButHeard);
                }
            }
            Event::EndOfStream => {
                // Where the other direction is over too, closing the connection comes next, and says as much.
                if !link.sending.get().has_ended() {
                    // A connection that is gone already says so to the sending direction.
                    link.plain.shutdown_write().ok();
                }
                link.tell_sender();
            }
            Event::Ping(_) => link.tell_sender(),
            Event::Pong(_) => {}
            // It cannot speak for what was not sent yet.
            Event::Close => return Err(RelayError::Channel(Error::Truncated.into())),
            _ => return Err(RelayError::Channel(Error::from(PeerMisbehaved::UnexpectedMessage).into())),
        }
    }
}

/// When a timer has to be looked at again; where it has nothing to wait for now, no later than it could have by then.
fn due_at(moment: Option<Instant>) -> Instant {
    moment.unwrap_or_else(|| Instant::now() + HEARTBEAT)
}

/// Writes all the data that is there, from where it was opened.
async fn deliver(reading: &mut Reading, plain: &impl Duplex, pace: &impl Pace) -> Result<(), RelayError> {
    loop {
        let written = {
            let mut slices: [IoSlice<'_>; MAX_BATCH] = [IoSlice::new(&[]); MAX_BATCH];
            let mut count = 0;
            for (slice, data) in slices.iter_mut().zip(reading.receiver.data_slices()) {
                *slice = IoSlice::new(data);
                count += 1;
            }
            if slices[..count].iter().all(|slice| slice.is_empty()) {
                return Ok(());
            }
            poll_fn(|cx| {
                loop {
                    match plain.try_write_vectored(&slices[..count]) {
                        Err(error) if is_transient(&error) => ready!(plain.poll_write_ready(cx))?,
                        written => return Poll::Ready(written),
                    }
                }
            })
            .await
            .map_err(RelayError::Output)?
        };
        if written == 0 {
            return Err(RelayError::Output(io::ErrorKind::WriteZero.into()));
        }
        reading.receiver.consume(written);
        if let Some(moment) = pace.note(written) {
            sleep_until(moment).await;
        }
    }
}

fn flatten<T>(joined: Result<Result<T, RelayError>, tokio::task::JoinError>) -> Result<T, RelayError> {
    joined.unwrap_or_else(|error| Err(RelayError::Channel(io::Error::other(error))))
}

/// A task that does not outlive whoever waits for it.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How long the other side has for taking a Reset.
const RESET_DEADLINE: Duration = Duration::from_secs(1);
/// What is read at once while nobody wants it.
const LINGER_CHUNK: usize = 1024;
/// How long what the other side said last may take to be read, once nothing more can be sent to it.
const LAST_WORD_DEADLINE: Duration = Duration::from_millis(100);
