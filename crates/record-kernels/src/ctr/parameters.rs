//! The parameters of every implementation of counter mode: a key of one length, and the start of the key stream.

/// Length of a key in bytes.
pub const KEY_LEN: usize = 32;

/// The first counter block of a key stream: both halves big-endian, `sequence` first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "an argument")]
pub struct Counter {
    /// The upper half, the same in every block.
    pub sequence: u64,
    /// The lower half. It increases by one with every block and wraps from its highest value to 0 without a carry
    /// into `sequence`.
    pub block: u64,
}
