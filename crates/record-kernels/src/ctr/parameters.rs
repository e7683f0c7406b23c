//! What every implementation of counter mode is given: a key of one length, and where the key stream starts.

/// Length of a key in bytes.
pub const KEY_LEN: usize = 32;

/// The first counter block of a key stream: both halves big-endian, `sequence` first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "an argument")]
pub struct Counter {
    /// Stays as it is.
    pub sequence: u64,
    /// Goes up by one with every block, and from its highest value to 0 without a carry into `sequence`.
    pub block: u64,
}
