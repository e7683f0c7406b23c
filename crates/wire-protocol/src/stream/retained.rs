//! What a side keeps of a resumable stream until the other side has acknowledged it (section 7.7).
//!
//! ```text
//!   acknowledged          resend        next
//!        |   kept, has gone  |  kept,     |
//!        |  out on this one  | goes out   |  not read yet
//!        v                   v  again     v
//!   -----[chunk][chunk][chunk]--[chunk]---
//! ```
//!
//! Much at once is kept as the records that were sent, with the key that opens them: so nothing is copied as long as nothing is
//! sent twice. Little is kept as plaintext. Either is wiped once it is acknowledged: of the records it is the key.

use std::boxed::Box;
use std::collections::VecDeque;
use std::fmt;
use std::io::IoSliceMut;
use std::ops::Range;
use std::sync::Arc;
use std::vec::Vec;

use crypto_core::record::{HEADER_LEN, KeptKey, record_len};
use zeroize::{Zeroize as _, Zeroizing};

use super::memory;
use super::retention_budget::Reservation;
use crate::record::SLOT_LEN;

/// The bytes that one side of a stream has sent, and keeps until they are acknowledged.
pub(crate) struct Retained {
    /// Bytes that are kept at most.
    window: usize,
    /// The other side has taken all before this offset; its end counts as one byte.
    acknowledged: u64,
    /// The offset behind the last byte that is kept.
    next: u64,
    /// The end was said, behind `next`.
    has_ended: bool,
    /// What has to go out again starts at this offset, up to `next`.
    resend: u64,
    /// In order, without gaps, the first one with the first byte that is not acknowledged.
    chunks: VecDeque<Chunk>,
    /// The memory of all chunks.
    memory: usize,
    reservation: Reservation,
    /// Opens the records that are sealed under the present key, and how often that was updated.
    key: Option<(u64, Arc<KeptKey>)>,
}

struct Chunk {
    start: u64,
    len: usize,
    content: Content,
}

enum Content {
    Plaintext(Zeroizing<Vec<u8>>),
    Records(Records),
}

/// Records that were sent, in the memory in which they were sealed.
struct Records {
    memory: Vec<u8>,
    place: Range<usize>,
    /// The sequence number of the first one.
    sequence: u64,
    key: Arc<KeptKey>,
}

/// Data that was sealed and has not left its buffer: where it is, and what opens it.
#[derive(Debug)]
pub(crate) struct Sealed {
    place: Range<usize>,
    len: usize,
    sequence: u64,
    key: Arc<KeptKey>,
}

impl Retained {
    /// Keeps nothing yet, and no more than `window` bytes, on account of `reservation`.
    pub(crate) fn new(window: u32, reservation: Reservation) -> Self {
        Self {
            window: usize::try_from(window).unwrap_or(usize::MAX),
            acknowledged: 0,
            next: 0,
            has_ended: false,
            resend: 0,
            chunks: VecDeque::new(),
            memory: 0,
            reservation,
            key: None,
        }
    }

    /// Keeps no more than `window` bytes from now on. What is kept already stays.
    pub(crate) fn set_window(&mut self, window: u32) {
        self.window = usize::try_from(window).unwrap_or(usize::MAX);
    }

    /// The offset behind all that was sent, the end included.
    pub(crate) fn sent(&self) -> u64 {
        self.next + u64::from(self.has_ended)
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether the end was said.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The end is said behind all that was kept.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }

    /// A reservation of nothing yet, of the budget that the kept bytes count on.
    pub(crate) fn reservation_beside(&self) -> Reservation {
        self.reservation.beside()
    }

    /// The bytes of memory that are held.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// How many of `wanted` more bytes there is room for: none once the window is full, or the memory.
    pub(crate) fn room(&mut self, wanted: usize) -> usize {
        let kept = usize::try_from(self.next.saturating_sub(self.acknowledged)).unwrap_or(usize::MAX);
        let wanted = wanted.min(self.window.saturating_sub(kept.max(self.memory)));
        if wanted == 0 {
            return 0;
        }
        // The records around the bytes, and the room at their end, count too where they are kept as such.
        let memory = if wanted < BULK_LEN { wanted } else { wanted + SLOT_LEN };
        match self.reservation.ensure(self.memory + memory) {
            true => wanted,
            false => wanted.min(BULK_LEN - 1).min(self.reservation.bytes().saturating_sub(self.memory)),
        }
    }

    /// Whether so many bytes are kept as records rather than as plaintext.
    pub(crate) fn keeps_records(len: usize) -> bool {
        len >= BULK_LEN
    }

    /// The key that opens the records that are sealed now.
    pub(crate) fn key(&self) -> Option<(u64, Arc<KeptKey>)> {
        self.key.clone()
    }

    /// Data in `place`, of `len` bytes, is sealed from the sequence number `sequence` on. It is kept with
    /// [`Retained::keep_records`] once it has left its buffer.
    pub(crate) fn sealed(
        &mut self,
        place: Range<usize>,
        len: usize,
        (sequence, key): (u64, (u64, Arc<KeptKey>)),
    ) -> Sealed {
        self.key = Some(key.clone());
        Sealed { place, len, sequence, key: key.1 }
    }

    /// Keeps records in the memory in which they were sealed.
    pub(crate) fn keep_records(&mut self, memory: Vec<u8>, sealed: Sealed) {
        let Sealed { place, len, sequence, key } = sealed;
        self.memory += memory.capacity();
        let content = Content::Records(Records { memory, place, sequence, key });
        self.push(len, content);
    }

    /// Keeps a copy of bytes that are about to be sealed.
    pub(crate) fn keep_copy<'a>(&mut self, len: usize, places: impl Iterator<Item = &'a [u8]>) {
        if len == 0 {
            return;
        }
        let fits = |chunk: &Chunk| match &chunk.content {
            Content::Plaintext(bytes) => bytes.len() + len <= bytes.capacity().max(SMALL_CHUNK_LEN),
            Content::Records(_) => false,
        };
        if !self.chunks.back().is_some_and(fits) {
            self.push(0, Content::Plaintext(Zeroizing::new(Vec::new())));
        }
        let Some(Chunk { len: chunk_len, content: Content::Plaintext(bytes), .. }) = self.chunks.back_mut()
        else {
            return;
        };
        self.memory -= bytes.capacity();
        grow(bytes, len);
        let mut left = len;
        for place in places {
            let now = place.len().min(left);
            bytes.extend_from_slice(&place[..now]);
            left -= now;
        }
        self.memory += bytes.capacity();
        *chunk_len += len;
        self.next += u64::try_from(len).unwrap_or(u64::MAX);
        self.resend = self.next;
    }

    fn push(&mut self, len: usize, content: Content) {
        // Most streams that say little at a time have one at most, for a second.
        if self.chunks.is_empty() {
            self.chunks.reserve_exact(1);
        }
        self.chunks.push_back(Chunk { start: self.next, len, content });
        self.next += u64::try_from(len).unwrap_or(u64::MAX);
        self.resend = self.next;
    }

    /// The other side has taken all before `offset`, which is neither below what it has said before nor beyond
    /// [`Retained::sent`].
    pub(crate) fn acknowledge(&mut self, offset: u64) {
        if offset <= self.acknowledged {
            return;
        }
        self.acknowledged = offset.min(self.sent());
        while let Some(chunk) = self.chunks.front()
            && chunk.start + u64::try_from(chunk.len).unwrap_or(u64::MAX) <= self.acknowledged
        {
            let Some(Chunk { content, .. }) = self.chunks.pop_front() else { break };
            match content {
                Content::Plaintext(bytes) => self.memory -= bytes.capacity(),
                Content::Records(records) => {
                    self.memory -= records.memory.capacity();
                    memory::give_back(records.memory);
                }
            }
        }
        if self.chunks.is_empty() {
            self.chunks.shrink_to_fit();
        }
        self.reservation.shrink(self.memory);
    }

    /// The stream goes on on another channel, from `offset` on: what is kept behind it goes out again.
    pub(crate) fn resume_at(&mut self, offset: u64) {
        self.acknowledge(offset);
        self.resend = offset.min(self.next);
        // The keys of that channel are others.
        self.key = None;
    }

    /// How many bytes have to go out again.
    pub(crate) fn to_resend(&self) -> u64 {
        self.next - self.resend
    }

    /// Fills the places with what has to go out again. Gives the number of bytes.
    pub(crate) fn copy_again(&mut self, places: &mut [IoSliceMut<'_>]) -> usize {
        let mut copied = 0;
        for place in places {
            let mut filled = 0;
            while filled < place.len() && self.resend < self.next {
                let now = self.copy_from_chunk(&mut place[filled..]);
                if now == 0 {
                    return copied;
                }
                filled += now;
                copied += now;
            }
        }
        copied
    }

    fn copy_from_chunk(&mut self, place: &mut [u8]) -> usize {
        let resend = self.resend;
        let holds = |chunk: &&mut Chunk| chunk.start + u64::try_from(chunk.len).unwrap_or(u64::MAX) > resend;
        let Some(chunk) = self.chunks.iter_mut().find(holds) else { return 0 };
        let (before, after) = chunk.open();
        self.memory = self.memory - before + after;
        let Content::Plaintext(bytes) = &chunk.content else { return 0 };
        let skipped = usize::try_from(resend - chunk.start).unwrap_or(usize::MAX);
        let source = bytes.get(skipped..).unwrap_or_default();
        let len = source.len().min(place.len());
        place[..len].copy_from_slice(&source[..len]);
        self.resend += u64::try_from(len).unwrap_or(u64::MAX);
        len
    }
}

impl Chunk {
    /// Turns records into the plaintext that is in them. Gives the memory that was held before, and that is held now.
    fn open(&mut self) -> (usize, usize) {
        let Content::Records(records) = &mut self.content else { return (0, 0) };
        let before = records.memory.capacity();
        let mut plaintext = Zeroizing::new(Vec::with_capacity(self.len));
        let mut rest = &mut records.memory[records.place.clone()];
        let mut sequence = records.sequence;
        while let Some(header) = rest.first_chunk()
            && let Ok(len) = record_len(*header)
            && let Some((record, behind)) = rest.split_at_mut_checked(len)
        {
            // They were sealed here: only a fault of ours would keep them from being opened, and cut the stream short.
            let Ok(opened) = records.key.open(sequence, record) else { break };
            plaintext.extend_from_slice(&record[HEADER_LEN..][..opened.payload_len]);
            sequence += 1;
            rest = behind;
        }
        // What was opened in place is plaintext.
        records.memory.zeroize();
        let after = plaintext.capacity();
        self.content = Content::Plaintext(plaintext);
        (before, after)
    }
}

impl fmt::Debug for Retained {
    /// Nothing of the content: some of it is plaintext.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retained")
            .field("acknowledged", &self.acknowledged)
            .field("next", &self.next)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// Makes room for `len` more bytes. What a vector that grows leaves behind would not be wiped, so that it is copied by hand.
fn grow(bytes: &mut Zeroizing<Vec<u8>>, len: usize) {
    let needed = bytes.len() + len;
    if needed <= bytes.capacity() {
        return;
    }
    let capacity = if needed <= SMALL_CHUNK_LEN { needed.next_power_of_two() } else { needed };
    let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
    larger.extend_from_slice(bytes);
    *bytes = larger;
}

/// So many bytes at once are kept as records: the memory that they were sealed in is not much larger.
const BULK_LEN: usize = 64 * 1024;
/// Less is put together in pieces of this length.
const SMALL_CHUNK_LEN: usize = 16 * 1024;

/// On the heap, since most streams of a program that does without have none.
pub(crate) type BoxedRetained = Box<Retained>;

#[cfg(test)]
mod tests {
    use std::vec;

    use crypto_core::record::{ContentType, MAX_PAYLOAD_LEN, Outgoing, Sealer};
    use crypto_core::schedule::TrafficSecret;
    use crypto_core::secret::Secret;

    use super::*;
    use crate::stream::retention_budget::RetentionBudget;

    const WINDOW: usize = 1 << 20;

    fn retained(budget: &RetentionBudget) -> Retained {
        Retained::new(u32::try_from(WINDOW).unwrap(), budget.reserve().unwrap())
    }

    fn pattern(start: usize, len: usize) -> Vec<u8> {
        (start..start + len).map(|place| u8::try_from(place % 251).unwrap()).collect()
    }

    /// Keeps bytes as a sender does that has sealed them behind something else.
    fn keep_records(retained: &mut Retained, sealer: &mut Sealer, bytes: &[u8]) {
        let before = vec![0xEE; 50];
        let (sequence, key) = (sealer.next_sequence(), Arc::new(sealer.kept_key()));
        let mut memory = before.clone();
        for payload in bytes.chunks(MAX_PAYLOAD_LEN) {
            let mut buffer = vec![0; payload.len() + crypto_core::record::OVERHEAD];
            buffer[HEADER_LEN..][..payload.len()].copy_from_slice(payload);
            let record =
                Outgoing { buffer: &mut buffer, payload_len: payload.len(), content_type: ContentType::Data };
            sealer.seal(&mut [record]).unwrap();
            memory.extend_from_slice(&buffer);
        }
        let place = before.len()..memory.len();
        let sealed = retained.sealed(place, bytes.len(), (sequence, (0, key)));
        retained.keep_records(memory, sealed);
    }

    fn all_again(retained: &mut Retained) -> Vec<u8> {
        let mut all = Vec::new();
        while retained.to_resend() > 0 {
            let mut places = [[0; 1000], [0; 1000]];
            let copied = retained.copy_again(&mut places.each_mut().map(|place| IoSliceMut::new(place)));
            all.extend_from_slice(&places.as_flattened()[..copied]);
        }
        all
    }

    #[test]
    fn what_is_kept_comes_back_from_any_offset_however_it_is_kept() {
        let mut sealer = Sealer::new(TrafficSecret::new(Secret::new([7; 32])));
        let pieces = [10, 70_000, 1, 17_000, 200_000, 3_000];
        let total: usize = pieces.iter().sum();
        for offset in [0, 1, 9, 10, 11, 50_000, 70_010, 70_011, 80_000, 150_000, 287_010, total] {
            let budget = RetentionBudget::new(1 << 30);
            let mut retained = retained(&budget);
            let mut kept = 0;
            for len in pieces {
                let bytes = pattern(kept, len);
                match Retained::keeps_records(len) {
                    true => keep_records(&mut retained, &mut sealer, &bytes),
                    false => retained.keep_copy(len, bytes.chunks(5)),
                }
                kept += len;
            }
            retained.end();
            assert_eq!(retained.sent(), u64::try_from(total).unwrap() + 1);
            let at = u64::try_from(offset).unwrap();
            retained.resume_at(at);
            assert_eq!((retained.acknowledged(), retained.has_ended()), (at, true));
            assert!(all_again(&mut retained) == pattern(offset, total - offset), "from {offset}");
            // Lost once more, it is there once more.
            retained.resume_at(at);
            assert!(all_again(&mut retained) == pattern(offset, total - offset), "from {offset} again");
            retained.acknowledge(retained.sent());
            assert_eq!((retained.memory(), retained.to_resend()), (0, 0));
            drop(retained);
            assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn no_more_is_kept_than_the_window_and_the_budget_have_room_for() {
        let budget = RetentionBudget::new(1 << 30);
        let mut retained = retained(&budget);
        assert_eq!(retained.room(usize::MAX), WINDOW);
        let mut kept = 0;
        while let len @ 1.. = retained.room(10_000) {
            retained.keep_copy(len, std::iter::once(&*pattern(0, len)));
            kept += len;
        }
        assert!(kept <= WINDOW && kept > WINDOW / 2, "{kept}");
        assert!(retained.memory() <= WINDOW, "{}", retained.memory());
        retained.acknowledge(u64::try_from(kept).unwrap());
        assert_eq!(retained.room(usize::MAX), WINDOW);

        // Where nothing is left for all, a stream goes on by a record at a time.
        let small = RetentionBudget::new(20 * 1024);
        let mut retained = Retained::new(u32::try_from(WINDOW).unwrap(), small.reserve().unwrap());
        let room = retained.room(usize::MAX);
        assert!((1..=20 * 1024).contains(&room), "{room}");
        retained.keep_copy(room, std::iter::once(&*pattern(0, room)));
        assert!(retained.room(usize::MAX) <= 20 * 1024 - room);
    }
}
