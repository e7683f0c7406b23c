//! Streams for files: opened by the reactor, and used by threads.

use std::io;

use ::files::framing::MessageWriter;
use futures_util::future::join_all;
use tunnel::socket::Socket;
use wire_protocol::channel::SILENCE;
use wire_protocol::message::{FilesAccess, Target};
use wire_protocol::stream::blocking::{self, ReadHalf, Split as _, WriteHalf};
use wire_protocol::stream::{SecureStream, error_in};

use super::error::FilesError;
use super::socket::LivelySocket;
use super::stop::Stop;
use crate::connect::{Credentials, connect_open};
use crate::error::Error;
use crate::server::Server;

/// The reading half of a stream.
pub(super) type Input = ReadHalf<LivelySocket>;
/// The writing half of a stream.
pub(super) type Output = WriteHalf<LivelySocket>;

/// The two halves of a stream.
pub(super) struct Stream {
    pub(super) read: Input,
    pub(super) write: Output,
}

/// Opens a stream to a share, or with `None` to the list of shares, which `stop` shuts down.
pub(super) async fn open(
    credentials: &Credentials,
    server: &Server,
    share: Option<(&str, FilesAccess)>,
    stop: &Stop,
) -> Result<Stream, Error> {
    let target = match share {
        Some((share, access)) => Target::Files { share: share.to_owned(), access },
        None => Target::Shares,
    };
    let opened = connect_open(credentials, server, target).await;
    let stream = opened.map_err(|error| match (error, share) {
        (Error::Channel { address, source }, Some((share, access))) if is_refused(&source) => {
            FilesError::Share { address, share: share.to_owned(), access, source }.into()
        }
        (error, _) => error,
    })?;
    into_blocking(stream, stop).map_err(|source| Error::Channel { address: server.to_string(), source })
}

/// Opens as many streams as are wanted. Fewer are no error where so many were not asked for: the server may have no room for
/// more.
pub(super) async fn open_all(
    credentials: &Credentials,
    server: &Server,
    share: (&str, FilesAccess),
    wanted: u16,
    is_asked_for: bool,
    stop: &Stop,
) -> Result<Vec<Stream>, Error> {
    let mut streams = vec![open(credentials, server, Some(share), stop).await?];
    for opened in open_side_by_side(credentials, server, share, wanted, stop).await {
        match opened {
            Ok(stream) => streams.push(stream),
            Err(error) if is_asked_for => return Err(error),
            Err(error) => tracing::debug!(%error, "another stream cannot be opened"),
        }
    }
    Ok(streams)
}

/// Opens the streams behind the first one, of `count` in all.
pub(super) async fn open_others(
    credentials: &Credentials,
    server: &Server,
    share: (&str, FilesAccess),
    count: u16,
    stop: &Stop,
) -> Result<Vec<Stream>, Error> {
    open_side_by_side(credentials, server, share, count, stop).await.into_iter().collect()
}

/// The first one has settled the server's key, and maybe brought a ticket.
async fn open_side_by_side(
    credentials: &Credentials,
    server: &Server,
    share: (&str, FilesAccess),
    count: u16,
    stop: &Stop,
) -> Vec<Result<Stream, Error>> {
    join_all((1..count).map(|_| open(credentials, server, Some(share), stop))).await
}

fn is_refused(error: &io::Error) -> bool {
    matches!(error_in(error), Some(wire_protocol::Error::Refused(_)))
}

fn into_blocking(stream: SecureStream<Socket>, stop: &Stop) -> io::Result<Stream> {
    let (socket, parts) = stream.into_parts();
    let (socket, held) = socket.into_blocking()?.split()?;
    stop.add_socket(held);
    // Both sides give signs of life within this time.
    let socket = LivelySocket::new(socket, SILENCE)?;
    let (read, write) = blocking::SecureStream::from_parts(socket, parts).into_split()?;
    Ok(Stream { read, write })
}

/// Ends the channel of a stream on which both sides have said all. All has arrived already: how that goes changes nothing.
pub(super) fn close(mut read: Input, writer: &MessageWriter<Output>) {
    if let Err(error) = writer.with_output(WriteHalf::close).and_then(|()| read.expect_close()) {
        tracing::debug!(%error, "the channel did not close well");
    }
}

/// The error of an exchange with the server at `address`.
pub(super) fn failed(address: &str, error: ::files::error::Error) -> FilesError {
    let source = match error {
        ::files::error::Error::Stopped => return FilesError::Stopped,
        ::files::error::Error::Output(source) => {
            return FilesError::Stdio { stream: "standard output", source };
        }
        ::files::error::Error::Channel(source) if is_late(&source) => {
            let message = format!("the server has not been heard of for {} seconds", SILENCE.as_secs());
            ::files::error::Error::Channel(io::Error::new(io::ErrorKind::TimedOut, message))
        }
        source => source,
    };
    FilesError::Transfer { address: address.to_owned(), source }
}

/// Whether a call of the socket has reached its limit.
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
