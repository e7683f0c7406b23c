//! The stream over tokio's traits.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use wire_protocol::handshake::client::ResumptionTicket;
use wire_protocol::handshake::server::InviteAttempt;
use wire_protocol::message::{ClientIdentity, DeniedCode, Joined, Mode};
use wire_protocol::stream::{self, HANDSHAKE_DEADLINE, Peer, RsaPool};

use crate::client_config::ClientConfig;
use crate::error::Error;
use crate::server_config::ServerConfig;

/// A stream of bytes that is encrypted and authenticated: no change, replay or cut by others goes unnoticed.
///
/// `flush` sends what was written, and `shutdown` says that no more will come. An end of file means that the other side has
/// said so; where the connection was cut before, reading fails, and `Error::from` makes
/// [`ProtocolError::Truncated`](crate::reason::ProtocolError::Truncated) of that. Dropping it without
/// [`SecureStream::close`] cuts the connection. `tokio::io::split` makes two halves of it for two tasks, and `unsplit`
/// puts them together again, to be closed.
#[derive(Debug)]
pub struct SecureStream<S>(stream::SecureStream<S>);

/// Connects to the server that `config` means, over any transport, and waits until it has accepted.
///
/// Needs a tokio runtime with its time enabled.
///
/// # Errors
/// [`Error::Protocol`] with the reason, where the server is not the one that is meant, does not let this client in, or does
/// not speak the protocol, and for a `config` that contradicts itself; [`Error::TimedOut`] when it takes longer than
/// [`HANDSHAKE_DEADLINE`], and [`SILENCE`](crate::SILENCE) after that; else
/// what the connection ended with.
pub async fn connect<S>(transport: S, config: ClientConfig) -> Result<SecureStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Ok(SecureStream(stream::connect(transport, config.into_protocol()?).await?))
}

/// Accepts a client that `authorize` lets in, over any transport. The identity that it is shown has been proven.
/// A client with an invite is turned away: those take [`authenticate`].
///
/// A client has [`HANDSHAKE_DEADLINE`] for the handshake, and
/// [`ServerConfig::idle_timeout`] to open its stream. Needs a tokio runtime with its time enabled. RSA is done
/// on its threads for blocking work, one for each client that is in its handshake: how many may be at once is for the
/// caller to say.
///
/// # Errors
/// As [`connect`]; [`Error::Protocol`] with [`ProtocolError::Denied`](crate::reason::ProtocolError::Denied) for a client
/// that `authorize` refused.
pub async fn accept<S>(
    transport: S,
    config: &ServerConfig,
    authorize: impl FnOnce(&ClientIdentity) -> Result<(), DeniedCode>,
) -> Result<SecureStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Ok(SecureStream(stream::accept(transport, config.to_protocol(), authorize).await?))
}

/// Does the handshake with a client up to the decision whether it may come in, which may then take its time. Limits are as with
/// [`accept`].
///
/// # Errors
/// As [`accept`].
pub async fn authenticate<S>(transport: S, config: &ServerConfig) -> Result<PendingClient<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pool = RsaPool::new(1);
    let handshake = stream::authenticate(transport, config.to_protocol(), &pool);
    Ok(PendingClient(in_time(handshake).await?))
}

/// A client that has proven who it is, and is to be let in or denied. Dropping it ends the connection without an answer.
#[derive(Debug)]
pub struct PendingClient<S>(stream::PendingClient<S>);

impl<S> PendingClient<S> {
    /// Who the client is.
    pub fn client(&self) -> &ClientIdentity {
        self.0.client()
    }

    /// How the two have authenticated each other.
    pub fn mode(&self) -> Mode {
        self.0.mode()
    }

    /// The invite that the client wants to use. It is answered with [`PendingClient::join`] or [`PendingClient::deny`], also where
    /// the client is known already.
    pub fn invite(&self) -> Option<&InviteAttempt> {
        self.0.invite()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> PendingClient<S> {
    /// Lets in a client without an invite, and accepts its stream.
    ///
    /// # Errors
    /// As [`accept`]; [`ProtocolError::Denied`](crate::reason::ProtocolError::Denied) for an anonymous client where
    /// [`ServerConfig::require_client`] asks for a key, and
    /// [`ProtocolError::ApiMisuse`](crate::reason::ProtocolError::ApiMisuse) for one with an invite.
    pub async fn accept(self) -> Result<SecureStream<S>, Error> {
        let channel = in_time(self.0.welcome()).await?;
        Ok(SecureStream(stream::accept_pipe(channel).await?))
    }

    /// Lets in a client with an invite, whose key the application lets in from now on. Tells it what has come of the invite, and
    /// accepts its stream.
    ///
    /// # Errors
    /// As [`accept`]; [`ProtocolError::ApiMisuse`](crate::reason::ProtocolError::ApiMisuse) for a client without an invite, and
    /// where what it is told is too long.
    pub async fn join(self, joined: Joined) -> Result<SecureStream<S>, Error> {
        let channel = in_time(self.0.join(joined)).await?;
        Ok(SecureStream(stream::accept_pipe(channel).await?))
    }

    /// Turns the client away. Gives what the connection has ended with:
    /// [`ProtocolError::Denied`](crate::reason::ProtocolError::Denied), or what has kept that from being said.
    pub async fn deny(self, code: DeniedCode) -> Error {
        let denied = in_time(async { Ok(self.0.deny(code).await) }).await;
        denied.unwrap_or_else(|late| late).into()
    }
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| {
        let message = format!("the handshake took longer than {} seconds", HANDSHAKE_DEADLINE.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, message))
    };
    timeout(HANDSHAKE_DEADLINE, handshake).await.unwrap_or_else(late)
}

impl<S> SecureStream<S> {
    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.0.session().peer
    }

    /// How the two authenticated each other.
    pub fn mode(&self) -> Mode {
        self.0.session().mode
    }

    /// What has come of the client's invite ([`ClientConfig::invited`]). `None` without one, and at the server.
    pub fn joined(&self) -> Option<&Joined> {
        self.0.session().joined.as_ref()
    }

    /// What the client's next connection can resume with, once. `None` where the server gave none, at the server, and when
    /// it has been taken already.
    pub fn take_ticket(&mut self) -> Option<ResumptionTicket> {
        self.0.session_mut().ticket.take()
    }

    /// The transport.
    pub fn get_ref(&self) -> &S {
        self.0.get_ref()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SecureStream<S> {
    /// Ends the connection, after both sides have said that no more will come: each tells the other that all it received has
    /// reached its place, so that nothing is in doubt after this.
    ///
    /// # Errors
    /// [`Error::Protocol`] with [`ProtocolError::Truncated`](crate::reason::ProtocolError::Truncated) when the other side
    /// is gone without it, [`Error::TimedOut`] when it has not done so after [`CLOSE_DEADLINE`](crate::CLOSE_DEADLINE).
    pub async fn close(self) -> Result<(), Error> {
        Ok(self.0.close().await?)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for SecureStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SecureStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
