//! A failing source of randomness is an error everywhere, and never gives a key or a nonce of zeros.

use std::time::Duration;

use crypto_core::classic::{self, ClassicKey, EaxKey, EaxLengths, OaepHash};
use crypto_core::exchange::{ClientExchange, respond};
use crypto_core::identity::{ClientKey, KeyId, ServerKey};
use crypto_core::psk::PreSharedKey;
use crypto_core::secret::Secret;
use crypto_core::ticket::TicketKey;
use crypto_core::{Error, pem};
use getrandom::SysRng;

use super::scripted::Scripted;

const KEY: &str = include_str!("../fixtures/test-only-rsa-pkcs8.pem");

#[test]
fn making_keys() {
    check(Secret::<32>::random(&mut Scripted::broken()));
    check(ServerKey::generate(&mut Scripted::broken(), 2048));
    check(ClientKey::generate(&mut Scripted::broken(), 2048));
    check(ClassicKey::generate(&mut Scripted::broken(), 2048));
    check(KeyId::random(&mut Scripted::broken()));
    check(TicketKey::generate(&mut Scripted::broken()));
    check(PreSharedKey::generate(&mut Scripted::broken(), "laptop", KeyId([0; 32])));
    check(pem::read_server_key(&mut Scripted::broken(), KEY, None));
}

#[test]
fn writing_keys() {
    let server = pem::read_server_key(&mut SysRng, KEY, None).unwrap();
    let client = pem::read_client_key(KEY, None).unwrap();
    check(pem::write_server_key(&mut Scripted::broken(), &server, Some(b"passphrase")));
    check(pem::write_client_key(&mut Scripted::broken(), &client, Some(b"passphrase")));
}

#[test]
fn using_keys() {
    let server = pem::read_server_key(&mut SysRng, KEY, None).unwrap();
    let client = pem::read_client_key(KEY, None).unwrap();
    let sealed = server.public().seal_secret(&mut SysRng, &Secret::new([1; 32])).unwrap();
    check(server.public().seal_secret(&mut Scripted::broken(), &Secret::new([1; 32])));
    check(server.open_secret(&mut Scripted::broken(), &sealed));
    check(client.sign(&mut Scripted::broken(), b"message"));
    check(TicketKey::new(Secret::new([1; 32])).seal(&mut Scripted::broken(), Duration::ZERO, b"content"));
}

#[test]
fn exchanging() {
    let client = ClientExchange::generate(&mut SysRng).unwrap();
    let (x25519, ml_kem) = (client.x25519(), client.encapsulation_key());
    for len in [0, 31, 32, 95] {
        check(ClientExchange::generate(&mut Scripted::new(&[&vec![1; len]])));
    }
    for len in [0, 31, 32, 63] {
        check(respond(&mut Scripted::new(&[&vec![1; len]]), &x25519, &ml_kem));
    }
}

#[test]
fn the_classic_exchanges() {
    let key = ClassicKey::from_pem(KEY, None).unwrap();
    let public = pem::read_public_key(&key.public_pem()).unwrap();
    let eax = EaxKey::Aes128(Secret::new([1; 16]));
    for hash in [OaepHash::Sha1, OaepHash::Sha256] {
        check(classic::encrypt(&mut Scripted::broken(), &public, hash, b"message"));
    }
    check(eax.seal(&mut Scripted::broken(), EaxLengths::default(), b"message"));
}

#[test]
fn opening_a_classic_message() {
    let key = ClassicKey::from_pem(KEY, None).unwrap();
    let public = pem::read_public_key(&key.public_pem()).unwrap();
    for hash in [OaepHash::Sha1, OaepHash::Sha256] {
        let sealed = classic::encrypt(&mut SysRng, &public, hash, b"message").unwrap();
        check(key.decrypt(&mut Scripted::broken(), hash, &sealed));
    }
}

#[track_caller]
fn check<T>(result: Result<T, Error>) {
    assert_eq!(result.err(), Some(Error::Randomness));
}
