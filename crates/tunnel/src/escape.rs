//! Escapes the text of a peer for a terminal: one line, no control character, nothing that cannot be seen or
//! that changes how the rest of the screen reads.
//!
//! A backslash is written as `\\`, so that an escape can be told from text that looks like one.

use std::fmt::{self, Write as _};
use std::io::{self, Read, Write};

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Displays the text of a value as [`escape`] writes it.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<T>(pub T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// A writer that escapes the text that is written through it.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a wrapper")]
pub struct Escaping<W>(pub W);

impl<W: fmt::Write> fmt::Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.write_char(c))
    }

    fn write_char(&mut self, c: char) -> fmt::Result {
        if c != '\\' && is_harmless(c) {
            self.0.write_char(c)
        } else {
            write!(self.0, "{}", c.escape_default())
        }
    }
}

/// Copies `input` to `output`, with every control and format character, every backslash, and every byte that is not
/// UTF-8, written as an escape such as `\n`, `\\` or `\xff`.
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
        // Writing to a String cannot fail.
        Escaping(&mut escaped).write_str(chunk.valid()).ok();
        for byte in chunk.invalid() {
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    escaped
}

/// The same JSON with what would move a terminal, all of which can stand in strings alone, written as `\u` escapes.
#[must_use]
pub fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_harmless(c) {
            escaped.push(c);
        } else {
            let mut units = [0; 2];
            escaped.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
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

/// Whether a character does nothing but show itself. By the Unicode Character Database, these do something else:
/// control and format characters (bidirectional controls and tags are among them), those that end a line or a
/// paragraph, those of private use or of no use yet, of which nobody knows what they show, and what is to be ignored
/// in display (variation selectors, fillers of Hangul).
#[must_use]
pub fn is_harmless(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    !(GeneralCategoryGroup::Other.contains(category)
        || matches!(category, GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || BLANK.contains(&c))
}

/// Symbols and letters that are drawn as nothing at all: the database has no property for that. U+2800 is the Braille
/// pattern without a dot, U+16FE4 a filler, U+1D159 a note without a head.
const BLANK: [char; 3] = ['\u{2800}', '\u{16fe4}', '\u{1d159}'];

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
            // What looks like an escape is told from one.
            (b"a\\nb", "a\\\\nb"),
        ] {
            assert_eq!(escape(bytes), escaped);
            if let Ok(text) = std::str::from_utf8(bytes) {
                assert_eq!(Escaped(text).to_string(), escaped);
            }
        }
    }

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        let invisible = [
            '\0',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{34f}',
            '\u{600}',
            '\u{61c}',
            '\u{6dd}',
            '\u{70f}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{17b5}',
            '\u{180b}',
            '\u{180e}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2060}',
            '\u{2065}',
            '\u{2066}',
            '\u{206f}',
            '\u{2800}',
            '\u{3164}',
            '\u{e000}',
            '\u{fe00}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{ffff}',
            '\u{110bd}',
            '\u{13430}',
            '\u{16fe4}',
            '\u{1bca0}',
            '\u{1d159}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0020}',
            '\u{e007f}',
            '\u{e0100}',
            '\u{e01ef}',
            '\u{e0fff}',
            '\u{f0000}',
            '\u{10ffff}',
        ];
        for c in invisible {
            assert!(!is_harmless(c), "{:?}", u32::from(c));
            assert_eq!(escape(c.to_string().as_bytes()), c.escape_default().to_string());
        }
        // Scripts are read as they are written, their marks and spaces included.
        for text in
            ["Grüße, naïve Ωmega", "Привет", "שלום", "مرحبا", "नमस्ते", "你好\u{3000}世界", "안녕", "😀 ½ €"]
        {
            assert_eq!(escape(text.as_bytes()), text);
        }
    }

    #[test]
    fn json_moves_no_terminal_and_stays_the_same_value() {
        let text = "a\u{9b}31m\u{202e}b\u{7f}\u{e0001}\\n😀";
        let escaped = escape_json(&serde_json::to_string(text).unwrap());
        assert!(escaped.chars().all(is_harmless), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
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
