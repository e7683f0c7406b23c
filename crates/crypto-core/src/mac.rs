//! HMAC-SHA-256 (RFC 2104) with a key that is prepared once.

use core::array::from_fn;
use core::{fmt, slice};

use hmac::{Hmac, KeyInit as _, Mac as _};
use record_kernels::sha256::{BLOCK_LEN, INITIAL, LANES, Lane, State, compress};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Error;
use crate::hash::sha256;

/// Length of a tag in bytes.
pub const TAG_LEN: usize = 32;

/// An HMAC-SHA-256 key with its two padded blocks already hashed.
#[derive(Clone)]
pub struct MacKey {
    /// For messages one by one.
    hmac: Hmac<Sha256>,
    /// For messages side by side.
    pads: Pads,
}

impl MacKey {
    /// Prepares a key of any length.
    ///
    /// # Panics
    /// Never: HMAC takes keys of every length.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        let hmac = Hmac::new_from_slice(key).expect("HMAC takes keys of every length");
        Self { hmac, pads: Pads::new(key) }
    }

    /// The tag of the concatenation of `parts`. It is as secret as the caller's use of it.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_LEN] {
        let mut hmac = self.hmac.clone();
        for part in parts {
            hmac.update(part);
        }
        hmac.finalize().into_bytes().into()
    }

    /// The tags of `messages`, in order, computed side by side a few at a time when they are asked for.
    pub(crate) fn tags<'a>(
        &self,
        mut messages: impl Iterator<Item = Message<'a>>,
    ) -> impl Iterator<Item = [u8; TAG_LEN]> {
        const { assert!(LANES == 4, "as many messages are taken below") };
        let mut ready = [None; LANES].into_iter().flatten();
        core::iter::from_fn(move || {
            if let Some(tag) = ready.next() {
                return Some(tag);
            }
            let next = [messages.next(), messages.next(), messages.next(), messages.next()];
            ready = match next {
                [Some(a), Some(b), Some(c), Some(d)] => self.pads.side_by_side([a, b, c, d]),
                [Some(a), Some(b), Some(c), _] => self.pads.side_by_side([a, b, c]),
                [Some(a), Some(b), ..] => self.pads.side_by_side([a, b]),
                [Some(a), ..] => self.pads.side_by_side([a]),
                [None, ..] => return None,
            }
            .into_iter()
            .flatten();
            ready.next()
        })
    }

    /// Compares `tag` with the tag of `parts` in constant time.
    ///
    /// # Errors
    /// [`Error::Authentication`] when they differ.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> Result<(), Error> {
        if is_equal(&self.tag(parts), tag) { Ok(()) } else { Err(Error::Authentication) }
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey([redacted])")
    }
}

/// Compares tags in constant time.
pub(crate) fn is_equal(expected: &[u8; TAG_LEN], tag: &[u8]) -> bool {
    expected.ct_eq(tag).into()
}

/// A message that starts with a number: `number` u64 BE, then `bytes`.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) number: u64,
    pub(crate) bytes: &'a [u8],
}

/// What SHA-256 comes to after each of the two padded blocks of a key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Pads {
    inner: State,
    outer: State,
}

impl Pads {
    fn new(key: &[u8]) -> Self {
        let mut block = Zeroizing::new([0; BLOCK_LEN]);
        if key.len() > BLOCK_LEN {
            block[..TAG_LEN].copy_from_slice(&sha256(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let mut pads = Self { inner: INITIAL, outer: INITIAL };
        let [inner, outer] = [0x36, 0x5c].map(|pad| Zeroizing::new(block.map(|byte| byte ^ pad)));
        compress(&mut [
            Lane { state: &mut pads.inner, blocks: slice::from_ref(&*inner) },
            Lane { state: &mut pads.outer, blocks: slice::from_ref(&*outer) },
        ]);
        pads
    }

    fn side_by_side<const N: usize>(&self, messages: [Message<'_>; N]) -> [Option<[u8; TAG_LEN]>; LANES] {
        let messages = messages.map(Blocks::new);
        let mut states = [(); N].map(|()| self.inner);
        compress_each(&mut states, messages.each_ref().map(|blocks| blocks.head.as_slice()));
        compress_each(&mut states, messages.each_ref().map(|blocks| blocks.middle));
        compress_each(
            &mut states,
            messages.each_ref().map(|blocks| blocks.tail[..blocks.tail_len].as_chunks().0),
        );

        let digests = states.map(|state| {
            let mut block = [0; BLOCK_LEN];
            block[..TAG_LEN].copy_from_slice(&to_bytes(state));
            pad(&mut block, TAG_LEN, BLOCK_LEN + TAG_LEN);
            block
        });
        states = [(); N].map(|()| self.outer);
        compress_each(&mut states, digests.each_ref().map(slice::from_ref));
        from_fn(|n| states.get(n).copied().map(to_bytes))
    }
}

/// A message after a key's inner block, cut into blocks. Only its beginning and its end are copied.
struct Blocks<'a> {
    /// The number and what fills a block with it, of messages that long.
    head: Option<[u8; BLOCK_LEN]>,
    middle: &'a [[u8; BLOCK_LEN]],
    /// What is left, and the padding.
    tail: [u8; 2 * BLOCK_LEN],
    /// One block or two, in bytes.
    tail_len: usize,
}

impl<'a> Blocks<'a> {
    fn new(message: Message<'a>) -> Self {
        let number = message.number.to_be_bytes();
        let mut tail = [0; 2 * BLOCK_LEN];
        let (head, middle, left) = match message.bytes.split_at_checked(BLOCK_LEN - NUMBER_LEN) {
            Some((first, rest)) => {
                let mut head = [0; BLOCK_LEN];
                head[..NUMBER_LEN].copy_from_slice(&number);
                head[NUMBER_LEN..].copy_from_slice(first);
                let (middle, last) = rest.as_chunks();
                tail[..last.len()].copy_from_slice(last);
                (Some(head), middle, last.len())
            }
            None => {
                let left = NUMBER_LEN + message.bytes.len();
                tail[..NUMBER_LEN].copy_from_slice(&number);
                tail[NUMBER_LEN..left].copy_from_slice(message.bytes);
                (None, [].as_slice(), left)
            }
        };
        let tail_len = (left + PADDING_LEN).next_multiple_of(BLOCK_LEN);
        pad(&mut tail[..tail_len], left, BLOCK_LEN + NUMBER_LEN + message.bytes.len());
        Self { head, middle, tail, tail_len }
    }
}

/// Pads the last blocks of what is `hashed_len` bytes long, of which `len` are in these blocks (FIPS 180-4,
/// section 5.1.1). Everything after those has to be zero.
fn pad(blocks: &mut [u8], len: usize, hashed_len: usize) {
    let bits = u64::try_from(hashed_len).expect("a length in memory fits 64 bits") * 8;
    blocks[len] = 0x80;
    let end = blocks.len();
    blocks[end - size_of::<u64>()..].copy_from_slice(&bits.to_be_bytes());
}

fn compress_each<const N: usize>(states: &mut [State; N], blocks: [&[[u8; BLOCK_LEN]]; N]) {
    let mut blocks = blocks.into_iter();
    let mut lanes = states.each_mut().map(|state| Lane { state, blocks: blocks.next().unwrap_or_default() });
    compress(&mut lanes);
}

fn to_bytes(state: State) -> [u8; TAG_LEN] {
    let words = state.map(u32::to_be_bytes);
    from_fn(|i| words.as_flattened()[i])
}

const NUMBER_LEN: usize = size_of::<u64>();
/// What padding needs at least: its first bit, in a byte, and the length.
const PADDING_LEN: usize = 1 + size_of::<u64>();

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    /// Every length of a message against the hmac crate, beside other lengths and in every place of a batch.
    #[test]
    fn tags_side_by_side_equal_tags_one_by_one() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1024).collect();
        for key_len in [0, 1, 32, 63, 64, 65, 200] {
            let key = MacKey::new(&bytes[..key_len]);
            for len in 0..=bytes.len() {
                let count = 1 + len % (2 * LANES);
                let messages: Vec<Message<'_>> = (0..count)
                    .zip(u64::MAX - 8..)
                    .map(|(i, number)| Message { number, bytes: &bytes[i * 7 % (len + 1)..len] })
                    .collect();
                let one_by_one: Vec<_> = messages
                    .iter()
                    .map(|message| key.tag(&[&message.number.to_be_bytes(), message.bytes]))
                    .collect();
                let side_by_side: Vec<_> = key.tags(messages.into_iter()).collect();
                assert_eq!(side_by_side, one_by_one, "key of {key_len}, {count} messages of up to {len}");
            }
        }
    }

    #[test]
    fn no_message_has_no_tag() {
        assert_eq!(MacKey::new(b"key").tags(core::iter::empty()).next(), None);
    }

    #[test]
    fn shortened_and_flipped_tags_are_refused() {
        let key = MacKey::new(b"key");
        let mut tag = key.tag(&[b"a", b"bc"]);
        assert_eq!(tag, key.tag(&[b"abc"]));
        assert_eq!(key.verify(&[b"abc"], &tag[..31]), Err(Error::Authentication));
        tag[31] ^= 1;
        assert_eq!(key.verify(&[b"abc"], &tag), Err(Error::Authentication));
    }
}
