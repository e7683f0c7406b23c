//! Opening a tunnel without waiting for it: what the plain connection says first travels with the Open.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::vec::Vec;

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Channel, OpeningStream, SecureStream};
use super::duplex::{Duplex, is_transient};
use crate::message::Target;
use crate::stream::open_error::OpenError;
use crate::stream::relay_error::RelayError;

/// Opens a stream to `target` for a plain connection and sends what that says meanwhile, so that a request does
/// not wait a round trip for Opened.
///
/// What was sent before the answer is kept in `early`, 64 KiB at most. When the stream did not come about, and
/// [`OpenError::is_retryable`] says so, `early` can be given with another channel: it is sent first.
///
/// # Errors
/// [`OpenError`]: inside is [`RelayError::Input`] when the plain connection is gone, else [`RelayError::Channel`].
pub async fn open_early<C: Duplex + AsyncRead + AsyncWrite + Unpin>(
    channel: Channel<C>,
    target: &Target,
    plain: &impl Duplex,
    early: &mut Vec<u8>,
) -> Result<SecureStream<C>, OpenError<Channel<C>, RelayError>> {
    let opening = channel.begin_open(target);
    let mut opening = opening.map_err(|error| OpenError::Failed(RelayError::Channel(error.into())))?;
    opening.send_early(plain, early).await.map_err(OpenError::Failed)?;
    opening.confirm().await.map_err(|error| error.map_failed(RelayError::Channel))
}

impl<C: Duplex + AsyncRead + AsyncWrite + Unpin> OpeningStream<C> {
    /// Sends what a plain connection says, until the other side has answered, as [`open_early`] does; that can be dropped at any
    /// time. [`OpeningStream::confirm`] gives the answer.
    ///
    /// # Errors
    /// [`RelayError::Input`] when the plain connection is gone, [`RelayError::Channel`] with whatever ends the channel.
    pub async fn send_early(&mut self, plain: &impl Duplex, early: &mut Vec<u8>) -> Result<(), RelayError> {
        let channel = RelayError::Channel;
        // A client that speaks first has often done so by now: then its request travels with the Open.
        let mut input = if early.is_empty() { read_early(plain, early)? } else { Early::Open };
        let mut sent = self.send_unsealed(early, 0).await.map_err(channel)?;
        self.ask_for_opened(input, early).await.map_err(channel)?;
        let event = loop {
            let has_room = early.len() < MAX_EARLY && input == Early::Open;
            tokio::select! {
                biased;
                event = self.event() => break event.map_err(channel)?,
                ready = poll_fn(|cx| plain.poll_read_ready(cx)), if has_room => {
                    ready.map_err(RelayError::Input)?;
                    input = read_early(plain, early)?;
                    sent = self.send_unsealed(early, sent).await.map_err(channel)?;
                    self.ask_for_opened(input, early).await.map_err(channel)?;
                }
            }
        };
        self.take_answer(&event).map_err(channel)?;
        self.acknowledge().await;
        Ok(())
    }

    /// Seals `bytes` from `sent` on, and sends them. Gives the length of `bytes`.
    async fn send_unsealed(&mut self, bytes: &[u8], mut sent: usize) -> io::Result<usize> {
        while sent < bytes.len() {
            sent += self.writing.data(&bytes[sent..])?;
        }
        self.flush_all().await?;
        Ok(sent)
    }

    /// Asks for Opened where nothing more of the plain connection travels without it. The other side may hold it back until its
    /// target says something, and that one may wait for just this: for the end, or for more than went along with the Open. It
    /// answers a Ping at once.
    async fn ask_for_opened(&mut self, input: Early, early: &[u8]) -> io::Result<()> {
        if input == Early::Ended || early.len() >= MAX_EARLY { self.begin_ping().await } else { Ok(()) }
    }
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
