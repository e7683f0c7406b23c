//! The two directions of a channel without their socket: state, buffers and a clock.

use std::io::IoSliceMut;

use arrayvec::ArrayVec;

use super::clock::Clock;
use super::memory;
#[cfg(feature = "tokio")]
use super::retained::{BoxedRetained, Retained, Sealed};
#[cfg(feature = "tokio")]
use super::retention_budget::Reservation;
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

    /// As [`Receiver::take`]. `true` where the sending direction has to look at what it owes.
    #[cfg(feature = "tokio")]
    pub(crate) fn take(&mut self, len: usize) -> bool {
        self.receiver.consume(len);
        self.take_consumed(len)
    }

    /// As [`Receiver::take_end`].
    #[cfg(feature = "tokio")]
    pub(crate) fn take_end(&mut self) {
        self.receiver.take_end(|| self.clock.now());
    }

    /// As [`ReceiveHalf::take`], for bytes that were consumed before.
    #[cfg(feature = "tokio")]
    pub(crate) fn take_consumed(&mut self, len: usize) -> bool {
        let was_settled = self.receiver.is_settled();
        self.receiver.take_consumed(len, || self.clock.now());
        (was_settled && !self.receiver.is_settled()) || self.receiver.owes_acknowledge()
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
    /// The bytes of a resumable stream that are not acknowledged.
    #[cfg(feature = "tokio")]
    retained: Option<BoxedRetained>,
    /// Data in the output that is to be kept as it is there.
    #[cfg(feature = "tokio")]
    sealed: Option<Sealed>,
}

impl SendHalf {
    pub(super) fn new(sender: Sender, clock: Clock) -> Self {
        Self {
            sender,
            out: SendBuffer::default(),
            written: 0,
            clock,
            #[cfg(feature = "tokio")]
            retained: None,
            #[cfg(feature = "tokio")]
            sealed: None,
        }
    }

    /// Seals a control message into the output.
    pub(crate) fn control(&mut self, message: &ControlMessage) -> Result<(), Error> {
        self.out.lend(memory::take);
        self.sender.send_control(message, self.clock.now(), &mut self.out)?;
        #[cfg(feature = "tokio")]
        if let (Some(retained), ControlMessage::EndOfStream) = (&mut self.retained, message) {
            retained.end();
        }
        Ok(())
    }

    /// Seals the answer to a Resume into the output.
    #[cfg(feature = "tokio")]
    pub(crate) fn resumed(
        &mut self,
        proof: [u8; crate::message::PROOF_LEN],
        position: &crate::channel::Position,
    ) -> Result<(), Error> {
        self.out.lend(memory::take);
        self.sender.send_resumed(proof, position, self.clock.now(), &mut self.out)
    }

    /// Keeps what is sent from now on, until it is acknowledged.
    #[cfg(feature = "tokio")]
    pub(crate) fn retain(&mut self, retained: BoxedRetained) {
        self.retained = Some(retained);
    }

    /// Takes out what is kept, with what has not gone out yet. Nothing more can be sent on the channel then.
    #[cfg(feature = "tokio")]
    pub(crate) fn take_retained(&mut self) -> Option<BoxedRetained> {
        let mut retained = self.retained.take()?;
        if let Some(sealed) = self.sealed.take() {
            retained.keep_records(self.out.release(), sealed);
        }
        retained.acknowledge(self.sender.acknowledged());
        Some(retained)
    }

    /// Keeps nothing any more: the stream is not resumable, or has ended.
    #[cfg(feature = "tokio")]
    pub(crate) fn forget_retained(&mut self) {
        self.retained = None;
        self.sealed = None;
    }

    /// Keeps no more than that from now on.
    #[cfg(feature = "tokio")]
    pub(crate) fn set_window(&mut self, window: u32) {
        if let Some(retained) = &mut self.retained {
            retained.set_window(window);
        }
    }

    /// Whether the end of a resumable stream was said, here or on another channel.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_ended(&self) -> bool {
        self.retained.as_ref().is_some_and(|retained| retained.has_ended())
    }

    /// A reservation of nothing yet, of the budget of a resumable stream.
    #[cfg(feature = "tokio")]
    pub(crate) fn reservation_beside(&self) -> Option<Reservation> {
        self.retained.as_ref().map(|retained| retained.reservation_beside())
    }

    /// Lets go of what was acknowledged.
    #[cfg(feature = "tokio")]
    pub(crate) fn let_go(&mut self) {
        if let Some(retained) = &mut self.retained {
            retained.acknowledge(self.sender.acknowledged());
        }
    }

    /// How many of `wanted` more bytes may be sent: of a resumable stream no more than can be kept.
    #[cfg(feature = "tokio")]
    pub(crate) fn room(&mut self, wanted: usize) -> usize {
        match &mut self.retained {
            Some(retained) => retained.room(wanted),
            None => wanted,
        }
    }

    /// Whether something that was sent on another channel has to go out again.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_to_resend(&self) -> bool {
        self.retained.as_ref().is_some_and(|retained| retained.to_resend() > 0)
    }

    /// Seals the next part of what has to go out again.
    #[cfg(feature = "tokio")]
    pub(crate) fn resend(&mut self) -> Result<(), Error> {
        let Some(mut retained) = self.retained.take() else { return Ok(()) };
        let record = u64::try_from(crypto_core::record::MAX_PAYLOAD_LEN).unwrap_or(u64::MAX);
        let records = usize::try_from(retained.to_resend().div_ceil(record)).unwrap_or(usize::MAX);
        // Nothing is kept of it, since it is kept already.
        let sealed =
            self.data_with(records.min(batch()), |places| Ok::<_, Error>(retained.copy_again(places)));
        self.retained = Some(retained);
        match sealed {
            Ok(0) => Err(Error::ApiMisuse("what is kept of a stream has a gap")),
            sealed => sealed.map(drop),
        }
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
        self.data_within(records, usize::MAX, fill)
    }

    /// As [`SendHalf::data_with`], with places for `most` bytes in all at most.
    pub(crate) fn data_within<E: From<Error>>(
        &mut self,
        records: usize,
        most: usize,
        fill: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.out.lend(memory::take);
        let slots = self.sender.begin_data(records, self.clock.now(), &mut self.out)?;
        let filled = {
            let mut left = most;
            let places = slots.payloads(&mut self.out).map_while(|place| {
                let len = place.len().min(left);
                left -= len;
                (len > 0).then(|| IoSliceMut::new(&mut place[..len]))
            });
            fill(&mut places.collect::<ArrayVec<_, MAX_BATCH>>())
        };
        match filled {
            Ok(len) => {
                #[cfg(feature = "tokio")]
                if let Some(retained) = &mut self.retained {
                    if self.sealed.is_none() && Retained::keeps_records(len) {
                        let key = self.sender.kept_key(retained.key());
                        let start = slots.start();
                        self.sender.finish_data(slots, len, &mut self.out)?;
                        self.sealed = Some(retained.sealed(start..self.out.len(), len, key));
                        return Ok(len);
                    }
                    retained.keep_copy(len, slots.payloads(&mut self.out).map(|place| &*place));
                }
                self.sender.finish_data(slots, len, &mut self.out)?;
            }
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

    /// Seals the Acknowledge that was put off, if one was.
    #[cfg(feature = "tokio")]
    pub(crate) fn answer_deferred(&mut self) -> Result<(), Error> {
        self.out.lend(memory::take);
        let answered = self.sender.append_deferred(self.clock.now(), &mut self.out);
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

    /// When an Acknowledge is due.
    #[cfg(feature = "tokio")]
    pub(crate) fn acknowledge_due(&self) -> Option<tokio::time::Instant> {
        let due = self.sender.acknowledge_due()?;
        Some(tokio::time::Instant::from_std(self.clock.instant(due)))
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
            let memory = self.out.release();
            self.written = 0;
            #[cfg(feature = "tokio")]
            if let (Some(retained), Some(sealed)) = (&mut self.retained, self.sealed.take()) {
                retained.keep_records(memory, sealed);
                return;
            }
            memory::give_back(memory);
        }
    }
}
