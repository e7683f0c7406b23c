//! The receiving direction of a channel: opens records, and checks what the other side may send by now.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crypto_core::record::{MAX_PAYLOAD_LEN, MAX_RECORD_LEN, Opener};
use crypto_core::schedule::Side;

use super::datagram::Gathered;
use super::offsets::Resumability;
use super::sender::Sender;
use super::shared::{ReceiveState, SendState, Shared, StreamKind, nanoseconds};
use super::time::Timestamp;
use crate::error::{Error, PeerMisbehaved};
use crate::message::{ControlMessage, LEASE_LEN, PROOF_LEN, RefusedCode, Resume, Resumed, Retention, Target};
use crate::record::{Content, RecordBuffer};

/// What happened on the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// There is data: [`Receiver::data`].
    Data,
    /// The other side opens a stream, to be answered with Opened or Refused.
    Open(Target),
    /// The other side opens a stream that can be taken over, to be answered with OpenedResumable, Opened or Refused.
    OpenResumable(Target, Retention),
    /// The stream that this side opened stands.
    Opened,
    /// The same, and it can be taken over.
    OpenedResumable(Retention),
    /// The other side has taken more of what this side has sent: see [`Sender::acknowledged`].
    ///
    /// [`Sender::acknowledged`]: super::Sender::acknowledged
    Acknowledged,
    /// The other side wants to take a stream over, to be answered with [`Sender::send_resumed`] or Gone.
    ///
    /// [`Sender::send_resumed`]: super::Sender::send_resumed
    Resume(Resume, [u8; PROOF_LEN]),
    /// The stream that this side takes over goes on here, if the proof is right: see [`Sender::resume`].
    ///
    /// [`Sender::resume`]: super::Sender::resume
    Resumed(Resumed, [u8; PROOF_LEN]),
    /// The stream that this side wants to take over is not there. For so many seconds the other side has forgotten none; 0 where it
    /// had this one.
    Gone(u32),
    /// The stream that this side opened stands for the other side listening, on this port.
    Listening(u16),
    /// The other side waits for this one to open streams, under this lease.
    Park([u8; LEASE_LEN]),
    /// The stream that this side opened does not come about.
    Refused(RefusedCode),
    /// The other side has sent all its data.
    EndOfStream,
    /// The other side has asked for a sign of life. It is answered with what is sent next: see [`Sender::answer`].
    ///
    /// [`Sender::answer`]: super::Sender::answer
    Ping(u64),
    /// The answer to a Ping.
    Pong(u64),
    /// The other side has ended the channel, and all it got has reached its place.
    Close,
}

/// The receiving direction of a channel, which turns the records of the other side into events.
#[derive(Debug)]
pub struct Receiver {
    side: Side,
    shared: Arc<Shared>,
    opener: Opener,
    buffer: RecordBuffer,
    /// A batch at most.
    ready: VecDeque<Content>,
    gathered: Gathered,
    /// Since when more bytes have been waited for, while they are.
    waiting_since: Option<Timestamp>,
    failed: Option<Error>,
}

impl Receiver {
    /// The receiver of the channel that `sender` sends on. `early` is what has arrived behind the handshake.
    #[must_use]
    pub fn new(sender: &Sender, opener: Opener, early: &[u8]) -> Self {
        Self {
            side: sender.side,
            shared: Arc::clone(&sender.shared),
            opener,
            buffer: RecordBuffer::new(early),
            ready: VecDeque::new(),
            gathered: Gathered::default(),
            waiting_since: None,
            failed: None,
        }
    }

    /// The stream that is open or opening is one of datagrams: each whole datagram is an event, an empty one too, until
    /// [`Receiver::consume_datagram`]. A stream to [`Target::Udp`] is one in any case; of [`Target::Forwarded`] the lease says
    /// it.
    pub fn expect_datagrams(&mut self) {
        self.shared.kind.set(StreamKind::Datagrams);
    }

    /// Bytes of a datagram whose end has not come yet.
    #[must_use]
    pub fn unfinished_len(&self) -> usize {
        if self.gathered.is_unfinished() { self.gathered.bytes.len() } else { 0 }
    }

    /// Whether there is nothing more to come of the stream that was open last: the other side has said EndOfStream, or has
    /// refused it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !self.shared.awaits_end()
    }

    /// Whether this side has said Close, and the other has not.
    #[must_use]
    pub fn awaits_close(&self) -> bool {
        self.shared.sending.get() == SendState::Closed && !self.is_closed()
    }

    /// Whether the other side has said Close.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state() == ReceiveState::Closed
    }

    /// Whether no stream is open in either direction: both sides have said EndOfStream, or there was none.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.shared.owes_end() && !self.shared.awaits_end()
    }

    /// Whether the stream is a message that this side sends, of which the other side may say nothing until its end. The channel
    /// can tell a confirmation that comes before the end only until that is said: what has arrived is to be handed to it, and
    /// its events to be taken, before.
    #[cfg(feature = "tokio")]
    pub(crate) fn awaits_confirmation(&self) -> bool {
        self.state() == ReceiveState::Streaming && self.shared.kind.get() == StreamKind::Message
    }

    fn state(&self) -> ReceiveState {
        self.shared.receiving.get()
    }

    /// Room for bytes from the socket, never empty. To be asked for when [`Receiver::poll_event`] has nothing.
    pub fn spare(&mut self) -> &mut [u8] {
        self.buffer.spare()
    }

    /// `len` bytes came into [`Receiver::spare`].
    pub fn handle_input(&mut self, len: usize) {
        self.buffer.advance(len);
    }

    /// Gives memory back while there is nothing to read. Outside a stream the part of a record that has arrived keeps
    /// no more than its own length; within one, where the rest is on its way, it keeps room for one record at most.
    pub fn release(&mut self) -> Option<Vec<u8>> {
        self.release_to(Vec::new)
    }

    /// As [`Receiver::release`]. The part of a record that has arrived within a stream moves to `memory`.
    pub(crate) fn release_to(&mut self, memory: impl FnOnce() -> Vec<u8>) -> Option<Vec<u8>> {
        if !self.ready.is_empty() {
            return None;
        }
        self.buffer.shrink(if self.state() == ReceiveState::Idle { 0 } else { MAX_RECORD_LEN }, memory)
    }

    /// Gives the receiver memory for what arrives, while it has none or too little. Gives back the memory that is not used.
    #[cfg(feature = "tokio")]
    pub(crate) fn lend(&mut self, memory: impl FnOnce() -> Vec<u8>) -> Option<Vec<u8>> {
        self.buffer.lend(memory)
    }

    /// The socket has come to its end.
    ///
    /// # Errors
    /// [`Error::Truncated`] when that was without a Close.
    pub fn handle_end(&mut self) -> Result<(), Error> {
        if self.shared.receiving.get() == ReceiveState::Closed {
            Ok(())
        } else {
            Err(self.fail(Error::Truncated))
        }
    }

    /// When [`Receiver::handle_timeout`] is due; `None` where no bytes are waited for, the channel is idle, or its stream is not
    /// kept up. What does not count is the time before this side opened the stream, since an idle channel may be silent for
    /// longer, and before it sent the last data of a message, since the other side says nothing to that.
    ///
    /// The end of a flow of datagrams has a limit of its own: from this side's EndOfStream on, signs of life do not count.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        if let Some(due) = self.shared.end_due() {
            return Some(due);
        }
        let since = self.waiting_since.filter(|_| self.shared.is_kept_up())?;
        Some(since.max(self.shared.silence_from()).after(self.shared.silence()))
    }

    /// Ends the channel where nothing has come for [`SILENCE`](super::SILENCE), or [`RESUMABLE_SILENCE`](super::RESUMABLE_SILENCE), in a stream that is kept up, or a flow of datagrams has not been
    /// ended within that. The caller has taken all events that there are.
    ///
    /// # Errors
    /// [`Error::Silent`] and [`Error::EndTimedOut`] then.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Result<(), Error> {
        let error = if self.shared.end_due().is_some() { Error::EndTimedOut } else { Error::Silent };
        match self.poll_timeout() {
            Some(due) if now >= due => Err(self.fail(error)),
            _ => Ok(()),
        }
    }

    /// The next event, or `None` when more bytes are needed for one. While there is data that is not consumed,
    /// that is the event.
    ///
    /// # Errors
    /// Whatever ends the channel, now and at every later call.
    pub fn poll_event(&mut self, now: Timestamp) -> Result<Option<Event>, Error> {
        self.poll_event_at(|| now)
    }

    /// As [`Receiver::poll_event`]. The time is asked for only where it counts, which is not for each record.
    pub(crate) fn poll_event_at(&mut self, now: impl FnOnce() -> Timestamp) -> Result<Option<Event>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.next_event() {
            Ok(None) => {
                self.waiting_since.get_or_insert_with(now);
                Ok(None)
            }
            Ok(event) => Ok(event),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// The data that an [`Event::Data`] speaks of; empty when there is none.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match self.ready.front() {
            _ if self.gathered.is_whole => &self.gathered.bytes,
            Some(Content::Data(range)) if self.state() == ReceiveState::Streaming => {
                self.buffer.data(range.clone())
            }
            _ => &[],
        }
    }

    /// All the data that is there, in order: [`Receiver::data`], and what the records right behind it hold.
    pub fn data_slices(&self) -> impl Iterator<Item = &[u8]> {
        let streaming = self.state() == ReceiveState::Streaming;
        self.ready.iter().map_while(move |content| match content {
            Content::Data(range) if streaming => Some(self.buffer.data(range.clone())),
            _ => None,
        })
    }

    /// The first `len` bytes of [`Receiver::data_slices`] are done with.
    pub fn consume(&mut self, mut len: usize) {
        while let Some(Content::Data(range)) = self.ready.front_mut() {
            let now = range.len().min(len);
            range.start += now;
            len -= now;
            if len == 0 {
                break;
            }
            self.ready.pop_front();
        }
    }

    /// As [`Receiver::consume`], for bytes that have reached their plain connection: of a resumable stream they are counted, and
    /// acknowledged. The time is asked for only where it counts.
    pub fn take(&mut self, len: usize, now: impl FnOnce() -> Timestamp) {
        self.consume(len);
        self.take_consumed(len, now);
    }

    /// As [`Receiver::take`], for bytes that were consumed before.
    pub fn take_consumed(&mut self, len: usize, now: impl FnOnce() -> Timestamp) {
        if self.shared.offsets.resumability() != Resumability::None {
            let len = u64::try_from(len).unwrap_or(u64::MAX);
            self.shared.offsets.count_taken(len, || nanoseconds(now()));
        }
    }

    /// Whether an Acknowledge is due whatever the time is.
    #[cfg(feature = "tokio")]
    pub(crate) fn owes_acknowledge(&self) -> bool {
        self.shared.owes_acknowledge()
    }

    /// Nothing is read from the socket for a while, by the choice of this side: what follows is no silence of the other one.
    #[cfg(feature = "tokio")]
    pub(crate) fn stop_waiting(&mut self) {
        self.waiting_since = None;
    }

    /// Whether all that was taken of a resumable stream is acknowledged.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_settled(&self) -> bool {
        self.shared.offsets.untold() == 0
    }

    /// As [`Receiver::take`], for the other side's end: the plain connection was told of it. Of a resumable stream it is counted, and
    /// acknowledged along with this side's end, or a second later where that is still to come.
    pub fn take_end(&mut self, now: impl FnOnce() -> Timestamp) {
        if self.shared.offsets.resumability() != Resumability::None {
            self.shared.offsets.count_end(|| nanoseconds(now()));
        }
    }

    /// Whether the stream that is open can be taken over.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_resumable(&self) -> bool {
        self.shared.offsets.is_agreed()
    }

    /// The bytes of a resumable stream that the other side may have sent beyond what this side has taken.
    #[cfg(feature = "tokio")]
    pub(crate) fn window(&self) -> usize {
        usize::try_from(self.shared.offsets.retention().window).unwrap_or(usize::MAX)
    }

    /// The offset up to which a resumable stream of the other side was taken, its end included.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.shared.offsets.received()
    }

    /// Whether the other side's end of a resumable stream was taken.
    #[must_use]
    pub fn has_received_end(&self) -> bool {
        self.shared.offsets.has_end()
    }

    /// The datagram that [`Receiver::data`] gives is done with.
    pub fn consume_datagram(&mut self) {
        if self.gathered.is_whole {
            self.gathered = Gathered::default();
        } else if let Some(Content::Data(_)) = self.ready.front() {
            self.ready.pop_front();
        }
    }

    fn next_event(&mut self) -> Result<Option<Event>, Error> {
        if self.state() == ReceiveState::Discarding && !self.gathered.bytes.is_empty() {
            self.gathered = Gathered::default();
        }
        loop {
            match self.ready.front() {
                _ if self.gathered.is_whole => return Ok(Some(Event::Data)),
                Some(Content::Data(range)) => match (self.state(), self.shared.kind.get()) {
                    (ReceiveState::Streaming, kind) if !kind.takes_data() => {
                        return Err(PeerMisbehaved::UnexpectedMessage.into());
                    }
                    (ReceiveState::Streaming, StreamKind::Datagrams) => {
                        if range.len() < MAX_PAYLOAD_LEN && !self.gathered.is_unfinished() {
                            return Ok(Some(Event::Data));
                        }
                        self.gathered.add(self.buffer.data(range.clone()))?;
                        self.ready.pop_front();
                    }
                    (ReceiveState::Streaming, _) if !range.is_empty() => return Ok(Some(Event::Data)),
                    (ReceiveState::Streaming | ReceiveState::Discarding, _) => {
                        self.ready.pop_front();
                    }
                    _ => return Err(PeerMisbehaved::UnexpectedMessage.into()),
                },
                Some(Content::Control(_)) => {
                    let Some(Content::Control(message)) = self.ready.pop_front() else { continue };
                    if let Some(event) = self.handle_control(message)? {
                        return Ok(Some(event));
                    }
                }
                None => {
                    self.buffer.open(&mut self.opener, &mut self.ready)?;
                    if self.ready.is_empty() {
                        return Ok(None);
                    }
                    self.waiting_since = None;
                }
            }
        }
    }

    fn handle_control(&mut self, message: ControlMessage) -> Result<Option<Event>, Error> {
        use ReceiveState::{Closed, Discarding, Ended, Idle, Opening, Resuming, Streaming};

        let shared = &*self.shared;
        let state = shared.receiving.get();
        // What ends the channel does so within a datagram, too.
        let may_come_within = matches!(
            message,
            ControlMessage::KeyUpdate | ControlMessage::Reset { .. } | ControlMessage::Close
        );
        if self.gathered.is_unfinished() && !may_come_within {
            return Err(PeerMisbehaved::UnexpectedMessage.into());
        }
        let unexpected = || Err(PeerMisbehaved::UnexpectedMessage.into());
        let kind = shared.kind.get();
        let owes_end = shared.owes_end();
        let (next, event) = match (state, message) {
            (Closed, _) => return unexpected(),
            (_, ControlMessage::Reset { code }) => return Err(Error::Reset(code)),
            // The key is updated already: what is left is whether one could come here.
            (_, ControlMessage::KeyUpdate) => return Ok(None),
            (_, ControlMessage::Ping { nonce }) => {
                shared.owed_pong.set(nonce);
                return Ok(Some(Event::Ping(nonce)));
            }
            (_, ControlMessage::Pong { nonce }) => match shared.answer_ping() {
                true => return Ok(Some(Event::Pong(nonce))),
                false => return unexpected(),
            },
            // The client opens streams until it parks the channel, the server from then on.
            (Idle, ControlMessage::Open { .. } | ControlMessage::OpenResumable { .. })
                if shared.is_parked() != (self.side == Side::Client) =>
            {
                return unexpected();
            }
            (Idle, ControlMessage::Park { .. } | ControlMessage::Resume { .. })
                if shared.is_parked() || self.side == Side::Client =>
            {
                return unexpected();
            }
            // The stream before is not over.
            (
                Idle,
                ControlMessage::Open { .. }
                | ControlMessage::OpenResumable { .. }
                | ControlMessage::Park { .. }
                | ControlMessage::Resume { .. },
            ) if owes_end => {
                return unexpected();
            }
            // What has crossed our Close never stood, and nobody waits for the lease.
            (Idle, ControlMessage::Open { target }) => match shared.opened_by_peer(&target, None) {
                true => (Streaming, Some(Event::Open(target))),
                false => (Discarding, None),
            },
            (Idle, ControlMessage::OpenResumable { target, retention }) => {
                if !target.may_be_resumable() || !retention.is_in_range() {
                    return unexpected();
                }
                match shared.opened_by_peer(&target, Some(retention)) {
                    true => (Streaming, Some(Event::OpenResumable(target, retention))),
                    false => (Discarding, None),
                }
            }
            (Idle, ControlMessage::Resume { resume, proof }) => {
                if !resume.retention.is_in_range() {
                    return unexpected();
                }
                let stands = shared.asked_to_resume();
                return Ok(stands.then_some(Event::Resume(resume, proof)));
            }
            (Idle, ControlMessage::Park { lease }) => {
                shared.park();
                let crossed = shared.sending.get() == SendState::Closed;
                return Ok((!crossed).then_some(Event::Park(lease)));
            }
            (Opening, ControlMessage::Opened) if kind != StreamKind::Listening => {
                shared.decline_resumption();
                (Streaming, Some(Event::Opened))
            }
            (Opening, ControlMessage::OpenedResumable { retention }) => {
                let asked = shared.offsets.retention();
                if shared.offsets.resumability() != Resumability::Asked
                    || !retention.is_in_range()
                    || retention != retention.min(asked)
                {
                    return unexpected();
                }
                shared.offsets.agree(retention);
                (Streaming, Some(Event::OpenedResumable(retention)))
            }
            // The driver says where it goes on, once it has checked the proof.
            (Resuming, ControlMessage::Resumed { resumed, proof }) => {
                if !resumed.retention.is_in_range() {
                    return unexpected();
                }
                return Ok(Some(Event::Resumed(resumed, proof)));
            }
            (Resuming, ControlMessage::Gone { remembers_seconds }) => {
                shared.sending.replace(SendState::Resuming, SendState::Idle);
                (Idle, Some(Event::Gone(remembers_seconds)))
            }
            (Streaming | Ended, ControlMessage::Acknowledge { received }) if shared.offsets.is_agreed() => {
                shared.offsets.acknowledge(received)?;
                let is_over = state == Ended && shared.is_acknowledged_to_the_end();
                (if is_over { Idle } else { state }, Some(Event::Acknowledged))
            }
            (Opening, ControlMessage::Listening { port }) if kind == StreamKind::Listening => {
                (Streaming, Some(Event::Listening(port)))
            }
            (Opening, ControlMessage::Refused { code }) => {
                shared.decline_resumption();
                shared.kind.set(StreamKind::Refused);
                (Idle, Some(Event::Refused(code)))
            }
            // It would say that a message was handed on whose end has not been said yet.
            (Streaming, ControlMessage::EndOfStream) if kind == StreamKind::Message && owes_end => {
                return unexpected();
            }
            (Streaming, ControlMessage::EndOfStream) => (shared.received_end(), Some(Event::EndOfStream)),
            (Discarding, ControlMessage::EndOfStream) => (Idle, None),
            // A stream that ends without EndOfStream has lost its end, whatever else the peer says. And a Close cannot
            // speak for what this side has not sent yet, unless the stream never stood.
            (Streaming | Ended, ControlMessage::Close) => return Err(Error::Truncated),
            (Idle, ControlMessage::Close) if owes_end && kind != StreamKind::Refused => {
                return Err(Error::Truncated);
            }
            (Idle | Opening | Discarding | Resuming, ControlMessage::Close) => (Closed, Some(Event::Close)),
            _ => return unexpected(),
        };
        // Only where it changes: an idle channel may be opened by this side at the same moment.
        shared.receiving.set(next);
        Ok(event)
    }

    fn fail(&mut self, error: Error) -> Error {
        *self.failed.get_or_insert(error)
    }
}
