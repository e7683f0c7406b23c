//! Names of files and hashes as they are shown.

use std::fmt::Write as _;

use tunnel::escape::escape;

/// A path with what would move a terminal escaped.
pub(crate) fn shown_path(path: &[u8]) -> String {
    escape(path)
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}
