//! The handshake over a transport that blocks.

use std::boxed::Box;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;
use std::vec;
use std::vec::Vec;

use getrandom::SysRng;

use super::SecureStream;
use crate::channel::Event;
use crate::handshake::client::{ClientConfig, ClientHandshake};
use crate::handshake::server::{Authorization, ServerConfig, ServerHandshake};
use crate::handshake::{Handshake, Step, Work as _};
use crate::message::{ClientIdentity, ControlMessage, DeniedCode, RefusedCode, Target};
use crate::stream::{
    HANDSHAKE_CHUNK, HANDSHAKE_DEADLINE, Parts, abort_frame, closed_during_handshake, error_in,
    handshake_timed_out, target_of, unix_time,
};
use crate::{Error, PeerMisbehaved};

/// Connects as a client and opens what `config` says, or else a pipe.
///
/// A socket that waits for ever makes this wait for ever: give it timeouts before. With them, a server that dribbles gets
/// no more than [`HANDSHAKE_DEADLINE`].
///
/// # Errors
/// Those of the socket, and those of the protocol inside an `io::Error` (see [`error_in`]); [`Error::ApiMisuse`] for
/// a listen target.
pub fn connect<S: Read + Write>(mut io: S, mut config: ClientConfig) -> io::Result<SecureStream<S>> {
    target_of(&mut config)?;
    let mut out = Vec::new();
    let start = ClientHandshake::start(config, &mut SysRng, &mut out)?;
    let (established, early) = drive(&mut io, Step::Continue(start), out)?;
    let mut stream = SecureStream::from_parts(io, Parts::of_client(established, &early));
    match stream.event()? {
        Event::Opened => Ok(stream),
        Event::Refused(code) => Err(Error::Refused(code).into()),
        Event::Close => {
            // The stream never stood: this side closes too, and that it does not arrive changes nothing.
            stream.writing.control(&ControlMessage::Close)?;
            stream.flush().ok();
            Err(Error::Closed.into())
        }
        _ => Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
    }
}

/// Accepts a client that `authorize` lets in, and the pipe that it opens. As with [`connect`], the socket is to have
/// timeouts: a client may be silent for ever.
///
/// # Errors
/// As [`connect`]; also [`Error::Denied`] for a client that `authorize` refused.
pub fn accept<S: Read + Write>(
    mut io: S,
    config: Arc<ServerConfig>,
    authorize: impl FnOnce(&ClientIdentity) -> Result<(), DeniedCode>,
) -> io::Result<SecureStream<S>> {
    let start = Step::Continue(ServerHandshake::new(config, unix_time()));
    let driven: io::Result<(Box<Authorization>, _)> = drive(&mut io, start, Vec::new());
    let (authorization, early) = match driven {
        Ok(outcome) => outcome,
        Err(error) => {
            if let Some(code) = error_in(&error).and_then(Error::abort_code) {
                // The handshake has failed already; that the hint does not arrive changes nothing.
                io.write_all(&abort_frame(code)).and_then(|()| io.flush()).ok();
            }
            return Err(error);
        }
    };
    let mut out = Vec::new();
    if let Err(code) = authorization.check_policy().and_then(|()| authorize(authorization.client())) {
        authorization.deny(code, &mut out)?;
        io.write_all(&out)?;
        io.flush()?;
        return Err(Error::Denied(code).into());
    }
    let established = authorization.welcome(&mut SysRng, &mut out)?;
    io.write_all(&out)?;
    io.flush()?;
    let mut stream = SecureStream::from_parts(io, Parts::of_server(established, &early));
    match stream.event()? {
        Event::Open(Target::Pipe) => {
            stream.writing.control(&ControlMessage::Opened)?;
            stream.flush()?;
            Ok(stream)
        }
        Event::Open(_) => {
            stream.writing.control(&ControlMessage::Refused { code: RefusedCode::NotOffered })?;
            stream.flush()?;
            Err(Error::Refused(RefusedCode::NotOffered).into())
        }
        Event::Close => Err(Error::Closed.into()),
        _ => Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
    }
}

/// Drives a handshake to its outcome. Also gives the bytes that came behind it.
fn drive<H: Handshake, S: Read + Write>(
    io: &mut S,
    mut step: Step<H>,
    mut out: Vec<u8>,
) -> io::Result<(H::Outcome, Vec<u8>)> {
    let mut inbox = Vec::new();
    let deadline = Instant::now() + HANDSHAKE_DEADLINE;
    loop {
        step = match step {
            Step::Continue(handshake) => {
                io.write_all(&out)?;
                io.flush()?;
                out.clear();
                let mut message = next_message(
                    io,
                    &mut inbox,
                    |prefix| handshake.message_len(prefix),
                    handshake.peer_may_leave(),
                    deadline,
                )?;
                handshake.handle(&mut message, &mut SysRng, &mut out)?
            }
            Step::Work(work) => work.run(&mut SysRng, &mut out)?,
            Step::Done(outcome) => return Ok((outcome, inbox)),
        }
    }
}

fn next_message(
    io: &mut impl Read,
    inbox: &mut Vec<u8>,
    message_len: impl Fn(&[u8]) -> Result<Option<usize>, Error>,
    peer_may_leave: bool,
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    loop {
        match message_len(inbox)? {
            Some(len) if inbox.len() >= len => return Ok(inbox.drain(..len).collect()),
            _ if Instant::now() >= deadline => return Err(handshake_timed_out()),
            _ => {
                let mut chunk = vec![0; HANDSHAKE_CHUNK];
                match io.read(&mut chunk)? {
                    0 => return Err(closed_during_handshake(peer_may_leave && inbox.is_empty())),
                    len => inbox.extend_from_slice(&chunk[..len]),
                }
            }
        }
    }
}
