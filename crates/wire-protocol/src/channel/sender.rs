//! The sending direction of a channel: seals messages and data into records, in the order that the protocol permits.

use alloc::sync::Arc;

use crypto_core::record::{ContentType, MAX_PAYLOAD_LEN, Sealer};
use crypto_core::schedule::Side;

use super::datagram::MAX_DATAGRAM_LEN;
use super::shared::{ReceiveState, SendState, Shared, StreamKind};
use super::time::{HEARTBEAT, MAX_KEY_AGE, Timestamp};
use crate::error::Error;
use crate::message::{ControlMessage, Target};
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
    /// Since when the key has been in use.
    key_since: Timestamp,
    /// When a record was sealed last.
    last_sent: Timestamp,
    /// When room for data was asked for last.
    data_begun: Timestamp,
    /// The stream that is open, or was last, is one that this side has asked for.
    has_opened: bool,
    update_requested: bool,
}

impl Sender {
    /// The sender of a channel whose handshake is over, at this `side` of it. `opening` where a stream was opened with
    /// it.
    #[must_use]
    pub fn new(side: Side, sealer: Sealer, opening: Option<&Target>, now: Timestamp) -> Self {
        let shared = Arc::new(Shared::new());
        if let Some(target) = opening {
            shared.open(target, now);
        }
        Self {
            side,
            shared,
            sealer,
            limits: KeyLimits::default(),
            key_since: now,
            last_sent: now,
            data_begun: now,
            has_opened: opening.is_some(),
            update_requested: false,
        }
    }

    /// Updates keys earlier than after the default limits.
    pub fn set_key_limits(&mut self, limits: KeyLimits) {
        self.limits = limits;
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
                shared.open(target, now);
            }
            ControlMessage::Opened | ControlMessage::Listening { .. } => {
                self.has_opened = false;
                shared.sending.set(SendState::Streaming);
            }
            ControlMessage::Refused { .. } => {
                shared.receiving.replace(ReceiveState::Streaming, ReceiveState::Discarding);
                shared.sending.set(SendState::Idle);
            }
            ControlMessage::EndOfStream => shared.say_end(now),
            ControlMessage::Park { .. } => shared.park(),
            ControlMessage::Ping { .. } => shared.count_ping(),
            ControlMessage::Close | ControlMessage::Reset { .. } => shared.sending.set(SendState::Closed),
            ControlMessage::Pong { .. } | ControlMessage::KeyUpdate => {}
        }
        self.append(message, now, out)
    }

    /// Whether `message` may be sent now.
    fn check(&self, message: &ControlMessage) -> Result<(), Error> {
        use SendState::{Asked, Closed, Idle, Streaming};

        let shared = &*self.shared;
        let problem = match (shared.sending.get(), message) {
            (Closed, _) => "it is closed",
            // The client opens streams until it parks the channel, the server from then on.
            (Idle, ControlMessage::Open { .. }) if shared.is_parked() != (self.side == Side::Server) => {
                "the other side opens the streams of this channel"
            }
            (Idle, ControlMessage::Park { .. }) if self.side == Side::Server => {
                "only a client parks a channel"
            }
            (Idle, ControlMessage::Park { .. }) if shared.is_parked() => "it is parked already",
            (Idle, ControlMessage::Open { .. } | ControlMessage::Park { .. }) => {
                match shared.receiving.get() {
                    ReceiveState::Idle => return Ok(()),
                    ReceiveState::Closed => "the other side has closed it",
                    _ => "the stream before is not over",
                }
            }
            (Asked | Streaming, ControlMessage::Open { .. } | ControlMessage::Park { .. }) => {
                "a stream is open already"
            }
            (
                Streaming,
                ControlMessage::Opened | ControlMessage::Listening { .. } | ControlMessage::Refused { .. },
            ) => "a stream is open already",
            (
                Idle,
                ControlMessage::Opened | ControlMessage::Listening { .. } | ControlMessage::Refused { .. },
            ) => "nothing is asked for",
            (Idle | Asked, ControlMessage::EndOfStream) => "no stream is open",
            (Asked, ControlMessage::Close) => "a stream is asked for",
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

    /// What this side has to say to a Refused or a Close.
    fn owed_reply(&self) -> Option<ControlMessage> {
        let shared = &*self.shared;
        match (shared.receiving.get(), shared.sending.get()) {
            (_, SendState::Closed) => None,
            (ReceiveState::Closed, _) => Some(ControlMessage::Close),
            (ReceiveState::Idle, SendState::Streaming) if shared.kind.get() == StreamKind::Refused => {
                Some(ControlMessage::EndOfStream)
            }
            _ => None,
        }
    }

    /// Appends the Pong that is owed, if one is, and nothing waits in `out`.
    fn answer_ping(&mut self, now: Timestamp, out: &mut SendBuffer) -> Result<(), Error> {
        if !out.is_empty() {
            return Ok(());
        }
        match self.shared.owed_pong.take() {
            // Behind our Close nothing is sent.
            Some(nonce) if !self.is_closed() => self.append(&ControlMessage::Pong { nonce }, now, out),
            _ => Ok(()),
        }
    }

    fn owes_pong(&self) -> bool {
        self.shared.owed_pong.is_owed()
    }

    /// When [`Sender::handle_timeout`] is due; `None` where the channel is idle, or its stream is not kept up.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        (self.shared.is_kept_up() && !self.is_closed()).then(|| self.last_sent.after(HEARTBEAT))
    }

    /// Appends a Ping to `out`, where this side has sent nothing for [`HEARTBEAT`] in a stream that is kept up. Not to be called
    /// while other bytes wait to be sent.
    ///
    /// # Errors
    /// [`Error::Crypto`] when sealing fails, which it does not.
    pub fn handle_timeout(&mut self, now: Timestamp, out: &mut SendBuffer) -> Result<(), Error> {
        match self.poll_timeout() {
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
            self.update_requested = false;
            self.key_since = now;
        }
        Ok(())
    }
}
