//! The relay of a pipe: an input and an output of plain bytes on one side, a channel on the other, a thread for
//! each direction.
//!
//! ```text
//!   input  -> read straight into record slots -> seal in place -> one write -> socket
//!   output <- write from where it was opened  <- open in place <- one read  <- socket
//! ```

use std::io::{self, Read, Write};
use std::thread;

use super::blocking::{ReadHalf, SendError, WriteHalf};
use crate::message::ResetCode;

/// How a relay ended badly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The channel failed: data may be missing on either side.
    #[error(transparent)]
    Channel(io::Error),
    /// The input could not be read. The other side has been told.
    #[error("the input could not be read: {0}")]
    Input(#[source] io::Error),
    /// The output could not be written. The other side learns of it as a cut connection once the socket goes.
    #[error("the output could not be written: {0}")]
    Output(#[source] io::Error),
}

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
    let (ends, ended) = std::sync::mpsc::channel();
    let receive_ends = ends.clone();
    thread::spawn(move || {
        // The other end of these channels is only gone when the relay has failed already.
        ends.send(send_all(input, write_half).map(End::Sent)).ok();
    });
    thread::spawn(move || {
        receive_ends.send(receive_all(read_half, output).map(End::Received)).ok();
    });

    let (mut sent, mut received) = (None, None);
    loop {
        match ended.recv() {
            Ok(Ok(End::Sent(half))) => sent = Some(half),
            Ok(Ok(End::Received(half))) => received = Some(half),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(RelayError::Channel(io::Error::other("a relay thread panicked"))),
        }
        if let (Some(write_half), Some(read_half)) = (&mut sent, &mut received) {
            write_half.close().map_err(RelayError::Channel)?;
            return read_half.expect_close().map_err(RelayError::Channel);
        }
    }
}

/// A direction that has ended well.
enum End<R, W> {
    Sent(WriteHalf<W>),
    Received(ReadHalf<R>),
}

fn send_all<W: Write>(mut input: impl Read, mut half: WriteHalf<W>) -> Result<WriteHalf<W>, RelayError> {
    loop {
        match half.send_from(&mut input) {
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

fn receive_all<R: Read>(mut half: ReadHalf<R>, mut output: impl Write) -> Result<ReadHalf<R>, RelayError> {
    loop {
        let data = half.next_data().map_err(RelayError::Channel)?;
        let len = data.len();
        if len == 0 {
            output.flush().map_err(RelayError::Output)?;
            return Ok(half);
        }
        output.write_all(data).map_err(RelayError::Output)?;
        half.consume(len);
    }
}
