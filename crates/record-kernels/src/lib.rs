//! The loops that the speed of a sealed record hangs on.
//!
//! - [`sha256`]: the compression function over several messages side by side, for the tags of several records.
//!
//! It is faster here than in the crate that everything else uses, `sha2`, and gives the same bytes: the
//! tests compare both over every length, every alignment and random inputs. The fastest implementation that the
//! processor has is found when the program runs; where it has none of the instructions, that crate does the work.
//!
//! # Unsafe code
//! This is the only crate of the workspace that may hold any. There are two kinds:
//!
//! - a call of a function that was compiled for instructions which not every processor has. Each such function stands
//!   behind a value that only the detection of those instructions makes;
//! - a `transmute` between a vector register and an array of bytes or integers of the same length. No pointer is ever
//!   computed: which bytes are read and written is left to slices and their bounds.
//!
//! # Features
//! `__force-backend` is private to the tests: it adds functions that take an implementation of the caller's choice.
//! Whole test suites run over the slower ones in a build with `--cfg record_kernels="portable"` or `"sse"` in
//! `RUSTFLAGS`.

#![no_std]

pub mod sha256;

#[cfg(test)]
mod samples;
