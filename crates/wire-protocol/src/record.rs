//! Records in their buffers: where bytes arrive, are opened and stay until they are consumed, and where bytes to
//! be sent are put so that they can be sealed in place (section 6).

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut, Range};

use arrayvec::ArrayVec;
use crypto_core::record::{
    ContentType, HEADER_LEN, MAX_PAYLOAD_LEN, MAX_RECORD_LEN, OVERHEAD, Opened, Opener, Outgoing, Sealer,
    record_len, side_by_side,
};
use serde::Serialize;

use crate::codec::{decode, encode};
use crate::error::{Error, InvalidMessage, PeerMisbehaved};
use crate::message::ControlMessage;

/// Records that are read, opened, sealed and written together at most on any processor.
pub(crate) const MAX_BATCH: usize = 16;

/// Records that are read, opened, sealed and written together at most on this processor, 8 or 16: somewhat less than 128 or
/// 256 KiB of payload. The buffers of a channel at full speed grow with it.
#[must_use]
pub fn batch() -> usize {
    // Where fewer go side by side, eight save the calls that more would, and stay in the nearer cache (PERFORMANCE.md).
    side_by_side().clamp(8, MAX_BATCH)
}

/// Distance of one record from the next where data is put to be sealed.
pub const SLOT_LEN: usize = MAX_PAYLOAD_LEN + OVERHEAD;

/// The largest TCP segment over IPv6, with timestamps, where the MTU is 65536, as that of a loopback interface is.
/// Segmentation offload makes the system's own work come in pieces of this size elsewhere too.
const SEGMENT_LEN: usize = 65_536 - 40 - 32;

/// Bytes of a whole batch. Segments of the largest size, with four records to each: the few bytes that four full records
/// have more would be a segment of their own, which costs as much as one of the others.
fn batch_bytes() -> usize {
    batch() / 4 * SEGMENT_LEN
}

/// What an opened record came to.
#[derive(Debug)]
pub(crate) enum Content {
    /// Bytes of the stream, where they lie in the buffer.
    Data(Range<usize>),
    /// A message about the channel.
    Control(ControlMessage),
}

/// Where records arrive. Holds no memory while nothing is in it.
#[derive(Default)]
pub(crate) struct RecordBuffer {
    bytes: Vec<u8>,
    /// What has arrived and has not been opened yet.
    pending: Range<usize>,
    /// The last read filled all the room it had: there is more to come.
    was_filled: bool,
}

impl RecordBuffer {
    /// A buffer in which `bytes` have arrived already.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut buffer = Self::default();
        if !bytes.is_empty() {
            buffer.bytes = vec![0; MAX_RECORD_LEN.max(bytes.len())];
            buffer.bytes[..bytes.len()].copy_from_slice(bytes);
            buffer.pending = 0..bytes.len();
        }
        buffer
    }

    /// Gives the buffer memory to use while it has none beyond what has arrived, or no more than one record where there is
    /// more to come. What is in it counts for nothing. Gives back the memory that is not used.
    #[cfg(feature = "tokio")]
    pub(crate) fn lend(&mut self, memory: impl FnOnce() -> Vec<u8>) -> Option<Vec<u8>> {
        let rest = self.pending.len();
        let is_too_small = self.was_filled && self.bytes.len() <= MAX_RECORD_LEN;
        if self.bytes.len() > rest && !is_too_small {
            return None;
        }
        let mut memory = memory();
        if memory.len() <= self.bytes.len() {
            return Some(memory);
        }
        memory[..rest].copy_from_slice(&self.bytes[self.pending.clone()]);
        self.pending = 0..rest;
        Some(core::mem::replace(&mut self.bytes, memory))
    }

    /// Room for what arrives next, never empty. Everything opened has to be consumed before.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        grow(&mut self.bytes, if self.was_filled { batch() * MAX_RECORD_LEN } else { MAX_RECORD_LEN });
        // The rest of a record moves to the front: the only bytes that are ever moved, fewer than one record.
        self.bytes.copy_within(self.pending.clone(), 0);
        self.pending = 0..self.pending.len();
        &mut self.bytes[self.pending.end..]
    }

    /// `len` bytes have arrived in [`RecordBuffer::spare`].
    pub(crate) fn advance(&mut self, len: usize) {
        self.pending.end += len;
        let keeps_on = self.was_filled && len > MAX_RECORD_LEN;
        self.was_filled = keeps_on || self.pending.end == self.bytes.len();
    }

    /// Gives the memory back if nothing is in it. Everything opened has to be consumed before.
    pub(crate) fn release(&mut self) -> Option<Vec<u8>> {
        if !self.pending.is_empty() {
            return None;
        }
        self.pending = 0..0;
        Some(core::mem::take(&mut self.bytes))
    }

    /// As [`RecordBuffer::release`], and gives memory of more than `most` bytes back even where part of a record is in it:
    /// that moves to `memory`, which is used as far as it is no longer than `most`, or else to memory of its own length.
    pub(crate) fn shrink(&mut self, most: usize, memory: impl FnOnce() -> Vec<u8>) -> Option<Vec<u8>> {
        if self.pending.is_empty() {
            return self.release();
        }
        let rest = self.pending.len();
        if self.bytes.len() <= most.max(rest) {
            return None;
        }
        let mut kept = if most > 0 { memory() } else { Vec::new() };
        kept.truncate(most);
        grow(&mut kept, rest);
        kept[..rest].copy_from_slice(&self.bytes[self.pending.clone()]);
        self.pending = 0..rest;
        Some(core::mem::replace(&mut self.bytes, kept))
    }

    /// The bytes of a [`Content::Data`].
    pub(crate) fn data(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Opens the whole records that have arrived, a batch of them side by side at most, and appends what they came to: many
    /// short ones do not take up more than that. Lengths are checked here, before anything else is done with a record.
    pub(crate) fn open(&mut self, opener: &mut Opener, ready: &mut VecDeque<Content>) -> Result<(), Error> {
        let lens = self.whole_records()?;
        if lens.is_empty() {
            return Ok(());
        }
        let mut opened = ArrayVec::<Opened, MAX_BATCH>::new();
        let valid = {
            let mut rest = &mut self.bytes[self.pending.clone()];
            let mut records = ArrayVec::<&mut [u8], MAX_BATCH>::new();
            for &len in &lens {
                let (record, behind) = rest.split_at_mut(len);
                records.push(record);
                rest = behind;
            }
            opener.open(&mut records, &mut opened)?
        };
        self.collect(&lens[..valid], &opened, opener, ready)
    }

    /// The lengths of the whole records that have arrived and are not open yet, of a batch at most.
    fn whole_records(&self) -> Result<ArrayVec<usize, MAX_BATCH>, Error> {
        let mut lens = ArrayVec::new();
        let mut rest = &self.bytes[self.pending.clone()];
        while !lens.is_full()
            && let Some(header) = rest.first_chunk()
        {
            let len = record_len(*header).map_err(|_| InvalidMessage::RecordLength)?;
            let Some(behind) = rest.get(len..) else { break };
            rest = behind;
            lens.push(len);
        }
        Ok(lens)
    }

    /// Sorts what was opened. A KeyUpdate has to be the last record that its key opened.
    fn collect(
        &mut self,
        lens: &[usize],
        opened: &[Opened],
        opener: &mut Opener,
        ready: &mut VecDeque<Content>,
    ) -> Result<(), Error> {
        // Room for these alone: a queue that grows by itself has room for four, which an idle stream would keep.
        ready.reserve_exact(opened.len());
        let mut updated = false;
        for (&len, opened) in lens.iter().zip(opened) {
            if updated {
                return Err(PeerMisbehaved::RecordsBehindKeyUpdate.into());
            }
            let start = self.pending.start + HEADER_LEN;
            let payload = start..start + opened.payload_len;
            self.pending.start += len;
            match opened.content_type {
                ContentType::Data => ready.push_back(Content::Data(payload)),
                ContentType::Control => {
                    let message = decode(&self.bytes[payload])?;
                    if message == ControlMessage::KeyUpdate {
                        opener.update_key();
                        updated = true;
                    }
                    ready.push_back(Content::Control(message));
                }
                _ => return Err(PeerMisbehaved::UnexpectedMessage.into()),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RecordBuffer {
    /// Nothing of the content: some of it is plaintext.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordBuffer").field("pending", &self.pending).finish_non_exhaustive()
    }
}

/// A buffer of sealed records that are to be sent, with room behind them for data that is to be sealed in place.
/// Dereferences to the bytes that are to be sent.
#[derive(Default)]
pub struct SendBuffer {
    /// What is behind `len` is left over from before.
    bytes: Vec<u8>,
    len: usize,
}

impl SendBuffer {
    /// Everything is sent.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    fn truncate(&mut self, len: usize) {
        self.len = len;
    }

    /// Gives the buffer memory to use while it has none. What is in it counts for nothing.
    #[cfg(feature = "__std")]
    pub(crate) fn lend(&mut self, memory: impl FnOnce() -> Vec<u8>) {
        if self.bytes.is_empty() {
            self.bytes = memory();
        }
    }

    /// Gives the memory back. Everything has to be sent before.
    #[cfg(feature = "__std")]
    pub(crate) fn release(&mut self) -> Vec<u8> {
        core::mem::take(self).bytes
    }
}

impl Deref for SendBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for SendBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl fmt::Debug for SendBuffer {
    /// Nothing of the content: some of it may be plaintext that is to be sealed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendBuffer").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Where records are appended.
pub(crate) trait Append {
    /// `len` more bytes, to be written over.
    fn append(&mut self, len: usize) -> &mut [u8];
}

impl Append for Vec<u8> {
    fn append(&mut self, len: usize) -> &mut [u8] {
        let start = self.len();
        self.resize(start + len, 0);
        &mut self[start..]
    }
}

impl Append for SendBuffer {
    fn append(&mut self, len: usize) -> &mut [u8] {
        let start = self.len;
        self.len += len;
        grow(&mut self.bytes, self.len);
        &mut self.bytes[start..self.len]
    }
}

/// Room at the end of a [`SendBuffer`] for data that is to be sealed in place: fill the places of
/// [`DataSlots::payloads`] in order, each but the last to its end.
#[derive(Debug)]
#[must_use]
pub struct DataSlots {
    start: usize,
}

impl DataSlots {
    /// Appends room for `records` records of the largest size to `out`.
    pub(crate) fn append(records: usize, out: &mut SendBuffer) -> Self {
        let start = out.len();
        out.append(records * SLOT_LEN);
        Self { start }
    }

    /// The places for payload, 16384 bytes each; the last one of a whole batch has a little less. What is in them is left
    /// over from before.
    pub fn payloads<'a>(&self, out: &'a mut SendBuffer) -> impl Iterator<Item = &'a mut [u8]> {
        let mut left = batch_bytes();
        out[self.start..].chunks_exact_mut(SLOT_LEN).map(move |slot| {
            let len = MAX_PAYLOAD_LEN.min(left.saturating_sub(OVERHEAD));
            left = left.saturating_sub(SLOT_LEN);
            &mut slot[HEADER_LEN..][..len]
        })
    }

    /// Where the room begins in the buffer.
    #[cfg(feature = "tokio")]
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Takes the room back.
    #[cfg(feature = "__std")]
    pub(crate) fn cancel(self, out: &mut SendBuffer) {
        out.truncate(self.start);
    }

    /// Seals the first `filled` bytes of payload and cuts `out` off behind them.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] when there was not so much room.
    pub(crate) fn seal(self, sealer: &mut Sealer, filled: usize, out: &mut SendBuffer) -> Result<(), Error> {
        // Beyond it there is what was sent before.
        if filled > self.payloads(out).map(|place| place.len()).sum() {
            out.truncate(self.start);
            return Err(Error::ApiMisuse("more was filled than there was room for"));
        }
        let (full, rest) = (filled / MAX_PAYLOAD_LEN, filled % MAX_PAYLOAD_LEN);
        let last = if rest == 0 { 0 } else { rest + OVERHEAD };
        out.truncate(self.start + full * SLOT_LEN + last);
        let mut records: ArrayVec<Outgoing<'_>, MAX_BATCH> = out[self.start..]
            .chunks_mut(SLOT_LEN)
            .map(|buffer| Outgoing {
                payload_len: buffer.len() - OVERHEAD,
                buffer,
                content_type: ContentType::Data,
            })
            .collect();
        Ok(sealer.seal(&mut records)?)
    }
}

/// Seals `message` in a record of its own at the end of `out`. Gives the payload, which is what a transcript hashes.
pub(crate) fn append_message<T: Serialize>(
    sealer: &mut Sealer,
    content_type: ContentType,
    message: &T,
    out: &mut impl Append,
) -> Result<Vec<u8>, Error> {
    let mut payload = Vec::with_capacity(SHORT_MESSAGE_LEN);
    encode(message, &mut payload);
    append_record(sealer, content_type, &payload, out)?;
    Ok(payload)
}

/// Seals a control message in a record of its own at the end of `out`.
pub(crate) fn append_control(
    sealer: &mut Sealer,
    message: &ControlMessage,
    out: &mut impl Append,
) -> Result<(), Error> {
    append_message(sealer, ContentType::Control, message, out).map(drop)
}

/// Seals `payload`, 16384 bytes at most, in a record of its own at the end of `out`.
pub(crate) fn append_record(
    sealer: &mut Sealer,
    content_type: ContentType,
    payload: &[u8],
    out: &mut impl Append,
) -> Result<(), Error> {
    let buffer = out.append(payload.len() + OVERHEAD);
    buffer[HEADER_LEN..][..payload.len()].copy_from_slice(payload);
    Ok(sealer.seal(&mut [Outgoing { buffer, payload_len: payload.len(), content_type }])?)
}

/// Makes memory at least `len` bytes long. What was used before is not cleared again, and what is added is no more than
/// that, so that it stays within what is kept for the next stream.
pub(crate) fn grow(memory: &mut Vec<u8>, len: usize) {
    if memory.len() < len {
        memory.reserve_exact(len - memory.len());
        memory.resize(len, 0);
    }
}

/// Most control messages are no longer than this many bytes.
const SHORT_MESSAGE_LEN: usize = 64;
