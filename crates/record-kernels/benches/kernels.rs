//! The speed of every implementation that this processor supports: `cargo bench -p record-kernels --all-features`.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::BytesCount;
use record_kernels::{ctr, sha256};

fn main() {
    divan::main();
}

const LENS: [usize; 3] = [64, 1024, 16384];

mod compress {
    use record_kernels::sha256::{Backend, Lane, MAX_LANES, State, compress_with};

    use super::*;

    #[divan::bench(args = Backend::ALL, consts = [1, 2, 3, 4, 8, 16])]
    fn lanes_of_16384<const N: usize>(bencher: Bencher<'_, '_>, backend: Backend) {
        const { assert!(N <= MAX_LANES) };
        let messages = [(); N].map(|()| vec![[0; sha256::BLOCK_LEN]; 16384 / sha256::BLOCK_LEN]);
        let mut states: [State; N] = [sha256::INITIAL; N];
        if compress_with(backend, &mut []).is_none() {
            return;
        }
        bencher.counter(BytesCount::new(N * 16384)).bench_local(|| {
            let mut messages = messages.iter();
            let mut lanes = states.each_mut().map(|state| {
                let blocks = messages.next().expect("there are as many messages as states");
                Lane { state, blocks: black_box(blocks) }
            });
            compress_with(backend, &mut lanes)
        });
    }
}

mod key_stream {
    use record_kernels::ctr::{Aes256Ctr, Backend, Counter};

    use super::*;

    #[divan::bench(args = Backend::ALL, consts = LENS)]
    fn apply<const LEN: usize>(bencher: Bencher<'_, '_>, backend: Backend) {
        let Some(cipher) = Aes256Ctr::with_backend(backend, &[7; ctr::KEY_LEN]) else { return };
        let mut data = vec![0; LEN];
        bencher
            .counter(BytesCount::new(LEN))
            .bench_local(|| cipher.apply(Counter { sequence: 1, block: 0 }, black_box(&mut data)));
    }

    #[divan::bench(args = Backend::ALL)]
    fn expand_key(bencher: Bencher<'_, '_>, backend: Backend) {
        bencher.bench_local(|| Aes256Ctr::with_backend(backend, black_box(&[7; ctr::KEY_LEN])));
    }
}
