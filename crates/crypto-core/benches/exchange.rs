//! The cost of a handshake for each side: `cargo bench -p crypto-core --bench exchange`.

use std::hint::black_box;

use crypto_core::exchange::{ClientExchange, respond};
use crypto_core::identity::DEFAULT_BITS;
use crypto_core::pem;
use crypto_core::secret::Secret;
use divan::Bencher;
use getrandom::SysRng;

/// An RSA key of `DEFAULT_BITS` bits.
const KEY: &str = include_str!("../tests/fixtures/test-only-rsa-ssh-keygen.pem");
const READ: &str = "the fixture is a key";
const RANDOM: &str = "the system has randomness";

fn main() {
    divan::main();
}

mod rsa_3072 {
    use super::*;

    #[divan::bench]
    fn seal_secret(bencher: Bencher<'_, '_>) {
        let key = pem::read_client_key(KEY, None).expect(READ);
        assert_eq!(key.public().bits(), DEFAULT_BITS);
        let secret = Secret::new([1; 32]);
        bencher.bench_local(|| key.public().seal_secret(&mut SysRng, black_box(&secret)).expect(RANDOM));
    }

    #[divan::bench]
    fn open_secret(bencher: Bencher<'_, '_>) {
        let key = pem::read_server_key(&mut SysRng, KEY, None).expect(READ);
        let sealed = key.public().seal_secret(&mut SysRng, &Secret::new([1; 32])).expect(RANDOM);
        bencher.bench_local(|| key.open_secret(&mut SysRng, black_box(&sealed)).expect(RANDOM));
    }

    /// A ciphertext that does not open must cost the same as one that does.
    #[divan::bench]
    fn open_secret_that_does_not_open(bencher: Bencher<'_, '_>) {
        let key = pem::read_server_key(&mut SysRng, KEY, None).expect(READ);
        let mut sealed = key.public().seal_secret(&mut SysRng, &Secret::new([1; 32])).expect(RANDOM);
        sealed[DEFAULT_BITS / 16] ^= 1;
        bencher.bench_local(|| key.open_secret(&mut SysRng, black_box(&sealed)).expect(RANDOM));
    }

    #[divan::bench]
    fn sign(bencher: Bencher<'_, '_>) {
        let key = pem::read_client_key(KEY, None).expect(READ);
        bencher.bench_local(|| key.sign(&mut SysRng, black_box(&[1; 32])).expect(RANDOM));
    }

    #[divan::bench]
    fn verify(bencher: Bencher<'_, '_>) {
        let key = pem::read_client_key(KEY, None).expect(READ);
        let signature = key.sign(&mut SysRng, &[1; 32]).expect(RANDOM);
        bencher.bench_local(|| key.public().verify(black_box(&[1; 32]), black_box(&signature)));
    }
}

mod x25519_and_ml_kem_768 {
    use super::*;

    #[divan::bench]
    fn client_generates(bencher: Bencher<'_, '_>) {
        bencher.bench_local(|| {
            let client = ClientExchange::generate(&mut SysRng).expect(RANDOM);
            (client.x25519(), client.encapsulation_key(), client)
        });
    }

    #[divan::bench]
    fn server_responds(bencher: Bencher<'_, '_>) {
        let client = ClientExchange::generate(&mut SysRng).expect(RANDOM);
        let (x25519, encapsulation_key) = (client.x25519(), client.encapsulation_key());
        bencher.bench_local(|| respond(&mut SysRng, black_box(&x25519), black_box(&encapsulation_key)));
    }

    #[divan::bench]
    fn client_finishes(bencher: Bencher<'_, '_>) {
        bencher
            .with_inputs(|| {
                let client = ClientExchange::generate(&mut SysRng).expect(RANDOM);
                let answer = respond(&mut SysRng, &client.x25519(), &client.encapsulation_key());
                (client, answer.expect("a fresh key is in order").0)
            })
            .bench_local_values(|(client, share)| client.finish(&share.x25519, &share.ciphertext));
    }
}
