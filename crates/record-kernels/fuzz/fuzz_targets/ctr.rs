//! Every implementation of AES-256-CTR against the ctr crate, over a buffer encrypted in place, piece by piece.

#![no_main]

use aes::Aes256;
use ctr::Ctr64BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use record_kernels::ctr::{Aes256Ctr, Backend, Counter, KEY_LEN};

fuzz_target!(init: name_what_is_missing(), |input: Input| {
    let plaintext = input.plaintext();
    let expected = input.expected(&plaintext);
    for backend in Backend::ALL {
        let Some(cipher) = Aes256Ctr::with_backend(backend, &input.key) else { continue };
        let mut buffer = plaintext.clone();
        let mut rest = &mut buffer[input.before()..];
        let mut counter = input.counter();
        for len in input.pieces() {
            let (piece, behind) = rest.split_at_mut(len);
            cipher.apply(counter, piece);
            counter.block = counter.block.wrapping_add(blocks(len));
            rest = behind;
        }
        assert!(buffer == expected, "{backend:?}, {:?}", input.counter());
    }
});

/// A key stream and the pieces that it encrypts. Pieces follow one another in memory, and each starts with a whole
/// block.
#[derive(Debug, Arbitrary)]
struct Input {
    key: [u8; KEY_LEN],
    sequence: u64,
    block: Block,
    /// Number of bytes before the pieces, which give them any alignment. They must stay unchanged.
    before: u8,
    /// Number of bytes after the pieces, which must stay unchanged.
    after: u8,
    pieces: Vec<u16>,
}

/// The block index that the key stream starts at.
#[derive(Debug, Arbitrary)]
enum Block {
    Any(u64),
    /// An index shortly before a carry into this bit, or with 64 and more before the carry that is dropped.
    BeforeCarry {
        bit: u8,
        blocks: u8,
    },
}

impl Input {
    fn counter(&self) -> Counter {
        let block = match self.block {
            Block::Any(block) => block,
            Block::BeforeCarry { bit, blocks } => {
                1u64.checked_shl(u32::from(bit % 65)).unwrap_or(0).wrapping_sub(u64::from(blocks))
            }
        };
        Counter { sequence: self.sequence, block }
    }

    fn before(&self) -> usize {
        usize::from(self.before)
    }

    /// Lengths of the pieces in bytes.
    fn pieces(&self) -> impl Iterator<Item = usize> {
        self.pieces.iter().take(MOST_PIECES).map(|&len| usize::from(len) % (LONGEST_PIECE + 1))
    }

    /// The buffer, allocated to the byte, so that the sanitizer sees an access beyond either end.
    fn plaintext(&self) -> Box<[u8]> {
        let len = self.before() + self.pieces().sum::<usize>() + usize::from(self.after);
        (0..=u8::MAX).cycle().take(len).collect()
    }

    /// Encrypts with the ctr crate in one run over all blocks. A piece leaves the end of its last block unused.
    fn expected(&self, plaintext: &[u8]) -> Box<[u8]> {
        let Counter { sequence, block } = self.counter();
        let first = (u128::from(sequence) << 64 | u128::from(block)).to_be_bytes();
        let mut key_stream = vec![0; self.pieces().map(|len| len.next_multiple_of(BLOCK_LEN)).sum()];
        Ctr64BE::<Aes256>::new(&self.key.into(), &first.into()).apply_keystream(&mut key_stream);

        let mut expected: Box<[u8]> = plaintext.into();
        let (mut rest, mut key_stream) = (&mut expected[self.before()..], &key_stream[..]);
        for len in self.pieces() {
            let (piece, behind) = rest.split_at_mut(len);
            piece.iter_mut().zip(key_stream).for_each(|(byte, key)| *byte ^= key);
            rest = behind;
            key_stream = &key_stream[len.next_multiple_of(BLOCK_LEN)..];
        }
        expected
    }
}

fn blocks(len: usize) -> u64 {
    u64::try_from(len.div_ceil(BLOCK_LEN)).expect("a length fits into 64 bits")
}

/// Names the backends that the processor lacks, so that a run without a finding is not taken for a test of them.
fn name_what_is_missing() {
    for backend in Backend::ALL {
        if Aes256Ctr::with_backend(backend, &[0; KEY_LEN]).is_none() {
            eprintln!("not tested, since this processor has none: {backend:?}");
        }
    }
}

const BLOCK_LEN: usize = 16;
/// Length in bytes of the longest piece: many iterations of the widest kernel's loop, and every end that they can
/// have.
const LONGEST_PIECE: usize = 1100;
/// Most pieces in an input, which keeps each input fast.
const MOST_PIECES: usize = 8;
