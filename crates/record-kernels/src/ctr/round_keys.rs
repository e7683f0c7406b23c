//! The key schedule of AES-256 (FIPS 197, section 5.2).

use core::arch::x86_64::{
    __m128i, _mm_aeskeygenassist_si128, _mm_shuffle_epi32, _mm_slli_si128, _mm_xor_si128,
};
use core::mem::transmute;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::parameters::KEY_LEN;

cpufeatures::new!(detected, "aes");

/// One key for each of the fourteen rounds, and one before the first round.
#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(align(16))]
pub(super) struct RoundKeys([[u8; 16]; ROUND_KEYS]);

/// Keys in an AES-256 key schedule.
pub(super) const ROUND_KEYS: usize = 15;

impl RoundKeys {
    /// Expands `key`; `None` where the processor has no AES instructions: without them an expansion would look up a
    /// table by secret bytes.
    pub(super) fn expand(key: &[u8; KEY_LEN]) -> Option<Self> {
        // SAFETY: the processor has the feature that the function is compiled with.
        detected::get().then(|| unsafe { expand(key) })
    }

    #[inline]
    pub(super) fn as_array(&self) -> &[[u8; 16]; ROUND_KEYS] {
        &self.0
    }
}

#[target_feature(enable = "aes")]
fn expand(key: &[u8; KEY_LEN]) -> RoundKeys {
    // SAFETY: both are 32 bytes in which every value is valid.
    let [k0, k1] = unsafe { transmute::<[u8; KEY_LEN], [__m128i; 2]>(*key) };
    let [k2, k3] = next_two::<0x01>([k0, k1]);
    let [k4, k5] = next_two::<0x02>([k2, k3]);
    let [k6, k7] = next_two::<0x04>([k4, k5]);
    let [k8, k9] = next_two::<0x08>([k6, k7]);
    let [k10, k11] = next_two::<0x10>([k8, k9]);
    let [k12, k13] = next_two::<0x20>([k10, k11]);
    let [k14, _] = next_two::<0x40>([k12, k13]);
    let keys = [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14];
    // SAFETY: both are 240 bytes in which every value is valid.
    RoundKeys(unsafe { transmute::<[__m128i; ROUND_KEYS], [[u8; 16]; ROUND_KEYS]>(keys) })
}

/// Computes eight words of the schedule. The instruction gives `SubWord(RotWord(w)) ^ RCON` of its argument's last
/// word in the highest place and `SubWord(w)` in the one below.
#[inline]
#[target_feature(enable = "aes")]
fn next_two<const RCON: i32>([even, odd]: [__m128i; 2]) -> [__m128i; 2] {
    let rotated = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(odd, RCON), 0xff);
    let even = _mm_xor_si128(running_xor(even), rotated);
    let substituted = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(even, 0), 0xaa);
    [even, _mm_xor_si128(running_xor(odd), substituted)]
}

/// Xors each word with all words before it.
#[inline]
#[target_feature(enable = "sse2")]
fn running_xor(words: __m128i) -> __m128i {
    let pairs = _mm_xor_si128(words, _mm_slli_si128(words, 4));
    _mm_xor_si128(pairs, _mm_slli_si128(pairs, 8))
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    /// The key expansion of FIPS 197, appendix A.3.
    #[test]
    fn the_example_of_fips_197() {
        let key = hex!("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let Some(keys) = RoundKeys::expand(&key) else { return };
        let keys = keys.as_array();
        assert_eq!(keys[..2].as_flattened(), key);
        assert_eq!(keys[2], hex!("9ba354118e6925afa51a8b5f2067fcde"));
        assert_eq!(keys[3], hex!("a8b09c1a93d194cdbe49846eb75d5b9a"));
        assert_eq!(keys[13], hex!("cafaaae3e4d59b349adf6acebd10190d"));
        assert_eq!(keys[14], hex!("fe4890d1e6188d0b046df344706c631e"));
    }
}
