//! The journal beside a partial file: which of its chunks are there, with their hashes, and of which source they are.
//!
//! A file of integers in big endian: a header, and records of [`RECORD_LEN`] bytes behind it.
//!
//! | header | bytes |
//! | --- | --- |
//! | `sockseal-journal-1` and a newline | 19 |
//! | size of the file | 8 |
//! | length of a chunk | 8 |
//! | source identity | 32 |
//! | BLAKE3 of owner, a zero, and the file's name | 32 |
//! | check: the first bytes of the BLAKE3 of all that | 8 |
//!
//! | record | bytes |
//! | --- | --- |
//! | 1: a chunk is written, with its number; 2: so many chunks are on disk | 1 + 4 |
//! | hash of the chunk; zeros for the other kind | 32 |
//! | check: the first bytes of the BLAKE3 of the header's check, the record's place, and the record | 8 |
//!
//! Chunks stand in their order, from the first one. What follows a record that is not as it should be does not count: a journal
//! can be cut anywhere, and is only ever believed too little. Chunks behind the last mark of the second kind may have been
//! written without being on disk, and are hashed before they count.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use wire_protocol::message::HASH_LEN;

/// A hash.
pub(crate) type Hash = [u8; HASH_LEN];

const MAGIC: &[u8] = b"sockseal-journal-1\n";
const CHECK_LEN: usize = 8;
const HEADER_LEN: usize = MAGIC.len() + 8 + 8 + 2 * HASH_LEN + CHECK_LEN;
/// Bytes of a record.
const RECORD_LEN: usize = 1 + 4 + HASH_LEN + CHECK_LEN;
const CHUNK: u8 = 1;
const SYNC: u8 = 2;

/// What a journal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The size of the file.
    pub(crate) size: u64,
    /// The length of its chunks.
    pub(crate) chunk_len: u64,
    /// The source identity.
    pub(crate) source: Hash,
    /// The hash of owner and name.
    pub(crate) name: Hash,
}

impl Subject {
    fn header(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        let mut rest = &mut header[..];
        let size = self.size.to_be_bytes();
        let chunk_len = self.chunk_len.to_be_bytes();
        for field in [MAGIC, &size, &chunk_len, &self.source, &self.name] {
            let (place, behind) = rest.split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = behind;
        }
        let (content, place) = header.split_at_mut(HEADER_LEN - CHECK_LEN);
        place.copy_from_slice(&check(&[content]));
        header
    }
}

fn check(parts: &[&[u8]]) -> [u8; CHECK_LEN] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK_LEN]);
    check
}

/// A journal that is written.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    header_check: [u8; CHECK_LEN],
    /// How many records there are.
    records: u64,
}

/// What a journal says.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// Hashes of the chunks that are there, from the first one on.
    pub(crate) hashes: Vec<Hash>,
    /// How many of them are known to be on disk.
    pub(crate) synced: usize,
}

impl Journal {
    /// Begins a journal in `file`, and forgets what was in it.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn begin(file: File, subject: &Subject) -> io::Result<Self> {
        let header = subject.header();
        file.set_len(0)?;
        file.write_all_at(&header, 0)?;
        // What it said before is not true any more as soon as anything is written to the partial file.
        file.sync_data()?;
        Ok(Self { file, header_check: header_check(&header), records: 0 })
    }

    /// Reads the journal in `file`, where it is about `subject`, so that it goes on behind what counts of it. At most `most`
    /// chunks.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn read(file: File, subject: &Subject, most: u32) -> io::Result<Option<(Self, Recorded)>> {
        let header = subject.header();
        let mut stored = [0; HEADER_LEN];
        match file.read_exact_at(&mut stored, 0) {
            Ok(()) if stored == header => {}
            Ok(()) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut journal = Self { file, header_check: header_check(&header), records: 0 };
        let mut recorded = Recorded::default();
        let mut buffer = vec![0; RECORD_LEN * 128];
        loop {
            let read = read_up_to(&journal.file, &mut buffer, journal.offset())?;
            for record in buffer[..read].chunks_exact(RECORD_LEN) {
                if !journal.believes(record, &mut recorded, most) {
                    return Ok(Some((journal, recorded)));
                }
                journal.records += 1;
            }
            if read < buffer.len() {
                return Ok(Some((journal, recorded)));
            }
        }
    }

    /// Takes a record that is as it should be.
    fn believes(&self, record: &[u8], recorded: &mut Recorded, most: u32) -> bool {
        let (content, stored) = record.split_at(RECORD_LEN - CHECK_LEN);
        if check(&[&self.header_check, &self.records.to_be_bytes(), content]) != stored {
            return false;
        }
        let Some((&kind, rest)) = content.split_first() else { return false };
        let Some((number, hash)) = rest.split_first_chunk::<4>() else { return false };
        let number = u32::from_be_bytes(*number);
        let count = recorded.hashes.len();
        match (kind, Hash::try_from(hash)) {
            (CHUNK, Ok(hash)) if number < most && usize::try_from(number) == Ok(count) => {
                recorded.hashes.push(hash);
                true
            }
            (SYNC, Ok(_)) => match usize::try_from(number) {
                Ok(number) if number <= count && number >= recorded.synced => {
                    recorded.synced = number;
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Says that the chunk with this number is written.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn add_chunk(&mut self, number: u32, hash: &Hash) -> io::Result<()> {
        self.add(CHUNK, number, hash)
    }

    /// Says that so many chunks are on disk, and brings the journal itself there.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn add_sync(&mut self, count: u32) -> io::Result<()> {
        self.add(SYNC, count, &[0; HASH_LEN])?;
        self.file.sync_data()
    }

    fn add(&mut self, kind: u8, number: u32, hash: &Hash) -> io::Result<()> {
        let mut record = [0; RECORD_LEN];
        record[0] = kind;
        record[1..5].copy_from_slice(&number.to_be_bytes());
        record[5..RECORD_LEN - CHECK_LEN].copy_from_slice(hash);
        let (content, place) = record.split_at_mut(RECORD_LEN - CHECK_LEN);
        place.copy_from_slice(&check(&[&self.header_check, &self.records.to_be_bytes(), content]));
        self.file.write_all_at(&record, self.offset())?;
        self.records += 1;
        Ok(())
    }

    fn offset(&self) -> u64 {
        let bytes = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        bytes(HEADER_LEN) + self.records * bytes(RECORD_LEN)
    }
}

fn header_check(header: &[u8; HEADER_LEN]) -> [u8; CHECK_LEN] {
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&header[HEADER_LEN - CHECK_LEN..]);
    check
}

/// Reads until `buffer` is full or the file ends.
pub(crate) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        let position = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        match file.read_at(&mut buffer[read..], position) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject = Subject { size: 10 << 20, chunk_len: 1 << 20, source: [1; 32], name: [2; 32] };

    fn written() -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        let mut journal = Journal::begin(file.try_clone().unwrap(), &SUBJECT).unwrap();
        for number in 0..4 {
            journal.add_chunk(number, &[u8::try_from(number).unwrap(); 32]).unwrap();
        }
        journal.add_sync(4).unwrap();
        journal.add_chunk(4, &[4; 32]).unwrap();
        contents(&file)
    }

    fn contents(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn read(bytes: &[u8], subject: &Subject) -> Option<(usize, usize)> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let read = Journal::read(file, subject, 10).unwrap();
        read.map(|(_, recorded)| {
            for (number, hash) in recorded.hashes.iter().enumerate() {
                assert_eq!(*hash, [u8::try_from(number).unwrap(); 32]);
            }
            (recorded.hashes.len(), recorded.synced)
        })
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(read(&written(), &SUBJECT), Some((5, 4)));
    }

    #[test]
    fn a_journal_of_anything_else_does_not_count() {
        for other in [
            Subject { size: 1, ..SUBJECT },
            Subject { chunk_len: 1, ..SUBJECT },
            Subject { source: [9; 32], ..SUBJECT },
            Subject { name: [9; 32], ..SUBJECT },
        ] {
            assert_eq!(read(&written(), &other), None);
        }
        assert_eq!(read(b"", &SUBJECT), None);
        assert_eq!(read(&[0; 4096], &SUBJECT), None);
    }

    #[test]
    fn a_cut_at_any_byte_is_believed_too_little() {
        let bytes = written();
        for length in 0..bytes.len() {
            match read(&bytes[..length], &SUBJECT) {
                None => assert!(length < HEADER_LEN),
                Some((count, synced)) => {
                    let records = (length - HEADER_LEN) / RECORD_LEN;
                    assert_eq!(count, records.min(4));
                    assert_eq!(synced, if records > 4 { 4 } else { 0 });
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_ends_what_counts() {
        let bytes = written();
        for position in 0..bytes.len() {
            let mut spoilt = bytes.clone();
            spoilt[position] ^= 1;
            let records = position.checked_sub(HEADER_LEN).map(|behind| behind / RECORD_LEN);
            assert_eq!(
                read(&spoilt, &SUBJECT).map(|(count, _)| count),
                records.map(|records| records.min(4))
            );
        }
    }

    #[test]
    fn records_of_an_older_journal_behind_do_not_count() {
        let file = tempfile::tempfile().unwrap();
        let old = written();
        let new = Journal::begin(file.try_clone().unwrap(), &Subject { source: [3; 32], ..SUBJECT }).unwrap();
        file.write_all_at(&old[HEADER_LEN..], new.offset()).unwrap();
        let read = Journal::read(file, &Subject { source: [3; 32], ..SUBJECT }, 10).unwrap().unwrap();
        assert!(read.1.hashes.is_empty());
    }

    #[test]
    fn it_goes_on_behind_what_counts() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&written(), 0).unwrap();
        // The last record is torn.
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        let (mut journal, _) = Journal::read(file.try_clone().unwrap(), &SUBJECT, 10).unwrap().unwrap();
        journal.add_chunk(4, &[4; 32]).unwrap();
        journal.add_sync(5).unwrap();
        assert_eq!(read(&contents(&file), &SUBJECT), Some((5, 5)));
    }

    #[test]
    fn it_has_no_more_chunks_than_the_file() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&written(), 0).unwrap();
        let (_, recorded) = Journal::read(file, &SUBJECT, 3).unwrap().unwrap();
        assert_eq!(recorded.hashes.len(), 3);
    }
}
