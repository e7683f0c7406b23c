//! Key files of real tools (`fixtures/make.py` names them), and key files that must be refused.

use crypto_core::KeyProblem;
use crypto_core::pem::{
    self, Form, read_client_key, read_public_key, read_server_key, write_client_key, write_public_key,
    write_server_key,
};
use getrandom::SysRng;
use proptest::prelude::*;

/// The passphrase of all fixtures in `fixtures/make.py`.
const PASSPHRASE: &[u8] = b"test only";

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../fixtures/test-only-", $name, ".pem"))
    };
}

#[test]
fn one_key_reads_the_same_from_every_format() {
    let public = read_public_key(fixture!("rsa-public")).unwrap();
    assert_eq!(read_public_key(fixture!("rsa-public-pkcs1")).unwrap(), public);
    assert_eq!(public.bits(), 2048);
    for (pem, passphrase) in [
        (fixture!("rsa-pkcs8"), None),
        (fixture!("rsa-pkcs1"), None),
        (fixture!("rsa-openssh"), None),
        (fixture!("rsa-pbkdf2"), Some(PASSPHRASE)),
        (fixture!("rsa-scrypt"), Some(PASSPHRASE)),
        (fixture!("rsa-pkcs8"), Some(b"not needed")),
    ] {
        let server = read_server_key(&mut SysRng, pem, passphrase).unwrap();
        let client = read_client_key(pem, passphrase).unwrap();
        assert_eq!(server.public(), &public);
        assert_eq!(client.public(), &public);
    }
}

#[test]
fn keys_of_ssh_keygen_are_read_in_both_of_its_formats() {
    for (pem, bits) in [(fixture!("rsa-ssh-keygen-pem"), 2048), (fixture!("rsa-ssh-keygen"), 3072)] {
        let key = read_client_key(pem, None).unwrap();
        assert_eq!(key.public().bits(), bits);
        let signature = key.sign(&mut SysRng, b"message").unwrap();
        assert_eq!(key.public().verify(b"message", &signature), Ok(()));
    }
}

#[test]
fn what_is_written_reads_back() {
    let pem = fixture!("rsa-pkcs8");
    let server = read_server_key(&mut SysRng, pem, None).unwrap();
    let client = read_client_key(pem, None).unwrap();
    assert_eq!(write_server_key(&mut SysRng, &server, None).unwrap().as_str(), pem);
    assert_eq!(write_client_key(&mut SysRng, &client, None).unwrap().as_str(), pem);
    assert_eq!(write_public_key(server.public()), fixture!("rsa-public").trim_end());

    let encrypted = write_server_key(&mut SysRng, &server, Some(PASSPHRASE)).unwrap();
    assert!(encrypted.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    let read = read_server_key(&mut SysRng, &encrypted, Some(PASSPHRASE)).unwrap();
    assert_eq!(read.public(), server.public());
    check(&encrypted, None, KeyProblem::NeedsPassphrase);
    check(&encrypted, Some(b"test onlz"), KeyProblem::WrongPassphrase);

    let again = write_client_key(&mut SysRng, &client, Some(PASSPHRASE)).unwrap();
    assert_ne!(*again, *encrypted, "salt and IV are fresh");
}

/// OpenSSL reads each of these layouts.
#[test]
fn the_layout_of_a_key_does_not_matter() {
    let public = read_public_key(fixture!("rsa-public")).unwrap();
    for pem in [fixture!("rsa-pkcs8"), fixture!("rsa-pkcs1"), fixture!("rsa-openssh"), fixture!("rsa-pbkdf2")]
    {
        for pem in layouts(pem) {
            assert_eq!(read_client_key(&pem, Some(PASSPHRASE)).unwrap().public(), &public, "{pem}");
            assert_eq!(
                read_server_key(&mut SysRng, &pem, Some(PASSPHRASE)).unwrap().public(),
                &public,
                "{pem}"
            );
        }
    }
    for pem in [fixture!("rsa-public"), fixture!("rsa-public-pkcs1")] {
        for pem in layouts(pem) {
            assert_eq!(read_public_key(&pem).unwrap(), public, "{pem}");
        }
    }
}

/// `pem` with other line lengths and line ends, with a byte order mark, and with text and other blocks around it.
fn layouts(pem: &str) -> Vec<String> {
    let lines: Vec<&str> = pem.trim().lines().collect();
    let (Some((first, rest)), body) = (lines.split_first(), lines[1..lines.len() - 1].concat()) else {
        panic!("no lines");
    };
    let last = rest.last().unwrap();
    let in_lines_of = |columns: usize| {
        let body: Vec<&str> =
            (0..body.len()).step_by(columns).map(|at| &body[at..body.len().min(at + columns)]).collect();
        format!("{first}\n{}\n{last}\n", body.join("\n"))
    };
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    vec![
        pem.replace('\n', "\r\n"),
        pem.replace('\n', "\r"),
        pem.replace('\n', "  \n"),
        pem.replace('\n', "\n  "),
        pem.replace('\n', "\n\n"),
        pem.trim().to_owned(),
        pem.trim().replace('\n', " "),
        in_lines_of(76),
        in_lines_of(1),
        in_lines_of(usize::MAX / 2),
        format!("{first}{body}{last}"),
        format!("\u{feff}{pem}"),
        format!("\n\n  {pem}\n\n"),
        format!("Bag Attributes\n    localKeyID: 01 02\nKey Attributes: <No Attributes>\n{pem}"),
        format!("{pem}this key is for tests\n"),
        format!("{certificate}{pem}{certificate}"),
        format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{pem}"),
    ]
}

#[test]
fn passphrases() {
    for pem in [fixture!("rsa-pbkdf2"), fixture!("rsa-scrypt")] {
        check(pem, None, KeyProblem::NeedsPassphrase);
        check(pem, Some(b""), KeyProblem::WrongPassphrase);
        check(pem, Some(b"test only "), KeyProblem::WrongPassphrase);
    }
    check(fixture!("rsa-openssh-encrypted"), None, KeyProblem::EncryptedOpenSsh);
    check(fixture!("rsa-openssh-encrypted"), Some(PASSPHRASE), KeyProblem::EncryptedOpenSsh);
    // OpenSSL's old encryption, whose key derivation is a single MD5.
    let old = KeyProblem::Form(Form::EncryptedPkcs1 { is_legacy: false });
    check(fixture!("rsa-pkcs1-encrypted"), None, old);
    check(fixture!("rsa-pkcs1-encrypted"), Some(PASSPHRASE), old);
}

#[test]
fn keys_for_other_algorithms_are_called_that() {
    let curves = KeyProblem::Form(Form::Algorithm("elliptic curves"));
    check(fixture!("ec-pkcs8"), None, curves);
    check(fixture!("ed25519-openssh"), None, Form::Algorithm("Ed25519").into());
    check_public(fixture!("ec-public"), curves);
    check(fixture!("ec-sec1"), None, curves);
}

#[test]
fn an_encrypted_key_for_another_algorithm_is_called_that() {
    check(fixture!("ec-pbkdf2"), Some(PASSPHRASE), KeyProblem::Form(Form::Algorithm("elliptic curves")));
    check(fixture!("ec-pbkdf2"), Some(b"wrong"), KeyProblem::WrongPassphrase);
}

#[test]
fn sizes_and_exponents_out_of_range_are_refused() {
    check(fixture!("rsa1024"), None, KeyProblem::TooSmall { bits: 1024 });
    check_public(fixture!("rsa1024-public"), KeyProblem::TooSmall { bits: 1024 });
    check_public(fixture!("rsa2047-public"), KeyProblem::TooSmall { bits: 2047 });
    check(fixture!("rsa-exponent-3"), None, KeyProblem::Exponent);
    check_public(fixture!("rsa-exponent-3-public"), KeyProblem::Exponent);
    assert_eq!(read_public_key(fixture!("rsa8192-public")).unwrap().bits(), 8192);
}

#[test]
fn sizes_far_out_of_range_are_refused_by_size() {
    check_public(fixture!("rsa8193-public"), KeyProblem::TooLarge { bits: 8193 });
    check(fixture!("rsa512"), None, KeyProblem::TooSmall { bits: 512 });
}

#[test]
fn numbers_that_do_not_belong_together_are_refused() {
    check(fixture!("rsa-tampered-d-openssh"), None, KeyProblem::Inconsistent);
    for pem in [
        fixture!("rsa-tampered-d-pkcs8"),
        fixture!("rsa-tampered-d-pkcs1"),
        fixture!("rsa-tampered-p-pkcs8"),
        fixture!("rsa-tampered-p-pkcs1"),
        fixture!("rsa-tampered-n-pkcs8"),
        fixture!("rsa-tampered-n-pkcs1"),
    ] {
        check(pem, None, KeyProblem::Inconsistent);
    }
}

/// The CRT numbers of a file are never used but computed anew: a key whose primes are swapped is the same key, and
/// the file that is written from it is consistent again.
#[test]
fn swapped_primes_do_no_harm() {
    for pem in [fixture!("rsa-swapped-primes-pkcs8"), fixture!("rsa-swapped-primes-pkcs1")] {
        let key = read_client_key(pem, None).unwrap();
        let signature = key.sign(&mut SysRng, b"message").unwrap();
        let public = read_public_key(fixture!("rsa-public")).unwrap();
        assert_eq!(public.verify(b"message", &signature), Ok(()));
        let written = write_client_key(&mut SysRng, &key, None).unwrap();
        assert_ne!(*written, *pem);
        assert_eq!(read_client_key(&written, None).unwrap().public(), &public);
    }
}

#[test]
fn what_is_not_a_key_is_refused() {
    for garbage in ["\0", "-----BEGIN ", "-----BEGIN \n-----", "not a key", "-----END PRIVATE KEY-----"] {
        check(garbage, None, KeyProblem::Malformed);
        check_public(garbage, KeyProblem::Malformed);
    }
    for (garbage, form) in [
        ("", Form::Empty),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", Form::Certificate),
        ("-----BEGIN X-----\nAAAA\n-----END X-----\n", Form::OtherPem),
        ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== someone", Form::SshPublic),
    ] {
        check(garbage, None, form.into());
        check_public(garbage, form.into());
    }
    for (garbage, form) in [
        ("-----BEGIN PRIVATE KEY-----", Form::CutOff),
        ("-----BEGIN PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----\n", Form::CutOff),
        ("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", Form::Damaged),
        ("-----BEGIN PRIVATE KEY-----\nAAA\n-----END PRIVATE KEY-----\n", Form::Damaged),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", Form::Damaged),
        ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", Form::Damaged),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", Form::Damaged),
    ] {
        check(garbage, None, form.into());
    }
    check_public("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", Form::Damaged.into());
    // A private key is not a public one, nor the other way round.
    check(fixture!("rsa-public"), None, Form::Public.into());
    check_public(fixture!("rsa-pkcs8"), Form::Private.into());
    // The label is part of the format.
    let other_label = fixture!("rsa-pkcs8").replace("PRIVATE KEY", "RSA PRIVATE KEY");
    check(&other_label, None, Form::Damaged.into());
    let other_label = fixture!("rsa-pkcs1").replace("RSA PRIVATE KEY", "PRIVATE KEY");
    check(&other_label, None, Form::Damaged.into());
}

#[test]
fn a_file_cut_off_at_any_line_is_refused() {
    for pem in [fixture!("rsa-pkcs8"), fixture!("rsa-pkcs1"), fixture!("rsa-openssh")] {
        let lines: Vec<&str> = pem.lines().collect();
        check("", None, Form::Empty.into());
        for kept in 1..lines.len() {
            check(&lines[..kept].join("\n"), None, Form::CutOff.into());
        }
        for left_out in 0..lines.len() {
            let rest: Vec<&str> =
                lines.iter().enumerate().filter(|(i, _)| *i != left_out).map(|(_, line)| *line).collect();
            assert!(read_client_key(&rest.join("\n"), None).is_err(), "without line {left_out}");
        }
    }
}

/// Checks that both kinds of key are refused for `problem`.
#[track_caller]
fn check(pem: &str, passphrase: Option<&[u8]>, problem: KeyProblem) {
    assert_eq!(read_client_key(pem, passphrase).unwrap_err(), problem.into());
    assert_eq!(read_server_key(&mut SysRng, pem, passphrase).unwrap_err(), problem.into());
}

#[track_caller]
fn check_public(pem: &str, problem: KeyProblem) {
    assert_eq!(read_public_key(pem).unwrap_err(), problem.into());
}

proptest! {
    /// The classic exchange passes the text that a peer sends to this reader unchecked.
    #[test]
    fn no_text_and_no_bytes_harm_the_reader(
        at in 0..4000usize,
        cut in 0..4000usize,
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let pieces = ["-----BEGIN ", "PRIVATE KEY-----\n", "-----END ", "Proc-Type: 4,ENCRYPTED\n", "MIIB", "\n\n", ":"];
        let noise: String = bytes.iter().map(|byte| pieces[usize::from(*byte) % pieces.len()]).collect();
        let der = [&[0x30, 0x82], bytes.as_slice()].concat();
        for pem in [fixture!("rsa-public"), fixture!("rsa-pbkdf2"), fixture!("rsa-openssh"), noise.as_str()] {
            let mut changed = pem.as_bytes().to_vec();
            let at = at.min(changed.len());
            let end = (at + cut).min(changed.len());
            changed.splice(at..end, bytes.iter().copied());
            let text = String::from_utf8_lossy(&changed);
            if let Ok(key) = read_public_key(&text) {
                prop_assert_eq!(&read_public_key(&write_public_key(&key)).unwrap(), &key);
            }
            // A private key that is accepted is the one that was written: no mutation may give another key.
            let good = read_public_key(fixture!("rsa-public")).unwrap();
            prop_assert!(read_client_key(&text, None).ok().is_none_or(|key| *key.public() == good));
            let _: (Option<Form>, Option<Form>) = (pem::identify(&changed), pem::identify(&der));
        }
    }
}
