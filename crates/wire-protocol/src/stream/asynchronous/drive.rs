//! Drives a handshake over a socket: sends what is to be sent, reads one message after the other, and has RSA done.

use std::boxed::Box;
use std::fmt;
use std::io;
use std::vec;
use std::vec::Vec;

use getrandom::SysRng;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::admission::{Admission, Progress};
use crate::Error;
use crate::handshake::client::{ClientConfig, ClientHandshake};
use crate::handshake::{Handshake, Step, Work};
use crate::stream::error::closed_during_handshake;
use crate::stream::handshake::{HANDSHAKE_CHUNK, ended, failed};

/// A handshake on its way, with what is to be sent next, and what has been read ahead.
pub(super) struct Driven<H: Handshake> {
    pub(super) step: Step<H>,
    out: Vec<u8>,
    inbox: Vec<u8>,
}

impl<H: Handshake> fmt::Debug for Driven<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driven").finish_non_exhaustive()
    }
}

impl<H: Handshake> Driven<H> {
    pub(super) fn new(handshake: H, out: Vec<u8>) -> Self {
        Self { step: Step::Continue(handshake), out, inbox: Vec::new() }
    }
}

impl Driven<ClientHandshake> {
    pub(super) fn client(config: ClientConfig) -> Result<Self, Error> {
        let mut out = Vec::new();
        let start = ClientHandshake::start(config, &mut SysRng, &mut out)?;
        Ok(Self::new(start, out))
    }
}

/// Drives a handshake to its outcome. Also gives the bytes that came behind it.
pub(super) async fn drive<H, S>(
    io: &mut S,
    mut driven: Driven<H>,
    admission: &impl Admission,
) -> io::Result<(H::Outcome, Vec<u8>)>
where
    H: Handshake + Send + 'static,
    H::Work: 'static,
    H::Outcome: Send,
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        driven = match driven {
            Driven { step: Step::Done(outcome), inbox, .. } => return Ok((outcome, inbox)),
            driven => advance(io, driven, admission).await?,
        };
    }
}

/// Takes one step of a handshake; none where it is over.
pub(super) async fn advance<H, S>(
    io: &mut S,
    driven: Driven<H>,
    admission: &impl Admission,
) -> io::Result<Driven<H>>
where
    H: Handshake + Send + 'static,
    H::Work: 'static,
    H::Outcome: Send,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Driven { step, mut out, mut inbox } = driven;
    let step = match step {
        Step::Continue(handshake) => {
            io.write_all(&out).await?;
            io.flush().await?;
            out.clear();
            let awaits_hello = handshake.peer_may_leave();
            let read = next_message(
                io,
                &mut inbox,
                |prefix| handshake.message_len(prefix),
                || admission.note(Progress::FirstBytes),
            )
            .await;
            let mut message = read.map_err(|failure| match failure {
                Failure::Ended => ended(&handshake, !inbox.is_empty()),
                Failure::Failed(error) => failed(&handshake, error),
            })?;
            let next = handshake.handle(&mut message, &mut SysRng, &mut out)?;
            if awaits_hello && !matches!(&next, Step::Continue(next) if next.peer_may_leave()) {
                admission.note(Progress::Hello);
            }
            if matches!(&next, Step::Continue(next) if next.has_refused_ticket()) {
                admission.note(Progress::TicketRefused);
            }
            next
        }
        Step::Work(work) => {
            // No work is done for a client that has closed the connection meanwhile.
            let (step, filled) = tokio::select! {
                biased;
                done = run(admission, work, std::mem::take(&mut out)) => done?,
                error = closed(io, &mut inbox) => return Err(error),
            };
            out = filled;
            step
        }
        Step::Done(outcome) => Step::Done(outcome),
    };
    Ok(Driven { step, out, inbox })
}

/// Has `work` done, and gives its outcome and what is to be sent.
async fn run<H, W>(admission: &impl Admission, work: W, mut out: Vec<u8>) -> io::Result<(Step<H>, Vec<u8>)>
where
    H: Handshake + Send + 'static,
    H::Outcome: Send,
    H::Work: Send,
    W: Work<H> + 'static,
{
    let (done, outcome) = oneshot::channel();
    let operation = Box::new(move || {
        let step = work.run(&mut SysRng, &mut out).map(|step| (step, out));
        // Nobody waits for it any more where the connection is gone.
        done.send(step).ok();
    });
    admission.execute(operation).await?;
    Ok(outcome.await.map_err(io::Error::other)??)
}

/// Waits until the peer has closed the connection without having said anything more. What it says is kept, a chunk at
/// most, and tells more than the end behind it.
async fn closed<S: AsyncRead + Unpin>(io: &mut S, inbox: &mut Vec<u8>) -> io::Error {
    if inbox.is_empty() {
        let mut chunk = vec![0; HANDSHAKE_CHUNK];
        match io.read(&mut chunk).await {
            Ok(0) => return closed_during_handshake(false),
            Ok(len) => inbox.extend_from_slice(&chunk[..len]),
            Err(error) => return error,
        }
    }
    std::future::pending().await
}

/// Reads until the next message is whole, and takes it out of `inbox`. What `message_len` allows is all that is
/// ever held, and one chunk.
pub(super) async fn next_message<S: AsyncRead + Unpin>(
    io: &mut S,
    inbox: &mut Vec<u8>,
    message_len: impl Fn(&[u8]) -> Result<Option<usize>, Error>,
    received: impl Fn(),
) -> Result<Vec<u8>, Failure> {
    loop {
        match message_len(inbox).map_err(|error| Failure::Failed(error.into()))? {
            Some(len) if inbox.len() >= len => return Ok(inbox.drain(..len).collect()),
            _ => {
                let mut chunk = vec![0; HANDSHAKE_CHUNK];
                match io.read(&mut chunk).await.map_err(Failure::Failed)? {
                    0 => return Err(Failure::Ended),
                    len => {
                        received();
                        inbox.extend_from_slice(&chunk[..len]);
                    }
                }
            }
        }
    }
}

/// The reason why a message has not come.
pub(super) enum Failure {
    /// The peer has closed the connection.
    Ended,
    /// Anything else.
    Failed(io::Error),
}
