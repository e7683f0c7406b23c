//! Files with content for tests of the sender.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::{TempDir, tempdir};
use wire_protocol::message::HASH_LEN;

pub(super) const MIB: usize = 1 << 20;

/// Bytes that differ everywhere.
pub(super) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

pub(super) fn chunks(content: &[u8]) -> Vec<[u8; HASH_LEN]> {
    content.chunks(MIB).map(|chunk| *blake3::hash(chunk).as_bytes()).collect()
}

pub(super) fn size_of(content: &[u8]) -> u64 {
    u64::try_from(content.len()).unwrap()
}

/// A directory with one file.
pub(super) fn one_file(content: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, content).unwrap();
    (directory, file)
}

pub(super) fn path(path: &str) -> Arc<PathBuf> {
    Arc::new(path.into())
}
