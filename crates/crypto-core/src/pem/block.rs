//! PEM blocks, parsed in every layout that OpenSSL reads: lines of any length and ending, a byte order mark, text
//! before, between and after the blocks, headers of RFC 1421.

use alloc::format;
use alloc::vec::Vec;

use base64ct::{Base64, Encoding as _};
use zeroize::Zeroizing;

use crate::pem::form::Form;

/// One block, from its `BEGIN` to its `END`.
pub(super) struct Block<'a> {
    /// The label of the `BEGIN` line.
    pub(super) label: &'a str,
    /// The lines with a colon at the beginning of the block, and the blank line after them.
    headers: &'a str,
    body: &'a str,
}

impl<'a> Block<'a> {
    /// The value of a header such as `DEK-Info`.
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        let of_that_name = |line: &'a str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim());
        self.headers.lines().find_map(of_that_name)
    }

    /// Decodes the base64 of the block.
    pub(super) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, Form> {
        match decode(self.body) {
            Some(bytes) if !bytes.is_empty() => Ok(bytes),
            _ if self.body.contains("\\n") => Err(Form::EscapedLines),
            _ => Err(Form::Damaged),
        }
    }
}

/// The blocks of `text`. A block without an end is an error and the last item.
pub(super) fn blocks(text: &str) -> impl Iterator<Item = Result<Block<'_>, Form>> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let (label, behind) = next_begin(rest.take()?)?;
        let end = format!("-----END {label}-----");
        let Some((inside, behind)) = behind.split_once(&end) else { return Some(Err(Form::CutOff)) };
        rest = Some(behind);
        let (headers, body) = inside.split_at(headers_len(inside));
        Some(Ok(Block { label, headers, body }))
    })
}

/// Decodes base64 with white space anywhere.
pub(super) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    // The buffer has its full capacity from the beginning, since a buffer that grows leaves copies of the key in
    // memory.
    let mut packed = Zeroizing::new(Vec::with_capacity(text.len()));
    packed.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(alloc::vec![0; packed.len() / 4 * 3]);
    let len = Base64::decode(packed.as_slice(), &mut bytes).ok()?.len();
    bytes.truncate(len);
    Some(bytes)
}

/// The label of the next block, and the text after its first line.
fn next_begin(mut text: &str) -> Option<(&str, &str)> {
    loop {
        (_, text) = text.split_once("-----BEGIN ")?;
        if let Some((label, behind)) = text.split_once("-----")
            && !label.is_empty()
            && label.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        {
            return Some((label, behind));
        }
    }
}

/// Length of the headers in bytes, blank line included; 0 where there are none.
fn headers_len(inside: &str) -> usize {
    let mut len = 0;
    let mut any = false;
    for line in inside.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        if !is_blank && !line.contains(':') {
            // A line that begins with white space continues a header. Base64 has no colon.
            if any && line.starts_with([' ', '\t']) {
                len += line.len();
                continue;
            }
            break;
        }
        if is_blank && any {
            return len + line.len();
        }
        any |= !is_blank;
        len += line.len();
    }
    if any { len } else { 0 }
}
