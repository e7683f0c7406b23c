//! What the receiving direction of a resumable stream has read ahead.
//!
//! Each side keeps what the other has not acknowledged, and reads no more of its plain connection once that is a window. A program
//! behind it that writes much before it reads would then wait for room, and so would the data for it, behind which the
//! Acknowledge stands that makes the room. So what comes is read ahead, as long as this side has no room to send: no more than a
//! window, which is all that the other side may have sent.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::channel::Receiver;
use crate::stream::retention_budget::Reservation;

/// Bytes that were read ahead of the plain connection, and the end behind them. They are not taken until they are written there:
/// where the channel is lost before, they come again.
pub(super) struct Backlog {
    bytes: VecDeque<u8>,
    has_end: bool,
    /// What the bytes count on.
    reservation: Reservation,
}

impl Backlog {
    /// An empty one, whose bytes count on `reservation`.
    pub(super) fn new(reservation: Reservation) -> Self {
        Self { bytes: VecDeque::new(), has_end: false, reservation }
    }

    /// Gives back what the bytes have counted on.
    pub(super) fn into_reservation(mut self) -> Reservation {
        self.reservation.release();
        self.reservation
    }

    /// Whether there is nothing to be written, nor an end to be told.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.has_end
    }

    /// Whether all bytes are written, and the end is to be told.
    pub(super) fn is_at_end(&self) -> bool {
        self.bytes.is_empty() && self.has_end
    }

    /// Moves the data that has come behind what was read ahead before: a window in all at most, and no more than memory is set
    /// aside for. `false` where nothing was moved.
    pub(super) fn read(&mut self, receiver: &mut Receiver) -> bool {
        let window = receiver.window();
        let mut moved = 0;
        for data in receiver.data_slices() {
            let len = data.len().min(self.room(data.len(), window));
            self.bytes.extend(&data[..len]);
            moved += len;
            if len < data.len() {
                break;
            }
        }
        receiver.consume(moved);
        moved > 0
    }

    /// How many of `wanted` more bytes there is memory for.
    fn room(&mut self, wanted: usize, window: usize) -> usize {
        let len = self.bytes.len();
        if self.bytes.capacity() - len < wanted {
            let more = wanted.max(GROWTH).min(window.saturating_sub(len));
            if more > 0 && self.reservation.ensure(len + more) {
                self.bytes.reserve_exact(more);
            }
        }
        (self.bytes.capacity() - len).min(window.saturating_sub(len))
    }

    /// The other side has ended the stream behind what was read ahead.
    pub(super) fn end(&mut self) {
        self.has_end = true;
    }

    /// The end was told.
    pub(super) fn take_end(&mut self) {
        self.has_end = false;
    }

    /// The bytes that are to be written next, in order, `most` of them at most.
    pub(super) fn slices(&self, most: usize) -> [IoSlice<'_>; 2] {
        let (first, second) = self.bytes.as_slices();
        let first = &first[..first.len().min(most)];
        let second = &second[..second.len().min(most - first.len())];
        [IoSlice::new(first), IoSlice::new(second)]
    }

    /// The first `len` bytes were written.
    pub(super) fn written(&mut self, len: usize) {
        self.bytes.drain(..len);
    }
}

/// Memory is asked for in pieces of this length at least, so that bytes that come one by one are not moved for each.
const GROWTH: usize = 64 * 1024;
