//! SHA-256's compression function (FIPS 180-4, section 6.2.2) over several messages side by side.

use self::backend::Kernel;

pub use self::backend::Backend;
pub use self::lanes::{Lane, MAX_LANES};
pub use self::standard::{BLOCK_LEN, INITIAL, State};

mod backend;
mod lanes;
#[cfg(target_arch = "x86_64")]
mod sha_ni;
mod standard;
#[cfg(target_arch = "x86_64")]
mod wide;

/// Compresses every block of every lane, [`lanes()`] of them side by side while as many lanes have blocks left.
///
/// There may be any number of lanes, of unequal lengths. Afterwards the `blocks` of all lanes are empty. The time
/// depends on the number and lengths of the lanes alone.
pub fn compress(lanes: &mut [Lane<'_>]) {
    Kernel::fastest().compress(lanes);
}

/// The number of messages that are compressed side by side on this processor, 1 to [`MAX_LANES`]. More lanes are no
/// faster.
#[must_use]
pub fn lanes() -> usize {
    Kernel::fastest().lanes()
}

/// The implementation that [`compress`] uses on this processor.
#[must_use]
pub fn backend() -> Backend {
    Kernel::fastest().backend()
}

/// Compresses as [`compress`] does, with the given implementation. `None`, without an effect, where this processor
/// does not support it.
#[cfg(any(test, feature = "__force-backend"))]
#[doc(hidden)]
#[must_use]
pub fn compress_with(backend: Backend, lanes: &mut [Lane<'_>]) -> Option<()> {
    Kernel::of(backend).map(|kernel| kernel.compress(lanes))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use chacha20::ChaCha8Rng;
    use chacha20::rand_core::{Rng as _, SeedableRng as _};
    use hex_literal::hex;
    use sha2::block_api::compress256;
    use sha2::{Digest as _, Sha256};

    #[cfg(target_arch = "x86_64")]
    use super::lanes::{Many, many};
    #[cfg(target_arch = "x86_64")]
    use super::wide::{Eight, Sixteen};
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
                let mut messages =
                    [&bytes[..len], &bytes[len..], &bytes[len / 2..len], &bytes[..17]].repeat(3);
                messages.rotate_left(len % 12);
                check(backend, &messages);
            }
        }
    }

    #[test]
    fn any_number_of_lanes() {
        let mut bytes = [0; 4000];
        ChaCha8Rng::seed_from_u64(2).fill_bytes(&mut bytes);
        for backend in backends() {
            for count in 0..=2 * MAX_LANES + 1 {
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

    /// Both kernels of AVX-512 with unused lanes, also for counts that other implementations would take.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn lanes_to_spare_change_nothing() {
        fn check<const N: usize>(kernel: Option<impl Many<N>>) {
            let Some(kernel) = kernel else {
                std::eprintln!("not tested, since this processor has no AVX-512: {N} lanes");
                return;
            };
            let blocks: Vec<Vec<[u8; BLOCK_LEN]>> = (1..=N)
                .map(|count| (0..count).map(|i| [u8::try_from(15 * count + i).unwrap(); BLOCK_LEN]).collect())
                .collect();
            for count in 0..=N {
                let mut states = std::vec![INITIAL; count];
                let mut lanes: Vec<Lane<'_>> =
                    states.iter_mut().zip(&blocks).map(|(state, blocks)| Lane { state, blocks }).collect();
                while lanes.iter().any(|lane| !lane.blocks.is_empty()) {
                    many(kernel, &mut lanes);
                }
                for (state, blocks) in states.iter().zip(&blocks) {
                    let mut expected = INITIAL;
                    compress256(&mut expected, blocks);
                    assert_eq!(*state, expected, "{count} of {N} lanes");
                }
            }
        }
        check(Eight::detect());
        check(Sixteen::detect());
    }

    /// Every implementation that may compress the rest, also on a processor that has the SHA extensions.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_rest_of_avx512_may_be_anything() {
        let mut bytes = [0; 4000];
        ChaCha8Rng::seed_from_u64(5).fill_bytes(&mut bytes);
        let Some((sixteen, eight)) = Sixteen::detect().zip(Eight::detect()) else {
            std::eprintln!("not tested, since this processor has no AVX-512");
            return;
        };
        for rest in Backend::FOR_FEW.into_iter().filter_map(Kernel::of) {
            for count in 0..=2 * MAX_LANES + 1 {
                let blocks: Vec<_> = (0..count).map(|i| padded(&bytes[100 * i..])).collect();
                let mut states = std::vec![INITIAL; count];
                let mut lanes: Vec<Lane<'_>> =
                    states.iter_mut().zip(&blocks).map(|(state, blocks)| Lane { state, blocks }).collect();
                rest.compress_with_avx512(sixteen, eight, &mut lanes);
                assert!(lanes.iter().all(|lane| lane.blocks.is_empty()));
                for (i, state) in states.iter().enumerate() {
                    let expected = Sha256::digest(&bytes[100 * i..]);
                    assert_eq!(digest(state), expected[..], "{count} lanes, the rest {:?}", rest.backend());
                }
            }
        }
    }

    /// Lanes without blocks keep their state, at every position.
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
                    let mut states = [INITIAL; MAX_LANES];
                    let mut lanes = states.each_mut().map(|state| Lane { state, blocks });
                    compress_with(backend, &mut lanes).unwrap();
                    states
                };
                assert_eq!(run(shifted), run(&copied), "{backend:?}, offset {offset}");
            }
        }
    }

    /// Random states stand for the middle of a message.
    #[test]
    fn random_inputs_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut bytes = [0; 20 * BLOCK_LEN];
        let backends = backends();
        let mut inputs = 0;
        while inputs < random_inputs() {
            rng.fill_bytes(&mut bytes);
            let (blocks, _) = bytes.as_chunks::<BLOCK_LEN>();
            let count = 1 + usize::try_from(rng.next_u32()).unwrap() % (MAX_LANES + 2);
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
