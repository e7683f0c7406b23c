//! HMAC-SHA-256 (RFC 2104) with a key whose padded blocks are hashed once.

use core::array::from_fn;
use core::ops::ControlFlow;
use core::{fmt, slice};

use hmac::{Hmac, KeyInit as _, Mac as _};
use record_kernels::sha256::{BLOCK_LEN, INITIAL, Lane, MAX_LANES, State, compress, lanes};
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
    /// Computes tags one at a time.
    hmac: Hmac<Sha256>,
    /// Computes tags side by side.
    pads: Pads,
}

impl MacKey {
    /// Prepares a key of any length.
    ///
    /// # Panics
    /// Never: HMAC accepts keys of every length.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        let hmac = Hmac::new_from_slice(key).expect("HMAC takes keys of every length");
        Self { hmac, pads: Pads::new(key) }
    }

    /// Computes the tag of the concatenation of `parts`. The caller decides whether the tag is secret.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_LEN] {
        let mut hmac = self.hmac.clone();
        for part in parts {
            hmac.update(part);
        }
        hmac.finalize().into_bytes().into()
    }

    /// Passes the tag of each of the `messages` to `take`, in order, together with the value that came with the
    /// message, until `take` breaks. The messages are numbered from `first`. As many tags are computed side by side
    /// as the processor profits from.
    pub(crate) fn tags<'a, T>(
        &self,
        first: u64,
        mut messages: impl ExactSizeIterator<Item = (&'a [u8], T)>,
        mut take: impl FnMut(T, [u8; TAG_LEN]) -> ControlFlow<()>,
    ) {
        const { assert!(MAX_LANES == 16, "as many messages are taken below") };
        let mut numbers = first..;
        loop {
            let side_by_side = messages.len().min(lanes());
            let next = messages.by_ref().zip(numbers.by_ref());
            let goes_on = match side_by_side {
                0 => return,
                1 => self.pads.side_by_side::<1, _>(next, &mut take),
                2 => self.pads.side_by_side::<2, _>(next, &mut take),
                3..=4 => self.pads.side_by_side::<4, _>(next, &mut take),
                5..=8 => self.pads.side_by_side::<8, _>(next, &mut take),
                _ => self.pads.side_by_side::<16, _>(next, &mut take),
            };
            if goes_on.is_break() {
                return;
            }
        }
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

/// The states of SHA-256 after each of the two padded blocks of a key.
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

    /// Computes the tags of the next `N` messages, or of as many as there are.
    fn side_by_side<'a, const N: usize, T>(
        &self,
        mut messages: impl Iterator<Item = ((&'a [u8], T), u64)>,
        take: &mut impl FnMut(T, [u8; TAG_LEN]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let messages: [_; N] = from_fn(|_| messages.next());
        let blocks = messages.each_ref().map(|message| match message {
            Some(((bytes, _), number)) => Blocks::new(*number, bytes),
            // An unused lane.
            None => Blocks::new(0, &[]),
        });
        let mut states = [self.inner; N];
        compress_each(&mut states, blocks.each_ref().map(|blocks| blocks.head.as_slice()));
        compress_each(&mut states, blocks.each_ref().map(|blocks| blocks.middle));
        compress_each(
            &mut states,
            blocks.each_ref().map(|blocks| blocks.tail[..blocks.tail_len].as_chunks().0),
        );

        let digests = states.map(|state| {
            let mut block = [0; BLOCK_LEN];
            block[..TAG_LEN].copy_from_slice(&to_bytes(state));
            pad(&mut block, TAG_LEN, BLOCK_LEN + TAG_LEN);
            block
        });
        states = [self.outer; N];
        compress_each(&mut states, digests.each_ref().map(slice::from_ref));
        let mut messages = messages.into_iter().flatten().zip(states);
        messages.try_for_each(|(((_, with), _), state)| take(with, to_bytes(state)))
    }
}

/// A message behind a key's inner block, cut into blocks. Only the first and the last bytes of the message are
/// copied.
struct Blocks<'a> {
    /// The message's number and the first bytes, where the message fills a block with them.
    head: Option<[u8; BLOCK_LEN]>,
    middle: &'a [[u8; BLOCK_LEN]],
    /// The last bytes and the padding.
    tail: [u8; 2 * BLOCK_LEN],
    /// The used length of `tail` in bytes: one block or two.
    tail_len: usize,
}

impl<'a> Blocks<'a> {
    /// Cuts the message `number` u64 BE, then `bytes`.
    fn new(number: u64, bytes: &'a [u8]) -> Self {
        let number = number.to_be_bytes();
        let mut tail = [0; 2 * BLOCK_LEN];
        let (head, middle, left) = match bytes.split_at_checked(BLOCK_LEN - NUMBER_LEN) {
            Some((first, rest)) => {
                let mut head = [0; BLOCK_LEN];
                head[..NUMBER_LEN].copy_from_slice(&number);
                head[NUMBER_LEN..].copy_from_slice(first);
                let (middle, last) = rest.as_chunks();
                tail[..last.len()].copy_from_slice(last);
                (Some(head), middle, last.len())
            }
            None => {
                let left = NUMBER_LEN + bytes.len();
                tail[..NUMBER_LEN].copy_from_slice(&number);
                tail[NUMBER_LEN..left].copy_from_slice(bytes);
                (None, [].as_slice(), left)
            }
        };
        let tail_len = (left + PADDING_LEN).next_multiple_of(BLOCK_LEN);
        pad(&mut tail[..tail_len], left, BLOCK_LEN + NUMBER_LEN + bytes.len());
        Self { head, middle, tail, tail_len }
    }
}

/// Pads the last blocks of a message of `hashed_len` bytes, of which `len` are in these blocks (FIPS 180-4, section
/// 5.1.1). The rest of the blocks must be zero.
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
/// The shortest padding in bytes: the byte with its first bit, and the length.
const PADDING_LEN: usize = 1 + size_of::<u64>();

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    /// Compares every length of a message with the hmac crate, beside other lengths and at every position of a
    /// batch.
    #[test]
    fn tags_side_by_side_equal_tags_one_by_one() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1024).collect();
        for key_len in [0, 1, 32, 63, 64, 65, 200] {
            let key = MacKey::new(&bytes[..key_len]);
            for len in 0..=bytes.len() {
                let first = u64::MAX - 20;
                let messages: Vec<&[u8]> =
                    (0..len % (MAX_LANES + 4)).map(|i| &bytes[i * 7 % (len + 1)..len]).collect();
                let one_by_one: Vec<_> = messages
                    .iter()
                    .zip(first..)
                    .map(|(message, number)| key.tag(&[&number.to_be_bytes(), message]))
                    .enumerate()
                    .collect();
                let mut side_by_side = Vec::new();
                let indexed = messages.iter().enumerate().map(|(index, message)| (*message, index));
                key.tags(first, indexed, |index, tag| {
                    side_by_side.push((index, tag));
                    ControlFlow::Continue(())
                });
                assert_eq!(side_by_side, one_by_one, "key of {key_len}, messages of up to {len}");
            }
        }
    }

    /// Breaks off at every position of a group, also with groups behind it.
    #[test]
    fn nothing_is_taken_behind_a_break() {
        let key = MacKey::new(b"key");
        for last in 0..3 * MAX_LANES {
            let mut taken = Vec::new();
            let messages = std::vec![(b"message".as_slice(), ()); 3 * MAX_LANES];
            key.tags(0, messages.into_iter(), |(), tag| {
                taken.push(tag);
                if taken.len() > last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert_eq!(taken.len(), last + 1);
        }
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
