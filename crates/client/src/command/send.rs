//! `client send`: one message, confirmed by the server or not sent.

use std::io;

use program::dial::in_time;
use program::socket::Socket;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use wire_protocol::message::Target;
use wire_protocol::stream::{SecureStream, error_in};
use wire_protocol::{Error as ProtocolError, PeerMisbehaved};

use crate::Error;
use crate::connect::{Credentials, Server, confirm, connect};

/// Sends `text`, or standard input, and returns once the server has confirmed that it has handed it on.
///
/// # Errors
/// [`Error`]; after any the message counts as not sent.
pub async fn send(credentials: &Credentials, server: &Server, text: Option<&str>) -> Result<(), Error> {
    let mut stream = confirm(connect(credentials, server, Some(Target::Message)).await?, server).await?;
    let channel = |source| Error::Channel { address: server.address.to_string(), source };
    match text {
        Some(text) => copy(&mut text.as_bytes(), &mut stream, channel).await?,
        None => copy(&mut tokio::io::stdin(), &mut stream, channel).await?,
    }
    stream.shutdown().await.map_err(channel)?;
    // The server's end of the stream is its confirmation; it has nothing to say before it.
    match stream.read(&mut [0]).await {
        Ok(0) => {}
        Ok(_) => return Err(channel(ProtocolError::from(PeerMisbehaved::UnexpectedMessage).into())),
        Err(error) => return Err(channel(error)),
    }
    // A server that is gone without a Close has not said all of it.
    in_time(stream.close()).await.map_err(channel)
}

async fn copy(
    input: &mut (impl AsyncRead + Unpin),
    stream: &mut SecureStream<Socket>,
    channel: impl Fn(io::Error) -> Error,
) -> Result<(), Error> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = input
            .read(&mut chunk)
            .await
            .map_err(|source| Error::Stdio { stream: "standard input", source })?;
        if read == 0 {
            return Ok(());
        }
        if let Err(error) = stream.write_all(&chunk[..read]).await {
            return Err(channel(reason(stream, error).await));
        }
    }
}

/// A server that gives a message up says why and is gone: its last word tells more than the write that failed.
async fn reason(stream: &mut SecureStream<Socket>, failed: io::Error) -> io::Error {
    match stream.read(&mut [0]).await {
        Err(error) if matches!(error_in(&error), Some(ProtocolError::Reset(_))) => error,
        _ => failed,
    }
}

const CHUNK: usize = 64 * 1024;
