//! A client that has proven who it is, and waits for the decision whether it may come in.

use std::boxed::Box;
use std::io;
use std::vec::Vec;

use getrandom::SysRng;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::connection::Channel;
use crate::Error;
use crate::handshake::server::{Authorization, Established, InviteAttempt};
use crate::message::{ClientIdentity, DeniedCode, Joined, Mode};
use crate::stream::handshake::judge;
use crate::stream::parts::Parts;
use crate::stream::phase::Idle;

/// A client that has proven who it is, and is to be let in or denied. Dropping it ends the connection without an answer.
///
/// One with an [invite](PendingClient::invite) is answered with [`PendingClient::join`] in place of
/// [`PendingClient::welcome`], also where it is known already. How long the decision and the answer may take is for the caller to
/// say.
#[derive(Debug)]
pub struct PendingClient<S> {
    io: S,
    authorization: Box<Authorization>,
    early: Vec<u8>,
}

impl<S> PendingClient<S> {
    pub(super) fn new(io: S, authorization: Box<Authorization>, early: Vec<u8>) -> Self {
        Self { io, authorization, early }
    }

    /// Who the client is.
    pub fn client(&self) -> &ClientIdentity {
        self.authorization.client()
    }

    /// How the two have authenticated each other.
    pub fn mode(&self) -> Mode {
        self.authorization.mode()
    }

    /// The invite that the client wants to use.
    pub fn invite(&self) -> Option<&InviteAttempt> {
        self.authorization.invite()
    }

    /// What [`ClientAuth`](crate::handshake::server::ClientAuth) says of the client, before anything else is asked.
    ///
    /// # Errors
    /// The reason to deny a client that has to say who it is and has not.
    pub fn check_policy(&self) -> Result<(), DeniedCode> {
        self.authorization.check_policy()
    }

    /// What is to be said to the client where `authorize` decides on it, and nobody takes invites.
    pub(super) fn judge(
        &self,
        authorize: impl FnOnce(&ClientIdentity) -> Result<(), DeniedCode>,
    ) -> Result<(), DeniedCode> {
        judge(&self.authorization, authorize)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> PendingClient<S> {
    /// Lets the client in: the channel is idle.
    ///
    /// # Errors
    /// Those of the socket, and as [`Authorization::welcome`].
    pub async fn welcome(self) -> io::Result<Channel<S>> {
        let mut out = Vec::new();
        let established = self.authorization.welcome(&mut SysRng, &mut out)?;
        establish(self.io, established, &out, &self.early).await
    }

    /// Lets in a client with an invite, whose key is on the server's list by now, and tells it what has come of the invite.
    ///
    /// # Errors
    /// Those of the socket, and as [`Authorization::join`].
    pub async fn join(self, joined: Joined) -> io::Result<Channel<S>> {
        let mut out = Vec::new();
        let established = self.authorization.join(joined, &mut SysRng, &mut out)?;
        establish(self.io, established, &out, &self.early).await
    }

    /// Turns the client away. Gives what the handshake has failed with: [`Error::Denied`], or what has kept that from being said.
    pub async fn deny(mut self, code: DeniedCode) -> io::Error {
        let mut out = Vec::new();
        if let Err(error) = self.authorization.deny(code, &mut out) {
            return error.into();
        }
        let said = async {
            self.io.write_all(&out).await?;
            self.io.shutdown().await
        };
        match said.await {
            Ok(()) => Error::Denied(code).into(),
            Err(error) => error,
        }
    }
}

async fn establish<S>(
    mut io: S,
    established: Established,
    answer: &[u8],
    early: &[u8],
) -> io::Result<Channel<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    io.write_all(answer).await?;
    io.flush().await?;
    Ok(Channel::new(io, Parts::of_server(established, early), Idle))
}
