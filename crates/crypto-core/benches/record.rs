//! Sealing and opening of records beside the primitives that they consist of: `cargo bench -p crypto-core --bench
//! record`.

use std::hint::black_box;

use aes::Aes256;
use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use crypto_core::hash::sha256;
use crypto_core::mac::MacKey;
use crypto_core::record::{
    ContentType, HEADER_LEN, MAX_PAYLOAD_LEN, OVERHEAD, Opened, Opener, Outgoing, Sealer,
};
use crypto_core::schedule::TrafficSecret;
use crypto_core::secret::Secret;
use ctr::Ctr64BE;
use divan::Bencher;
use divan::counter::BytesCount;

fn main() {
    divan::main();
}

const PAYLOAD_LENS: [usize; 3] = [64, 1024, MAX_PAYLOAD_LEN];
const ENOUGH: &str = "there are as many buffers as records";
const FITS: &str = "the buffer has the record's length";

mod sealing {
    use super::*;

    #[divan::bench(args = PAYLOAD_LENS)]
    fn one(bencher: Bencher<'_, '_>, payload_len: usize) {
        seal_batch::<1>(bencher, payload_len);
    }

    #[divan::bench]
    fn batch_of_four_16384(bencher: Bencher<'_, '_>) {
        seal_batch::<4>(bencher, MAX_PAYLOAD_LEN);
    }

    #[divan::bench]
    fn batch_of_sixteen_16384(bencher: Bencher<'_, '_>) {
        seal_batch::<16>(bencher, MAX_PAYLOAD_LEN);
    }

    fn seal_batch<const N: usize>(bencher: Bencher<'_, '_>, payload_len: usize) {
        let mut sealer = Sealer::new(traffic_secret());
        let mut buffers = vec![vec![0; payload_len + OVERHEAD]; N];
        bencher
            .counter(BytesCount::new(payload_len * N))
            .bench_local(|| sealer.seal(black_box(&mut outgoing::<N>(&mut buffers, payload_len))));
    }
}

mod opening {
    use super::*;

    #[divan::bench(args = PAYLOAD_LENS)]
    fn one(bencher: Bencher<'_, '_>, payload_len: usize) {
        open_batch::<1>(bencher, payload_len);
    }

    #[divan::bench]
    fn batch_of_four_16384(bencher: Bencher<'_, '_>) {
        open_batch::<4>(bencher, MAX_PAYLOAD_LEN);
    }

    #[divan::bench]
    fn batch_of_sixteen_16384(bencher: Bencher<'_, '_>) {
        open_batch::<16>(bencher, MAX_PAYLOAD_LEN);
    }

    /// An opener accepts each record once, so each run gets its own sealed records and a fresh opener.
    fn open_batch<const N: usize>(bencher: Bencher<'_, '_>, payload_len: usize) {
        let mut sealer = Sealer::new(traffic_secret());
        let mut sealed = vec![vec![0; payload_len + OVERHEAD]; N];
        for buffer in &mut sealed {
            let record = Outgoing { buffer, payload_len, content_type: ContentType::Data };
            sealer.seal(&mut [record]).expect(FITS);
        }
        bencher
            .counter(BytesCount::new(payload_len * N))
            .with_inputs(|| (Opener::new(traffic_secret()), sealed.clone(), Vec::<Opened>::with_capacity(N)))
            .bench_local_refs(|(opener, sealed, opened)| {
                let valid = opener.open(black_box(&mut incoming::<N>(sealed)), opened);
                assert_eq!(valid, Ok(N));
            });
    }
}

/// Seals and opens each record with the same keys and buffers: the figure less that of sealing is the cost of
/// opening.
mod sealing_and_opening {
    use super::*;

    #[divan::bench(args = PAYLOAD_LENS)]
    fn one(bencher: Bencher<'_, '_>, payload_len: usize) {
        pass_batch::<1>(bencher, payload_len);
    }

    #[divan::bench]
    fn batch_of_four_16384(bencher: Bencher<'_, '_>) {
        pass_batch::<4>(bencher, MAX_PAYLOAD_LEN);
    }

    #[divan::bench]
    fn batch_of_sixteen_16384(bencher: Bencher<'_, '_>) {
        pass_batch::<16>(bencher, MAX_PAYLOAD_LEN);
    }

    fn pass_batch<const N: usize>(bencher: Bencher<'_, '_>, payload_len: usize) {
        let (mut sealer, mut opener) = (Sealer::new(traffic_secret()), Opener::new(traffic_secret()));
        let (mut buffers, mut opened) = (vec![vec![0; payload_len + OVERHEAD]; N], Vec::with_capacity(N));
        bencher.counter(BytesCount::new(payload_len * N)).bench_local(|| {
            sealer.seal(&mut outgoing::<N>(&mut buffers, payload_len)).expect(FITS);
            opened.clear();
            let valid = opener.open(black_box(&mut incoming::<N>(&mut buffers)), &mut opened);
            assert_eq!(valid, Ok(N));
        });
    }
}

mod primitives {
    use super::*;

    #[divan::bench(args = PAYLOAD_LENS)]
    fn aes_256_ctr(bencher: Bencher<'_, '_>, len: usize) {
        let mut data = vec![0; len];
        let mut cipher = Ctr64BE::<Aes256>::new(&[1; 32].into(), &[0; 16].into());
        bencher.counter(BytesCount::new(len)).bench_local(|| cipher.apply_keystream(black_box(&mut data)));
    }

    #[divan::bench(args = PAYLOAD_LENS)]
    fn hmac_sha_256(bencher: Bencher<'_, '_>, len: usize) {
        let (key, data) = (MacKey::new(&[2; 32]), vec![0; len]);
        bencher.counter(BytesCount::new(len)).bench_local(|| key.tag(black_box(&[&data])));
    }

    #[divan::bench(args = PAYLOAD_LENS)]
    fn sha_256(bencher: Bencher<'_, '_>, len: usize) {
        let data = vec![0; len];
        bencher.counter(BytesCount::new(len)).bench_local(|| sha256(black_box(&data)));
    }

    /// Encrypts, then computes the MAC: the cost of a record's primitives without the framing.
    #[divan::bench(args = PAYLOAD_LENS)]
    fn ctr_then_hmac(bencher: Bencher<'_, '_>, len: usize) {
        let (mac, mut data) = (MacKey::new(&[2; 32]), vec![0; HEADER_LEN + len]);
        let mut cipher = Ctr64BE::<Aes256>::new(&[1; 32].into(), &[0; 16].into());
        bencher.counter(BytesCount::new(len)).bench_local(|| {
            cipher.apply_keystream(black_box(&mut data[HEADER_LEN..]));
            mac.tag(black_box(&[&[0; 8], &data]))
        });
    }
}

fn outgoing<const N: usize>(buffers: &mut [Vec<u8>], payload_len: usize) -> [Outgoing<'_>; N] {
    let mut buffers = buffers.iter_mut();
    std::array::from_fn(|_| {
        let buffer = buffers.next().expect(ENOUGH);
        Outgoing { buffer, payload_len, content_type: ContentType::Data }
    })
}

fn incoming<const N: usize>(buffers: &mut [Vec<u8>]) -> [&mut [u8]; N] {
    let mut buffers = buffers.iter_mut();
    std::array::from_fn(|_| buffers.next().expect(ENOUGH).as_mut_slice())
}

fn traffic_secret() -> TrafficSecret {
    TrafficSecret::new(Secret::new([7; 32]))
}
