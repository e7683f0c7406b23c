//! What the tests of all kernels share: which backends can run here, and how many random inputs they get.

extern crate std;

use std::vec::Vec;

/// The backends that this processor has. The ones that it lacks are named, so that a pass is not taken for more.
pub(crate) fn available<B: Copy + std::fmt::Debug>(all: &[B], is_there: impl Fn(B) -> bool) -> Vec<B> {
    let (there, missing): (Vec<B>, Vec<B>) = all.iter().partition(|&&backend| is_there(backend));
    if !missing.is_empty() {
        std::eprintln!("not tested, since this processor has none: {missing:?}");
    }
    there
}

/// Enough to run at every change. `RECORD_KERNELS_RANDOM_INPUTS`, where the tests are built, asks for another number: a
/// million after a change of a kernel, few for a run under valgrind.
pub(crate) fn random_inputs() -> usize {
    option_env!("RECORD_KERNELS_RANDOM_INPUTS")
        .map_or(100_000, |count| count.parse().expect("a number of inputs"))
}
