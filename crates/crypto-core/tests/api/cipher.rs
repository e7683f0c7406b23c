//! AES-256-CTR against SP 800-38A and RFC 3686, and `CtrKey` against AES block by block.
//!
//! The vectors start at counter blocks that section 6's `sequence | block index from 0` cannot express. They go
//! through the `ctr` crate here and through the kernels in record-kernels. A separate test shows that `CtrKey`
//! counts as section 6 says.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _, KeyIvInit as _, StreamCipher as _};
use crypto_core::cipher::CtrKey;
use crypto_core::record::MAX_CIPHERTEXT_LEN;
use crypto_core::secret::Secret;
use ctr::Ctr64BE;
use hex_literal::hex;

#[test]
fn sp_800_38a_f_5_5_and_f_5_6() {
    check(
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
    check(
        &hex!("776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104"),
        &hex!("00000060 db5672c97aa8f0b2 00000001"),
        b"Single block msg",
        &hex!("145ad01dbf824ec7560863dc71e3e0c0"),
    );
    check(
        &hex!("f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884"),
        &hex!("00faac24 c1585ef15a43d875 00000001"),
        &(0x00..=0x1f).collect::<Vec<_>>(),
        &hex!("f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c"),
    );
    check(
        &hex!("ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d"),
        &hex!("001cc5b7 51a51d70a1c11148 00000001"),
        &(0x00..=0x23).collect::<Vec<_>>(),
        &hex!("eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8"),
    );
}

#[test]
fn every_length_under_several_sequences_equals_aes_block_by_block() {
    let key = Secret::new([0x42; 32]);
    let ctr_key = CtrKey::new(&key);
    let message: Vec<u8> = (0..4096u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    for sequence in [0, 1, u64::from(u32::MAX), 0x0102_0304_0506_0708, u64::MAX] {
        let key_stream = key_stream(&key, sequence, 4096);
        for len in 0..=4096 {
            let mut data = message[..len].to_vec();
            ctr_key.apply(sequence, &mut data);
            let expected: Vec<u8> = message.iter().zip(&key_stream[..len]).map(|(a, b)| a ^ b).collect();
            assert!(data == expected, "sequence {sequence}, length {len}");
        }
    }
}

/// A record of the greatest length, where the block index needs its second byte.
#[test]
fn the_longest_record_equals_aes_block_by_block() {
    let key = Secret::new([0x24; 32]);
    let mut data = vec![0; MAX_CIPHERTEXT_LEN];
    CtrKey::new(&key).apply(7, &mut data);
    assert!(data == key_stream(&key, 7, MAX_CIPHERTEXT_LEN));
}

fn key_stream(key: &Secret<32>, sequence: u64, len: usize) -> Vec<u8> {
    let aes = Aes256::new(key.expose().into());
    (0u64..)
        .flat_map(|index| {
            let mut block = ((u128::from(sequence) << 64) | u128::from(index)).to_be_bytes().into();
            aes.encrypt_block(&mut block);
            block
        })
        .take(len)
        .collect()
}

#[track_caller]
fn check(key: &[u8; 32], counter_block: &[u8; 16], plaintext: &[u8], ciphertext: &[u8]) {
    let mut data = plaintext.to_vec();
    Ctr64BE::<Aes256>::new(key.into(), counter_block.into()).apply_keystream(&mut data);
    assert_eq!(data, ciphertext);
    Ctr64BE::<Aes256>::new(key.into(), counter_block.into()).apply_keystream(&mut data);
    assert_eq!(data, plaintext);
}
