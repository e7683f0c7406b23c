//! Fast kernels for the two loops that dominate the cost of a sealed record.
//!
#![doc = include_str!("../README.md")]
//!
//! - [`sha256`]: the compression function over several messages side by side, for the tags of several records;
//! - [`ctr`]: the key stream of AES-256 in counter mode, with a sequence number and a block index as its counter.
//!
//! Both are faster here than in the crates that the rest of the workspace uses, `sha2` and `ctr`, and give the same
//! bytes: the tests compare them over every length, every alignment and random inputs. The fastest implementation
//! that the processor supports is found at run time. On a processor with none of the instructions, those crates do
//! the work. `PERFORMANCE.md` beside this crate has the figures, and what did not help.
//!
//! # Unsafe code
//! This is the only crate of the workspace that may contain unsafe code. There are three kinds:
//!
//! - a call of a function that was compiled for instructions which not every processor has. Each such function can
//!   only be called through a value that the detection of those instructions makes;
//! - a `transmute` between a vector register and an array of bytes or integers of the same length. No pointer is ever
//!   computed: which bytes are read and written is left to slices and their bounds;
//! - the questions to `cpuid`.
//!
//! # Features
//! `__force-backend` is private to the tests: it adds functions that take an implementation of the caller's choice.
//! Whole test suites run with one implementation where `RECORD_KERNELS` is `avx512`, `sse` or `portable` in their
//! environment.

#![no_std]

#[cfg(feature = "__force-backend")]
extern crate std;

#[cfg(target_arch = "x86_64")]
mod cpuid;
pub mod ctr;
mod forced;
pub mod sha256;

#[cfg(test)]
mod samples;
