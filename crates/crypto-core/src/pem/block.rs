//! The frame of a key file in PEM, read in every layout that OpenSSL reads: lines of any length and ending, a byte order
//! mark, text before, between and behind the blocks, headers of RFC 1421.

use alloc::format;
use alloc::vec::Vec;

use base64ct::{Base64, Encoding as _};
use zeroize::Zeroizing;

use crate::pem::form::Form;

/// One block, from its `BEGIN` to its `END`.
pub(super) struct Block<'a> {
    /// What stands behind `BEGIN`.
    pub(super) label: &'a str,
    /// The lines with a colon at its beginning, and the blank one behind them.
    headers: &'a str,
    body: &'a str,
}

impl<'a> Block<'a> {
    /// The value of a header such as `DEK-Info`.
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        let of_that_name = |line: &'a str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim());
        self.headers.lines().find_map(of_that_name)
    }

    /// The bytes inside.
    pub(super) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, Form> {
        match decode(self.body) {
            Some(bytes) if !bytes.is_empty() => Ok(bytes),
            _ if self.body.contains("\\n") => Err(Form::EscapedLines),
            _ => Err(Form::Damaged),
        }
    }
}

/// The blocks of `text`. After one that has no end there is none.
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

/// The bytes of base64 with white space anywhere.
pub(super) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut packed = Zeroizing::new(Vec::with_capacity(text.len()));
    packed.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(alloc::vec![0; packed.len() / 4 * 3]);
    let len = Base64::decode(packed.as_slice(), &mut bytes).ok()?.len();
    bytes.truncate(len);
    Some(bytes)
}

/// The label of the next block, and what stands behind its first line.
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

/// Length of the headers, blank line included; 0 where there are none.
fn headers_len(inside: &str) -> usize {
    let mut len = 0;
    let mut any = false;
    for line in inside.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        if !is_blank && !line.contains(':') {
            // A header may go on in a line that begins with white space. Base64 has no colon.
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
