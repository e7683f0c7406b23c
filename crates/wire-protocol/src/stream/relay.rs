//! The relay of a pipe: an input and an output of plain bytes on one side, a channel on the other, a thread for
//! each direction.
//!
//! ```text
//!   input  -> read straight into record slots -> seal in place -> one write -> socket
//!   output <- write from where it was opened  <- open in place <- one read  <- socket
//! ```

use std::boxed::Box;
use std::fmt;
use std::io::{self, BufRead as _, Read, Write};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::blocking::halves::{ReadHalf, SendError, WriteHalf};
use super::error::error_in;
use super::relay_error::RelayError;
use crate::Error;
use crate::message::ResetCode;

/// Relays until both directions have ended and both sides have said Close, so that `Ok` means that every byte has
/// reached its place on both sides.
///
/// Both directions end each by itself: half-close is honored. The first failure ends the relay at once, even
/// while the other direction waits for input that may never come; its thread is left to itself then, since
/// nothing can interrupt a blocking read.
///
/// `output` is dropped once all of the other side's stream is in it.
///
/// # Errors
/// [`RelayError`].
pub fn relay<R, W>(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    read_half: ReadHalf<R>,
    write_half: WriteHalf<W>,
) -> Result<(), RelayError>
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    Relay::new(input, output, read_half, write_half).run()
}

/// A relay that can be stopped while it runs: see [`relay`].
pub struct Relay<I, O, R, W> {
    input: I,
    output: O,
    read_half: ReadHalf<R>,
    write_half: WriteHalf<W>,
    stop: Arc<OnceLock<ResetCode>>,
    ends: mpsc::Sender<Ended<W>>,
    ended: mpsc::Receiver<Ended<W>>,
}

/// Stops a [`Relay`] from elsewhere.
pub struct Stop<W> {
    code: Arc<OnceLock<ResetCode>>,
    ends: mpsc::Sender<Ended<W>>,
}

impl<W> Stop<W> {
    /// Has the relay end with [`RelayError::Stopped`]: nothing that comes from now on reaches the output, and the other
    /// side is told the reason. The first reason counts.
    ///
    /// Nothing here can interrupt a blocking call. So whoever stops a relay also makes the read of the input return, with
    /// any error; and should the other side not take what is sent to it, shuts the socket down once the relay has had its
    /// time, which is [`STOP_DEADLINE`].
    pub fn stop(&self, code: ResetCode) {
        if self.code.set(code).is_ok() {
            // A relay that has ended has nothing to stop.
            self.ends.send(Ok(End::Stopped(code))).ok();
        }
    }
}

impl<W> fmt::Debug for Stop<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("code", &self.code).finish_non_exhaustive()
    }
}

impl<I, O, R, W> fmt::Debug for Relay<I, O, R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("stop", &self.stop).finish_non_exhaustive()
    }
}

impl<I, O, R, W> Relay<I, O, R, W>
where
    I: Read + Send + 'static,
    O: Write + Send + 'static,
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    /// A relay that has not begun.
    pub fn new(input: I, output: O, read_half: ReadHalf<R>, write_half: WriteHalf<W>) -> Self {
        let (ends, ended) = mpsc::channel();
        Self { input, output, read_half, write_half, stop: Arc::default(), ends, ended }
    }

    /// What stops it.
    pub fn stop_handle(&self) -> Stop<W> {
        Stop { code: Arc::clone(&self.stop), ends: self.ends.clone() }
    }

    /// Relays to the end, as [`relay`] does.
    ///
    /// # Errors
    /// [`RelayError`].
    pub fn run(self) -> Result<(), RelayError> {
        let Self { input, output, read_half, write_half, stop, ends, ended } = self;
        let receive_ends = ends.clone();
        let (stop_sending, stop_receiving) = (Arc::clone(&stop), stop);
        // That an end cannot be told means that the relay has failed already, and nobody waits for it.
        thread::spawn(move || {
            let sent = send_all(input, write_half, &stop_sending);
            ends.send(sent.map(|half| End::Sent(Box::new(half)))).ok();
        });
        thread::spawn(move || receive_all(read_half, output, &receive_ends, &stop_receiving));

        let (mut sent, mut closed_by_us, mut received) = (None, false, Received::Nothing);
        loop {
            match ended.recv() {
                Ok(Ok(End::Sent(half))) => sent = Some(half),
                Ok(Ok(End::Received)) => received = Received::Stream,
                Ok(Ok(End::Closed)) => received = Received::Close,
                Ok(Ok(End::Stopped(code))) => {
                    // Behind our Close nothing can be said.
                    if !closed_by_us {
                        say_stopped(code, sent, &ended);
                    }
                    return Err(RelayError::Stopped(code));
                }
                Ok(Err(RelayError::Stopped(code))) => {
                    linger(&ended);
                    return Err(RelayError::Stopped(code));
                }
                Ok(Err(RelayError::Channel(error))) => {
                    return Err(last_word(error, &ended));
                }
                Ok(Err(error @ RelayError::Input(_))) => {
                    // The other side was told. What it has sent meanwhile, and nobody has read, would take that back.
                    linger(&ended);
                    return Err(error);
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(RelayError::Channel(io::Error::other("a relay thread panicked"))),
            }
            if received != Received::Nothing
                && let Some(mut half) = sent.take()
            {
                half.close().map_err(RelayError::Channel)?;
                closed_by_us = true;
            }
            if closed_by_us && received == Received::Close {
                return Ok(());
            }
        }
    }
}

/// Has the other side told why the relay stops: by whoever has the writing half, for as long as that may take.
fn say_stopped<W: Write>(
    code: ResetCode,
    mut sent: Option<Box<WriteHalf<W>>>,
    ended: &mpsc::Receiver<Ended<W>>,
) {
    let deadline = Instant::now() + STOP_DEADLINE;
    loop {
        if let Some(mut half) = sent.take() {
            // That the other side is gone already is no matter.
            half.reset(code).ok();
            break;
        }
        match ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(End::Sent(half))) => sent = Some(half),
            Ok(Ok(End::Received | End::Closed | End::Stopped(_))) => {}
            Ok(Err(RelayError::Stopped(_))) => break,
            // The other side is gone, or nobody can tell it any more.
            Ok(Err(_)) | Err(_) => return,
        }
    }
    linger(ended);
}

/// Waits until the other side has heard the reason and left: a socket that is closed while it still sends takes the
/// reason with it.
fn linger<W>(ended: &mpsc::Receiver<Ended<W>>) {
    let deadline = Instant::now() + STOP_DEADLINE;
    while let Ok(Ok(_)) = ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {}
}

/// What the other side said last tells more than a write that failed; and where it has left since this side has told it why the
/// stream ends, that is the reason.
fn last_word<W>(error: io::Error, ended: &mpsc::Receiver<Ended<W>>) -> RelayError {
    let is_reset = |error: &io::Error| matches!(error_in(error), Some(Error::Reset(_)));
    let deadline = Instant::now() + LAST_WORD_DEADLINE;
    while !is_reset(&error) {
        match ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Err(RelayError::Channel(word))) if is_reset(&word) => return RelayError::Channel(word),
            Ok(Err(told @ (RelayError::Input(_) | RelayError::Stopped(_)))) => return told,
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    RelayError::Channel(error)
}

/// How long a relay that is stopped takes at most to tell the other side, and again for that to leave.
pub const STOP_DEADLINE: Duration = Duration::from_secs(1);

/// How long what the other side said last may take to be read, once nothing more can be sent to it.
const LAST_WORD_DEADLINE: Duration = Duration::from_millis(100);

type Ended<W> = Result<End<W>, RelayError>;

/// How far the other side has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    /// Its stream is still open.
    Nothing,
    /// Its stream has ended, and all of it is out.
    Stream,
    /// It has said Close.
    Close,
}

/// A part of the relay that has ended well, or what ends all of it.
enum End<W> {
    Sent(Box<WriteHalf<W>>),
    Received,
    Closed,
    /// It is to end before its time.
    Stopped(ResetCode),
}

fn send_all<W: Write>(
    mut input: impl Read,
    mut half: WriteHalf<W>,
    stop: &OnceLock<ResetCode>,
) -> Result<WriteHalf<W>, RelayError> {
    loop {
        let sent = match stop.get() {
            Some(_) => Ok(0),
            None => half.send_from(&mut input),
        };
        // It may have been stopped meanwhile, which is what an input that fails then means.
        if let Some(code) = stop.get()
            && !matches!(sent, Err(SendError::Channel(_)))
        {
            half.reset(*code).map_err(RelayError::Channel)?;
            return Err(RelayError::Stopped(*code));
        }
        match sent {
            Ok(0) => {
                half.shutdown().map_err(RelayError::Channel)?;
                return Ok(half);
            }
            Ok(_) => {}
            Err(SendError::Channel(error)) => return Err(RelayError::Channel(error)),
            Err(SendError::Input(error)) => {
                half.reset(ResetCode::Input).map_err(RelayError::Channel)?;
                return Err(RelayError::Input(error));
            }
        }
    }
}

/// Goes on reading behind the end of the stream, up to the other side's Close: so a peer that is gone meanwhile is
/// noticed even while the local input still waits for somebody to type.
fn receive_all<R: Read, W>(
    mut half: ReadHalf<R>,
    output: impl Write,
    ends: &mpsc::Sender<Ended<W>>,
    stop: &OnceLock<ResetCode>,
) {
    // The output goes with the end of the stream: whoever reads it knows then, and need not have ended the input.
    let received = receive_stream(&mut half, output, stop).map(|()| End::Received);
    if ends.send(received).is_err() {
        return;
    }
    let closed = half.expect_close_whenever().map(|()| End::Closed);
    ends.send(closed.map_err(RelayError::Channel)).ok();
}

/// Reads on when the relay is stopped, without handing anything on.
fn receive_stream<R: Read>(
    half: &mut ReadHalf<R>,
    mut output: impl Write,
    stop: &OnceLock<ResetCode>,
) -> Result<(), RelayError> {
    loop {
        let data = half.fill_buf().map_err(RelayError::Channel)?;
        let len = data.len();
        if len == 0 {
            return output.flush().map_err(RelayError::Output);
        }
        if stop.get().is_none() {
            output.write_all(data).map_err(RelayError::Output)?;
        }
        half.consume(len);
    }
}
