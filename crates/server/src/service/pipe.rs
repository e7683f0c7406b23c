//! The pipe: an input to one client, that client to an output.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use program::socket::Socket;
use wire_protocol::stream::RelayError;
use wire_protocol::stream::relay::relay;
use wire_protocol::stream::{SecureStream, blocking};

use crate::Error;

/// One end of a pipe, for the first client that opens it.
#[derive(Debug)]
pub struct Pipe {
    /// `None` once somebody has opened it.
    ends: Mutex<Option<Ends>>,
}

/// What a pipe connects a client with.
#[derive(Debug)]
pub(crate) struct Ends {
    input: File,
    output: File,
}

impl Pipe {
    /// A pipe that nobody has opened yet.
    #[must_use]
    pub fn new(input: File, output: File) -> Self {
        Self { ends: Mutex::new(Some(Ends { input, output })) }
    }

    /// Whether somebody has opened it.
    pub(crate) fn is_claimed(&self) -> bool {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// The pipe, for whoever asks first.
    pub(crate) fn claim(&self) -> Option<Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Ends {
    /// Relays to the end.
    pub(crate) async fn serve(self, mut stream: SecureStream<Socket>) -> Result<(), Error> {
        let broken = |error| Error::Pipe(RelayError::Channel(error));
        stream.answer_open().await.map_err(broken)?;
        let (socket, parts) = stream.into_parts();
        let socket = socket.into_blocking().map_err(broken)?;
        let (read, write) = blocking::SecureStream::from_parts(socket, parts).into_split().map_err(broken)?;
        let Self { input, output } = self;
        tokio::task::spawn_blocking(move || relay(input, output, read, write))
            .await
            .map_err(|error| broken(io::Error::other(error)))?
            .map_err(Error::Pipe)
    }
}
