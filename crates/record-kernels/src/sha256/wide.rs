//! SHA-256 without SHA instructions: one message in each 32-bit element of a vector.
//!
//! All messages take the same step at once, so that a step for all costs as much as one for a single message.
//! AVX-512 rotates a word, and combines three by any function, in one instruction each, which the rounds of SHA-256
//! consist of. Its registers hold the state and the message schedule together.

use core::arch::x86_64 as arch;
use core::array::from_fn;
use core::mem::transmute;

use super::lanes::Many;
use super::standard::{BLOCK_LEN, ROUND_CONSTANTS, State};

/// Repeats a block with its index as a constant. LLVM does not unroll a loop as long as this, and leaves all words
/// in memory, which costs a third.
macro_rules! unrolled {
    ($t:ident in $($value:literal)* $body:block) => { $( { const $t: usize = $value; $body } )* };
}

/// Defines one kernel from its name, the features that it is compiled with, its vector of `$lanes` words, the
/// function that joins the quarter blocks of every fourth message in one vector, and the instructions.
macro_rules! kernel {
    (
        $(#[$documentation:meta])*
        $name:ident, $module:ident, $features:literal, $detected:ident,
        vector: $vector:ident of $lanes:literal,
        join: $join:ident,
        instructions: $add:ident $ternary:ident $rotate:ident $shift:ident
            $set:ident $zero:ident $shuffle:ident
            $unpack_low:ident $unpack_high:ident $unpack_low_pair:ident $unpack_high_pair:ident,
    ) => {
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

        impl Many<$lanes> for $name {
            #[inline]
            fn compress(self, states: &mut [State; $lanes], blocks: [&[[u8; BLOCK_LEN]]; $lanes]) {
                // SAFETY: `self` is the proof that the features that the function is compiled with are there.
                unsafe { $module::compress(states, blocks) }
            }
        }

        mod $module {
            use arch::$vector as Vector;

            use super::*;

            #[target_feature(enable = $features)]
            pub(super) fn compress(states: &mut [State; $lanes], blocks: [&[[u8; BLOCK_LEN]]; $lanes]) {
                let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
                let mut state = load_states(states);
                for block in 0..count {
                    let before = state;
                    let mut words = load_blocks(&blocks.map(|blocks| &blocks[block]));
                    for first in [0, 16, 32] {
                        state = sixteen_rounds::<true>(state, &mut words, first);
                    }
                    state = sixteen_rounds::<false>(state, &mut words, 48);
                    state = from_fn(|word| arch::$add(state[word], before[word]));
                }
                store_states(states, state);
            }

            /// Step 3 of FIPS 180-4, section 6.2.2, and step 1 where more rounds follow: a word of the message
            /// schedule is needed for the last time where the word of sixteen rounds later replaces it.
            #[inline]
            #[target_feature(enable = $features)]
            fn sixteen_rounds<const MORE: bool>(
                mut state: [Vector; 8],
                words: &mut [Vector; 16],
                first: usize,
            ) -> [Vector; 8] {
                let constants = &ROUND_CONSTANTS.as_flattened()[first..first + 16];
                unrolled!(T in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 {
                    let [a, b, c, d, e, f, g, h] = state;
                    let sum = arch::$add(words[T], arch::$set(constants[T].cast_signed()));
                    let sum = arch::$add(arch::$add(h, sum), arch::$ternary::<CHOOSE>(e, f, g));
                    let t1 = arch::$add(sum, big_sigma_1(e));
                    let t2 = arch::$add(big_sigma_0(a), arch::$ternary::<MAJORITY>(a, b, c));
                    state = [arch::$add(t1, t2), a, b, c, arch::$add(d, t1), e, f, g];
                    if MORE {
                        let sum = arch::$add(words[T], words[(T + 9) % 16]);
                        let sum = arch::$add(sum, small_sigma_0(words[(T + 1) % 16]));
                        words[T] = arch::$add(sum, small_sigma_1(words[(T + 14) % 16]));
                    }
                });
                state
            }

            // The following are the functions of FIPS 180-4, section 4.1.2.

            #[inline]
            #[target_feature(enable = $features)]
            fn big_sigma_0(x: Vector) -> Vector {
                arch::$ternary::<XOR>(arch::$rotate::<2>(x), arch::$rotate::<13>(x), arch::$rotate::<22>(x))
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn big_sigma_1(x: Vector) -> Vector {
                arch::$ternary::<XOR>(arch::$rotate::<6>(x), arch::$rotate::<11>(x), arch::$rotate::<25>(x))
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn small_sigma_0(x: Vector) -> Vector {
                arch::$ternary::<XOR>(arch::$rotate::<7>(x), arch::$rotate::<18>(x), arch::$shift::<3>(x))
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn small_sigma_1(x: Vector) -> Vector {
                arch::$ternary::<XOR>(arch::$rotate::<17>(x), arch::$rotate::<19>(x), arch::$shift::<10>(x))
            }

            /// Transposes the states: vector i holds word i of every message.
            #[inline]
            #[target_feature(enable = $features)]
            fn load_states(states: &[State; $lanes]) -> [Vector; 8] {
                from_fn(|word| {
                    let words: [u32; $lanes] = from_fn(|lane| states[lane][word]);
                    // SAFETY: both are of one length, and every value is valid in both.
                    unsafe { transmute::<[u32; $lanes], Vector>(words) }
                })
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn store_states(states: &mut [State; $lanes], state: [Vector; 8]) {
                for (word, vector) in state.into_iter().enumerate() {
                    // SAFETY: both are of one length, and every value is valid in both.
                    let words = unsafe { transmute::<Vector, [u32; $lanes]>(vector) };
                    for (state, value) in states.iter_mut().zip(words) {
                        state[word] = value;
                    }
                }
            }

            /// Transposes the blocks: vector i holds word i of every message.
            #[inline]
            #[target_feature(enable = $features)]
            fn load_blocks(blocks: &[&[u8; BLOCK_LEN]; $lanes]) -> [Vector; 16] {
                let mut words = [arch::$zero(); 16];
                unrolled!(QUARTER in 0 1 2 3 {
                    // Each vector holds the same quarter of every fourth message, from the first, second, third or
                    // fourth on.
                    let first = load_quarters::<QUARTER, 0>(blocks);
                    let second = load_quarters::<QUARTER, 1>(blocks);
                    let third = load_quarters::<QUARTER, 2>(blocks);
                    let fourth = load_quarters::<QUARTER, 3>(blocks);
                    // `a` and `b` hold the first two words of the quarters, `c` and `d` the last two.
                    let [a, b] = [arch::$unpack_low(first, second), arch::$unpack_low(third, fourth)];
                    let [c, d] = [arch::$unpack_high(first, second), arch::$unpack_high(third, fourth)];
                    words[4 * QUARTER] = arch::$unpack_low_pair(a, b);
                    words[4 * QUARTER + 1] = arch::$unpack_high_pair(a, b);
                    words[4 * QUARTER + 2] = arch::$unpack_low_pair(c, d);
                    words[4 * QUARTER + 3] = arch::$unpack_high_pair(c, d);
                });
                words
            }

            /// Loads a quarter of a block of every fourth message from `FIRST` on, as words.
            #[inline]
            #[target_feature(enable = $features)]
            fn load_quarters<const QUARTER: usize, const FIRST: usize>(
                blocks: &[&[u8; BLOCK_LEN]; $lanes],
            ) -> Vector {
                // SAFETY: both are of one length, and every value is valid in both.
                let swap = unsafe { transmute::<[[u8; 16]; $lanes / 4], Vector>([SWAP; $lanes / 4]) };
                let quarter = |message: usize| load(&blocks[message].as_chunks().0[QUARTER]);
                arch::$shuffle($join(quarter, FIRST), swap)
            }
        }
    };
}

kernel! {
    /// A kernel for sixteen messages, in the registers of AVX-512.
    Sixteen, sixteen, "avx512f,avx512bw", sixteen_detected,
    vector: __m512i of 16,
    join: join_four,
    instructions: _mm512_add_epi32 _mm512_ternarylogic_epi32 _mm512_ror_epi32 _mm512_srli_epi32
        _mm512_set1_epi32 _mm512_setzero_si512 _mm512_shuffle_epi8
        _mm512_unpacklo_epi32 _mm512_unpackhi_epi32 _mm512_unpacklo_epi64 _mm512_unpackhi_epi64,
}

kernel! {
    /// A kernel for eight messages, with the instructions of AVX-512 in the registers of AVX2.
    Eight, eight, "avx512f,avx512vl", eight_detected,
    vector: __m256i of 8,
    join: join_two,
    instructions: _mm256_add_epi32 _mm256_ternarylogic_epi32 _mm256_ror_epi32 _mm256_srli_epi32
        _mm256_set1_epi32 _mm256_setzero_si256 _mm256_shuffle_epi8
        _mm256_unpacklo_epi32 _mm256_unpackhi_epi32 _mm256_unpacklo_epi64 _mm256_unpackhi_epi64,
}

// The compiler assumes that AVX-512 includes AVX2, so the detection asks for both.
cpufeatures::new!(sixteen_detected, "avx2", "avx512f", "avx512bw");
cpufeatures::new!(eight_detected, "avx2", "avx512f", "avx512vl");

#[inline]
#[target_feature(enable = "avx512f")]
fn join_four(quarter: impl Fn(usize) -> arch::__m128i, first: usize) -> arch::__m512i {
    let [a, b, c, d] = [quarter(first), quarter(first + 4), quarter(first + 8), quarter(first + 12)];
    let ab = arch::_mm512_inserti32x4::<1>(arch::_mm512_castsi128_si512(a), b);
    arch::_mm512_inserti32x4::<3>(arch::_mm512_inserti32x4::<2>(ab, c), d)
}

#[inline]
#[target_feature(enable = "avx2")]
fn join_two(quarter: impl Fn(usize) -> arch::__m128i, first: usize) -> arch::__m256i {
    let [a, b] = [quarter(first), quarter(first + 4)];
    arch::_mm256_inserti128_si256::<1>(arch::_mm256_castsi128_si256(a), b)
}

#[inline]
fn load(bytes: &[u8; 16]) -> arch::__m128i {
    // SAFETY: both are 16 bytes in which every value is valid.
    unsafe { transmute::<[u8; 16], arch::__m128i>(*bytes) }
}

// The truth tables for `vpternlog`: bit 4x + 2y + z is the result for the bits x, y and z.
const XOR: i32 = 0b1001_0110;
const CHOOSE: i32 = 0b1100_1010;
const MAJORITY: i32 = 0b1110_1000;

/// The source of each byte of a vector: the words of a block are big-endian.
const SWAP: [u8; 16] = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];
