//! Features of an x86-64 processor that cpufeatures does not report.
//!
//! The answers are cached: a virtual machine stops for every `cpuid`, which takes as long as a record.

use core::arch::x86_64 as arch;
use core::sync::atomic::{AtomicU8, Ordering};

/// Returns whether the processor has VAES, with or without AVX-512. cpufeatures reports `vaes` only where the
/// operating system also saves the registers of AVX-512. The caller asks cpufeatures whether it saves those of
/// AVX2.
pub(crate) fn has_vaes() -> bool {
    static ANSWER: Answer = Answer::unknown();
    ANSWER.get(|| ask(7).ecx & (1 << 9) != 0)
}

/// Returns whether Intel made the processor.
pub(crate) fn is_intel() -> bool {
    static ANSWER: Answer = Answer::unknown();
    ANSWER.get(|| {
        let vendor = ask(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    })
}

struct Answer(AtomicU8);

impl Answer {
    const fn unknown() -> Self {
        Self(AtomicU8::new(UNKNOWN))
    }

    #[inline]
    fn get(&self, ask: impl FnOnce() -> bool) -> bool {
        match self.0.load(Ordering::Relaxed) {
            UNKNOWN => {
                let answer = ask();
                self.0.store(u8::from(answer), Ordering::Relaxed);
                answer
            }
            answer => answer == u8::from(true),
        }
    }
}

const UNKNOWN: u8 = u8::MAX;

#[cold]
fn ask(leaf: u32) -> arch::CpuidResult {
    // The conversion to an unsafe function compiles whether or not the version of Rust declares the intrinsic as
    // unsafe.
    let cpuid: unsafe fn(u32, u32) -> arch::CpuidResult = arch::__cpuid_count;
    // SAFETY: every x86-64 processor has `cpuid`. SGX enclaves, which may not use it, have no features detected
    // before.
    unsafe { cpuid(leaf, 0) }
}
