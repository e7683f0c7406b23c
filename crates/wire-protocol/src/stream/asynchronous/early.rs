//! Opening a tunnel without waiting for it: what the plain connection says first travels with the Open.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::vec::Vec;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::SecureStream;
use super::duplex::{Duplex, is_transient};
use crate::Error;
use crate::message::Target;
use crate::stream::RelayError;

/// Opens a stream to `target` for a plain connection and sends what that says meanwhile, so that a request does
/// not wait a round trip for Opened.
///
/// What was sent before the answer is kept in `early`, 64 KiB at most. When the stream did not come about, and
/// [`never_stood`] says so, `early` can be given with another channel: it is sent first.
///
/// # Errors
/// [`RelayError::Channel`] with [`Error::Refused`] when the other side does not want the stream (the channel is idle
/// again then), with [`Error::Closed`] when it has closed the channel instead, or with whatever else ends the channel.
/// [`RelayError::Input`] when the plain connection is gone.
pub async fn open_early<C: Duplex + AsyncRead + AsyncWrite + Unpin>(
    stream: &mut SecureStream<C>,
    target: &Target,
    plain: &impl Duplex,
    early: &mut Vec<u8>,
) -> Result<(), RelayError> {
    let channel = RelayError::Channel;
    stream.begin_open(target).map_err(|error| channel(error.into()))?;
    // A client that speaks first has often done so by now: then its request travels with the Open.
    let mut input = if early.is_empty() { read_early(plain, early)? } else { Early::Open };
    let mut sent = stream.send_unsealed(early, 0).await.map_err(channel)?;
    ask_for_opened(stream, input, early).await.map_err(channel)?;
    let event = loop {
        let has_room = early.len() < MAX_EARLY && input == Early::Open;
        tokio::select! {
            biased;
            event = stream.event() => break event.map_err(channel)?,
            ready = poll_fn(|cx| plain.poll_read_ready(cx)), if has_room => {
                ready.map_err(RelayError::Input)?;
                input = read_early(plain, early)?;
                sent = stream.send_unsealed(early, sent).await.map_err(channel)?;
                ask_for_opened(stream, input, early).await.map_err(channel)?;
            }
        }
    };
    stream.confirm(event).await.map_err(channel)
}

/// Whether an error of [`open_early`] means that no byte of the stream has reached its target, so that it can be
/// opened again elsewhere. A cut channel means so only where nothing was sent behind the Open.
#[must_use]
pub fn never_stood(error: &RelayError, early: &[u8]) -> bool {
    use crate::message::RefusedCode;

    let RelayError::Channel(error) = error else { return false };
    match crate::stream::error_in(error) {
        Some(Error::Closed | Error::Refused(RefusedCode::Stopping)) => true,
        Some(Error::Truncated) => early.is_empty(),
        Some(_) => false,
        None => early.is_empty(),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SecureStream<S> {
    /// Seals `bytes` from `sent` on, and sends them. Gives the length of `bytes`.
    async fn send_unsealed(&mut self, bytes: &[u8], mut sent: usize) -> io::Result<usize> {
        while sent < bytes.len() {
            sent += self.writing.data(&bytes[sent..])?;
        }
        self.flush().await?;
        Ok(sent)
    }
}

/// Asks for Opened where nothing more of the plain connection travels without it. The other side may hold it back until its
/// target says something, and that one may wait for just this: for the end, or for more than went along with the Open. It
/// answers a Ping at once.
async fn ask_for_opened<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut SecureStream<S>,
    input: Early,
    early: &[u8],
) -> io::Result<()> {
    if input == Early::Ended || early.len() >= MAX_EARLY { stream.begin_ping().await } else { Ok(()) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Early {
    Open,
    Ended,
}

/// Appends what the plain connection has said by now.
fn read_early(plain: &impl Duplex, early: &mut Vec<u8>) -> Result<Early, RelayError> {
    let before = early.len();
    early.resize(before + EARLY_CHUNK.min(MAX_EARLY - before), 0);
    let read = plain.try_read_vectored(&mut [IoSliceMut::new(&mut early[before..])]);
    early.truncate(before + *read.as_ref().unwrap_or(&0));
    match read {
        Ok(0) => Ok(Early::Ended),
        Ok(_) => Ok(Early::Open),
        Err(error) if is_transient(&error) => Ok(Early::Open),
        Err(error) => Err(RelayError::Input(error)),
    }
}

/// Bytes that are sent before the other side has answered the Open, and kept for another attempt.
const MAX_EARLY: usize = 64 * 1024;
/// Bytes that are read at once meanwhile.
const EARLY_CHUNK: usize = 4 * 1024;
