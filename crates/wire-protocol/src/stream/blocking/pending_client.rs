//! A client that has proven who it is, and waits for the decision whether it may come in.

use std::boxed::Box;
use std::io::{self, Read, Write};
use std::vec::Vec;

use getrandom::SysRng;

use super::connection::{Channel, SecureStream};
use super::timeouts::{Timeouts, within};
use crate::Error;
use crate::handshake::server::{Authorization, Established, InviteAttempt};
use crate::message::{ClientIdentity, DeniedCode, Joined, Mode, RefusedCode, Target};
use crate::stream::deadline::HANDSHAKE_DEADLINE;
use crate::stream::error::handshake_timed_out;
use crate::stream::parts::Parts;

/// A client that has proven who it is, and is to be let in or denied. Dropping it ends the connection without an answer.
///
/// One with an [invite](PendingClient::invite) is answered with [`PendingClient::join`] in place of
/// [`PendingClient::accept`], also where it is known already. An answer has [`HANDSHAKE_DEADLINE`]; how long the decision takes is
/// for the caller to say.
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
}

impl<S: Read + Write + Timeouts> PendingClient<S> {
    /// Lets the client in, and accepts the pipe that it opens.
    ///
    /// # Errors
    /// Those of the transport, as [`Authorization::welcome`], and as [`accept`](super::accept) once the client is in.
    pub fn accept(self) -> io::Result<SecureStream<S>> {
        self.answer(|authorization, out| authorization.welcome(&mut SysRng, out))
    }

    /// Lets in a client with an invite, whose key is on the server's list by now, tells it what has come of the invite, and accepts
    /// the pipe that it opens.
    ///
    /// # Errors
    /// Those of the transport, as [`Authorization::join`], and as [`accept`](super::accept) once the client is in.
    pub fn join(self, joined: Joined) -> io::Result<SecureStream<S>> {
        self.answer(|authorization, out| authorization.join(joined, &mut SysRng, out))
    }

    /// Turns the client away. Gives what the handshake has failed with: [`Error::Denied`], or what has kept that from being said.
    pub fn deny(self, code: DeniedCode) -> io::Error {
        let denied = self.answer(|authorization, out| {
            authorization.deny(code, out)?;
            Err(Error::Denied(code))
        });
        denied.err().unwrap_or_else(|| Error::Denied(code).into())
    }

    fn answer(
        self,
        decide: impl FnOnce(Box<Authorization>, &mut Vec<u8>) -> Result<Established, Error>,
    ) -> io::Result<SecureStream<S>> {
        let Self { mut io, authorization, early } = self;
        let parts = within(&mut io, HANDSHAKE_DEADLINE, handshake_timed_out, |io| {
            answer(io, &early, |out| decide(authorization, out))
        })?;
        serve_pipe(io, parts)
    }
}

/// Says what `decide` has to say. A client that is denied is told so, before that is the outcome here.
pub(super) fn answer(
    io: &mut impl Write,
    early: &[u8],
    decide: impl FnOnce(&mut Vec<u8>) -> Result<Established, Error>,
) -> io::Result<Parts> {
    let mut out = Vec::new();
    let decided = decide(&mut out);
    io.write_all(&out)?;
    io.flush()?;
    Ok(Parts::of_server(decided?, early))
}

/// Accepts the pipe that a client opens, once it is let in.
pub(super) fn serve_pipe<S: Read + Write + Timeouts>(io: S, parts: Parts) -> io::Result<SecureStream<S>> {
    let mut channel = Channel::new(io, parts);
    match channel.next_open()? {
        Some(Target::Pipe) => channel.answer_open(),
        Some(_) => {
            channel.refuse_open(RefusedCode::NotOffered)?;
            Err(Error::Refused(RefusedCode::NotOffered).into())
        }
        None => {
            // That the client does not wait for the answer changes nothing.
            channel.close().ok();
            Err(Error::Closed.into())
        }
    }
}
