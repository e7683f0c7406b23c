//! Lists what is in a share, and which shares there are.

use ::files::framing::{MessageReader, MessageWriter};
use ::files::listing::Listed;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use wire_protocol::message::{FilesAccess, ShareAccess};

use super::error::FilesError;
use super::events::MAX_WAITING;
use super::put::{end, relative};
use super::remote_path::RemotePath;
use super::stop::Stop;
use super::stream::open;
use crate::connect::Credentials;
use crate::error::Error;
use crate::server::Server;

/// A listing that runs. Dropped before its end, it is stopped.
#[derive(Debug)]
pub struct Listing {
    listed: mpsc::Receiver<Listed>,
    end: Option<JoinHandle<Result<(), FilesError>>>,
    stop: Stop,
}

impl Listing {
    /// What is listed next; `None` at the end.
    pub async fn next(&mut self) -> Option<Listed> {
        self.listed.recv().await
    }

    /// Waits for the end: without an error the listing was complete.
    ///
    /// # Errors
    /// [`FilesError::Transfer`].
    pub async fn finish(mut self) -> Result<(), FilesError> {
        self.listed.close();
        match self.end.take() {
            Some(end) => end.await.unwrap_or_else(|error| {
                Err(FilesError::Stdio { stream: "a thread", source: std::io::Error::other(error) })
            }),
            None => Ok(()),
        }
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        if self.end.is_some() {
            self.stop.stop();
        }
    }
}

/// Lists what is at `path`: of a directory what is in it, and with `is_recursive` what is in the directories there, too.
///
/// # Errors
/// As [`Put::start`](super::Put::start).
pub async fn list(
    credentials: &Credentials,
    server: &Server,
    path: &RemotePath,
    is_recursive: bool,
) -> Result<Listing, Error> {
    let relative = relative(path.path())?;
    let stop = Stop::default();
    let stream = open(credentials, server, Some((path.share(), FilesAccess::Read)), &stop).await?;
    let (sender, listed) = mpsc::channel(MAX_WAITING);
    let (address, stopped) = (server.to_string(), stop.clone());
    let end = spawn_blocking(move || {
        let (mut reader, writer) = (MessageReader::new(stream.read), MessageWriter::new(stream.write));
        let mut each = |listed| sender.blocking_send(listed).map_err(|_| ::files::error::Error::Stopped);
        let result = ::files::client::list(&mut reader, &writer, &relative, is_recursive, &mut each);
        end(result, reader, &writer, &address, &stopped)
    });
    Ok(Listing { listed, end: Some(end), stop })
}

/// Lists the shares that this client may use, with what it may do in each.
///
/// # Errors
/// What a connection fails with; [`FilesError::Transfer`].
pub async fn shares(credentials: &Credentials, server: &Server) -> Result<Vec<(String, ShareAccess)>, Error> {
    let stop = Stop::default();
    let stream = open(credentials, server, None, &stop).await?;
    let address = server.to_string();
    let listed = spawn_blocking(move || {
        let (mut reader, writer) = (MessageReader::new(stream.read), MessageWriter::new(stream.write));
        let mut shares = Vec::new();
        let result = ::files::client::shares(&mut reader, &writer).map(|listed| shares = listed);
        end(result, reader, &writer, &address, &stop).map(|()| shares)
    });
    Ok(listed.await.map_err(|error| Error::Runtime(std::io::Error::other(error)))??)
}
