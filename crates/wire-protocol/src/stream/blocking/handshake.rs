//! The handshake over a transport that blocks.

use std::boxed::Box;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use getrandom::SysRng;

use super::connection::{Connection, SecureStream};
use super::pending_client::{PendingClient, answer, serve_pipe};
use super::timeouts::{Timeouts, within};
use crate::Error;
#[cfg(doc)]
use crate::channel::SILENCE;
use crate::handshake::client::{ClientConfig, ClientHandshake};
use crate::handshake::server::{Authorization, ServerConfig, ServerHandshake};
use crate::handshake::{Handshake, Step, Work as _};
use crate::message::{ClientIdentity, DeniedCode};
use crate::stream::deadline::HANDSHAKE_DEADLINE;
use crate::stream::error::{error_in, handshake_timed_out};
use crate::stream::handshake::{HANDSHAKE_CHUNK, abort_frame, ended, failed, judge, target_of, unix_time};
use crate::stream::parts::Parts;
use crate::stream::phase::Opening;

/// Connects as a client and opens what `config` says, or else a pipe. A server has [`HANDSHAKE_DEADLINE`] for the handshake
/// and [`SILENCE`] for its answer to the Open, also one that is silent (but see [`Timeouts`] for the transport).
///
/// # Errors
/// Those of the transport, and those of the protocol inside an `io::Error` (see [`error_in`]); [`Error::ApiMisuse`] for a
/// listen target; `TimedOut` when the server takes too long.
pub fn connect<S: Read + Write + Timeouts>(
    mut io: S,
    mut config: ClientConfig,
) -> io::Result<SecureStream<S>> {
    target_of(&mut config)?;
    let parts = within(&mut io, HANDSHAKE_DEADLINE, handshake_timed_out, |io| {
        let mut out = Vec::new();
        let start = ClientHandshake::start(config, &mut SysRng, &mut out)?;
        let (established, early) = drive(io, Step::Continue(start), out)?;
        Ok(Parts::of_client(established, &early))
    })?;
    Ok(Connection::<S, Opening>::new(io, parts).confirm()?)
}

/// Accepts a client that `authorize` lets in, and the pipe that it opens. A client has [`HANDSHAKE_DEADLINE`] for the
/// handshake, and then may leave the channel idle for as long as the limits in `config` say, after which it is closed (but see
/// [`Timeouts`] for the transport). A client with an invite is denied: that takes [`authenticate`].
///
/// # Errors
/// As [`connect`]; also [`Error::Denied`] for a client that `authorize` refused, and `TimedOut` for one that has opened nothing.
pub fn accept<S: Read + Write + Timeouts>(
    mut io: S,
    config: Arc<ServerConfig>,
    authorize: impl FnOnce(&ClientIdentity) -> Result<(), DeniedCode>,
) -> io::Result<SecureStream<S>> {
    let parts = within(&mut io, HANDSHAKE_DEADLINE, handshake_timed_out, |io| {
        let (authorization, early) = handshake(io, config)?;
        let decision = judge(&authorization, authorize);
        answer(io, &early, |out| match decision {
            Ok(()) => authorization.welcome(&mut SysRng, out),
            Err(code) => Err(authorization.deny(code, out).err().unwrap_or(Error::Denied(code))),
        })
    })?;
    serve_pipe(io, parts)
}

/// Does the server's handshake up to the decision whether the client may come in, which is the caller's. A client has
/// [`HANDSHAKE_DEADLINE`] for it (but see [`Timeouts`] for the transport).
///
/// # Errors
/// As [`connect`].
pub fn authenticate<S: Read + Write + Timeouts>(
    mut io: S,
    config: Arc<ServerConfig>,
) -> io::Result<PendingClient<S>> {
    let (authorization, early) =
        within(&mut io, HANDSHAKE_DEADLINE, handshake_timed_out, |io| handshake(io, config))?;
    Ok(PendingClient::new(io, authorization, early))
}

/// Does the server's handshake up to the decision. Also gives the bytes that came behind it.
fn handshake<S: Read + Write>(
    io: &mut S,
    config: Arc<ServerConfig>,
) -> io::Result<(Box<Authorization>, Vec<u8>)> {
    let start = Step::Continue(ServerHandshake::new(config, unix_time()));
    let driven = drive(io, start, Vec::new());
    if let Err(error) = &driven
        && let Some(code) = error_in(error).and_then(Error::abort_code)
    {
        // The handshake has failed already; that the hint does not arrive changes nothing.
        io.write_all(&abort_frame(code)).and_then(|()| io.flush()).ok();
    }
    driven
}

/// Drives a handshake to its outcome. Also gives the bytes that came behind it.
fn drive<H: Handshake, S: Read + Write>(
    io: &mut S,
    mut step: Step<H>,
    mut out: Vec<u8>,
) -> io::Result<(H::Outcome, Vec<u8>)> {
    let mut inbox = Vec::new();
    loop {
        step = match step {
            Step::Continue(handshake) => {
                io.write_all(&out)?;
                io.flush()?;
                out.clear();
                let mut message = next_message(io, &mut inbox, &handshake)?;
                handshake.handle(&mut message, &mut SysRng, &mut out)?
            }
            Step::Work(work) => work.run(&mut SysRng, &mut out)?,
            Step::Done(outcome) => return Ok((outcome, inbox)),
        }
    }
}

/// Reads until the next message is whole, and takes it out of `inbox`. What `handshake` allows is all that is ever held, and one
/// chunk.
fn next_message<H: Handshake>(io: &mut impl Read, inbox: &mut Vec<u8>, handshake: &H) -> io::Result<Vec<u8>> {
    loop {
        match handshake.message_len(inbox)? {
            Some(len) if inbox.len() >= len => return Ok(inbox.drain(..len).collect()),
            _ => {
                let mut chunk = vec![0; HANDSHAKE_CHUNK];
                match io.read(&mut chunk) {
                    Ok(0) => return Err(ended(handshake, !inbox.is_empty())),
                    Ok(len) => inbox.extend_from_slice(&chunk[..len]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(failed(handshake, error)),
                }
            }
        }
    }
}
