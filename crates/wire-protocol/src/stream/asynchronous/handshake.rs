//! The handshake over `AsyncRead + AsyncWrite`.

use std::boxed::Box;
use std::io;
use std::sync::Arc;
use std::vec::Vec;

use crypto_core::identity::PublicKey;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::admission::{Admission, RsaPool};
use super::connection::{Channel, OpeningStream, SecureStream};
use super::drive::{Driven, Failure, advance, drive, next_message};
use super::pending_client::PendingClient;
use super::verified_server::VerifiedServer;
use crate::channel::SILENCE;
use crate::handshake::Step;
use crate::handshake::client::{ClientConfig, ClientHandshake, KeyFetch};
use crate::handshake::server::{ServerConfig, ServerHandshake};
use crate::message::{ClientIdentity, DeniedCode, RefusedCode, Target};
use crate::stream::deadline::HANDSHAKE_DEADLINE;
use crate::stream::error::{closed_during_handshake, error_in, handshake_timed_out, silent};
use crate::stream::handshake::{abort_frame, target_of, unix_time};
use crate::stream::parts::Parts;
use crate::stream::phase::{Idle, Opening};
use crate::{Error, PeerMisbehaved};

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
    let start = Driven::client(config)?;
    let pool = RsaPool::new(1);
    let (established, early) = Box::pin(drive(&mut io, start, &pool)).await?;
    Ok((io, Parts::of_client(established, &early)))
}

/// Does the client's handshake up to the server's proof of its key. How long that may take is for the caller to say. What
/// `config` opens is opened by [`VerifiedServer::open`] only.
///
/// # Errors
/// As [`connect_channel`].
pub async fn verify_server<S>(mut io: S, mut config: ClientConfig) -> io::Result<VerifiedServer<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let opens = config.open.is_some();
    if opens {
        target_of(&mut config)?;
    }
    let start = Driven::client(config)?;
    let pool = RsaPool::new(1);
    let verified = async {
        let mut driven = start;
        while !is_verified(&driven.step) {
            driven = advance(&mut io, driven, &pool).await?;
        }
        io::Result::Ok(driven)
    };
    let driven = Box::pin(verified).await?;
    Ok(VerifiedServer::new(io, driven, opens))
}

/// Whether the server has proven its key by now: what comes next is the client's part.
fn is_verified(step: &Step<ClientHandshake>) -> bool {
    match step {
        Step::Continue(handshake) => handshake.has_verified_server(),
        Step::Work(_) | Step::Done(_) => true,
    }
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
    let start = Driven::new(ServerHandshake::new(config, unix_time()), Vec::new());
    let driven: io::Result<_> = {
        let driving = Box::pin(drive(&mut io, start, admission));
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
