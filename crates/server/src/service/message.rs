//! Messages: each is printed on a line of its own once all of it is there, and only then confirmed.

use std::io::{self, Seek as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use program::escape;
use program::socket::Socket;
use serde::Serialize;
use tempfile::SpooledTempFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::block_in_place;
use tokio::time::timeout;
use wire_protocol::message::ResetCode;
use wire_protocol::stream::SecureStream;

use crate::access::Guest;

/// How messages are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageFormat {
    /// `[name] text`, with control characters escaped.
    Text,
    /// One JSON object.
    Json,
}

/// Takes messages and prints them.
#[derive(Debug)]
pub struct Messages {
    format: MessageFormat,
    max_len: u64,
    /// Held while a message is printed, so that no two share a line.
    printing: Mutex<()>,
}

impl Messages {
    /// Prints messages of `max_len` bytes at most on standard output.
    #[must_use]
    pub fn new(format: MessageFormat, max_len: u64) -> Self {
        Self { format, max_len, printing: Mutex::new(()) }
    }

    /// Takes the message whose Open has just come, and gives the channel back.
    pub(crate) async fn receive(
        &self,
        mut stream: SecureStream<Socket>,
        guest: &Guest,
    ) -> io::Result<SecureStream<Socket>> {
        stream.answer_open().await?;
        let mut message = SpooledTempFile::new(MAX_IN_MEMORY);
        let mut len: u64 = 0;
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = stream.read(&mut chunk).await?;
            if read == 0 {
                break;
            }
            len = len.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
            if len > self.max_len {
                give_up(stream, ResetCode::TooLong).await?;
                return Err(io::Error::other("the message is longer than --max-message allows"));
            }
            if let Err(error) = block_in_place(|| message.write_all(&chunk[..read])) {
                give_up(stream, ResetCode::Output).await?;
                return Err(error);
            }
        }
        // Whoever is told that a message has arrived can rely on it: nothing is confirmed before it is out.
        if let Err(error) = block_in_place(|| self.print(message, guest)) {
            give_up(stream, ResetCode::Output).await?;
            return Err(error);
        }
        stream.shutdown().await?;
        Ok(stream)
    }

    fn print(&self, mut message: SpooledTempFile, guest: &Guest) -> io::Result<()> {
        let _printing = self.printing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stdout = io::stdout().lock();
        message.rewind()?;
        match self.format {
            MessageFormat::Text => print_text(&mut message, guest, &mut stdout)?,
            MessageFormat::Json => print_json(&mut message, guest, &mut stdout)?,
        }
        stdout.flush()
    }
}

/// Tells the client why, and reads what it still sends until it has heard it: a socket that is closed before that
/// takes the reason with it.
async fn give_up(stream: SecureStream<Socket>, code: ResetCode) -> io::Result<()> {
    let mut socket = stream.reset(code).await?;
    let mut nowhere = tokio::io::sink();
    // How it ends does not matter any more.
    timeout(LINGER, tokio::io::copy(&mut socket, &mut nowhere)).await.ok();
    Ok(())
}

/// The last newline of a message goes: it is what `echo` adds, and the line has one of its own.
fn print_text(message: &mut SpooledTempFile, guest: &Guest, output: &mut impl io::Write) -> io::Result<()> {
    write!(output, "[{}] ", guest.name)?;
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
fn print_json(message: &mut SpooledTempFile, guest: &Guest, output: &mut impl io::Write) -> io::Result<()> {
    let mut is_text = true;
    escape::copy_chunks(message, |chunk| {
        is_text &= std::str::from_utf8(chunk).is_ok();
        Ok(())
    })?;
    message.rewind()?;

    let head = serde_json::to_string(&Head { from: &guest.name, key: guest.key.as_deref() })?;
    let head = head.strip_suffix('}').unwrap_or(&head);
    if is_text {
        write!(output, "{head},\"text\":\"")?;
        escape::copy_chunks(message, |chunk| {
            let text = serde_json::to_string(&String::from_utf8_lossy(chunk))?;
            // What stands between the quotes of each chunk, between one pair of quotes.
            output.write_all(text.get(1..text.len() - 1).unwrap_or_default().as_bytes())
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

/// Above this, a message waits for its end in an unnamed temporary file.
const MAX_IN_MEMORY: usize = 256 * 1024;
/// What a client gets to hear why its message is not taken.
const LINGER: Duration = Duration::from_secs(2);
const CHUNK: usize = 16 * 1024;
const BASE64_CHUNK: usize = 3 * 16 * 1024;
