//! Payloads of any size that are generated while they are read: numbered lines, each with a phrase to search for.

use std::io::{self, Read};

use anyhow::Result;
use sha2::{Digest as _, Sha256};

/// A phrase in every line of a payload, so that any leaked piece of 128 bytes contains it.
pub(crate) const PHRASE: &[u8] = b"nobody between the two can read this line";

/// A payload of a given number of bytes.
#[derive(Clone)]
pub(crate) struct Lines {
    length: u64,
    position: u64,
    line: Vec<u8>,
}

impl Lines {
    pub(crate) fn of_length(length: u64) -> Self {
        Self { length, position: 0, line: Vec::new() }
    }

    /// Returns the whole payload, for sizes that fit into memory.
    pub(crate) fn bytes(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Generates the lines from the current one on, one block at a time to save processor time.
    fn refill(&mut self) {
        let first = self.position / LINE_LENGTH;
        let phrase = String::from_utf8_lossy(PHRASE);
        self.line.clear();
        for number in first..first + 256 {
            self.line.extend_from_slice(format!("{number:021} {phrase}\n").as_bytes());
        }
    }
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let block = 256 * LINE_LENGTH;
        if self.position.is_multiple_of(block) {
            self.refill();
        }
        let left = usize::try_from(self.length - self.position).unwrap_or(usize::MAX);
        let offset = usize::try_from(self.position % block).map_err(io::Error::other)?;
        let piece = &self.line[offset..];
        let count = piece.len().min(left).min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        self.position += u64::try_from(count).map_err(io::Error::other)?;
        Ok(count)
    }
}

/// The number of bytes that `reader` gives, and their SHA-256 in hexadecimal.
pub(crate) fn digest_of(mut reader: impl Read) -> Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut length = 0;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok((length, hexadecimal(&hash.finalize())));
        }
        hash.update(&buffer[..count]);
        length += u64::try_from(count)?;
    }
}

/// The SHA-256 of `bytes` in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const LINE_LENGTH: u64 = 64;

/// Pseudorandom bytes, the same on every run.
pub(crate) fn noise(length: usize) -> Result<Vec<u8>> {
    use sha2::{Digest as _, Sha256};

    let blocks = u64::try_from(length.div_ceil(32))?;
    let mut noise: Vec<u8> = (0..blocks).flat_map(|block| Sha256::digest(block.to_be_bytes())).collect();
    noise.truncate(length);
    Ok(noise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_numbered_and_holds_the_phrase() {
        let bytes = Lines::of_length(64 * 600 + 10).bytes().unwrap();
        assert_eq!(bytes.len(), 64 * 600 + 10);
        for (number, line) in bytes.chunks_exact(64).enumerate() {
            assert!(line.starts_with(format!("{number:021} ").as_bytes()));
            assert!(line[22..].starts_with(PHRASE));
            assert_eq!(line[63], b'\n');
        }
    }

    #[test]
    fn reading_in_odd_pieces_gives_the_same_bytes() {
        let mut lines = Lines::of_length(40_000);
        let mut pieces = Vec::new();
        let mut buffer = [0; 97];
        while let Ok(count @ 1..) = lines.read(&mut buffer) {
            pieces.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(pieces, Lines::of_length(40_000).bytes().unwrap());
    }
}
