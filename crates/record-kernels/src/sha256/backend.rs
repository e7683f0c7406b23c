//! The implementations of the compression function, and the choice between them.

use sha2::block_api::compress256;

use super::lanes::{Few, Lane, few};
use super::standard::{BLOCK_LEN, State};
use crate::forced::{self, Instructions};

#[cfg(target_arch = "x86_64")]
use super::lanes::{FEW, MAX_LANES, many};
#[cfg(target_arch = "x86_64")]
use super::sha_ni::{Sha, ShaAvx512};
#[cfg(target_arch = "x86_64")]
use super::wide::{Eight, Sixteen};
#[cfg(target_arch = "x86_64")]
use crate::cpuid::is_intel;

/// An implementation of the compression function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// AVX-512, with one message in each element of a vector, for many messages; the fastest of the other
    /// implementations for few.
    Avx512,
    /// The SHA extensions of x86 with the registers of AVX-512.
    ShaAvx512,
    /// The SHA extensions of x86.
    Sha,
    /// The sha2 crate, one lane after the other, with the instructions that it detects.
    Portable,
}

impl Backend {
    /// All implementations.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::ShaAvx512, Self::Sha, Self::Portable];

    /// The implementations for any number of lanes, the fastest first.
    pub(super) const FOR_FEW: [Self; 3] = [Self::ShaAvx512, Self::Sha, Self::Portable];

    /// The implementations to choose from, the fastest first.
    pub(super) fn candidates() -> &'static [Self] {
        match forced::instructions() {
            Instructions::All if Self::is_avx512_faster() => &Self::ALL,
            Instructions::All => &Self::FOR_FEW,
            Instructions::Avx512 => &Self::ALL,
            Instructions::Sse => &[Self::Sha, Self::Portable],
            Instructions::Portable => &[Self::Portable],
        }
    }

    /// AVX-512 is twice as fast where `sha256rnds2` starts every three cycles, as on Intel's processors. On AMD's,
    /// which start it every two cycles, the number of instructions leaves nothing to gain.
    fn is_avx512_faster() -> bool {
        #[cfg(target_arch = "x86_64")]
        return Sixteen::detect().is_some() && (Sha::detect().is_none() || is_intel());
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }
}

/// An implementation that this processor supports.
#[derive(Clone, Copy)]
pub(super) enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx512(Sixteen, Eight),
    #[cfg(target_arch = "x86_64")]
    ShaAvx512(ShaAvx512),
    #[cfg(target_arch = "x86_64")]
    Sha(Sha),
    Portable(Portable),
}

impl Kernel {
    pub(super) fn fastest() -> Self {
        Self::first_of(Backend::candidates())
    }

    fn first_of(candidates: &[Backend]) -> Self {
        candidates.iter().copied().find_map(Self::of).unwrap_or(Self::Portable(Portable))
    }

    pub(super) fn of(backend: Backend) -> Option<Self> {
        match backend {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512 => Some(Self::Avx512(Sixteen::detect()?, Eight::detect()?)),
            #[cfg(target_arch = "x86_64")]
            Backend::ShaAvx512 => ShaAvx512::detect().map(Self::ShaAvx512),
            #[cfg(target_arch = "x86_64")]
            Backend::Sha => Sha::detect().map(Self::Sha),
            #[cfg(not(target_arch = "x86_64"))]
            Backend::Avx512 | Backend::ShaAvx512 | Backend::Sha => None,
            Backend::Portable => Some(Self::Portable(Portable)),
        }
    }

    pub(super) fn backend(self) -> Backend {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(..) => Backend::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::ShaAvx512(_) => Backend::ShaAvx512,
            #[cfg(target_arch = "x86_64")]
            Self::Sha(_) => Backend::Sha,
            Self::Portable(_) => Backend::Portable,
        }
    }

    pub(super) fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(..) => MAX_LANES,
            #[cfg(target_arch = "x86_64")]
            Self::ShaAvx512(_) | Self::Sha(_) => FEW,
            Self::Portable(_) => 1,
        }
    }

    pub(super) fn compress(self, lanes: &mut [Lane<'_>]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(sixteen, eight) => {
                Self::first_of(&Backend::FOR_FEW).compress_with_avx512(sixteen, eight, lanes);
            }
            #[cfg(target_arch = "x86_64")]
            Self::ShaAvx512(kernel) => few(kernel, lanes),
            #[cfg(target_arch = "x86_64")]
            Self::Sha(kernel) => few(kernel, lanes),
            Self::Portable(kernel) => few(kernel, lanes),
        }
    }

    /// Compresses with AVX-512 while enough lanes are left for it to be faster, and the rest with `self`.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn compress_with_avx512(self, sixteen: Sixteen, eight: Eight, lanes: &mut [Lane<'_>]) {
        let (from_eight, from_sixteen) = if let Self::Portable(_) = self { (2, 10) } else { (6, 11) };
        while lanes.len() >= from_eight {
            match lanes.iter().filter(|lane| !lane.blocks.is_empty()).count() {
                left if left >= from_sixteen => many(sixteen, lanes),
                left if left >= from_eight => many(eight, lanes),
                _ => break,
            }
        }
        self.compress(lanes);
    }
}

#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Few for Portable {
    fn compress<const N: usize>(self, states: [&mut State; N], blocks: [&[[u8; BLOCK_LEN]]; N]) {
        for (state, blocks) in states.into_iter().zip(blocks) {
            compress256(state, blocks);
        }
    }
}
