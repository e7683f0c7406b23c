//! Every implementation of SHA-256 side by side against the sha2 crate, over any lanes, in two calls.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use record_kernels::sha256::{BLOCK_LEN, Backend, INITIAL, Lane, State, compress_with};
use sha2::block_api::compress256;
use sha2::{Digest as _, Sha256};

fuzz_target!(init: name_what_is_missing(), |inputs: Vec<Input<'_>>| {
    let lanes: Vec<Blocks> = inputs.iter().map(Input::blocks).collect();
    let expected: Vec<State> = inputs.iter().zip(&lanes).map(|(input, lane)| input.expected(lane)).collect();
    for backend in Backend::ALL {
        let mut states: Vec<State> = inputs.iter().map(Input::start).collect();
        let halves = [Blocks::before_the_cut, Blocks::after_the_cut];
        let done =
            halves.into_iter().try_for_each(|half| compress(backend, &mut states, lanes.iter().map(half)));
        if done.is_some() {
            assert_eq!(states, expected, "{backend:?}");
        }
    }
});

/// The input of one lane.
#[derive(Debug, Arbitrary)]
struct Input<'a> {
    /// The state that the lane starts from. With `None` it starts a message, which is padded.
    state: Option<State>,
    /// Number of bytes before the blocks, which give them any alignment.
    offset: u8,
    /// Number of blocks in the first call. The second call takes the others.
    cut: u8,
    bytes: &'a [u8],
}

impl Input<'_> {
    fn start(&self) -> State {
        self.state.unwrap_or(INITIAL)
    }

    fn blocks(&self) -> Blocks {
        let offset = usize::from(self.offset) % (BLOCK_LEN + 1);
        let mut bytes = vec![0; offset];
        bytes.extend(self.bytes);
        if self.state.is_none() {
            bytes.push(0x80);
            bytes.resize(offset + (self.bytes.len() + 9).next_multiple_of(BLOCK_LEN) - 8, 0);
            let bits = u64::try_from(self.bytes.len()).expect("a length fits into 64 bits") * 8;
            bytes.extend(bits.to_be_bytes());
        }
        // The allocation ends with the last block, so that the sanitizer sees a read beyond it.
        let bytes = bytes.into_boxed_slice();
        let cut = usize::from(self.cut).min(bytes[offset..].len() / BLOCK_LEN);
        Blocks { bytes, offset, cut }
    }

    fn expected(&self, blocks: &Blocks) -> State {
        match self.state {
            Some(mut state) => {
                compress256(&mut state, blocks.all());
                state
            }
            None => {
                let digest = Sha256::digest(self.bytes);
                let (words, _) = digest.as_chunks();
                std::array::from_fn(|index| u32::from_be_bytes(words[index]))
            }
        }
    }
}

/// The blocks of a lane at their alignment in memory.
struct Blocks {
    bytes: Box<[u8]>,
    offset: usize,
    cut: usize,
}

impl Blocks {
    fn all(&self) -> &[[u8; BLOCK_LEN]] {
        self.bytes[self.offset..].as_chunks().0
    }

    fn before_the_cut(&self) -> &[[u8; BLOCK_LEN]] {
        &self.all()[..self.cut]
    }

    fn after_the_cut(&self) -> &[[u8; BLOCK_LEN]] {
        &self.all()[self.cut..]
    }
}

/// Compresses all blocks; `None` where this processor does not support the implementation.
fn compress<'a>(
    backend: Backend,
    states: &mut [State],
    blocks: impl Iterator<Item = &'a [[u8; BLOCK_LEN]]>,
) -> Option<()> {
    let mut lanes: Vec<Lane<'_>> =
        states.iter_mut().zip(blocks).map(|(state, blocks)| Lane { state, blocks }).collect();
    compress_with(backend, &mut lanes)?;
    assert!(lanes.iter().all(|lane| lane.blocks.is_empty()), "{backend:?} left blocks");
    Some(())
}

/// Names the backends that the processor lacks, so that a run without a finding is not taken for a test of them.
fn name_what_is_missing() {
    for backend in Backend::ALL {
        if compress_with(backend, &mut []).is_none() {
            eprintln!("not tested, since this processor has none: {backend:?}");
        }
    }
}
