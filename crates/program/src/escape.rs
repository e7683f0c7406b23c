//! What comes from a peer, made fit for a terminal: one line, no control character, nothing that changes how the
//! rest of the screen reads.

use std::io::{self, Read, Write};

/// Copies `input` to `output`, with every control and format character, and every byte that is not UTF-8,
/// written as an escape such as `\n` or `\x1b`.
///
/// # Errors
/// Those of the two.
pub fn copy(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    copy_chunks(input, |chunk| output.write_all(escape(chunk).as_bytes()))
}

/// `bytes` as [`copy`] writes them.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut escaped = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_harmless(c) {
                escaped.push(c);
            } else {
                escaped.extend(c.escape_default());
            }
        }
        for byte in chunk.invalid() {
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    escaped
}

/// Hands `input` on in chunks that end at the end of a character wherever that is possible.
///
/// # Errors
/// Those of `input` and of `each`.
pub fn copy_chunks(input: &mut impl Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        let read = match input.read(&mut buffer[filled..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        filled += read;
        let end = if read == 0 { filled } else { filled - unfinished(&buffer[..filled]) };
        each(&buffer[..end])?;
        if read == 0 {
            return Ok(());
        }
        buffer.copy_within(end..filled, 0);
        filled -= end;
    }
}

/// Bytes at the end of `bytes` that may become a character with what follows.
fn unfinished(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        // `error_len` is `None` only where the input ends in the middle of a character.
        Err(error) if error.error_len().is_none() => bytes.len() - error.valid_up_to(),
        Err(_) => {
            // Something else is wrong further up: only the last three bytes can begin a character.
            (1..=3.min(bytes.len()))
                .find(|&len| {
                    std::str::from_utf8(&bytes[bytes.len() - len..])
                        .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
                })
                .unwrap_or(0)
        }
        Ok(_) => 0,
    }
}

/// Whether a character does nothing but show itself: neither a control character nor one that is invisible or reverses the direction of writing.
#[must_use]
pub fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_terminal_comes_through() {
        for (bytes, escaped) in [
            (&b"plain \xc3\xa4 text"[..], "plain ä text"),
            (b"two\nlines\r\t", "two\\nlines\\r\\t"),
            (b"\x1b[2J\x07", "\\u{1b}[2J\\u{7}"),
            (b"\xc2\x9b31m", "\\u{9b}31m"),
            ("a\u{202e}b\u{200b}".as_bytes(), "a\\u{202e}b\\u{200b}"),
            (b"\xff\xc3", "\\xff\\xc3"),
        ] {
            assert_eq!(escape(bytes), escaped);
        }
    }

    /// Gives one byte at a time.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let len = self.0.len().min(1);
            let (now, later) = self.0.split_at(len);
            buf[..len].copy_from_slice(now);
            self.0 = later;
            Ok(len)
        }
    }

    #[test]
    fn characters_are_not_torn_apart_between_chunks() {
        let text = "ä€😀\n\u{ff}".repeat(3);
        let bytes = [text.as_bytes(), b"\xf0\x9f\x98", b"x\xff\xe2\x82"].concat();
        let mut output = Vec::new();
        copy(&mut Trickle(&bytes), &mut output).unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), escape(&bytes));
    }
}
