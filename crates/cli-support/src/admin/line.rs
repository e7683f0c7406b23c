//! Reads one line of a command or an answer, of limited length.

use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

/// Reads a line, without its end, of less than `limit` bytes.
pub(super) async fn read_line(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let limit = u64::try_from(limit).map_err(io::Error::other)?;
    BufReader::new(stream.take(limit)).read_until(b'\n', &mut line).await?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        Ok(line)
    } else if u64::try_from(line.len()).is_ok_and(|len| len == limit) {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"))
    } else {
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the line was cut off"))
    }
}

/// Longest answer in bytes, less than any socket buffer, so that writing one never blocks.
pub(super) const MAX_ANSWER_LEN: usize = 64 * 1024;
