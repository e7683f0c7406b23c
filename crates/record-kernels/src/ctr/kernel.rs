//! The key stream with the AES instructions of x86, many blocks at once.
//!
//! A round has a latency of several cycles but takes new operands every cycle, so that several blocks have to be in
//! the pipeline at once. The same code is compiled for three widths of register.

use core::arch::x86_64 as arch;
use core::array::from_fn;
use core::mem::transmute;

use super::parameters::Counter;
use super::round_keys::{ROUND_KEYS, RoundKeys};
use crate::cpuid::has_vaes;

/// Defines one kernel from its name, the features that it needs and their detection, its vector of `$blocks`
/// blocks, and the instructions.
macro_rules! kernel {
    (
        $(#[$documentation:meta])*
        $name:ident, $module:ident, $features:literal, $detected:expr,
        vector: $vector:ident of $blocks:literal,
        broadcast: $broadcast:expr,
        instructions: $add:ident $shuffle:ident $xor:ident $round:ident $last_round:ident,
    ) => {
        $(#[$documentation])*
        ///
        /// A value is the proof that this processor has the instructions, since only `detect` makes one.
        #[derive(Clone, Copy)]
        pub(super) struct $name(());

        impl $name {
            pub(super) fn detect() -> Option<Self> {
                $detected.then_some(Self(()))
            }

            #[inline]
            pub(super) fn apply(self, keys: &RoundKeys, counter: Counter, data: &mut [u8]) {
                // SAFETY: `self` is the proof that the features that the function is compiled with are there.
                unsafe { $module::apply(keys, counter, data) }
            }
        }

        mod $module {
            use arch::$vector as Vector;

            use super::*;

            /// Length of a vector in bytes.
            const LEN: usize = 16 * $blocks;

            #[target_feature(enable = $features)]
            pub(super) fn apply(keys: &RoundKeys, counter: Counter, data: &mut [u8]) {
                let keys: [Vector; ROUND_KEYS] = from_fn(|round| broadcast(&keys.as_array()[round]));
                let mut counters = first_counters(counter);

                let (chunks, rest) = data.as_chunks_mut::<{ TOGETHER * LEN }>();
                for chunk in chunks {
                    let blocks: [Vector; TOGETHER] = from_fn(|_| next_counters(&mut counters));
                    let key_stream = encrypt(&keys, blocks);
                    for (vector, key_stream) in chunk.as_chunks_mut::<LEN>().0.iter_mut().zip(key_stream) {
                        *vector = store(arch::$xor(load(vector), key_stream));
                    }
                }
                let (vectors, tail) = rest.as_chunks_mut::<LEN>();
                for vector in vectors {
                    let [key_stream] = encrypt(&keys, [next_counters(&mut counters)]);
                    *vector = store(arch::$xor(load(vector), key_stream));
                }
                if !tail.is_empty() {
                    let [key_stream] = encrypt(&keys, [next_counters(&mut counters)]);
                    let mut vector = [0; LEN];
                    vector[..tail.len()].copy_from_slice(tail);
                    vector = store(arch::$xor(load(&vector), key_stream));
                    tail.copy_from_slice(&vector[..tail.len()]);
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn encrypt<const N: usize>(keys: &[Vector; ROUND_KEYS], blocks: [Vector; N]) -> [Vector; N] {
                let [first, middle @ .., last] = keys;
                let mut blocks = blocks.map(|block| arch::$xor(block, *first));
                for key in middle {
                    blocks = blocks.map(|block| arch::$round(block, *key));
                }
                blocks.map(|block| arch::$last_round(block, *last))
            }

            /// Counters are kept with both halves in the processor's byte order, which additions need.
            #[inline]
            #[target_feature(enable = $features)]
            fn first_counters(counter: Counter) -> Vector {
                let mut blocks = [[counter.sequence, counter.block]; $blocks];
                for (block, offset) in blocks.iter_mut().zip(0..) {
                    block[1] = block[1].wrapping_add(offset);
                }
                // SAFETY: both are of one length, and every value is valid in both.
                unsafe { transmute::<[[u64; 2]; $blocks], Vector>(blocks) }
            }

            /// Returns the next counter blocks and advances `counters`. The addition wraps within each half.
            #[inline]
            #[target_feature(enable = $features)]
            fn next_counters(counters: &mut Vector) -> Vector {
                // SAFETY: both are of one length, and every value is valid in both.
                let step = unsafe { transmute::<[[u64; 2]; $blocks], Vector>([[0, $blocks]; $blocks]) };
                let blocks = arch::$shuffle(*counters, load(&SWAP));
                *counters = arch::$add(*counters, step);
                blocks
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn broadcast(key: &[u8; 16]) -> Vector {
                // SAFETY: both are 16 bytes in which every value is valid.
                let key = unsafe { transmute::<[u8; 16], arch::__m128i>(*key) };
                $broadcast(key)
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn load(bytes: &[u8; LEN]) -> Vector {
                // SAFETY: both are of one length, and every value is valid in both.
                unsafe { transmute::<[u8; LEN], Vector>(*bytes) }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn store(vector: Vector) -> [u8; LEN] {
                // SAFETY: both are of one length, and every value is valid in both.
                unsafe { transmute::<Vector, [u8; LEN]>(vector) }
            }

            /// The source of each byte of a counter block: the bytes of both halves are reversed.
            const SWAP: [u8; LEN] = {
                const BLOCK: [u8; 16] = [7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8];
                let mut swap = [0; LEN];
                let mut at = 0;
                while at < LEN {
                    swap[at] = BLOCK[at % 16];
                    at += 1;
                }
                swap
            };
        }
    };
}

/// Vectors in one iteration of the loop. Iterations overlap, since only their counters depend on one another. With
/// more vectors in an iteration the keys no longer fit in the registers.
const TOGETHER: usize = 4;

kernel! {
    /// VAES on the registers of AVX-512.
    Vaes512, vaes512, "vaes,avx512f,avx512bw", vaes512_detected::get(),
    vector: __m512i of 4,
    broadcast: |key| arch::_mm512_broadcast_i32x4(key),
    instructions: _mm512_add_epi64 _mm512_shuffle_epi8 _mm512_xor_si512 _mm512_aesenc_epi128 _mm512_aesenclast_epi128,
}

kernel! {
    /// VAES on the registers of AVX2.
    Vaes256, vaes256, "vaes,avx2", avx2_detected::get() && has_vaes(),
    vector: __m256i of 2,
    broadcast: |key| arch::_mm256_broadcastsi128_si256(key),
    instructions: _mm256_add_epi64 _mm256_shuffle_epi8 _mm256_xor_si256 _mm256_aesenc_epi128 _mm256_aesenclast_epi128,
}

kernel! {
    /// AES-NI.
    AesNi, aes_ni, "aes,ssse3", aes_ni_detected::get(),
    vector: __m128i of 1,
    broadcast: |key| key,
    instructions: _mm_add_epi64 _mm_shuffle_epi8 _mm_xor_si128 _mm_aesenc_si128 _mm_aesenclast_si128,
}

cpufeatures::new!(vaes512_detected, "vaes", "avx512f", "avx512bw");
cpufeatures::new!(avx2_detected, "avx2", "avx");
cpufeatures::new!(aes_ni_detected, "aes", "ssse3");
