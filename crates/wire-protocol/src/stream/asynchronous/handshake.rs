//! The handshake over `AsyncRead + AsyncWrite`, and where its RSA is done.

use std::boxed::Box;
use std::io;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use crypto_core::identity::PublicKey;
use getrandom::SysRng;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::connection::{Channel, OpeningStream, SecureStream};
use super::pending_client::PendingClient;
use crate::channel::SILENCE;
use crate::handshake::client::{ClientConfig, ClientHandshake, KeyFetch};
use crate::handshake::server::{ServerConfig, ServerHandshake};
use crate::handshake::{Handshake, Step, Work};
use crate::message::{ClientIdentity, DeniedCode, RefusedCode, Target};
use crate::stream::deadline::HANDSHAKE_DEADLINE;
use crate::stream::error::{closed_during_handshake, error_in, handshake_timed_out, silent};
use crate::stream::handshake::{HANDSHAKE_CHUNK, abort_frame, ended, failed, target_of, unix_time};
use crate::stream::parts::Parts;
use crate::stream::phase::{Idle, Opening};
use crate::{Error, PeerMisbehaved};

/// One RSA operation of a handshake.
pub type Operation = Box<dyn FnOnce() + Send>;

/// A point that a server's handshake has reached, of which [`Admission`] takes note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The client has said something.
    FirstBytes,
    /// A whole hello has come that does not end in a key offer: it is answered, or RSA has to be done for it first.
    Hello,
}

/// A server's control of handshakes that are in progress: where the RSA of a connection is done, and whether it is
/// given up for others. [`RsaPool`] is the simplest one.
pub trait Admission: Sync {
    /// Runs `operation` where it does not stand in the reactor's way, and waits for its end. Where the future is dropped
    /// before the operation has begun, it should never begin: the client is gone, or out of time.
    ///
    /// # Errors
    /// Whatever kept the operation from being run; [`Error::Busy`] tells the client to come back later.
    fn execute(&self, operation: Operation) -> impl Future<Output = io::Result<()>> + Send;

    /// Is told how far the handshake has come.
    fn note(&self, progress: Progress) {
        let _ = progress;
    }

    /// Resolves once the handshake has to be given up, with the reason.
    fn given_up(&self) -> impl Future<Output = Error> + Send {
        std::future::pending()
    }
}

/// Does RSA on threads of its own, a bounded number at once, so that it never stands in the reactor's way.
#[derive(Debug, Clone)]
pub struct RsaPool(Arc<Semaphore>);

impl RsaPool {
    /// A pool that does `size` operations at once; others wait.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self(Arc::new(Semaphore::new(size)))
    }
}

impl Admission for RsaPool {
    async fn execute(&self, operation: Operation) -> io::Result<()> {
        let permit = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        tokio::task::spawn_blocking(move || {
            // Held by the thread, not by the waiting task: one that gives up must not make room for another
            // while its work still goes on.
            let _permit = permit;
            operation();
        })
        .await
        .map_err(io::Error::other)
    }
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

/// Connects as a client and opens what `config` says, or else a pipe.
///
/// # Errors
/// Those of the socket, and those of the protocol inside an `io::Error` (see [`error_in`]); [`Error::ApiMisuse`] for a
/// listen target; `TimedOut` when the handshake takes longer than [`HANDSHAKE_DEADLINE`], or the server does not answer
/// the Open within [`SILENCE`].
pub async fn connect<S>(io: S, config: ClientConfig) -> io::Result<SecureStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = timeout(HANDSHAKE_DEADLINE, connect_open(io, config));
    let opening = handshake.await.unwrap_or_else(|_| Err(handshake_timed_out()))?;
    let confirmed = timeout(SILENCE, opening.confirm()).await;
    confirmed.unwrap_or_else(|_| Err(silent().into())).map_err(io::Error::from)
}

/// Accepts a client that `authorize` lets in, and the pipe that it opens.
///
/// # Errors
/// As [`connect`]; also [`Error::Denied`] for a client that `authorize` refused, and `TimedOut` for one that has opened
/// nothing for as long as the limits in `config` let a channel be idle, which closes it.
pub async fn accept<S>(
    io: S,
    config: Arc<ServerConfig>,
    authorize: impl FnOnce(&ClientIdentity) -> Result<(), DeniedCode>,
) -> io::Result<SecureStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pool = RsaPool::new(1);
    let handshake = timeout(HANDSHAKE_DEADLINE, accept_channel(io, config, &pool, authorize));
    accept_pipe(handshake.await.unwrap_or_else(|_| Err(handshake_timed_out()))?).await
}

/// Accepts the pipe that a client opens, once it is let in.
///
/// # Errors
/// As [`accept`].
pub async fn accept_pipe<S>(mut channel: Channel<S>) -> io::Result<SecureStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match channel.next_open().await? {
        Some(Target::Pipe) => timeout(SILENCE, channel.answer_open()).await.unwrap_or_else(|_| Err(silent())),
        Some(_) => {
            let refused = timeout(SILENCE, channel.refuse_open(RefusedCode::NotOffered)).await;
            refused.unwrap_or_else(|_| Err(silent()))?;
            Err(Error::Refused(RefusedCode::NotOffered).into())
        }
        None => {
            // That the client does not wait for the answer changes nothing.
            channel.close().await.ok();
            Err(Error::Closed.into())
        }
    }
}

/// Does the client's handshake and no more: the channel is idle. How long that may take is for the caller to say.
///
/// # Errors
/// As [`connect`]; [`Error::ApiMisuse`] where `config` opens something, which is for [`connect_open`].
pub async fn connect_channel<S>(io: S, config: ClientConfig) -> io::Result<Channel<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if config.open.is_some() {
        return Err(Error::ApiMisuse("what is opened with a handshake is no idle channel").into());
    }
    let (io, parts) = handshake(io, config).await?;
    Ok(Channel::new(io, parts, Idle))
}

/// Does the client's handshake and opens with it what `config` says, or else a pipe. How long that may take is for the caller
/// to say.
///
/// # Errors
/// As [`connect`].
pub async fn connect_open<S>(io: S, mut config: ClientConfig) -> io::Result<OpeningStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    target_of(&mut config)?;
    let (io, parts) = handshake(io, config).await?;
    Ok(OpeningStream::new(io, parts, Opening::default()))
}

/// Does the client's handshake.
async fn handshake<S>(mut io: S, config: ClientConfig) -> io::Result<(S, Parts)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut out = Vec::new();
    let start = ClientHandshake::start(config, &mut SysRng, &mut out)?;
    let pool = RsaPool::new(1);
    let (established, early) = Box::pin(drive(&mut io, Step::Continue(start), out, &pool)).await?;
    Ok((io, Parts::of_client(established, &early)))
}

/// Does the server's handshake and no more: the channel is idle. `admission` says where RSA is done. How long all of it may
/// take is for the caller to say, which has to: a client may be silent for ever. A client with an invite is denied: that takes
/// [`authenticate`].
///
/// # Errors
/// As [`accept`], and what `admission` gives up a handshake with. `ConnectionAborted` where the client left without a
/// hello, which is no fault: it may have asked for the key, or only whether somebody listens here.
pub async fn accept_channel<S>(
    io: S,
    config: Arc<ServerConfig>,
    admission: &impl Admission,
    authorize: impl FnOnce(&ClientIdentity) -> Result<(), DeniedCode>,
) -> io::Result<Channel<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let client = authenticate(io, config, admission).await?;
    match client.judge(authorize) {
        Ok(()) => client.welcome().await,
        Err(code) => Err(client.deny(code).await),
    }
}

/// Does the server's handshake up to the decision whether the client may come in, which is the caller's. `admission` and the
/// time that it may take are as with [`accept_channel`].
///
/// # Errors
/// As [`accept_channel`].
pub async fn authenticate<S>(
    mut io: S,
    config: Arc<ServerConfig>,
    admission: &impl Admission,
) -> io::Result<PendingClient<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = Step::Continue(ServerHandshake::new(config, unix_time()));
    let driven: io::Result<_> = {
        let driving = Box::pin(drive(&mut io, start, Vec::new(), admission));
        tokio::select! {
            biased;
            driven = driving => driven,
            reason = admission.given_up() => Err(reason.into()),
        }
    };
    match driven {
        Ok((authorization, early)) => Ok(PendingClient::new(io, authorization, early)),
        Err(error) => {
            if let Some(code) = error_in(&error).and_then(Error::abort_code) {
                // The handshake has failed already; that the hint does not arrive changes nothing.
                io.write_all(&abort_frame(code)).await.ok();
                io.flush().await.ok();
            }
            Err(error)
        }
    }
}

/// Asks for a server's key without trusting it. The handshake can follow on the same socket.
///
/// # Errors
/// As [`connect`].
pub async fn fetch_server_key<S>(io: &mut S) -> io::Result<PublicKey>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut out = Vec::new();
    let fetch = KeyFetch::start(&mut out);
    io.write_all(&out).await?;
    io.flush().await?;
    let mut inbox = Vec::new();
    // A server sends nothing of its own accord behind the offer, so that nothing can be lost with `inbox`.
    let read = next_message(io, &mut inbox, |prefix| fetch.message_len(prefix), || ()).await;
    let message = read.map_err(|failure| match failure {
        Failure::Ended => closed_during_handshake(false),
        Failure::Failed(error) => error,
    })?;
    if inbox.is_empty() {
        Ok(fetch.handle(&message)?)
    } else {
        Err(Error::from(PeerMisbehaved::UnexpectedMessage).into())
    }
}

/// Drives a handshake to its outcome. Also gives the bytes that came behind it.
async fn drive<H, S>(
    io: &mut S,
    mut step: Step<H>,
    mut out: Vec<u8>,
    admission: &impl Admission,
) -> io::Result<(H::Outcome, Vec<u8>)>
where
    H: Handshake + Send + 'static,
    H::Work: 'static,
    H::Outcome: Send,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut inbox = Vec::new();
    loop {
        step = match step {
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
            Step::Done(outcome) => return Ok((outcome, inbox)),
        }
    }
}

/// Reads until the next message is whole, and takes it out of `inbox`. What `message_len` allows is all that is
/// ever held, and one chunk.
async fn next_message<S: AsyncRead + Unpin>(
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
enum Failure {
    /// The peer has closed the connection.
    Ended,
    /// Anything else.
    Failed(io::Error),
}
