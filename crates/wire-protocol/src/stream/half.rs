//! The two directions of a channel without their socket: state, buffers and a clock.

use std::io::IoSliceMut;

use arrayvec::ArrayVec;

use super::clock::Clock;
use super::memory;
use crate::Error;
use crate::channel::{Event, Receiver, Sender};
use crate::message::ControlMessage;
use crate::record::{MAX_BATCH, SendBuffer, batch};

/// The reading direction, without its socket.
#[derive(Debug)]
pub(crate) struct ReceiveHalf {
    pub(crate) receiver: Receiver,
    clock: Clock,
}

impl ReceiveHalf {
    pub(super) fn new(receiver: Receiver, clock: Clock) -> Self {
        Self { receiver, clock }
    }

    /// The next event of what has arrived, or `None` when more bytes are needed for one.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event>, Error> {
        self.receiver.poll_event_at(|| self.clock.now())
    }

    /// Ends the channel where the other side has been silent for too long.
    pub(crate) fn handle_timeout(&mut self) -> Result<(), Error> {
        self.receiver.handle_timeout(self.clock.now())
    }

    /// When [`ReceiveHalf::handle_timeout`] is due, if that can be said.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_timeout(&self) -> Option<tokio::time::Instant> {
        self.due().map(tokio::time::Instant::from_std)
    }

    /// When [`ReceiveHalf::handle_timeout`] is due, on the clock of threads.
    pub(crate) fn due(&self) -> Option<std::time::Instant> {
        self.receiver.poll_timeout().map(|due| self.clock.instant(due))
    }
}

/// The writing direction, without its socket.
#[derive(Debug)]
pub(crate) struct SendHalf {
    pub(crate) sender: Sender,
    /// Sealed records, of which `written` bytes have gone out.
    out: SendBuffer,
    written: usize,
    clock: Clock,
}

impl SendHalf {
    pub(super) fn new(sender: Sender, clock: Clock) -> Self {
        Self { sender, out: SendBuffer::default(), written: 0, clock }
    }

    /// Seals a control message into the output.
    pub(crate) fn control(&mut self, message: &ControlMessage) -> Result<(), Error> {
        self.out.lend(memory::take);
        self.sender.send_control(message, self.clock.now(), &mut self.out)
    }

    /// Seals data into the output, a batch at most. Gives the bytes that it took.
    pub(crate) fn data(&mut self, mut bytes: &[u8]) -> Result<usize, Error> {
        let records = bytes.len().div_ceil(crypto_core::record::MAX_PAYLOAD_LEN).min(batch());
        self.data_with(records, |places| {
            let mut taken = 0;
            for place in places {
                let (now, later) = bytes.split_at(bytes.len().min(place.len()));
                place[..now.len()].copy_from_slice(now);
                taken += now.len();
                bytes = later;
            }
            Ok(taken)
        })
    }

    /// Seals what `fill` puts into the places of so many records, a batch at most, each but the last to its end; it says
    /// how many bytes that is. Where it fails nothing has happened.
    pub(crate) fn data_with<E: From<Error>>(
        &mut self,
        records: usize,
        fill: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.out.lend(memory::take);
        let slots = self.sender.begin_data(records, self.clock.now(), &mut self.out)?;
        let filled = {
            let places = slots.payloads(&mut self.out).map(IoSliceMut::new);
            fill(&mut places.collect::<ArrayVec<_, MAX_BATCH>>())
        };
        match filled {
            Ok(len) => self.sender.finish_data(slots, len, &mut self.out)?,
            Err(_) => {
                slots.cancel(&mut self.out);
                self.give_back();
            }
        }
        filled
    }

    /// Seals a datagram into the output.
    #[cfg(feature = "tokio")]
    pub(crate) fn datagram(&mut self, datagram: &[u8]) -> Result<(), Error> {
        self.out.lend(memory::take);
        self.sender.send_datagram(datagram, self.clock.now(), &mut self.out)
    }

    /// Seals what this side owes to what has come.
    pub(crate) fn answer(&mut self) -> Result<(), Error> {
        if !self.sender.owes_answer() {
            return Ok(());
        }
        self.out.lend(memory::take);
        let answered = self.sender.answer(self.clock.now(), &mut self.out);
        self.give_back();
        answered
    }

    /// Seals the Ping that is due, if one is, unless other bytes wait to go out.
    pub(crate) fn handle_timeout(&mut self) -> Result<(), Error> {
        if !self.unsent().is_empty() {
            return Ok(());
        }
        self.out.lend(memory::take);
        let handled = self.sender.handle_timeout(self.clock.now(), &mut self.out);
        self.give_back();
        handled
    }

    /// When [`SendHalf::handle_timeout`] is due, if that can be said.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_timeout(&self) -> Option<tokio::time::Instant> {
        self.due().map(tokio::time::Instant::from_std)
    }

    /// When [`SendHalf::handle_timeout`] is due, on the clock of threads.
    pub(crate) fn due(&self) -> Option<std::time::Instant> {
        self.sender.poll_timeout().map(|due| self.clock.instant(due))
    }

    /// What has to go out before anything else.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// `len` bytes of [`SendHalf::unsent`] have gone out. Once all have, the memory goes back.
    pub(crate) fn sent(&mut self, len: usize) {
        self.written += len;
        self.give_back();
    }

    fn give_back(&mut self) {
        if self.written == self.out.len() {
            memory::give_back(self.out.release());
            self.written = 0;
        }
    }
}
