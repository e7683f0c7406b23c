//! The aes-eax exchange: nonce, tag and ciphertext, up to the end of the connection.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use crypto_core::KeyProblem;
use crypto_core::classic::{EaxKey, EaxLengths, MAX_NONCE_LEN, MAX_TAG_LEN, MIN_TAG_LEN, NONCE_LEN, TAG_LEN};
use getrandom::SysRng;
use zeroize::Zeroizing;

use super::exchange::{Exchange, check_len, print, warn};
use crate::error::Error;
use crate::private_file;

/// Options that both sides of an aes-eax exchange have to agree on.
#[derive(Debug, Args)]
pub struct Agreement {
    /// The shared key: 16, 24 or 32 bytes, raw or in hex
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// What the key file holds: the key's bytes, as Python reads it, or their hexadecimal digits; found out if not given
    #[arg(long, value_name = "FORMAT")]
    key_format: Option<KeyFormat>,
    /// Length of the nonce in bytes, 1 to 255
    #[arg(long, value_name = "BYTES", default_value_t = NONCE_LEN, value_parser = nonce_len)]
    nonce_length: usize,
    /// Length of the tag in bytes, 2 to 16
    #[arg(long, value_name = "BYTES", default_value_t = TAG_LEN, value_parser = tag_len)]
    tag_length: usize,
}

/// The format of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyFormat {
    /// The bytes of the key and nothing else.
    Raw,
    /// Two hexadecimal digits for each byte, and a line end or not.
    Hex,
}

pub(super) fn run(exchange: &Exchange, agreement: &Agreement) -> Result<(), Error> {
    let key = read_key(&agreement.key_file, agreement.key_format)?;
    let lengths = EaxLengths::new(agreement.nonce_length, agreement.tag_length).unwrap_or_default();
    let message = exchange.message()?;
    if message.is_some() && agreement.nonce_length < SHORT_NONCE {
        warn("so short a nonce repeats soon, and two messages with the same one give each other away");
    }
    if message.is_none() && agreement.tag_length < SHORT_TAG {
        warn("so short a tag is forged by trying");
    }
    let mut connection = exchange.connection()?;
    match message {
        Some(message) => connection.send(&key.seal(&mut SysRng, lengths, &message)?),
        None => {
            let sealed = connection.receive_all(u64::try_from(lengths.overhead()).unwrap_or(u64::MAX))?;
            check_len(sealed.len().saturating_sub(lengths.overhead()))?;
            print(&key.open(lengths, &sealed).map_err(|_| Error::ClassicRefused)?)
        }
    }
}

fn read_key(path: &Path, format: Option<KeyFormat>) -> Result<EaxKey, Error> {
    let content = private_file::read(path)?;
    let (key, is_ambiguous) = parse(&content, format);
    if is_ambiguous {
        warn(&format!(
            "the 32 bytes of {} are taken for the hexadecimal of 16; a Python program that reads the file takes them as \
             they are, as --key-format raw does, and --key-format hex confirms this",
            path.display()
        ));
    }
    key.map_err(|problem| Error::Key { path: path.into(), source: problem })
}

/// Parses the key, and returns whether the content could be another key too: 32 hexadecimal digits are also 32
/// bytes.
fn parse(content: &[u8], format: Option<KeyFormat>) -> (Result<EaxKey, crypto_core::Error>, bool) {
    let raw_fits = matches!(content.len(), 16 | 24 | 32);
    let decoded = std::str::from_utf8(content).ok().and_then(|text| decode_hex(text.trim()));
    let line_end = content.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    match (format, decoded, line_end) {
        (None | Some(KeyFormat::Hex), Some(decoded), _) => {
            (EaxKey::from_slice(&decoded), format.is_none() && raw_fits)
        }
        (Some(KeyFormat::Hex), None, _) => (Err(KeyProblem::AesKeyNoHex.into()), false),
        (_, _, Some(line)) if !raw_fits && matches!(line.len(), 16 | 24 | 32) => {
            (Err(KeyProblem::AesKeyLineEnd { len: line.len() }.into()), false)
        }
        _ => (EaxKey::from_slice(content), false),
    }
}

/// Decodes the hexadecimal digits of a whole key; `None` where the text is anything else.
fn decode_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if !matches!(text.len(), 32 | 48 | 64) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    // The buffer has its full capacity from the beginning, since a buffer that grows leaves copies of the key in
    // memory.
    let mut key = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    for at in (0..text.len()).step_by(2) {
        key.push(u8::from_str_radix(&text[at..at + 2], 16).ok()?);
    }
    Some(key)
}

fn nonce_len(text: &str) -> Result<usize, String> {
    number(text, 1, MAX_NONCE_LEN)
}

fn tag_len(text: &str) -> Result<usize, String> {
    number(text, MIN_TAG_LEN, MAX_TAG_LEN)
}

fn number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{least} to {most}")),
    }
}

/// Shortest nonce in bytes without a warning. 96 bits repeat by chance after some 2^32 messages, which counts as
/// the least that is enough.
const SHORT_NONCE: usize = 12;
/// Shortest tag in bytes without a warning. 64 bits count as the least that is enough against unlimited attempts.
const SHORT_TAG: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// The key's length, or the error's text, and whether there is a warning.
    fn read(content: &[u8], format: Option<KeyFormat>) -> (Result<usize, String>, bool) {
        let (key, is_ambiguous) = parse(content, format);
        let len = key.map_err(|error| error.to_string()).map(|key| match key {
            EaxKey::Aes128(_) => 16,
            EaxKey::Aes192(_) => 24,
            EaxKey::Aes256(_) => 32,
        });
        (len, is_ambiguous)
    }

    #[test]
    fn digits_that_are_also_bytes_are_warned_of_unless_it_is_said_which() {
        let digits = b"000102030405060708090a0b0c0d0e0f";
        assert_eq!(read(digits, None), (Ok(16), true));
        assert_eq!(read(digits, Some(KeyFormat::Hex)), (Ok(16), false));
        assert_eq!(read(digits, Some(KeyFormat::Raw)), (Ok(32), false));
        // Digits with a line end after them can only be hexadecimal, and 48 or 64 bytes are no key.
        assert_eq!(read(&[digits, &b"\n"[..]].concat(), None), (Ok(16), false));
        assert_eq!(read(&[b'0'; 48], None), (Ok(24), false));
        assert_eq!(read(&[b'0'; 64], None), (Ok(32), false));
        assert_eq!(read(b"no hexadecimal, but of 32 bytes!", None), (Ok(32), false));
    }

    #[test]
    fn bytes_with_a_line_end_are_called_that() {
        for (content, len) in [(&[7; 16], 16), (&[b'x'; 16], 16)] {
            for line_end in [&b"\n"[..], b"\r\n"] {
                for format in [None, Some(KeyFormat::Raw)] {
                    let (key, _) = read(&[content, line_end].concat(), format);
                    let said = key.unwrap_err();
                    assert!(said.contains("16 bytes") && said.contains("line end"), "{len}: {said}");
                }
            }
        }
        // The 15 bytes and their line end may be a key of 16 bytes.
        assert_eq!(read(b"fifteen bytes..\n", None), (Ok(16), false));
    }

    #[test]
    fn what_is_neither_bytes_nor_digits_is_refused() {
        for content in [&b""[..], &[1; 15], &[1; 33], b"00010203"] {
            assert!(read(content, None).0.unwrap_err().contains(&content.len().to_string()));
        }
        assert!(read(&[1; 16], Some(KeyFormat::Hex)).0.unwrap_err().contains("hexadecimal"));
        assert!(read(&[b'0'; 64], Some(KeyFormat::Raw)).0.unwrap_err().contains("64"));
    }
}
