//! The service for messages: prints each on a line of its own once it is complete, and then confirms it.

mod output;

use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use cli_support::log_limit::LogLimit;
use tempfile::SpooledTempFile;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Mutex;
use tokio::task::block_in_place;
use tokio::time::timeout;
use tunnel::closing::reset;
use tunnel::socket::Socket;
use wire_protocol::message::{RefusedCode, ResetCode};
use wire_protocol::stream::{Channel, Direction, SecureStream};

use crate::access::Permit;
use crate::quota::QuotaKey;
use crate::services::budget::{Budget, MAX_UNFINISHED, Room};
use crate::services::handler::{Handler, Served};
pub use crate::services::message::output::MessageFormat;
use crate::services::message::output::Output;
use crate::services::request::RequestContext;
use crate::services::reset::revoke;

/// The service that accepts messages of clients and prints them.
pub struct Messages {
    format: MessageFormat,
    max_len: u64,
    /// What unfinished messages take up.
    budget: Budget,
    /// Held while a message is printed, so that no two share a line. Waiting for it takes up no thread.
    /// `None` where messages are not taken.
    output: Option<Mutex<Output>>,
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, max_len, budget, output } = self;
        f.debug_struct("Messages")
            .field("format", format)
            .field("max_len", max_len)
            .field("budget", budget)
            .field("are_taken", &output.is_some())
            .finish()
    }
}

impl Messages {
    /// Prints messages of `max_len` bytes at most to `output`, each in one go and flushed before it is confirmed. Without
    /// an output, messages are refused.
    #[must_use]
    pub fn new<W: io::Write + Send + 'static>(
        format: MessageFormat,
        max_len: u64,
        output: Option<W>,
    ) -> Self {
        let output = output.map(|sink| Mutex::new(Output::new(sink)));
        Self { format, max_len, budget: Budget::new(max_len), output }
    }

    /// Whether there is an output to print them on.
    #[must_use]
    pub fn are_taken(&self) -> bool {
        self.output.is_some()
    }
}

impl Handler for Messages {
    /// Takes the message, and confirms it once it is printed.
    async fn serve(
        &self,
        channel: Channel<Socket>,
        request: &RequestContext<'_>,
        _permit: Permit,
    ) -> io::Result<Served> {
        self.receive(channel, request).await.map(Served::Idle)
    }
}

impl Messages {
    async fn receive(
        &self,
        channel: Channel<Socket>,
        request: &RequestContext<'_>,
    ) -> io::Result<Channel<Socket>> {
        let RequestContext { principal, revoked, meter, .. } = *request;
        let Some(output) = &self.output else {
            request.stream.refuse(RefusedCode::NotOffered);
            return channel.refuse_open(RefusedCode::NotOffered).await;
        };
        let Some(mut share) = self.budget.begin(QuotaKey::of(principal, request.source.ip())) else {
            static LOG_LIMIT: LogLimit = LogLimit::new(5);
            if LOG_LIMIT.admits() {
                let more = Some(LOG_LIMIT.take_suppressed()).filter(|more| *more > 0);
                let (client, limit) = (&principal.name, MAX_UNFINISHED);
                tracing::warn!(client, limit, more, "message refused: too many are unfinished");
            }
            request.stream.refuse(RefusedCode::Busy);
            return channel.refuse_open(RefusedCode::Busy).await;
        };
        let mut stream = channel.answer_open().await?;
        // When it goes to the disk is for the budget to say.
        let mut message = SpooledTempFile::new(usize::MAX);
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = tokio::select! {
                biased;
                () = revoked.cancelled() => return revoke(stream, revoked.code()).await,
                read = next(&mut stream, &mut chunk) => read?,
            };
            if read == 0 {
                break;
            }
            if share.len().saturating_add(u64::try_from(read).unwrap_or(u64::MAX)) > self.max_len {
                reset(stream, ResetCode::TooLong).await?;
                return Err(io::Error::other("the message is longer than --max-message allows"));
            }
            meter.add(read, Direction::Received);
            let room = match share.grow(read) {
                Ok(room) => room,
                Err(no_room) => {
                    reset(stream, ResetCode::Busy).await?;
                    return Err(io::Error::other(no_room));
                }
            };
            let kept = blocking(|| {
                if room == Room::Disk && !message.is_rolled() {
                    message.roll()?;
                }
                message.write_all(&chunk[..read])
            });
            if let Err(error) = kept {
                reset(stream, ResetCode::Output).await?;
                return Err(error);
            }
        }
        // A client that is told that its message has arrived can rely on it: nothing is confirmed before it is out.
        let mut output = tokio::select! {
            biased;
            // One that is being printed already was whole before the right was lost.
            () = revoked.cancelled() => return revoke(stream, revoked.code()).await,
            output = output.lock() => output,
        };
        let printed = blocking(|| output.print(&mut message, principal, self.format));
        drop(output);
        if let Err(error) = printed {
            reset(stream, ResetCode::Output).await?;
            return Err(error);
        }
        stream.finish().await
    }
}

/// Does `work` that may block. Other tasks of this thread move to another one meanwhile; on a runtime of a single thread they
/// wait.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => block_in_place(work),
    }
}

/// Reads more of a message, 0 bytes at its end. A client that waits for its own input has nothing to send but that it is
/// there.
async fn next<S>(stream: &mut SecureStream<S>, chunk: &mut [u8]) -> io::Result<usize>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let Ok(read) = timeout(STALL_TIMEOUT, stream.read_or_sign_of_life(chunk)).await else {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the message stopped coming"));
        };
        if let Some(read) = read? {
            return Ok(read);
        }
    }
}

/// How long nothing may come of a message, not even a sign of life. A client that sends none may have a person type it.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);
const CHUNK: usize = 16 * 1024;
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crypto_core::identity::KeyId;
    use crypto_core::psk::PreSharedKey;
    use getrandom::SysRng;
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
    use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
    use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
    use wire_protocol::message::{ServerLimits, Target};
    use wire_protocol::stream::{RsaPool, accept_channel, connect_open};

    use super::*;

    /// A client and a server, and a message between them of which nothing has come.
    async fn open() -> (SecureStream<DuplexStream>, SecureStream<DuplexStream>) {
        let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", KeyId([7; 32])).unwrap());
        let config = ServerConfig {
            identity: None,
            psks: [("laptop".to_owned(), Arc::clone(&psk))].into(),
            tickets: None,
            client_auth: ClientAuth::Optional,
            limits: ServerLimits { idle_timeout_seconds: 600 },
        };
        let (here, there) = duplex(1 << 16);
        let pool = RsaPool::new(1);
        let expected = ExpectedServer::Psk(psk);
        let client = ClientConfig {
            server: expected,
            identity: None,
            invite: None,
            open: Some(Target::Message),
            asks_reason: false,
        };
        let (client, server) = tokio::join!(
            connect_open(here, client),
            accept_channel(there, Arc::new(config), &pool, |_| Ok(()))
        );
        let mut server = server.unwrap();
        assert_eq!(server.next_open().await.unwrap(), Some(Target::Message));
        let server = server.answer_open().await.unwrap();
        (client.unwrap().confirm().await.unwrap(), server)
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_waited_for_as_long_as_its_client_is_there() {
        let (mut client, mut server) = open().await;
        let mut chunk = [0; 16];
        let typing = async {
            for _ in 0..10 {
                tokio::time::sleep(STALL_TIMEOUT - Duration::from_secs(1)).await;
                client.ping().await.unwrap();
            }
            client.write_all(b"done").await.unwrap();
        };
        let ((), read) = tokio::join!(typing, next(&mut server, &mut chunk));
        assert_eq!(&chunk[..read.unwrap()], b"done");
        // And no longer.
        let started = tokio::time::Instant::now();
        let error = next(&mut server, &mut chunk).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), STALL_TIMEOUT.as_secs());
        drop(client);
    }
}
