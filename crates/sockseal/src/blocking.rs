//! The stream over `std::io`, for threads.
//!
//! The limits hold where the transport can keep them: see [`Timeouts`], which the sockets of std have. A transport that has
//! none goes into [`Unlimited`].

mod halves;

use std::io::{self, Read, Write};

use wire_protocol::handshake::client::ResumptionTicket;
use wire_protocol::handshake::server::InviteAttempt;
use wire_protocol::message::{ClientIdentity, DeniedCode, Joined, Mode};
use wire_protocol::stream::{Peer, blocking};

use crate::client_config::ClientConfig;
use crate::error::Error;
use crate::server_config::ServerConfig;

pub use halves::{Halves, ReadHalf, WriteHalf};
pub use wire_protocol::stream::blocking::{Split, Timeouts, Unlimited};

/// A stream of bytes that is encrypted and authenticated: no change, replay or cut by others goes unnoticed.
///
/// `flush` sends what was written, and [`SecureStream::shutdown`] says that no more will come. An end of file means that the
/// other side has said so; where the connection was cut before, reading fails, and `Error::from` makes
/// [`ProtocolError::Truncated`](crate::reason::ProtocolError::Truncated) of that. Dropping it without
/// [`SecureStream::close`] cuts the connection.
#[derive(Debug)]
pub struct SecureStream<S>(blocking::SecureStream<S>);

/// Connects to the server that `config` means, over any transport, and waits until it has accepted.
///
/// # Errors
/// [`Error::Protocol`] with the reason, where the server is not the one that is meant, does not let this client in, or does
/// not speak the protocol, and for a `config` that contradicts itself; [`Error::TimedOut`] when it takes longer than
/// [`HANDSHAKE_DEADLINE`](crate::HANDSHAKE_DEADLINE), and [`SILENCE`](crate::SILENCE) after that; else
/// what the connection ended with.
pub fn connect<S: Read + Write + Timeouts>(
    transport: S,
    config: ClientConfig,
) -> Result<SecureStream<S>, Error> {
    Ok(SecureStream(blocking::connect(transport, config.into_protocol()?)?))
}

/// Accepts a client that `authorize` lets in, over any transport. The identity that it is shown has been proven.
/// A client with an invite is turned away: those take [`authenticate`].
///
/// A client has [`HANDSHAKE_DEADLINE`](crate::HANDSHAKE_DEADLINE) for the handshake, and
/// [`ServerConfig::idle_timeout`] to open its stream.
///
/// # Errors
/// As [`connect`]; [`Error::Protocol`] with [`ProtocolError::Denied`](crate::reason::ProtocolError::Denied) for a client
/// that `authorize` refused.
pub fn accept<S: Read + Write + Timeouts>(
    transport: S,
    config: &ServerConfig,
    authorize: impl FnOnce(&ClientIdentity) -> Result<(), DeniedCode>,
) -> Result<SecureStream<S>, Error> {
    Ok(SecureStream(blocking::accept(transport, config.to_protocol(), authorize)?))
}

/// Does the handshake with a client up to the decision whether it may come in, which may then take its time. Limits are as with
/// [`accept`].
///
/// # Errors
/// As [`accept`].
pub fn authenticate<S: Read + Write + Timeouts>(
    transport: S,
    config: &ServerConfig,
) -> Result<PendingClient<S>, Error> {
    Ok(PendingClient(blocking::authenticate(transport, config.to_protocol())?))
}

/// A client that has proven who it is, and is to be let in or denied. Dropping it ends the connection without an answer.
#[derive(Debug)]
pub struct PendingClient<S>(blocking::PendingClient<S>);

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

impl<S: Read + Write + Timeouts> PendingClient<S> {
    /// Lets in a client without an invite, and accepts its stream.
    ///
    /// # Errors
    /// As [`accept`]; [`ProtocolError::Denied`](crate::reason::ProtocolError::Denied) for an anonymous client where
    /// [`ServerConfig::require_client`] asks for a key, and
    /// [`ProtocolError::ApiMisuse`](crate::reason::ProtocolError::ApiMisuse) for one with an invite.
    pub fn accept(self) -> Result<SecureStream<S>, Error> {
        Ok(SecureStream(self.0.accept()?))
    }

    /// Lets in a client with an invite, whose key the application lets in from now on. Tells it what has come of the invite, and
    /// accepts its stream.
    ///
    /// # Errors
    /// As [`accept`]; [`ProtocolError::ApiMisuse`](crate::reason::ProtocolError::ApiMisuse) for a client without an invite, and
    /// where what it is told is too long.
    pub fn join(self, joined: Joined) -> Result<SecureStream<S>, Error> {
        Ok(SecureStream(self.0.join(joined)?))
    }

    /// Turns the client away. Gives what the connection has ended with:
    /// [`ProtocolError::Denied`](crate::reason::ProtocolError::Denied), or what has kept that from being said.
    pub fn deny(self, code: DeniedCode) -> Error {
        self.0.deny(code).into()
    }
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
}

impl<S: Split> SecureStream<S> {
    /// Takes the stream apart into two halves for two threads, one that reads while the other writes.
    ///
    /// # Errors
    /// [`Error::Transport`] when the socket cannot be cloned.
    pub fn into_split(self) -> Result<Halves<S>, Error> {
        let (reading, writing) = self.0.into_split()?;
        Ok((ReadHalf(reading), WriteHalf(writing)))
    }
}

impl<S: Read + Write> SecureStream<S> {
    /// Says that no more will come from this side.
    ///
    /// # Errors
    /// Those of the transport, and [`Error::Protocol`] on a stream that has ended already.
    pub fn shutdown(&mut self) -> Result<(), Error> {
        Ok(self.0.shutdown()?)
    }
}

impl<S: Read + Write + Timeouts> SecureStream<S> {
    /// Ends the connection, after both sides have said that no more will come: each tells the other that all it received has
    /// reached its place, so that nothing is in doubt after this.
    ///
    /// # Errors
    /// [`Error::Protocol`] with [`ProtocolError::Truncated`](crate::reason::ProtocolError::Truncated) when the other side
    /// is gone without it, [`Error::TimedOut`] when it has not done so after [`CLOSE_DEADLINE`](crate::CLOSE_DEADLINE).
    pub fn close(self) -> Result<(), Error> {
        Ok(self.0.close()?)
    }
}

impl<S: Read + Write + Timeouts> Read for SecureStream<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<S: Write> Write for SecureStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
