//! SHA-256's compression function (FIPS 180-4, section 6.2.2) over several messages side by side.

use sha2::block_api::compress256;

use crate::forced::{self, Instructions};

#[cfg(target_arch = "x86_64")]
use self::sha_ni::{Sha, ShaAvx512};

#[cfg(target_arch = "x86_64")]
mod sha_ni;

/// The eight words that a message has come to so far.
pub type State = [u32; 8];

/// Length of a block in bytes.
pub const BLOCK_LEN: usize = 64;

/// As many messages go side by side. More of them win next to nothing.
pub const LANES: usize = 4;

/// What a message starts from (FIPS 180-4, section 5.3.3).
pub const INITIAL: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A message on its way: what it has come to, and the blocks that follow.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "an argument")]
pub struct Lane<'a> {
    /// Where it stands. It is brought up to date.
    pub state: &'a mut State,
    /// Whole blocks. The padding of section 5.1.1 is the caller's.
    pub blocks: &'a [[u8; BLOCK_LEN]],
}

/// Compresses every block of every lane, [`LANES`] of them side by side while as many have blocks left.
///
/// Lanes may be of any number and of unequal lengths. All their `blocks` are empty afterwards. The time that it takes
/// depends on their number and lengths alone.
pub fn compress(lanes: &mut [Lane<'_>]) {
    Kernel::fastest().compress(lanes);
}

/// The implementation that [`compress`] uses on this processor.
#[must_use]
pub fn backend() -> Backend {
    Kernel::fastest().backend()
}

/// As [`compress`], with an implementation of the caller's choice. `None`, and nothing done, where this processor
/// does not have it.
#[cfg(any(test, feature = "__force-backend"))]
#[doc(hidden)]
#[must_use]
pub fn compress_with(backend: Backend, lanes: &mut [Lane<'_>]) -> Option<()> {
    Kernel::of(backend).map(|kernel| kernel.compress(lanes))
}

/// An implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// The SHA extensions of x86 with the registers of AVX-512.
    ShaAvx512,
    /// The SHA extensions of x86.
    Sha,
    /// The sha2 crate, one lane after the other, with whatever instructions it finds.
    Portable,
}

impl Backend {
    /// All of them, the fastest first.
    pub const ALL: [Self; 3] = [Self::ShaAvx512, Self::Sha, Self::Portable];

    /// What is looked for, the fastest first.
    fn candidates() -> &'static [Self] {
        match forced::instructions() {
            Instructions::All => &Self::ALL,
            Instructions::Sse => &[Self::Sha, Self::Portable],
            Instructions::Portable => &[Self::Portable],
        }
    }
}

/// An implementation that this processor has.
#[derive(Clone, Copy)]
enum Kernel {
    #[cfg(target_arch = "x86_64")]
    ShaAvx512(ShaAvx512),
    #[cfg(target_arch = "x86_64")]
    Sha(Sha),
    Portable(Portable),
}

impl Kernel {
    fn fastest() -> Self {
        let mut candidates = Backend::candidates().iter().copied();
        candidates.find_map(Self::of).unwrap_or(Self::Portable(Portable))
    }

    fn of(backend: Backend) -> Option<Self> {
        match backend {
            #[cfg(target_arch = "x86_64")]
            Backend::ShaAvx512 => ShaAvx512::detect().map(Self::ShaAvx512),
            #[cfg(target_arch = "x86_64")]
            Backend::Sha => Sha::detect().map(Self::Sha),
            #[cfg(not(target_arch = "x86_64"))]
            Backend::ShaAvx512 | Backend::Sha => None,
            Backend::Portable => Some(Self::Portable(Portable)),
        }
    }

    fn backend(self) -> Backend {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::ShaAvx512(_) => Backend::ShaAvx512,
            #[cfg(target_arch = "x86_64")]
            Self::Sha(_) => Backend::Sha,
            Self::Portable(_) => Backend::Portable,
        }
    }

    fn compress(self, lanes: &mut [Lane<'_>]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::ShaAvx512(kernel) => all(kernel, lanes),
            #[cfg(target_arch = "x86_64")]
            Self::Sha(kernel) => all(kernel, lanes),
            Self::Portable(kernel) => all(kernel, lanes),
        }
    }
}

/// Takes the next few lanes that have blocks left as far as the shortest of them goes, until none has any.
fn all(compressor: impl Compressor, lanes: &mut [Lane<'_>]) {
    const { assert!(LANES == 4, "as many lanes are taken below") };
    loop {
        let mut left = lanes.iter_mut().filter(|lane| !lane.blocks.is_empty());
        match [left.next(), left.next(), left.next(), left.next()] {
            [Some(a), Some(b), Some(c), Some(d)] => side_by_side(compressor, [a, b, c, d]),
            [Some(a), Some(b), Some(c), _] => side_by_side(compressor, [a, b, c]),
            [Some(a), Some(b), ..] => side_by_side(compressor, [a, b]),
            [Some(a), ..] => side_by_side(compressor, [a]),
            [None, ..] => return,
        }
    }
}

fn side_by_side<const N: usize>(compressor: impl Compressor, lanes: [&mut Lane<'_>; N]) {
    let shared = lanes.iter().map(|lane| lane.blocks.len()).min().unwrap_or(0);
    let blocks = lanes.each_ref().map(|lane| &lane.blocks[..shared]);
    let states = lanes.map(|lane| {
        lane.blocks = &lane.blocks[shared..];
        &mut *lane.state
    });
    compressor.compress(states, blocks);
}

/// Runs over as many blocks as every one of the messages has.
trait Compressor: Copy {
    fn compress<const N: usize>(self, states: [&mut State; N], blocks: [&[[u8; BLOCK_LEN]]; N]);
}

#[derive(Clone, Copy)]
struct Portable;

impl Compressor for Portable {
    fn compress<const N: usize>(self, states: [&mut State; N], blocks: [&[[u8; BLOCK_LEN]]; N]) {
        for (state, blocks) in states.into_iter().zip(blocks) {
            compress256(state, blocks);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use chacha20::ChaCha8Rng;
    use chacha20::rand_core::{Rng as _, SeedableRng as _};
    use hex_literal::hex;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::samples::{available, random_inputs};

    fn backends() -> Vec<Backend> {
        available(&Backend::ALL, |backend| compress_with(backend, &mut []).is_some())
    }

    /// Hashes the messages side by side and compares with the sha2 crate.
    #[track_caller]
    fn check(backend: Backend, messages: &[&[u8]]) {
        let blocks: Vec<Vec<[u8; BLOCK_LEN]>> = messages.iter().map(|message| padded(message)).collect();
        let mut states = std::vec![INITIAL; messages.len()];
        let mut lanes: Vec<Lane<'_>> =
            states.iter_mut().zip(&blocks).map(|(state, blocks)| Lane { state, blocks }).collect();
        compress_with(backend, &mut lanes).unwrap();
        assert!(lanes.iter().all(|lane| lane.blocks.is_empty()));
        for (state, message) in states.iter().zip(messages) {
            let lengths: Vec<usize> = messages.iter().map(|message| message.len()).collect();
            assert_eq!(digest(state), Sha256::digest(message)[..], "{backend:?}, lanes of {lengths:?}");
        }
    }

    fn padded(message: &[u8]) -> Vec<[u8; BLOCK_LEN]> {
        let mut bytes = message.to_vec();
        bytes.push(0x80);
        bytes.resize((message.len() + 9).next_multiple_of(BLOCK_LEN) - 8, 0);
        bytes.extend((u64::try_from(message.len()).unwrap() * 8).to_be_bytes());
        bytes.as_chunks().0.to_vec()
    }

    fn digest(state: &State) -> Vec<u8> {
        state.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn examples_of_fips_180() {
        for backend in backends() {
            let mut states = [INITIAL; 2];
            let blocks =
                [padded(b"abc"), padded(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")];
            let [one, other] = states.each_mut();
            let mut lanes =
                [Lane { state: one, blocks: &blocks[0] }, Lane { state: other, blocks: &blocks[1] }];
            compress_with(backend, &mut lanes).unwrap();
            let expected = [
                hex!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
                hex!("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
            ];
            assert_eq!(states.map(|state| digest(&state)), expected.map(|digest| digest.to_vec()));
        }
    }

    #[test]
    fn every_length_in_every_lane() {
        let mut bytes = [0; 4096];
        ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut bytes);
        for backend in backends() {
            for len in 0..=bytes.len() {
                let mut messages = [&bytes[..len], &bytes[len..], &bytes[len / 2..len], &bytes[..17]];
                messages.rotate_left(len % LANES);
                check(backend, &messages);
            }
        }
    }

    #[test]
    fn any_number_of_lanes() {
        let mut bytes = [0; 1000];
        ChaCha8Rng::seed_from_u64(2).fill_bytes(&mut bytes);
        for backend in backends() {
            for count in 0..=2 * LANES + 1 {
                let equal: Vec<&[u8]> = (0..count).map(|i| &bytes[i..i + 500]).collect();
                check(backend, &equal);
                let falling: Vec<&[u8]> = (0..count).map(|i| &bytes[100 * i..]).collect();
                check(backend, &falling);
                let one_long: Vec<&[u8]> =
                    (0..count).map(|i| &bytes[..if i == 1 { 999 } else { i }]).collect();
                check(backend, &one_long);
            }
        }
    }

    /// Lanes without blocks keep their state, wherever they stand.
    #[test]
    fn lanes_without_blocks_stay_as_they_are() {
        let blocks = padded(&[7; 200]);
        for backend in backends() {
            for set in 0u32..1 << 6 {
                let has_blocks = |lane: usize| set & (1 << lane) != 0;
                let mut states = [INITIAL; 6];
                let mut lanes: Vec<Lane<'_>> = states
                    .iter_mut()
                    .enumerate()
                    .map(|(i, state)| Lane { state, blocks: if has_blocks(i) { &blocks } else { &[] } })
                    .collect();
                compress_with(backend, &mut lanes).unwrap();
                for (i, state) in states.iter().enumerate() {
                    let expected =
                        if has_blocks(i) { Sha256::digest([7; 200]).to_vec() } else { digest(&INITIAL) };
                    assert_eq!(digest(state), expected, "{backend:?}, set {set:b}, lane {i}");
                }
            }
        }
    }

    #[test]
    fn every_alignment() {
        let mut bytes = [0; 8 * BLOCK_LEN];
        ChaCha8Rng::seed_from_u64(3).fill_bytes(&mut bytes);
        for backend in backends() {
            for offset in 0..=BLOCK_LEN {
                let shifted = bytes[offset..].as_chunks().0;
                let copied = shifted.to_vec();
                let run = |blocks: &[[u8; BLOCK_LEN]]| {
                    let mut states = [INITIAL; LANES];
                    let mut lanes = states.each_mut().map(|state| Lane { state, blocks });
                    compress_with(backend, &mut lanes).unwrap();
                    states
                };
                assert_eq!(run(shifted), run(&copied), "{backend:?}, offset {offset}");
            }
        }
    }

    /// From random states as well, as in the middle of a message.
    #[test]
    fn random_inputs_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut bytes = [0; 20 * BLOCK_LEN];
        let backends = backends();
        let mut inputs = 0;
        while inputs < random_inputs() {
            rng.fill_bytes(&mut bytes);
            let (blocks, _) = bytes.as_chunks::<BLOCK_LEN>();
            let count = 1 + usize::try_from(rng.next_u32() % 6).unwrap();
            let start: Vec<State> = (0..count).map(|_| core::array::from_fn(|_| rng.next_u32())).collect();
            let blocks: Vec<&[[u8; BLOCK_LEN]]> = (0..count)
                .map(|_| {
                    let [from, to] = [(); 2].map(|()| usize::try_from(rng.next_u32() % 21).unwrap());
                    &blocks[from.min(to)..from.max(to)]
                })
                .collect();
            let mut expected = start.clone();
            for (state, blocks) in expected.iter_mut().zip(&blocks) {
                compress256(state, blocks);
            }
            for &backend in &backends {
                let mut states = start.clone();
                let mut lanes: Vec<Lane<'_>> =
                    states.iter_mut().zip(&blocks).map(|(state, blocks)| Lane { state, blocks }).collect();
                compress_with(backend, &mut lanes).unwrap();
                assert_eq!(states, expected, "{backend:?}");
            }
            inputs += count;
        }
    }

    #[test]
    fn the_fastest_available_is_taken() {
        let available = backends();
        let expected = Backend::candidates().iter().find(|candidate| available.contains(candidate));
        assert_eq!(Some(&backend()), expected);
    }
}
