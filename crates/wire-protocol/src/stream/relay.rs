//! The relay of a pipe: an input and an output of plain bytes on one side, a channel on the other, a thread for
//! each direction.
//!
//! ```text
//!   input  -> read straight into record slots -> seal in place -> one write -> socket
//!   output <- write from where it was opened  <- open in place <- one read  <- socket
//! ```

use std::boxed::Box;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use super::RelayError;
use super::blocking::{ReadHalf, SendError, WriteHalf};
use crate::Error;
use crate::message::ResetCode;

/// Relays until both directions have ended and both sides have said Close, so that `Ok` means that every byte has
/// reached its place on both sides.
///
/// Both directions end each by itself: half-close is honored. The first failure ends the relay at once, even
/// while the other direction waits for input that may never come; its thread is left to itself then, since
/// nothing can interrupt a blocking read.
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
    let (ends, ended) = mpsc::channel();
    let receive_ends = ends.clone();
    let input_ended = Arc::new(AtomicBool::new(false));
    let close_is_due = Arc::clone(&input_ended);
    // That an end cannot be told means that the relay has failed already, and nobody waits for it.
    thread::spawn(move || {
        ends.send(send_all(input, write_half, &input_ended).map(|half| End::Sent(Box::new(half)))).ok();
    });
    thread::spawn(move || {
        receive_all(read_half, output, &receive_ends, &close_is_due);
    });

    let (mut sent, mut closed_by_us, mut received) = (None, false, Received::Nothing);
    loop {
        match ended.recv() {
            Ok(Ok(End::Sent(half))) => sent = Some(half),
            Ok(Ok(End::Received)) => received = Received::Stream,
            Ok(Ok(End::Closed)) => received = Received::Close,
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

/// A part of the relay that has ended well.
enum End<W> {
    Sent(Box<WriteHalf<W>>),
    Received,
    Closed,
}

fn send_all<W: Write>(
    mut input: impl Read,
    mut half: WriteHalf<W>,
    input_ended: &AtomicBool,
) -> Result<WriteHalf<W>, RelayError> {
    loop {
        match half.send_from(&mut input) {
            Ok(0) => {
                input_ended.store(true, Ordering::SeqCst);
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
    mut output: impl Write,
    ends: &mpsc::Sender<Result<End<W>, RelayError>>,
    close_is_due: &AtomicBool,
) {
    let received = receive_stream(&mut half, &mut output).map(|()| End::Received);
    if ends.send(received).is_err() {
        return;
    }
    let closed = match half.expect_close() {
        // A Close speaks for all that the other side was sent. One that comes before our EndOfStream went out
        // cannot have waited for it.
        Ok(()) if !close_is_due.load(Ordering::SeqCst) => Err(RelayError::Channel(Error::Truncated.into())),
        closed => closed.map(|()| End::Closed).map_err(RelayError::Channel),
    };
    ends.send(closed).ok();
}

fn receive_stream<R: Read>(half: &mut ReadHalf<R>, output: &mut impl Write) -> Result<(), RelayError> {
    loop {
        let data = half.next_data().map_err(RelayError::Channel)?;
        let len = data.len();
        if len == 0 {
            return output.flush().map_err(RelayError::Output);
        }
        output.write_all(data).map_err(RelayError::Output)?;
        half.consume(len);
    }
}
