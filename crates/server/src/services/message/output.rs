//! Printing messages: each on a line of its own.

use std::io::{self, BufWriter, Seek as _, Write as _};

use cli_support::output::SCHEMA;
use serde::Serialize;
use tempfile::SpooledTempFile;
use tunnel::escape;

use crate::access::Principal;

/// How messages are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageFormat {
    /// `[name] text`, with control characters escaped.
    Text,
    /// One JSON object.
    Json,
}

/// Where messages are printed.
pub(super) struct Output {
    sink: Box<dyn io::Write + Send>,
    /// A message was printed in part, before an error: the next one begins with a line of its own.
    line_is_open: bool,
}

impl Output {
    pub(super) fn new(sink: impl io::Write + Send + 'static) -> Self {
        Self { sink: Box::new(sink), line_is_open: false }
    }

    pub(super) fn print(
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

    let head = serde_json::to_string(&Head {
        schema: SCHEMA,
        from: &principal.name,
        key: principal.key().as_deref(),
    })?;
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
    schema: u32,
    from: &'a str,
    key: Option<&'a str>,
}

const BASE64_CHUNK: usize = 3 * 16 * 1024;

#[cfg(test)]
mod tests {
    use std::fs::File;

    use wire_protocol::message::ClientIdentity;

    use super::*;
    use crate::access::{Enrolment, Grant, Rights};
    use crate::accounts::AccountHandle;

    fn principal() -> Principal {
        Principal {
            account: AccountHandle::default(),
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

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        let text = MessageFormat::Text;
        check(text, b"", "[alice] \n");
        check(text, b"hello\n", "[alice] hello\n");
        check(text, b"\n\n", "[alice] \\n\n");
        check(text, b"a\nb\x1b[2J\xff", "[alice] a\\nb\\u{1b}[2J\\xff\n");
        check(text, b"a\\nb", "[alice] a\\\\nb\n");
        let json = MessageFormat::Json;
        check(json, b"a\"\n", "{\"schema\":1,\"from\":\"alice\",\"key\":null,\"text\":\"a\\\"\\n\"}\n");
        check(json, b"\xff\xfe", "{\"schema\":1,\"from\":\"alice\",\"key\":null,\"base64\":\"//4=\"}\n");
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
