//! The pipe: standard input to one client, that client to standard output.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use program::socket::Socket;
use wire_protocol::stream::relay::{RelayError, relay};
use wire_protocol::stream::{SecureStream, blocking};

use crate::Error;

/// One end of a pipe, for the first client that opens it.
#[derive(Debug, Default)]
pub struct Pipe {
    claimed: AtomicBool,
}

impl Pipe {
    /// A pipe that nobody has opened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether somebody has opened it.
    pub(crate) fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::Acquire)
    }

    /// The pipe, for whoever asks first.
    pub(crate) fn claim(&self) -> Option<Claim> {
        (!self.claimed.swap(true, Ordering::AcqRel)).then_some(Claim(()))
    }
}

/// The right to the pipe.
#[derive(Debug)]
pub(crate) struct Claim(());

impl Claim {
    /// Relays to the end.
    pub(crate) async fn serve(self, mut stream: SecureStream<Socket>) -> Result<(), Error> {
        let broken = |error| Error::Pipe(RelayError::Channel(error));
        stream.answer_open().await.map_err(broken)?;
        let (socket, parts) = stream.into_parts();
        let socket = socket.into_blocking().map_err(broken)?;
        let (read, write) = blocking::SecureStream::from_parts(socket, parts).into_split().map_err(broken)?;
        // The descriptors themselves: the standard library's handles would copy every byte once more.
        let input =
            io::stdin().as_fd().try_clone_to_owned().map_err(RelayError::Input).map_err(Error::Pipe)?;
        let output =
            io::stdout().as_fd().try_clone_to_owned().map_err(RelayError::Output).map_err(Error::Pipe)?;
        tokio::task::spawn_blocking(move || relay(File::from(input), File::from(output), read, write))
            .await
            .map_err(|error| broken(io::Error::other(error)))?
            .map_err(Error::Pipe)
    }
}
