//! SHA-256 with the SHA extensions of x86, several states interleaved.
//!
//! `sha256rnds2` has a latency of four cycles but starts every two. A single message cannot fill the gap, since
//! each round needs the one before; the rounds of other messages can. Four messages need more than the sixteen
//! registers of SSE: with the thirty-two of AVX-512, the same code spills less.

use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_set_epi64x, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
};
use core::array::from_fn;
use core::mem::transmute;

use super::lanes::Few;
use super::standard::{BLOCK_LEN, ROUND_CONSTANTS, State};

/// Defines one kernel from its name, the features that it is compiled with, and their detection.
macro_rules! kernel {
    ($(#[$documentation:meta])* $name:ident, $module:ident, $features:literal, $detected:ident) => {
        $(#[$documentation])*
        ///
        /// A value is the proof that this processor has the instructions, since only `detect` makes one.
        #[derive(Clone, Copy)]
        pub(super) struct $name(());

        impl $name {
            #[inline]
            pub(super) fn detect() -> Option<Self> {
                $detected::get().then_some(Self(()))
            }
        }

        impl Few for $name {
            #[inline]
            fn compress<const N: usize>(
                self,
                states: [&mut State; N],
                blocks: [&[[u8; BLOCK_LEN]]; N],
            ) {
                // SAFETY: `self` is the proof that the features that the function is compiled with are there.
                unsafe { $module::compress(states, blocks) }
            }
        }

        mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            pub(super) fn compress<const N: usize>(
                states: [&mut State; N],
                blocks: [&[[u8; BLOCK_LEN]]; N],
            ) {
                let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
                let mut lanes: [[__m128i; 2]; N] = from_fn(|n| load_state(states[n]));
                for block in 0..count {
                    let before = lanes;
                    let mut words: [[__m128i; 4]; N] = from_fn(|n| load_block(&blocks[n][block]));
                    for group in 0..4 {
                        for n in 0..N {
                            lanes[n] = four_rounds(lanes[n], words[n][group], group);
                        }
                    }
                    // The three calls are no loop, since a loop is not unrolled from four lanes on, and costs a
                    // quarter.
                    sixteen_rounds(&mut lanes, &mut words, 4);
                    sixteen_rounds(&mut lanes, &mut words, 8);
                    sixteen_rounds(&mut lanes, &mut words, 12);
                    for n in 0..N {
                        lanes[n] = from_fn(|half| _mm_add_epi32(lanes[n][half], before[n][half]));
                    }
                }
                for (state, lane) in states.into_iter().zip(lanes) {
                    store_state(state, lane);
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn sixteen_rounds<const N: usize>(
                lanes: &mut [[__m128i; 2]; N],
                words: &mut [[__m128i; 4]; N],
                first: usize,
            ) {
                for group in 0..4 {
                    for n in 0..N {
                        words[n][group] = schedule(&words[n], group);
                        lanes[n] = four_rounds(lanes[n], words[n][group], first + group);
                    }
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn four_rounds([abef, cdgh]: [__m128i; 2], words: __m128i, group: usize) -> [__m128i; 2] {
                // SAFETY: both are 16 bytes in which every value is valid.
                let constants = unsafe { transmute::<[u32; 4], __m128i>(ROUND_CONSTANTS[group]) };
                let sum = _mm_add_epi32(words, constants);
                let cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
                let abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
                [abef, cdgh]
            }

            /// Computes the four words of the message schedule that replace those sixteen before them.
            #[inline]
            #[target_feature(enable = $features)]
            fn schedule(words: &[__m128i; 4], group: usize) -> __m128i {
                let [w0, w1, w2, w3] = from_fn(|i| words[(group + i) % 4]);
                let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4));
                _mm_sha256msg2_epu32(sum, w3)
            }

            /// Loads a state. The instructions want the words a, b, e, f in one register and c, d, g, h in the
            /// other, from the top.
            #[inline]
            #[target_feature(enable = $features)]
            fn load_state(state: &State) -> [__m128i; 2] {
                // SAFETY: both are 32 bytes in which every value is valid.
                let [dcba, hgfe] = unsafe { transmute::<State, [__m128i; 2]>(*state) };
                let cdab = _mm_shuffle_epi32(dcba, 0xb1);
                let efgh = _mm_shuffle_epi32(hgfe, 0x1b);
                [_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xf0)]
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn store_state(state: &mut State, [abef, cdgh]: [__m128i; 2]) {
                let feba = _mm_shuffle_epi32(abef, 0x1b);
                let dchg = _mm_shuffle_epi32(cdgh, 0xb1);
                let words = [_mm_blend_epi16(feba, dchg, 0xf0), _mm_alignr_epi8(dchg, feba, 8)];
                // SAFETY: both are 32 bytes in which every value is valid.
                *state = unsafe { transmute::<[__m128i; 2], State>(words) };
            }

            /// Loads the words of a block, which are big-endian.
            #[inline]
            #[target_feature(enable = $features)]
            fn load_block(block: &[u8; BLOCK_LEN]) -> [__m128i; 4] {
                let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
                // SAFETY: both are 64 bytes in which every value is valid.
                let words = unsafe { transmute::<[u8; BLOCK_LEN], [__m128i; 4]>(*block) };
                words.map(|word| _mm_shuffle_epi8(word, swap))
            }
        }
    };
}

kernel! {
    /// The SHA extensions with the registers of AVX-512.
    ShaAvx512, sha_avx512, "sha,avx512f,avx512vl", sha_avx512_detected
}

kernel! {
    /// The SHA extensions alone.
    Sha, sha, "sha,ssse3,sse4.1", sha_detected
}

cpufeatures::new!(sha_avx512_detected, "sha", "avx512f", "avx512vl");
cpufeatures::new!(sha_detected, "sha", "ssse3", "sse4.1");
