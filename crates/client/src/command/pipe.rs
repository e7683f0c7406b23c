//! `client pipe`: standard input to the server's pipe, and back.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use wire_protocol::message::Target;
use wire_protocol::stream::blocking;
use wire_protocol::stream::relay::relay;

use crate::Error;
use crate::connect::{Credentials, Server, connect};

/// Relays until both directions have ended, and both sides agree that they have.
///
/// # Errors
/// [`Error`]; [`Error::Pipe`] when data may have been lost.
pub async fn pipe(credentials: &Credentials, server: &Server) -> Result<(), Error> {
    let mut stream = connect(credentials, server, Some(Target::Pipe)).await?;
    let channel = |source| Error::Channel { address: server.address.to_string(), source };
    stream.confirm_opened().await.map_err(channel)?;
    let (socket, parts) = stream.into_parts();
    let socket = socket.into_blocking().map_err(channel)?;
    let (read, write) = blocking::SecureStream::from_parts(socket, parts).into_split().map_err(channel)?;
    let input = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| Error::Stdio { stream: "standard input", source })?;
    let output = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| Error::Stdio { stream: "standard output", source })?;
    tokio::task::spawn_blocking(move || relay(File::from(input), File::from(output), read, write))
        .await
        .map_err(|error| channel(io::Error::other(error)))?
        .map_err(|source| Error::Pipe { address: server.address.to_string(), source })
}
