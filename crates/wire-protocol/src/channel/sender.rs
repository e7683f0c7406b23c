//! The sending direction of a channel: seals messages and data into records, in the order that the protocol permits.

use alloc::sync::Arc;

#[cfg(feature = "tokio")]
use crypto_core::record::KeptKey;
use crypto_core::record::{ContentType, MAX_PAYLOAD_LEN, Sealer};
use crypto_core::schedule::Side;

use super::datagram::MAX_DATAGRAM_LEN;
use super::offsets::{Position, Resumability};
use super::shared::{ReceiveState, SendState, Shared, StreamKind, timestamp};
use super::time::{ACKNOWLEDGE_AFTER, MAX_KEY_AGE, Timestamp};
use crate::error::Error;
use crate::message::{ControlMessage, PROOF_LEN, Resumed, Retention, Target};
use crate::record::{DataSlots, SendBuffer, append_control, append_record, batch};

/// The amounts of records and bytes after which a key is replaced (section 6), beside its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyLimits {
    /// Records under one key.
    pub records: u64,
    /// Bytes of ciphertext under one key.
    pub bytes: u64,
}

impl Default for KeyLimits {
    /// 2^32 records, 64 GiB: far below what the cipher allows, so that no key is worth the wait.
    fn default() -> Self {
        Self { records: 1 << 32, bytes: 64 << 30 }
    }
}

/// The sending direction of a channel, which seals messages and data into records.
#[derive(Debug)]
pub struct Sender {
    pub(super) side: Side,
    pub(super) shared: Arc<Shared>,
    sealer: Sealer,
    limits: KeyLimits,
    /// How often the key was updated.
    updates: u64,
    /// Since when the key has been in use.
    key_since: Timestamp,
    /// When a record was sealed last.
    last_sent: Timestamp,
    /// When room for data was asked for last.
    data_begun: Timestamp,
    /// The stream that is open, or was last, is one that this side has asked for.
    has_opened: bool,
    update_requested: bool,
    /// The offset of the Acknowledge that goes along with what is said next: all that is left to be said of a stream.
    last_acknowledge: Option<u64>,
}

impl Sender {
    /// The sender of a channel whose handshake is over, at this `side` of it. `opening` where a stream was opened with
    /// it.
    #[must_use]
    pub fn new(side: Side, sealer: Sealer, opening: Option<&Target>, now: Timestamp) -> Self {
        let shared = Arc::new(Shared::new(side));
        if let Some(target) = opening {
            shared.open(target, None, now);
        }
        Self {
            side,
            shared,
            sealer,
            limits: KeyLimits::default(),
            updates: 0,
            key_since: now,
            last_sent: now,
            data_begun: now,
            has_opened: opening.is_some(),
            update_requested: false,
            last_acknowledge: None,
        }
    }

    /// Updates keys earlier than after the default limits.
    pub fn set_key_limits(&mut self, limits: KeyLimits) {
        self.limits = limits;
    }

    /// What opens the records again that are sealed from now on, until the next key: the sequence number of the next one, and the
    /// key, which is made anew only where it is not the one that `held` names.
    #[cfg(feature = "tokio")]
    pub(crate) fn kept_key(&self, held: Option<(u64, Arc<KeptKey>)>) -> (u64, (u64, Arc<KeptKey>)) {
        let key = match held {
            Some(held) if held.0 == self.updates => held,
            _ => (self.updates, Arc::new(self.sealer.kept_key())),
        };
        (self.sealer.next_sequence(), key)
    }

    /// Updates the key before the next record.
    pub fn request_key_update(&mut self) {
        self.update_requested = true;
    }

    /// Whether data can be sent now.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.shared.sending.get() == SendState::Streaming
    }

    /// Whether this side has asked for the stream that is open, or was last: the other side has where this is not so.
    #[must_use]
    pub fn has_opened(&self) -> bool {
        self.has_opened
    }

    /// Whether both sides have said Close.
    #[must_use]
    pub fn has_answered_close(&self) -> bool {
        self.is_closed() && self.shared.receiving.get() == ReceiveState::Closed
    }

    /// Whether this side has said its last word.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.sending.get() == SendState::Closed
    }

    /// Whether no stream is open in either direction: both sides have said EndOfStream, or there was none.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.shared.owes_end() && !self.shared.awaits_end()
    }

    /// What was agreed on about the stream that is open; `None` where it cannot be taken over.
    #[must_use]
    pub fn retention(&self) -> Option<Retention> {
        let offsets = &self.shared.offsets;
        offsets.is_agreed().then(|| offsets.retention())
    }

    /// What was asked for, or agreed on, about the stream that was opened last.
    #[cfg(feature = "tokio")]
    pub(crate) fn asked_retention(&self) -> Retention {
        self.shared.offsets.retention()
    }

    /// The number on this channel of the last stream that was asked for as a resumable one, from which its secret is derived.
    #[must_use]
    pub fn stream_number(&self) -> u64 {
        self.shared.offsets.number()
    }

    /// The offset up to which the other side has taken what this side has sent of a resumable stream, its end included.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.shared.offsets.acknowledged()
    }

    /// The stream goes on here: to be called once a Resumed has come whose proof is right, before anything else is received.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] where this side has not asked for it.
    pub fn resume(&mut self, position: &Position) -> Result<(), Error> {
        if self.shared.sending.get() != SendState::Resuming {
            return Err(Error::ApiMisuse("no stream is to be taken over"));
        }
        self.has_opened = true;
        self.shared.resume(position);
        Ok(())
    }

    /// Appends the answer to a Resume: the stream goes on here.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] where the other side has not asked for it.
    pub fn send_resumed(
        &mut self,
        proof: [u8; PROOF_LEN],
        position: &Position,
        now: Timestamp,
        out: &mut SendBuffer,
    ) -> Result<(), Error> {
        if !self.is_asked_to_resume() {
            return Err(Error::ApiMisuse("no stream is to be taken over"));
        }
        self.has_opened = false;
        self.answer_ping(now, out)?;
        let resumed = Resumed { received: position.received, retention: position.retention };
        self.append(&ControlMessage::Resumed { resumed, proof }, now, out)?;
        self.shared.resume(position);
        Ok(())
    }

    fn is_asked_to_resume(&self) -> bool {
        self.shared.sending.get() == SendState::Asked && self.shared.kind.get() == StreamKind::Resumed
    }

    /// Appends a control message to `out`, and before it the Pong that is owed, if one is and `out` is empty.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] when it does not fit the state of the channel.
    pub fn send_control(
        &mut self,
        message: &ControlMessage,
        now: Timestamp,
        out: &mut SendBuffer,
    ) -> Result<(), Error> {
        self.check(message)?;
        if let ControlMessage::Pong { .. } = message {
            // It is what the other side gets in place of the one that is owed.
            self.shared.owed_pong.take();
        }
        self.answer_ping(now, out)?;
        self.append_checked(message, now, out)
    }

    /// Appends a message that fits the state of the channel, and changes the state with it.
    fn append_checked(
        &mut self,
        message: &ControlMessage,
        now: Timestamp,
        out: &mut SendBuffer,
    ) -> Result<(), Error> {
        let shared = &*self.shared;
        match message {
            ControlMessage::Open { target } => {
                self.has_opened = true;
                shared.open(target, None, now);
            }
            ControlMessage::OpenResumable { target, retention } => {
                self.has_opened = true;
                shared.open(target, Some(*retention), now);
            }
            ControlMessage::Resume { .. } => shared.ask_to_resume(now),
            ControlMessage::Opened | ControlMessage::Listening { .. } => {
                self.has_opened = false;
                shared.decline_resumption();
                shared.sending.set(SendState::Streaming);
            }
            ControlMessage::OpenedResumable { retention } => {
                self.has_opened = false;
                shared.offsets.agree(*retention);
                shared.sending.set(SendState::Streaming);
            }
            ControlMessage::Gone { .. } => shared.sending.set(SendState::Idle),
            ControlMessage::Acknowledge { received } => {
                shared.offsets.tell(*received);
                shared.finish_sending();
            }
            ControlMessage::Refused { .. } => {
                shared.decline_resumption();
                shared.receiving.replace(ReceiveState::Streaming, ReceiveState::Discarding);
                shared.sending.set(SendState::Idle);
            }
            ControlMessage::EndOfStream => shared.say_end(now),
            ControlMessage::Park { .. } => shared.park(),
            ControlMessage::Ping { .. } => shared.count_ping(),
            ControlMessage::Close | ControlMessage::Reset { .. } => shared.sending.set(SendState::Closed),
            ControlMessage::Pong { .. } | ControlMessage::KeyUpdate | ControlMessage::Resumed { .. } => {}
        }
        self.append(message, now, out)
    }

    /// Whether `message` may be sent now.
    fn check(&self, message: &ControlMessage) -> Result<(), Error> {
        use SendState::{Asked, Closed, Finishing, Idle, Resuming, Streaming};

        let shared = &*self.shared;
        let problem = match (shared.sending.get(), message) {
            (Closed, _) => "it is closed",
            (_, ControlMessage::Acknowledge { .. }) => "acknowledgements are sent with Sender::answer",
            (_, ControlMessage::Resumed { .. }) => "a stream is taken over with Sender::send_resumed",
            (Idle, ControlMessage::OpenResumable { target, retention })
                if !target.may_be_resumable() || !retention.is_in_range() =>
            {
                "no such stream can be taken over"
            }
            // The client opens streams until it parks the channel, the server from then on.
            (Idle, ControlMessage::Open { .. } | ControlMessage::OpenResumable { .. })
                if shared.is_parked() != (self.side == Side::Server) =>
            {
                "the other side opens the streams of this channel"
            }
            (Idle, ControlMessage::Park { .. } | ControlMessage::Resume { .. })
                if self.side == Side::Server =>
            {
                "only a client parks a channel, or takes a stream over"
            }
            (Idle, ControlMessage::Park { .. } | ControlMessage::Resume { .. }) if shared.is_parked() => {
                "it is parked already"
            }
            (
                Idle,
                ControlMessage::Open { .. }
                | ControlMessage::OpenResumable { .. }
                | ControlMessage::Park { .. }
                | ControlMessage::Resume { .. },
            ) => match shared.receiving.get() {
                ReceiveState::Idle => return Ok(()),
                ReceiveState::Closed => "the other side has closed it",
                _ => "the stream before is not over",
            },
            (
                Asked | Streaming | Finishing | Resuming,
                ControlMessage::Open { .. }
                | ControlMessage::OpenResumable { .. }
                | ControlMessage::Park { .. }
                | ControlMessage::Resume { .. },
            ) => "a stream is open already",
            (
                Streaming | Finishing | Resuming,
                ControlMessage::Opened
                | ControlMessage::OpenedResumable { .. }
                | ControlMessage::Listening { .. }
                | ControlMessage::Refused { .. }
                | ControlMessage::Gone { .. },
            ) => "a stream is open already",
            (
                Idle,
                ControlMessage::Opened
                | ControlMessage::OpenedResumable { .. }
                | ControlMessage::Listening { .. }
                | ControlMessage::Refused { .. }
                | ControlMessage::Gone { .. },
            ) => "nothing is asked for",
            (
                Asked,
                ControlMessage::Opened
                | ControlMessage::OpenedResumable { .. }
                | ControlMessage::Listening { .. }
                | ControlMessage::Refused { .. },
            ) if self.is_asked_to_resume() => "a stream is to be taken over",
            (Asked, ControlMessage::Gone { .. }) if !self.is_asked_to_resume() => {
                "no stream is to be taken over"
            }
            (Asked, ControlMessage::OpenedResumable { .. })
                if shared.offsets.resumability() != Resumability::Asked =>
            {
                "the other side has asked for a stream that cannot be taken over"
            }
            (Asked, ControlMessage::OpenedResumable { retention })
                if *retention != retention.min(shared.offsets.retention()) || !retention.is_in_range() =>
            {
                "more is kept than was asked for"
            }
            (Idle | Asked | Finishing | Resuming, ControlMessage::EndOfStream) => "no stream is open",
            (Asked | Finishing | Resuming, ControlMessage::Close) => "a stream is asked for",
            // Where the other side's Close came in place of Opened, the stream never stood.
            (Streaming, ControlMessage::Close) if shared.receiving.get() != ReceiveState::Closed => {
                "a stream is open"
            }
            (_, ControlMessage::KeyUpdate) => "keys are updated with Sender::request_key_update",
            _ => return Ok(()),
        };
        Err(Error::ApiMisuse(problem))
    }

    /// Appends what this side owes to what has come: a Pong, EndOfStream for a stream that was refused, and Close where the
    /// other side has said it (section 7.1). This is to be called behind each event, once what was received has reached its
    /// place: a Close says so.
    ///
    /// A Pong is not appended while other bytes wait in `out`: a peer that pings and does not read must not fill our memory with
    /// answers. It goes along with the next record that is sent in any case.
    ///
    /// # Errors
    /// [`Error::Crypto`] when sealing fails, which it does not.
    pub fn answer(&mut self, now: Timestamp, out: &mut SendBuffer) -> Result<(), Error> {
        self.answer_ping(now, out)?;
        match self.owed_reply() {
            Some(reply) => self.append_checked(&reply, now, out),
            None => Ok(()),
        }
    }

    /// Whether [`Sender::answer`] has something to say.
    #[must_use]
    pub fn owes_answer(&self) -> bool {
        self.owes_pong() || self.owed_reply().is_some()
    }

    /// What this side has to say to a Refused, to a Close, or to what it has taken of a resumable stream.
    fn owed_reply(&self) -> Option<ControlMessage> {
        let shared = &*self.shared;
        match (shared.receiving.get(), shared.sending.get()) {
            (_, SendState::Closed) => None,
            (_, SendState::Streaming | SendState::Finishing) if shared.owes_acknowledge() => {
                Some(self.acknowledge())
            }
            (ReceiveState::Closed, _) => Some(ControlMessage::Close),
            (ReceiveState::Idle, SendState::Streaming) if shared.kind.get() == StreamKind::Refused => {
                Some(ControlMessage::EndOfStream)
            }
            _ => None,
        }
    }

    /// What this side has taken of a resumable stream.
    fn acknowledge(&self) -> ControlMessage {
        ControlMessage::Acknowledge { received: self.shared.offsets.received() }
    }

    /// Puts off the Acknowledge of the other side's end until something else is said, where a client has nothing else left to say
    /// of a stream, nor the server: the channel counts as idle then. Whether that is so.
    #[cfg(feature = "tokio")]
    pub(crate) fn defer_last_acknowledge(&mut self) -> bool {
        let shared = &*self.shared;
        if !shared.may_defer_acknowledge() {
            return false;
        }
        let received = shared.offsets.received();
        shared.offsets.tell(received);
        shared.finish_sending();
        self.last_acknowledge = Some(received);
        true
    }

    /// Whether an Acknowledge goes along with what is said next.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_deferred(&self) -> bool {
        self.last_acknowledge.is_some()
    }

    /// Appends the Acknowledge that was put off, if one was.
    ///
    /// # Errors
    /// [`Error::Crypto`] when sealing fails, which it does not.
    pub(crate) fn append_deferred(&mut self, now: Timestamp, out: &mut SendBuffer) -> Result<(), Error> {
        match self.last_acknowledge.take() {
            Some(received) => self.append(&ControlMessage::Acknowledge { received }, now, out),
            None => Ok(()),
        }
    }

    /// Since when something has waited to be acknowledged.
    fn unacknowledged_since(&self) -> Option<Timestamp> {
        let offsets = &self.shared.offsets;
        if !offsets.is_agreed() || self.is_closed() {
            return None;
        }
        offsets.untold_since().map(timestamp)
    }

    /// Appends the Pong that is owed, if one is, and nothing waits in `out`; and an Acknowledge with it, since whoever asks may
    /// wait for that.
    fn answer_ping(&mut self, now: Timestamp, out: &mut SendBuffer) -> Result<(), Error> {
        if !out.is_empty() {
            return Ok(());
        }
        match self.shared.owed_pong.take() {
            // Behind our Close nothing is sent.
            Some(nonce) if !self.is_closed() => {
                if self.unacknowledged_since().is_some() {
                    self.append_checked(&self.acknowledge(), now, out)?;
                }
                self.append(&ControlMessage::Pong { nonce }, now, out)
            }
            _ => Ok(()),
        }
    }

    fn owes_pong(&self) -> bool {
        self.shared.owed_pong.is_owed()
    }

    /// When [`Sender::handle_timeout`] is due; `None` where the channel is idle, or its stream is not kept up.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.acknowledge_due().into_iter().chain(self.heartbeat_due()).min()
    }

    /// When an Acknowledge is due.
    pub(crate) fn acknowledge_due(&self) -> Option<Timestamp> {
        self.unacknowledged_since().map(|since| since.after(ACKNOWLEDGE_AFTER))
    }

    fn heartbeat_due(&self) -> Option<Timestamp> {
        (self.shared.is_kept_up() && !self.is_closed()).then(|| self.last_sent.after(self.shared.heartbeat()))
    }

    /// Appends an Acknowledge to `out`, where something was taken of a resumable stream that is not acknowledged for
    /// [`ACKNOWLEDGE_AFTER`], and a Ping where this side has sent nothing for [`HEARTBEAT`](super::HEARTBEAT) in a stream that is kept up, or for
    /// [`RESUMABLE_HEARTBEAT`](super::RESUMABLE_HEARTBEAT) in a resumable one of this client. Not to be called while other bytes wait to be sent.
    ///
    /// # Errors
    /// [`Error::Crypto`] when sealing fails, which it does not.
    pub fn handle_timeout(&mut self, now: Timestamp, out: &mut SendBuffer) -> Result<(), Error> {
        if self.acknowledge_due().is_some_and(|due| now >= due) {
            self.append_checked(&self.acknowledge(), now, out)?;
        }
        match self.heartbeat_due() {
            Some(due) if now >= due => self.send_control(&ControlMessage::Ping { nonce: 0 }, now, out),
            _ => Ok(()),
        }
    }

    /// Appends room for `records` records of data to `out`, at most [`batch`], to be filled in place and then handed
    /// to [`Sender::finish_data`].
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] when no stream is open, and for more records.
    pub fn begin_data(
        &mut self,
        records: usize,
        now: Timestamp,
        out: &mut SendBuffer,
    ) -> Result<DataSlots, Error> {
        if !self.is_streaming() {
            return Err(Error::ApiMisuse("no stream is open"));
        }
        if records > batch() {
            return Err(Error::ApiMisuse("more records than a batch has"));
        }
        self.answer_ping(now, out)?;
        self.update_key_if_due(now, out)?;
        self.data_begun = now;
        Ok(DataSlots::append(records, out))
    }

    /// Seals the first `filled` bytes that were put into `slots`; room that was not used goes away.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] when `filled` is more than there was room for, [`Error::Crypto`] when sealing fails, which it does
    /// not.
    pub fn finish_data(
        &mut self,
        slots: DataSlots,
        filled: usize,
        out: &mut SendBuffer,
    ) -> Result<(), Error> {
        if filled > 0 {
            self.last_sent = self.data_begun;
            self.shared.sent_data(self.data_begun);
            if self.shared.offsets.resumability() != Resumability::None {
                self.shared.offsets.count_sent(u64::try_from(filled).unwrap_or(u64::MAX));
            }
        }
        slots.seal(&mut self.sealer, filled, out)
    }

    /// Appends a datagram, empty or not, to `out`: records of 16384 bytes as long as it fills them, and a shorter one, which
    /// may be empty, as its end.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] when no stream is open, or the datagram is longer than [`MAX_DATAGRAM_LEN`].
    pub fn send_datagram(
        &mut self,
        datagram: &[u8],
        now: Timestamp,
        out: &mut SendBuffer,
    ) -> Result<(), Error> {
        if !self.is_streaming() {
            return Err(Error::ApiMisuse("no stream is open"));
        }
        if datagram.len() > MAX_DATAGRAM_LEN {
            return Err(Error::ApiMisuse("the datagram is longer than 65507 bytes"));
        }
        self.answer_ping(now, out)?;
        self.last_sent = now;
        let mut rest = datagram;
        loop {
            let (piece, behind) = rest.split_at(rest.len().min(MAX_PAYLOAD_LEN));
            self.update_key_if_due(now, out)?;
            append_record(&mut self.sealer, ContentType::Data, piece, out)?;
            if piece.len() < MAX_PAYLOAD_LEN {
                return Ok(());
            }
            rest = behind;
        }
    }

    fn append(
        &mut self,
        message: &ControlMessage,
        now: Timestamp,
        out: &mut SendBuffer,
    ) -> Result<(), Error> {
        self.append_deferred(now, out)?;
        self.last_sent = now;
        self.update_key_if_due(now, out)?;
        append_control(&mut self.sealer, message, out)
    }

    fn update_key_if_due(&mut self, now: Timestamp, out: &mut SendBuffer) -> Result<(), Error> {
        let usage = self.sealer.usage();
        if self.update_requested
            || usage.records >= self.limits.records
            || usage.bytes >= self.limits.bytes
            || now >= self.key_since.after(MAX_KEY_AGE)
        {
            append_control(&mut self.sealer, &ControlMessage::KeyUpdate, out)?;
            self.sealer.update_key();
            self.updates += 1;
            self.update_requested = false;
            self.key_since = now;
        }
        Ok(())
    }
}
