//! The end of a channel: in good order, or for a reason that the other side is told.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use wire_protocol::message::ResetCode;
use wire_protocol::stream::{Channel, Connection, RelayError};

use crate::dial::in_time;

/// Ends a channel on which nothing is left to be done: how that goes changes nothing any more.
pub async fn close<S: AsyncRead + AsyncWrite + Unpin>(channel: Channel<S>) {
    if let Err(error) = in_time(channel.close()).await {
        tracing::debug!(%error, "the channel did not close well");
    }
}

/// Tells the other side why the channel ends, and reads what it still sends until it has heard it: a socket that is closed
/// before that takes the reason with it.
///
/// # Errors
/// Those of the socket, as long as the reason has not been sent.
pub async fn reset<S: AsyncRead + AsyncWrite + Unpin, P>(
    channel: Connection<S, P>,
    code: ResetCode,
) -> io::Result<()> {
    let mut socket = channel.reset(code).await?;
    let mut nowhere = tokio::io::sink();
    // How the connection ends does not matter any more.
    timeout(LINGER, tokio::io::copy(&mut socket, &mut nowhere)).await.ok();
    Ok(())
}

/// Ends a channel as [`reset`] does, without waiting for a peer that takes nothing any more, and gives [`stopped`].
pub async fn stop<S: AsyncRead + AsyncWrite + Unpin, P>(
    channel: Connection<S, P>,
    code: ResetCode,
) -> io::Error {
    // On the heap, so that the many streams that never come here have no room for it.
    timeout(LINGER, Box::pin(reset(channel, code))).await.ok();
    stopped(code)
}

/// The error of a relay, as that of the channel that it has ended.
#[must_use]
pub fn into_io(error: RelayError) -> io::Error {
    match error {
        RelayError::Channel(error) => error,
        RelayError::Stopped(code) => stopped(code),
        other => io::Error::other(other),
    }
}

/// The error of a channel that this side has ended with a reason.
#[must_use]
pub fn stopped(code: ResetCode) -> io::Error {
    let kind = match code {
        ResetCode::NotAllowed => io::ErrorKind::PermissionDenied,
        ResetCode::QuotaUsedUp => io::ErrorKind::QuotaExceeded,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, code.to_string())
}

/// How long the other side has to hear the reason.
const LINGER: Duration = Duration::from_secs(2);
