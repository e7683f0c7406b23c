//! Inputs that the tests of all kernels share: the supported backends, and the number of random inputs.

extern crate std;

use std::vec::Vec;

/// The backends that this processor supports. The others are named in the output, so that a pass is not taken for a
/// test of them.
pub(crate) fn available<B: Copy + std::fmt::Debug>(all: &[B], is_there: impl Fn(B) -> bool) -> Vec<B> {
    let (there, missing): (Vec<B>, Vec<B>) = all.iter().partition(|&&backend| is_there(backend));
    if !missing.is_empty() {
        std::eprintln!("not tested, since this processor has none: {missing:?}");
    }
    there
}

/// The number of random inputs, few enough to run at every change. `RECORD_KERNELS_RANDOM_INPUTS`, read when the
/// tests are built, sets another number: a million after a change of a kernel, few for a run under valgrind.
pub(crate) fn random_inputs() -> usize {
    option_env!("RECORD_KERNELS_RANDOM_INPUTS")
        .map_or(100_000, |count| count.parse().expect("a number of inputs"))
}
