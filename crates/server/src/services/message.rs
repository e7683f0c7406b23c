//! Messages: each is printed on a line of its own once all of it is there, and only then confirmed.

use std::fmt;
use std::io::{self, BufWriter, Seek as _, Write as _};
use std::time::Duration;

use cli_support::log_limit::LogLimit;
use serde::Serialize;
use tempfile::SpooledTempFile;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio::task::block_in_place;
use tokio::time::timeout;
use tunnel::socket::Socket;
use tunnel::{crew, escape};
use wire_protocol::message::{RefusedCode, ResetCode};
use wire_protocol::stream::SecureStream;

use crate::access::{Permit, Principal};
use crate::quota::QuotaKey;
use crate::services::budget::{Budget, MAX_UNFINISHED, Room};
use crate::services::handler::Handler;
use crate::services::request::RequestContext;
use crate::services::reset::{reset, revoke};

/// How messages are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageFormat {
    /// `[name] text`, with control characters escaped.
    Text,
    /// One JSON object.
    Json,
}

/// Takes messages and prints them.
pub struct Messages {
    format: MessageFormat,
    max_len: u64,
    /// What unfinished messages take up.
    budget: Budget,
    /// Held while a message is printed, so that no two share a line. Waiting for it takes up no thread.
    /// `None` where messages are not taken.
    output: Option<Mutex<Output>>,
}

/// Where messages are printed.
struct Output {
    sink: Box<dyn io::Write + Send>,
    /// A message was printed in part, before an error: the next one begins with a line of its own.
    line_is_open: bool,
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
        let output = output.map(|sink| Mutex::new(Output { sink: Box::new(sink), line_is_open: false }));
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
        stream: SecureStream<Socket>,
        request: RequestContext<'_>,
        _permit: Permit,
    ) -> io::Result<Option<SecureStream<Socket>>> {
        self.receive(stream, request).await.map(Some)
    }
}

impl Messages {
    async fn receive(
        &self,
        mut stream: SecureStream<Socket>,
        request: RequestContext<'_>,
    ) -> io::Result<SecureStream<Socket>> {
        let RequestContext { principal, revoked, meter, .. } = request;
        let Some(output) = &self.output else {
            stream.refuse_open(RefusedCode::NotOffered).await?;
            return Ok(stream);
        };
        let Some(mut share) = self.budget.begin(QuotaKey::of(principal, request.source.ip())) else {
            static LOG_LIMIT: LogLimit = LogLimit::new(5);
            if LOG_LIMIT.admits() {
                let more = Some(LOG_LIMIT.take_suppressed()).filter(|more| *more > 0);
                let (client, limit) = (&principal.name, MAX_UNFINISHED);
                tracing::warn!(client, limit, more, "message refused: too many are unfinished");
            }
            stream.refuse_open(RefusedCode::Busy).await?;
            return Ok(stream);
        };
        // Writing it may take as long as whoever reads it likes.
        crew::leave().await;
        stream.answer_open().await?;
        // When it goes to the disk is for the budget to say.
        let mut message = SpooledTempFile::new(usize::MAX);
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = tokio::select! {
                biased;
                () = revoked.cancelled() => return revoke(stream).await,
                read = next(&mut stream, &mut chunk) => read?,
            };
            if read == 0 {
                break;
            }
            if share.len().saturating_add(u64::try_from(read).unwrap_or(u64::MAX)) > self.max_len {
                reset(stream, ResetCode::TooLong).await?;
                return Err(io::Error::other("the message is longer than --max-message allows"));
            }
            meter.add(read);
            let room = match share.grow(read) {
                Ok(room) => room,
                Err(no_room) => {
                    reset(stream, ResetCode::Busy).await?;
                    return Err(io::Error::other(no_room));
                }
            };
            let kept = block_in_place(|| {
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
        // Whoever is told that a message has arrived can rely on it: nothing is confirmed before it is out.
        let mut output = tokio::select! {
            biased;
            // One that is being printed already was whole before the right was lost.
            () = revoked.cancelled() => return revoke(stream).await,
            output = output.lock() => output,
        };
        let printed = block_in_place(|| output.print(&mut message, principal, self.format));
        drop(output);
        if let Err(error) = printed {
            reset(stream, ResetCode::Output).await?;
            return Err(error);
        }
        stream.shutdown().await?;
        Ok(stream)
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

impl Output {
    fn print(
        &mut self,
        message: &mut SpooledTempFile,
        principal: &Principal,
        format: MessageFormat,
    ) -> io::Result<()> {
        message.rewind()?;
        let mut writer = BufWriter::new(&mut self.sink);
        let newline = if self.line_is_open { "\n" } else { "" };
        self.line_is_open = true;
        let printed = writer
            .write_all(newline.as_bytes())
            .and_then(|()| match format {
                MessageFormat::Text => print_text(message, principal, &mut writer),
                MessageFormat::Json => print_json(message, principal, &mut writer),
            })
            .and_then(|()| writer.flush());
        // What is left of a message that failed must not come out with a later one.
        let _discarded = writer.into_parts();
        printed?;
        self.line_is_open = false;
        Ok(())
    }
}

/// The last newline of a message goes: it is what `echo` adds, and the line has one of its own.
fn print_text(
    message: &mut SpooledTempFile,
    principal: &Principal,
    output: &mut impl io::Write,
) -> io::Result<()> {
    write!(output, "[{}] ", escape::Escaped(&principal.name))?;
    let mut newline_held = false;
    escape::copy_chunks(message, |chunk| {
        if newline_held && !chunk.is_empty() {
            output.write_all(b"\\n")?;
            newline_held = false;
        }
        let text = chunk.strip_suffix(b"\n").unwrap_or(chunk);
        newline_held |= text.len() < chunk.len();
        output.write_all(escape::escape(text).as_bytes())
    })?;
    output.write_all(b"\n")
}

/// The text as it is where it is UTF-8, else all of it in base64.
fn print_json(
    message: &mut SpooledTempFile,
    principal: &Principal,
    output: &mut impl io::Write,
) -> io::Result<()> {
    let mut is_text = true;
    escape::copy_chunks(message, |chunk| {
        is_text &= std::str::from_utf8(chunk).is_ok();
        Ok(())
    })?;
    message.rewind()?;

    let head = serde_json::to_string(&Head { from: &principal.name, key: principal.key().as_deref() })?;
    let head = escape::escape_json(&head);
    let head = head.strip_suffix('}').unwrap_or(&head);
    if is_text {
        write!(output, "{head},\"text\":\"")?;
        escape::copy_chunks(message, |chunk| {
            let text = serde_json::to_string(&String::from_utf8_lossy(chunk))?;
            // What stands between the quotes of each chunk, between one pair of quotes.
            output.write_all(escape::escape_json(text.get(1..text.len() - 1).unwrap_or_default()).as_bytes())
        })?;
    } else {
        write!(output, "{head},\"base64\":\"")?;
        write_base64(message, output)?;
    }
    output.write_all(b"\"}\n")
}

fn write_base64(message: &mut impl io::Read, output: &mut impl io::Write) -> io::Result<()> {
    use base64ct::{Base64, Encoding as _};

    // A multiple of three bytes at a time, so that padding comes at the end alone.
    let mut chunk = Vec::with_capacity(BASE64_CHUNK);
    loop {
        chunk.clear();
        let limit = u64::try_from(BASE64_CHUNK).unwrap_or(u64::MAX);
        io::Read::read_to_end(&mut io::Read::take(&mut *message, limit), &mut chunk)?;
        if chunk.is_empty() {
            return Ok(());
        }
        output.write_all(Base64::encode_string(&chunk).as_bytes())?;
    }
}

/// Who a message is from.
#[derive(Debug, Serialize)]
struct Head<'a> {
    from: &'a str,
    key: Option<&'a str>,
}

/// How long nothing may come of a message, not even a sign of life. A client that sends none may have a person type it.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);
const CHUNK: usize = 16 * 1024;
const BASE64_CHUNK: usize = 3 * 16 * 1024;

#[cfg(test)]
mod tests {
    use std::fs::File;

    use std::sync::Arc;

    use crypto_core::psk::PreSharedKey;
    use getrandom::SysRng;
    use tokio::io::{DuplexStream, duplex};
    use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
    use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
    use wire_protocol::message::{ClientIdentity, ServerLimits, Target};
    use wire_protocol::stream::{RsaPool, accept_channel, connect_channel};

    use super::*;
    use crate::access::{Enrolment, Grant, Rights};

    fn principal() -> Principal {
        Principal {
            identity: ClientIdentity::Psk("alice".into()),
            name: "alice".into(),
            grant: Grant::unlimited(Rights::usual()),
            enrolment: Enrolment::Enrolled,
        }
    }

    fn message(text: &[u8]) -> SpooledTempFile {
        let mut message = SpooledTempFile::new(usize::MAX);
        message.write_all(text).unwrap();
        message
    }

    #[track_caller]
    fn check(format: MessageFormat, text: &[u8], expected: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut output = Output { sink: Box::new(file.reopen().unwrap()), line_is_open: false };
        output.print(&mut message(text), &principal(), format).unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), expected);
    }

    /// A client and a server, and a message between them of which nothing has come.
    async fn open() -> (SecureStream<DuplexStream>, SecureStream<DuplexStream>) {
        let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", [7; 32]).unwrap());
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
        let client = ClientConfig { server: expected, identity: None, open: Some(Target::Message) };
        let (client, server) = tokio::join!(
            connect_channel(here, client),
            accept_channel(there, Arc::new(config), &pool, |_| Ok(()))
        );
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        assert_eq!(server.next_open().await.unwrap(), Some(Target::Message));
        server.answer_open().await.unwrap();
        client.confirm_opened().await.unwrap();
        (client, server)
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

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        let text = MessageFormat::Text;
        check(text, b"", "[alice] \n");
        check(text, b"hello\n", "[alice] hello\n");
        check(text, b"\n\n", "[alice] \\n\n");
        check(text, b"a\nb\x1b[2J\xff", "[alice] a\\nb\\u{1b}[2J\\xff\n");
        check(text, b"a\\nb", "[alice] a\\\\nb\n");
        let json = MessageFormat::Json;
        check(json, b"a\"\n", "{\"from\":\"alice\",\"key\":null,\"text\":\"a\\\"\\n\"}\n");
        check(json, b"\xff\xfe", "{\"from\":\"alice\",\"key\":null,\"base64\":\"//4=\"}\n");
    }

    #[test]
    fn what_is_left_of_a_message_that_failed_does_not_come_out_with_the_next() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut output = Output { sink: Box::new(File::open(file.path()).unwrap()), line_is_open: false };
        output.print(&mut message(b"lost"), &principal(), MessageFormat::Text).unwrap_err();
        output.sink = Box::new(file.reopen().unwrap());
        output.print(&mut message(b"found"), &principal(), MessageFormat::Text).unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "\n[alice] found\n");
    }
}
