//! `client pipe`: standard input to the server's pipe, and back.

use std::io;

use cli_support::hardening;
use wire_protocol::message::Target;
use wire_protocol::stream::blocking;
use wire_protocol::stream::relay::relay;

use crate::Error;
use crate::connect::{Credentials, connect_open};
use crate::server::Server;

/// Relays until both directions have ended, and both sides agree that they have.
///
/// # Errors
/// [`Error`]; [`Error::Pipe`] when data may have been lost.
pub async fn pipe(credentials: &Credentials, server: &Server) -> Result<(), Error> {
    let (input, output) = (hardening::standard_input()?, hardening::take_standard_output()?);
    let stream = connect_open(credentials, server, Target::Pipe).await?;
    let channel = |source| Error::Channel { address: server.to_string(), source };
    let (socket, parts) = stream.into_parts();
    let socket = socket.into_blocking().map_err(channel)?;
    let (read, write) = blocking::SecureStream::from_parts(socket, parts).into_split().map_err(channel)?;
    tokio::task::spawn_blocking(move || relay(input, output, read, write))
        .await
        .map_err(|error| channel(io::Error::other(error)))?
        .map_err(|source| Error::Pipe { address: server.to_string(), source })
}
