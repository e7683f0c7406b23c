//! The instructions that may be used: all, unless a test asks for fewer.

/// A set of instructions that implementations are chosen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// All instructions that the processor supports.
    All,
    /// All instructions, with AVX-512 for SHA-256 even where the SHA extensions are faster.
    #[cfg_attr(not(feature = "__force-backend"), expect(dead_code, reason = "only tests ask for it"))]
    Avx512,
    /// The SHA extensions and AES-NI, with nothing wider than the registers of SSE.
    #[cfg_attr(not(feature = "__force-backend"), expect(dead_code, reason = "only tests ask for it"))]
    Sse,
    /// None of this crate's kernels: only the `sha2` and `ctr` crates.
    #[cfg_attr(not(feature = "__force-backend"), expect(dead_code, reason = "only tests ask for it"))]
    Portable,
}

#[cfg(not(feature = "__force-backend"))]
pub(crate) const fn instructions() -> Instructions {
    Instructions::All
}

/// The set that the environment variable `RECORD_KERNELS` names, or [`Instructions::All`].
///
/// # Panics
/// If the variable has another value than `avx512`, `sse` or `portable`, since a test that means to force one of
/// them must not run with another.
#[cfg(feature = "__force-backend")]
pub(crate) fn instructions() -> Instructions {
    use std::sync::OnceLock;

    static FORCED: OnceLock<Instructions> = OnceLock::new();

    *FORCED.get_or_init(|| match std::env::var("RECORD_KERNELS").as_deref() {
        Err(std::env::VarError::NotPresent) => Instructions::All,
        Ok("avx512") => Instructions::Avx512,
        Ok("sse") => Instructions::Sse,
        Ok("portable") => Instructions::Portable,
        other => panic!("RECORD_KERNELS is {other:?}, neither avx512, sse nor portable"),
    })
}

#[cfg(all(test, feature = "__force-backend"))]
mod tests {
    use crate::{ctr, sha256};

    /// All other tests of the process run with the implementation that this one checks.
    #[test]
    fn forced_implementation_is_the_one_in_use() {
        let ctr = ctr::Aes256Ctr::new(&[0; ctr::KEY_LEN]);
        let used = (sha256::backend(), ctr.backend());
        match std::env::var("RECORD_KERNELS").as_deref() {
            Ok("portable") => assert_eq!(used, (sha256::Backend::Portable, ctr::Backend::Portable)),
            Ok("sse") => {
                assert!(matches!(used.0, sha256::Backend::Sha | sha256::Backend::Portable), "{used:?}");
                assert!(matches!(used.1, ctr::Backend::AesNi | ctr::Backend::Portable), "{used:?}");
            }
            Ok("avx512") => assert_eq!(Some(used.0), first_of(&sha256::Backend::ALL)),
            _ => {
                // AVX-512 comes first, except where the SHA extensions are faster.
                let passed_over = usize::from(has(sha256::Backend::Sha) && !is_intel());
                assert_eq!(Some(used.0), first_of(&sha256::Backend::ALL[passed_over..]));
            }
        }
    }

    /// The first of `backends` that this processor supports.
    fn first_of(backends: &[sha256::Backend]) -> Option<sha256::Backend> {
        backends.iter().copied().find(|backend| has(*backend))
    }

    fn has(backend: sha256::Backend) -> bool {
        sha256::compress_with(backend, &mut []).is_some()
    }

    /// Reads the system's answer, which does not depend on the code under test.
    fn is_intel() -> bool {
        std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("GenuineIntel"))
    }
}
