//! Which instructions may be used: all, unless a test asks for fewer.

/// Instructions that an implementation may be looked for among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// Whatever the processor has.
    All,
    /// The same, and AVX-512 for SHA-256 even where the SHA extensions are faster.
    #[cfg_attr(not(feature = "__force-backend"), expect(dead_code, reason = "only tests ask for it"))]
    Avx512,
    /// The SHA extensions and AES-NI, with nothing wider than the registers of SSE.
    #[cfg_attr(not(feature = "__force-backend"), expect(dead_code, reason = "only tests ask for it"))]
    Sse,
    /// None of ours.
    #[cfg_attr(not(feature = "__force-backend"), expect(dead_code, reason = "only tests ask for it"))]
    Portable,
}

#[cfg(not(feature = "__force-backend"))]
pub(crate) const fn instructions() -> Instructions {
    Instructions::All
}

/// What the variable `RECORD_KERNELS` says.
///
/// # Panics
/// If it says something else than `avx512`, `sse` or `portable`: a test that means to force one of them must not pass over
/// another.
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

    /// What the environment asks for is what every other test of the process runs over.
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
                // AVX-512 comes first, but for where the SHA extensions are fast.
                let passed_over = usize::from(has(sha256::Backend::Sha) && !is_intel());
                assert_eq!(Some(used.0), first_of(&sha256::Backend::ALL[passed_over..]));
            }
        }
    }

    /// The first of them that this processor has.
    fn first_of(backends: &[sha256::Backend]) -> Option<sha256::Backend> {
        backends.iter().copied().find(|backend| has(*backend))
    }

    fn has(backend: sha256::Backend) -> bool {
        sha256::compress_with(backend, &mut []).is_some()
    }

    /// As the system has it, and not as we ask.
    fn is_intel() -> bool {
        std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("GenuineIntel"))
    }
}
