//! A server that has proven its key, and waits for the client's part of the handshake.

use std::boxed::Box;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::admission::RsaPool;
use super::connection::{Channel, OpeningStream};
use super::drive::{Driven, drive};
use crate::Error;
use crate::handshake::client::ClientHandshake;
use crate::stream::parts::Parts;
use crate::stream::phase::{Idle, Opening};

/// A server that has proven its key, and that the client has told nothing about itself yet. Dropping it ends the connection,
/// which is no fault of either side: so of several servers that were asked at once one can be chosen.
///
/// How long the rest of the handshake may take is for the caller to say.
#[derive(Debug)]
pub struct VerifiedServer<S> {
    io: S,
    driven: Driven<ClientHandshake>,
    opens: bool,
}

impl<S> VerifiedServer<S> {
    pub(super) fn new(io: S, driven: Driven<ClientHandshake>, opens: bool) -> Self {
        Self { io, driven, opens }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> VerifiedServer<S> {
    /// Does the rest of the handshake: the channel is idle.
    ///
    /// # Errors
    /// As [`connect_channel`](crate::stream::connect_channel).
    pub async fn enter(self) -> io::Result<Channel<S>> {
        if self.opens {
            return Err(Error::ApiMisuse("what is opened with a handshake is no idle channel").into());
        }
        let (io, parts) = self.finish().await?;
        Ok(Channel::new(io, parts, Idle))
    }

    /// Does the rest of the handshake, and opens with it what the configuration says.
    ///
    /// # Errors
    /// As [`connect_open`](crate::stream::connect_open); [`Error::ApiMisuse`] where the configuration opens nothing.
    pub async fn open(self) -> io::Result<OpeningStream<S>> {
        if !self.opens {
            return Err(Error::ApiMisuse("the configuration of the handshake opens nothing").into());
        }
        let (io, parts) = self.finish().await?;
        Ok(OpeningStream::new(io, parts, Opening::default()))
    }

    async fn finish(self) -> io::Result<(S, Parts)> {
        let Self { mut io, driven, .. } = self;
        let (established, early) = Box::pin(drive(&mut io, driven, &RsaPool::new(1))).await?;
        Ok((io, Parts::of_client(established, &early)))
    }
}
