//! AES-256 in counter mode (NIST SP 800-38A, section 6.5) with a counter block of two halves.

use core::fmt;

use aes::Aes256Enc;
use ctr::cipher::{InnerIvInit as _, KeyInit as _, StreamCipher as _, StreamCipherCoreWrapper};
use ctr::{CtrCore, flavors};

use crate::forced::{self, Instructions};

pub use self::parameters::{Counter, KEY_LEN};

#[cfg(target_arch = "x86_64")]
use self::kernel::{AesNi, Vaes256, Vaes512};
#[cfg(target_arch = "x86_64")]
use self::round_keys::RoundKeys;

#[cfg(target_arch = "x86_64")]
mod kernel;
mod parameters;
#[cfg(target_arch = "x86_64")]
mod round_keys;

/// An expanded key, wiped when dropped.
///
/// Registers and the stack are not wiped: copies of round keys may stay there, as in every implementation whose
/// registers the compiler allocates.
pub struct Aes256Ctr(Kernel);

impl Aes256Ctr {
    /// Expands `key` for the fastest implementation that this processor has.
    #[must_use]
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        let mut candidates = Backend::candidates().iter();
        let found = candidates.find_map(|&backend| Kernel::new(backend, key));
        Self(found.unwrap_or_else(|| Kernel::portable(key)))
    }

    /// Expands `key` for the given implementation. `None` where this processor does not support it.
    #[cfg(any(test, feature = "__force-backend"))]
    #[doc(hidden)]
    #[must_use]
    pub fn with_backend(backend: Backend, key: &[u8; KEY_LEN]) -> Option<Self> {
        Kernel::new(backend, key).map(Self)
    }

    /// Encrypts or decrypts `data` in place with the key stream that starts at `counter`. Two pieces of data must
    /// never share a counter block under one key: the xor of both ciphertexts would be the xor of the data.
    ///
    /// The time depends on the length of `data` alone.
    pub fn apply(&self, counter: Counter, data: &mut [u8]) {
        match &self.0 {
            #[cfg(target_arch = "x86_64")]
            Kernel::Vaes512(kernel, keys) => kernel.apply(keys, counter, data),
            #[cfg(target_arch = "x86_64")]
            Kernel::Vaes256(kernel, keys) => kernel.apply(keys, counter, data),
            #[cfg(target_arch = "x86_64")]
            Kernel::AesNi(kernel, keys) => kernel.apply(keys, counter, data),
            Kernel::Portable(aes) => portable(aes, counter, data),
        }
    }

    /// The implementation in use.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match &self.0 {
            #[cfg(target_arch = "x86_64")]
            Kernel::Vaes512(..) => Backend::Vaes512,
            #[cfg(target_arch = "x86_64")]
            Kernel::Vaes256(..) => Backend::Vaes256,
            #[cfg(target_arch = "x86_64")]
            Kernel::AesNi(..) => Backend::AesNi,
            Kernel::Portable(_) => Backend::Portable,
        }
    }
}

impl fmt::Debug for Aes256Ctr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aes256Ctr").field("backend", &self.backend()).finish_non_exhaustive()
    }
}

/// An implementation of counter mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// VAES on the registers of AVX-512, with four blocks per instruction.
    Vaes512,
    /// VAES on the registers of AVX2, with two blocks per instruction.
    Vaes256,
    /// AES-NI, with one block per instruction.
    AesNi,
    /// The ctr crate over the aes crate, with the instructions that they detect.
    Portable,
}

impl Backend {
    /// All implementations, the fastest first.
    pub const ALL: [Self; 4] = [Self::Vaes512, Self::Vaes256, Self::AesNi, Self::Portable];

    /// The implementations to choose from, the fastest first.
    fn candidates() -> &'static [Self] {
        match forced::instructions() {
            Instructions::All | Instructions::Avx512 => &Self::ALL,
            Instructions::Sse => &[Self::AesNi, Self::Portable],
            Instructions::Portable => &[Self::Portable],
        }
    }
}

/// An implementation that this processor supports, with the key in the form that it needs.
enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Vaes512(Vaes512, RoundKeys),
    #[cfg(target_arch = "x86_64")]
    Vaes256(Vaes256, RoundKeys),
    #[cfg(target_arch = "x86_64")]
    AesNi(AesNi, RoundKeys),
    Portable(Aes256Enc),
}

impl Kernel {
    fn new(backend: Backend, key: &[u8; KEY_LEN]) -> Option<Self> {
        match backend {
            #[cfg(target_arch = "x86_64")]
            Backend::Vaes512 => Vaes512::detect()
                .zip(RoundKeys::expand(key))
                .map(|(kernel, keys)| Self::Vaes512(kernel, keys)),
            #[cfg(target_arch = "x86_64")]
            Backend::Vaes256 => Vaes256::detect()
                .zip(RoundKeys::expand(key))
                .map(|(kernel, keys)| Self::Vaes256(kernel, keys)),
            #[cfg(target_arch = "x86_64")]
            Backend::AesNi => {
                AesNi::detect().zip(RoundKeys::expand(key)).map(|(kernel, keys)| Self::AesNi(kernel, keys))
            }
            #[cfg(not(target_arch = "x86_64"))]
            Backend::Vaes512 | Backend::Vaes256 | Backend::AesNi => None,
            Backend::Portable => Some(Self::portable(key)),
        }
    }

    fn portable(key: &[u8; KEY_LEN]) -> Self {
        Self::Portable(Aes256Enc::new(key.into()))
    }
}

fn portable(aes: &Aes256Enc, counter: Counter, data: &mut [u8]) {
    let mut block = [0; 16];
    block[..8].copy_from_slice(&counter.sequence.to_be_bytes());
    block[8..].copy_from_slice(&counter.block.to_be_bytes());
    let core = CtrCore::<&Aes256Enc, flavors::Ctr64BE>::inner_iv_init(aes, &block.into());
    StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use aes::cipher::BlockCipherEncrypt as _;
    use chacha20::ChaCha8Rng;
    use chacha20::rand_core::{Rng as _, SeedableRng as _};
    use hex_literal::hex;

    use super::*;
    use crate::samples::{available, random_inputs};

    fn ciphers(key: &[u8; KEY_LEN]) -> Vec<Aes256Ctr> {
        let backends = available(&Backend::ALL, |backend| Aes256Ctr::with_backend(backend, key).is_some());
        backends.into_iter().filter_map(|backend| Aes256Ctr::with_backend(backend, key)).collect()
    }

    /// Computes the key stream with AES alone, one counter block after the other.
    fn key_stream(key: &[u8; KEY_LEN], counter: Counter, len: usize) -> Vec<u8> {
        let aes = Aes256Enc::new(key.into());
        let mut key_stream = Vec::new();
        let mut index = counter.block;
        while key_stream.len() < len {
            let mut block = ((u128::from(counter.sequence) << 64) | u128::from(index)).to_be_bytes().into();
            aes.encrypt_block(&mut block);
            key_stream.extend_from_slice(&block);
            index = index.wrapping_add(1);
        }
        key_stream.truncate(len);
        key_stream
    }

    #[track_caller]
    fn check_vector(key: &[u8; KEY_LEN], counter_block: &[u8; 16], plaintext: &[u8], ciphertext: &[u8]) {
        let halves: [[u8; 8]; 2] = counter_block.as_chunks().0.try_into().unwrap();
        let [sequence, block] = halves.map(u64::from_be_bytes);
        for cipher in ciphers(key) {
            let mut data = plaintext.to_vec();
            cipher.apply(Counter { sequence, block }, &mut data);
            assert_eq!(data, ciphertext, "{cipher:?}");
            cipher.apply(Counter { sequence, block }, &mut data);
            assert_eq!(data, plaintext, "{cipher:?}");
        }
    }

    #[test]
    fn sp_800_38a_f_5_5_and_f_5_6() {
        check_vector(
            &hex!("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"),
            &hex!("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"),
            &hex!(
                "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
                "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
            ),
            &hex!(
                "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
                "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
            ),
        );
    }

    #[test]
    fn rfc_3686_test_vectors_7_to_9() {
        check_vector(
            &hex!("776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104"),
            &hex!("00000060 db5672c97aa8f0b2 00000001"),
            b"Single block msg",
            &hex!("145ad01dbf824ec7560863dc71e3e0c0"),
        );
        check_vector(
            &hex!("f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884"),
            &hex!("00faac24 c1585ef15a43d875 00000001"),
            &hex!("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"),
            &hex!("f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c"),
        );
        check_vector(
            &hex!("ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d"),
            &hex!("001cc5b7 51a51d70a1c11148 00000001"),
            &hex!("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"),
            &hex!("eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8"),
        );
    }

    /// The bytes before and after the data stay unchanged.
    #[test]
    fn every_length_at_every_alignment() {
        const MOST: usize = 4096;
        let key = [0x42; KEY_LEN];
        let counter = Counter { sequence: 0x0102_0304_0506_0708, block: 0 };
        let key_stream = key_stream(&key, counter, MOST);
        for cipher in ciphers(&key) {
            for len in 0..=MOST {
                let offset = len % 65;
                let mut buffer = std::vec![0xee; offset + len + 65];
                cipher.apply(counter, &mut buffer[offset..offset + len]);
                let (before, rest) = buffer.split_at(offset);
                let (data, after) = rest.split_at(len);
                assert!(
                    data.iter().zip(&key_stream).all(|(a, b)| *a == b ^ 0xee),
                    "{cipher:?}, length {len}"
                );
                assert!(before.iter().chain(after).all(|&byte| byte == 0xee), "{cipher:?}, length {len}");
            }
            for offset in 0..=64 {
                for len in [0, 1, 15, 16, 63, 64, 65, 129, 513] {
                    let mut buffer = std::vec![0xee; 65 + 513];
                    cipher.apply(counter, &mut buffer[offset..offset + len]);
                    let mut expected = std::vec![0xee; 65 + 513];
                    for (byte, key) in expected[offset..offset + len].iter_mut().zip(&key_stream) {
                        *byte ^= key;
                    }
                    assert!(buffer == expected, "{cipher:?}, offset {offset}, length {len}");
                }
            }
        }
    }

    /// Each bit of the block index receives a carry, at every position in an iteration of the loop, and the last
    /// carry is dropped.
    #[test]
    fn every_carry_of_the_counter() {
        let key = [0x24; KEY_LEN];
        let ciphers = ciphers(&key);
        for bit in 0..=64 {
            let boundary = 1u64.checked_shl(bit).unwrap_or(0);
            for before in [0, 1, 2, 3, 4, 5, 15, 16, 17, 31] {
                for sequence in [0, 7, u64::MAX] {
                    let counter = Counter { sequence, block: boundary.wrapping_sub(before) };
                    let expected = key_stream(&key, counter, 16 * 37 + 5);
                    for cipher in &ciphers {
                        let mut data = std::vec![0; expected.len()];
                        cipher.apply(counter, &mut data);
                        assert!(data == expected, "{cipher:?}, {counter:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_longest_record_under_several_sequences() {
        let key = [0x11; KEY_LEN];
        for cipher in ciphers(&key) {
            for sequence in [0, 1, u64::from(u32::MAX), u64::MAX] {
                let counter = Counter { sequence, block: 0 };
                let mut data = std::vec![0; 16640];
                cipher.apply(counter, &mut data);
                assert!(data == key_stream(&key, counter, data.len()), "{cipher:?}, sequence {sequence}");
            }
        }
    }

    /// Compares with the ctr crate for random keys, counters, lengths and data.
    #[test]
    fn random_inputs_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut data = [0; 700];
        for _ in 0..random_inputs() {
            let mut key = [0; KEY_LEN];
            rng.fill_bytes(&mut key);
            let counter = Counter { sequence: rng.next_u64(), block: rng.next_u64() };
            // Most inputs are short, since the pieces meet there.
            let most = if rng.next_u32().is_multiple_of(8) { 700 } else { 100 };
            let len = usize::try_from(rng.next_u32() % most).unwrap();
            rng.fill_bytes(&mut data[..len]);
            let mut expected = data;
            portable(&Aes256Enc::new((&key).into()), counter, &mut expected[..len]);
            for backend in Backend::ALL {
                let Some(cipher) = Aes256Ctr::with_backend(backend, &key) else { continue };
                let mut data = data;
                cipher.apply(counter, &mut data[..len]);
                assert!(data == expected, "{cipher:?}, key {key:02x?}, {counter:?}, length {len}");
            }
        }
    }

    #[test]
    fn the_fastest_available_is_taken_and_no_key_is_shown() {
        let key = [0x41; KEY_LEN];
        let chosen = Aes256Ctr::new(&key);
        let expected =
            Backend::candidates().iter().find_map(|&backend| Aes256Ctr::with_backend(backend, &key));
        assert_eq!(chosen.backend(), expected.unwrap().backend());
        let shown = std::format!("{chosen:?}");
        assert_eq!(shown, std::format!("Aes256Ctr {{ backend: {:?}, .. }}", chosen.backend()));
    }
}
