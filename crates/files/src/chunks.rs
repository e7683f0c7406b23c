//! How content is divided into chunks, and the hashes of chunks and files.

use std::sync::LazyLock;

use wire_protocol::message::HASH_LEN;

use crate::control::Control;
use crate::directory::Status;
use crate::error::Error;

/// A hash, of 32 bytes.
pub type Hash = [u8; HASH_LEN];

/// Bytes of each chunk but the last one of a file of `size`; `None` where that is not known.
#[must_use]
pub fn chunk_len(size: Option<u64>) -> u64 {
    let mut len = MIN_CHUNK_LEN;
    while size.unwrap_or(0).div_ceil(len) > MAX_CHUNKS {
        len *= 2;
    }
    len
}

/// Chunks of a file of `size`.
#[must_use]
pub fn chunk_count(size: u64) -> u32 {
    u32::try_from(size.div_ceil(chunk_len(Some(size)))).unwrap_or(u32::MAX)
}

/// Bytes of the smallest chunk.
pub const MIN_CHUNK_LEN: u64 = 1 << 20;
/// Most chunks of a file whose size is known.
pub const MAX_CHUNKS: u64 = 4096;

/// The hash of a chunk, made of its content piece by piece.
#[derive(Debug, Clone, Default)]
pub struct ChunkHasher(blake3::Hasher);

impl ChunkHasher {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes content in.
    pub fn update(&mut self, content: &[u8]) {
        self.0.update(content);
    }

    /// Takes `length` bytes of zeros in, as long as hashing them takes.
    pub fn update_zeros(&mut self, length: u64) {
        let mut left = length;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
            self.0.update(&ZEROS[..piece]);
            left -= u64::try_from(piece).unwrap_or(left);
        }
    }

    /// Takes so many zeros in as somebody else has chosen, who may have chosen years, and looks meanwhile whether to go on.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn update_hole(&mut self, length: u64, control: &dyn Control) -> Result<(), Error> {
        let mut left = length;
        while left > 0 {
            if control.is_stopped() {
                return Err(Error::Stopped);
            }
            let piece = left.min(HOLE_AT_ONCE);
            self.update_zeros(piece);
            left -= piece;
        }
        Ok(())
    }

    /// The hash.
    #[must_use]
    pub fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

/// Zeros that are hashed between two looks at whether to go on: milliseconds of work.
const HOLE_AT_ONCE: u64 = 16 * 1024 * 1024;

/// As many zeros as are hashed at once.
static ZEROS: LazyLock<Box<[u8]>> = LazyLock::new(|| vec![0; 64 * 1024].into());

/// The hash of what is sent of a file, made of those of its chunks.
#[derive(Debug, Clone)]
pub struct FileHasher(blake3::Hasher);

impl FileHasher {
    /// For a file of `size`, of which the first `held` chunks are not sent. The size of a stream is the number of bytes that came.
    #[must_use]
    pub fn new(size: u64, held: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"sockseal v1 file\0").update(&size.to_be_bytes()).update(&held.to_be_bytes());
        Self(hasher)
    }

    /// Takes the hash of the next chunk in.
    pub fn add(&mut self, chunk: &Hash) {
        self.0.update(chunk);
    }

    /// The hash.
    #[must_use]
    pub fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

/// Stands for the state of a source: equal where nothing has written to it.
#[must_use]
pub fn source_identity(status: &Status) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"sockseal v1 source\0");
    for number in [
        status.dev,
        status.ino,
        status.size,
        status.modified.seconds.cast_unsigned(),
        status.modified.nanoseconds.into(),
        status.ctime.seconds.cast_unsigned(),
        status.ctime.nanoseconds.into(),
    ] {
        hasher.update(&number.to_be_bytes());
    }
    hasher.finalize().into()
}

/// The stream, out of `count`, that the file with `path` in its offer comes on.
#[must_use]
pub fn part_of(path: &[u8], count: u16) -> u16 {
    let hash = blake3::hash(path);
    let first = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    u16::try_from(u64::from_be_bytes(first) % u64::from(count.max(1))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use wire_protocol::message::FileTime;

    use super::*;
    use crate::control::Unlimited;
    use crate::directory::Kind;

    #[test]
    fn a_file_has_4096_chunks_at_most_of_the_smallest_length_that_does() {
        const MIB: u64 = 1 << 20;
        for (size, len, count) in [
            (0, MIB, 0),
            (1, MIB, 1),
            (MIB, MIB, 1),
            (MIB + 1, MIB, 2),
            (4096 * MIB, MIB, 4096),
            (4096 * MIB + 1, 2 * MIB, 2049),
            (u64::MAX, 1 << 52, 4096),
        ] {
            assert_eq!((chunk_len(Some(size)), chunk_count(size)), (len, count), "{size}");
        }
        assert_eq!(chunk_len(None), MIB);
    }

    #[test]
    fn a_hole_of_years_is_hashed_until_it_is_stopped() {
        struct Soon(AtomicU32);
        impl Control for Soon {
            fn moved(&self, _: usize) -> Result<(), Error> {
                Ok(())
            }

            fn is_stopped(&self) -> bool {
                self.0.fetch_add(1, Ordering::Relaxed) >= 3
            }
        }
        let control = Soon(AtomicU32::new(0));
        let hashed = ChunkHasher::new().update_hole(1 << 52, &control);
        assert!(matches!(hashed, Err(Error::Stopped)));
        let (mut hole, mut zeros) = (ChunkHasher::new(), ChunkHasher::new());
        hole.update_hole(HOLE_AT_ONCE + 5, &Unlimited).unwrap();
        zeros.update_zeros(HOLE_AT_ONCE + 5);
        assert_eq!(hole.finish(), zeros.finish());
    }

    #[test]
    fn holes_are_hashed_as_the_zeros_they_are() {
        let mut hasher = ChunkHasher::new();
        hasher.update(b"a");
        hasher.update_zeros(150_000);
        hasher.update(b"b");
        let mut content = vec![0; 150_002];
        (content[0], content[150_001]) = (b'a', b'b');
        assert_eq!(hasher.finish(), *blake3::hash(&content).as_bytes());
    }

    #[test]
    fn the_hash_of_a_file_depends_on_size_held_chunks_and_their_order() {
        let hash = |size, held, chunks: &[Hash]| {
            let mut hasher = FileHasher::new(size, held);
            chunks.iter().for_each(|chunk| hasher.add(chunk));
            hasher.finish()
        };
        let (one, two) = ([1; 32], [2; 32]);
        let all = [
            hash(5, 0, &[one, two]),
            hash(6, 0, &[one, two]),
            hash(5, 1, &[one, two]),
            hash(5, 0, &[two, one]),
        ];
        assert!((1..4).all(|at| !all[..at].contains(&all[at])));
    }

    #[test]
    fn each_number_of_a_state_makes_another_identity() {
        let time = FileTime { seconds: -5, nanoseconds: 6 };
        let status = Status {
            kind: Kind::File,
            size: 1,
            mode: 0o644,
            modified: time,
            dev: 2,
            ino: 3,
            ctime: time,
            links: 1,
            allocated: 0,
        };
        let other = FileTime { seconds: -5, nanoseconds: 7 };
        let identity = source_identity(&status);
        let same = Status { mode: 0, links: 2, ..status };
        assert_eq!(source_identity(&same), identity);
        for changed in [
            Status { size: 9, ..same.clone() },
            Status { modified: other, ..same.clone() },
            Status { dev: 9, ..same.clone() },
            Status { ino: 9, ..same.clone() },
            Status { ctime: other, ..same },
        ] {
            assert_ne!(source_identity(&changed), identity, "{changed:?}");
        }
    }

    #[test]
    fn each_part_gets_its_share() {
        let mut counts = [0; 16];
        for number in 0..16_000 {
            counts[usize::from(part_of(format!("d/{number}").as_bytes(), 16))] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert_eq!(part_of(b"a", 1), 0);
    }
}
