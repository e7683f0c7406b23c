//! The channel (section 7), without I/O: one stream at a time over one pair of keys.
//!
//! ```text
//!            Open ->              data, EndOfStream, in each direction
//!   idle ------------> opening ----------------> streaming --+
//!    ^  <- Refused        |         <- Opened                |
//!    +--------------------+----------------------------------+   both have said EndOfStream
//!    |
//!    +---> Close: the only good end
//! ```
//!
//! The two directions share a few flags and no lock: a [`Sender`] and a [`Receiver`] can live in different tasks.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crypto_core::record::{ContentType, MAX_PAYLOAD_LEN, MAX_RECORD_LEN, Opener, Sealer};
use crypto_core::schedule::Side;

use crate::error::{Error, PeerMisbehaved};
use crate::message::{ControlMessage, LEASE_LEN, RefusedCode, Target};
use crate::record::{
    Append, Content, DataSlots, RecordBuffer, SendBuffer, append_message, append_record, batch,
};

/// When a key has done its duty (section 6). Whichever comes first.
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

/// What one direction has to know of the other, to tell what may come now. Set before the record that it speaks of can
/// have left, and looked at when a record is processed.
#[derive(Debug, Default)]
struct Shared {
    /// Pings of this side for which no Pong has come.
    unanswered_pings: AtomicUsize,
    /// A stream is open, or opening, in which this side has not said EndOfStream.
    owes_end: AtomicBool,
    /// The client has parked the channel.
    parked: AtomicBool,
    /// This side has said Close.
    said_close: AtomicBool,
    /// The other side has said Close.
    got_close: AtomicBool,
}

impl Shared {
    /// Takes note of a Pong. `false` where it answers nothing.
    fn answer_ping(&self) -> bool {
        let fewer = |pings: usize| pings.checked_sub(1);
        self.unanswered_pings.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer).is_ok()
    }
}

/// What this side sends.
#[derive(Debug)]
pub struct Sender {
    side: Side,
    shared: Arc<Shared>,
    sealer: Sealer,
    limits: KeyLimits,
    state: SendState,
    /// The stream that is open, or was last, is one that this side has asked for.
    has_opened: bool,
    update_requested: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendState {
    Idle,
    Streaming,
    Closed,
}

impl Sender {
    /// The sender of a channel whose handshake is over, at this `side` of it. `opening` where a stream was opened with
    /// it.
    #[must_use]
    pub fn new(side: Side, sealer: Sealer, opening: Option<&Target>) -> Self {
        let state = if opening.is_some() { SendState::Streaming } else { SendState::Idle };
        let has_opened = opening.is_some();
        let shared = Arc::new(Shared { owes_end: AtomicBool::new(has_opened), ..Shared::default() });
        let limits = KeyLimits::default();
        Self { side, shared, sealer, limits, state, has_opened, update_requested: false }
    }

    /// Updates keys earlier than after the default limits.
    pub fn set_key_limits(&mut self, limits: KeyLimits) {
        self.limits = limits;
    }

    /// Updates the key before the next record: it has been in use for too long.
    pub fn request_key_update(&mut self) {
        self.update_requested = true;
    }

    /// Whether data can be sent now.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.state == SendState::Streaming
    }

    /// Whether this side has asked for the stream that is open, or was last: the other side has where this is not so.
    #[must_use]
    pub fn has_opened(&self) -> bool {
        self.has_opened
    }

    /// Whether this side has said its last word.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == SendState::Closed
    }

    /// Appends a control message to `out`.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] when it does not fit the state of the channel.
    pub fn send_control(&mut self, message: &ControlMessage, out: &mut SendBuffer) -> Result<(), Error> {
        let shared = &*self.shared;
        self.state = match (self.state, message) {
            (SendState::Closed, _) => return Err(Error::ApiMisuse("it is closed")),
            (SendState::Idle, ControlMessage::Open { .. }) => {
                // The client opens streams until it parks the channel, the server from then on.
                if shared.parked.load(Ordering::Acquire) != (self.side == Side::Server) {
                    return Err(Error::ApiMisuse("the other side opens the streams of this channel"));
                }
                SendState::Streaming
            }
            (SendState::Idle, ControlMessage::Opened | ControlMessage::Listening { .. }) => {
                SendState::Streaming
            }
            (SendState::Idle, ControlMessage::Park { .. }) if self.side == Side::Server => {
                return Err(Error::ApiMisuse("only a client parks a channel"));
            }
            (SendState::Idle, ControlMessage::Park { .. }) if shared.parked.load(Ordering::Acquire) => {
                return Err(Error::ApiMisuse("it is parked already"));
            }
            (SendState::Streaming, ControlMessage::EndOfStream) => SendState::Idle,
            (SendState::Idle, ControlMessage::EndOfStream) => {
                return Err(Error::ApiMisuse("no stream is open"));
            }
            (
                SendState::Streaming,
                ControlMessage::Open { .. }
                | ControlMessage::Opened
                | ControlMessage::Listening { .. }
                | ControlMessage::Park { .. },
            ) => return Err(Error::ApiMisuse("a stream is open already")),
            // Where the other side's Close came in place of Opened, the stream never stood.
            (SendState::Streaming, ControlMessage::Close) if !shared.got_close.load(Ordering::Acquire) => {
                return Err(Error::ApiMisuse("a stream is open"));
            }
            (_, ControlMessage::Close | ControlMessage::Reset { .. }) => SendState::Closed,
            (state, _) => state,
        };
        match message {
            ControlMessage::Open { .. } => {
                self.has_opened = true;
                shared.owes_end.store(true, Ordering::Release);
            }
            ControlMessage::Opened | ControlMessage::Listening { .. } => self.has_opened = false,
            ControlMessage::EndOfStream | ControlMessage::Refused { .. } => {
                shared.owes_end.store(false, Ordering::Release);
            }
            ControlMessage::Park { .. } => shared.parked.store(true, Ordering::Release),
            ControlMessage::Ping { .. } => {
                shared.unanswered_pings.fetch_add(1, Ordering::AcqRel);
            }
            ControlMessage::Close => shared.said_close.store(true, Ordering::Release),
            _ => {}
        }
        self.update_key_if_due(out)?;
        append_control(&mut self.sealer, message, out)
    }

    /// Appends room for `records` records of data to `out`, at most [`batch`], to be filled in place and then handed
    /// to [`Sender::finish_data`].
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] when no stream is open, and for more records.
    pub fn begin_data(&mut self, records: usize, out: &mut SendBuffer) -> Result<DataSlots, Error> {
        if !self.is_streaming() {
            return Err(Error::ApiMisuse("no stream is open"));
        }
        if records > batch() {
            return Err(Error::ApiMisuse("more records than a batch has"));
        }
        self.update_key_if_due(out)?;
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
        slots.seal(&mut self.sealer, filled, out)
    }

    /// Appends a datagram, empty or not, to `out`: records of 16384 bytes as long as it fills them, and a shorter one, which
    /// may be empty, as its end.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] when no stream is open, or the datagram is longer than [`MAX_DATAGRAM_LEN`].
    pub fn send_datagram(&mut self, datagram: &[u8], out: &mut SendBuffer) -> Result<(), Error> {
        if !self.is_streaming() {
            return Err(Error::ApiMisuse("no stream is open"));
        }
        if datagram.len() > MAX_DATAGRAM_LEN {
            return Err(Error::ApiMisuse("the datagram is longer than 65507 bytes"));
        }
        let mut rest = datagram;
        loop {
            let (piece, behind) = rest.split_at(rest.len().min(MAX_PAYLOAD_LEN));
            self.update_key_if_due(out)?;
            append_record(&mut self.sealer, ContentType::Data, piece, out)?;
            if piece.len() < MAX_PAYLOAD_LEN {
                return Ok(());
            }
            rest = behind;
        }
    }

    fn update_key_if_due(&mut self, out: &mut SendBuffer) -> Result<(), Error> {
        let usage = self.sealer.usage();
        if self.update_requested || usage.records >= self.limits.records || usage.bytes >= self.limits.bytes {
            append_control(&mut self.sealer, &ControlMessage::KeyUpdate, out)?;
            self.sealer.update_key();
            self.update_requested = false;
        }
        Ok(())
    }
}

/// What happened on the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// There is data: [`Receiver::data`].
    Data,
    /// The other side opens a stream, to be answered with Opened or Refused.
    Open(Target),
    /// The stream that this side opened stands.
    Opened,
    /// The stream that this side opened stands for the other side listening, on this port.
    Listening(u16),
    /// The other side waits for this one to open streams, under this lease.
    Park([u8; LEASE_LEN]),
    /// It does not.
    Refused(RefusedCode),
    /// The other side has sent all its data.
    EndOfStream,
    /// To be answered with a Pong.
    Ping(u64),
    /// The answer to a Ping.
    Pong(u64),
    /// The other side has ended the channel, and all it got has reached its place.
    Close,
}

/// What the other side sends.
#[derive(Debug)]
pub struct Receiver {
    side: Side,
    shared: Arc<Shared>,
    opener: Opener,
    buffer: RecordBuffer,
    /// A batch at most.
    ready: VecDeque<Content>,
    state: ReceiveState,
    data_unit: DataUnit,
    gathered: Gathered,
    opening: Opening,
    failed: Option<Error>,
}

/// A datagram of several records, as far as it has come. Holds no memory while there is none.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Its last record is here: it is to be consumed.
    is_whole: bool,
}

impl Gathered {
    fn is_unfinished(&self) -> bool {
        !self.bytes.is_empty() && !self.is_whole
    }

    /// Takes up the next piece of a datagram. What is beyond the limit is refused before there is room for it.
    fn add(&mut self, piece: &[u8]) -> Result<(), Error> {
        if self.bytes.len() + piece.len() > MAX_DATAGRAM_LEN {
            return Err(PeerMisbehaved::UnexpectedMessage.into());
        }
        self.bytes.reserve_exact(piece.len());
        self.bytes.extend_from_slice(piece);
        self.is_whole = piece.len() < MAX_PAYLOAD_LEN;
        Ok(())
    }
}

impl fmt::Debug for Gathered {
    /// Nothing of the content: it is plaintext.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathered").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// What the stream that this side has opened last is for, as far as that decides what may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// A message: all that the server has to say is that it has handed it on.
    Message,
    /// The server listens, and says so with Listening.
    Listen,
    /// Anything else.
    Stream,
    /// Nothing: it was refused.
    Refused,
}

impl Opening {
    fn of(target: &Target) -> Self {
        match target {
            Target::Message => Self::Message,
            Target::Listen { .. } => Self::Listen,
            _ => Self::Stream,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReceiveState {
    /// An Open may come.
    Idle,
    /// An Opened or Refused has to come.
    Opening,
    /// Data may come.
    Streaming,
    /// Data of a refused stream may come, and counts for nothing.
    Discarding,
    /// Nothing may come.
    Closed,
}

/// What the data of a stream is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DataUnit {
    /// Bytes: where a record ends says nothing.
    Byte,
    /// Datagrams: each record that is not full ends one, so that an empty one counts.
    Datagram,
    /// Nothing: none may come, not even an empty record.
    None,
}

impl Receiver {
    /// The receiver of the channel that `sender` sends on. `early` is what has arrived behind the handshake, `opening`
    /// where a stream was opened with it.
    #[must_use]
    pub fn new(sender: &Sender, opener: Opener, early: &[u8], opening: Option<&Target>) -> Self {
        let mut receiver = Self {
            side: sender.side,
            shared: Arc::clone(&sender.shared),
            opener,
            buffer: RecordBuffer::new(early),
            ready: VecDeque::new(),
            state: ReceiveState::Idle,
            data_unit: DataUnit::Byte,
            opening: Opening::Stream,
            gathered: Gathered::default(),
            failed: None,
        };
        if let Some(target) = opening {
            receiver.expect_opened(target);
        }
        receiver
    }

    /// This side has sent an Open for `target`.
    pub fn expect_opened(&mut self, target: &Target) {
        self.state = ReceiveState::Opening;
        self.opening = Opening::of(target);
        self.data_unit = match self.opening {
            Opening::Message | Opening::Listen => DataUnit::None,
            Opening::Stream | Opening::Refused => DataUnit::Byte,
        };
    }

    /// The stream that is open or opening is one of datagrams: each whole datagram is an event, an empty one
    /// too, until [`Receiver::consume_datagram`]. The stream after it is one of bytes again.
    pub fn expect_datagrams(&mut self) {
        self.data_unit = DataUnit::Datagram;
    }

    /// Bytes of a datagram whose end has not come yet.
    #[must_use]
    pub fn unfinished_len(&self) -> usize {
        if self.gathered.is_unfinished() { self.gathered.bytes.len() } else { 0 }
    }

    /// Whether the stream is a message that this side sends, of which the other side may say nothing until its end.
    #[cfg(feature = "tokio")]
    pub(crate) fn awaits_confirmation(&self) -> bool {
        self.state == ReceiveState::Streaming && self.opening == Opening::Message
    }

    /// This side has sent a Refused: what comes until the other side's EndOfStream counts for nothing.
    pub fn discard_stream(&mut self) {
        if self.state == ReceiveState::Streaming {
            self.state = ReceiveState::Discarding;
            self.gathered = Gathered::default();
        }
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
        if !self.ready.is_empty() {
            return None;
        }
        self.buffer.shrink(if self.state == ReceiveState::Idle { 0 } else { MAX_RECORD_LEN })
    }

    /// Gives the receiver memory for what arrives, while it has none.
    #[cfg(feature = "tokio")]
    pub(crate) fn lend(&mut self, memory: impl FnOnce() -> Vec<u8>) {
        self.buffer.lend(memory);
    }

    /// The socket has come to its end.
    ///
    /// # Errors
    /// [`Error::Truncated`] when that was without a Close.
    pub fn handle_end(&mut self) -> Result<(), Error> {
        if self.state == ReceiveState::Closed { Ok(()) } else { Err(self.fail(Error::Truncated)) }
    }

    /// The next event, or `None` when more bytes are needed for one. While there is data that is not consumed,
    /// that is the event.
    ///
    /// # Errors
    /// Whatever ends the channel, now and at every later call.
    pub fn poll_event(&mut self) -> Result<Option<Event>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.next_event().map_err(|error| self.fail(error))
    }

    /// The data that an [`Event::Data`] speaks of; empty when there is none.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match self.ready.front() {
            _ if self.gathered.is_whole => &self.gathered.bytes,
            Some(Content::Data(range)) if self.state == ReceiveState::Streaming => {
                self.buffer.data(range.clone())
            }
            _ => &[],
        }
    }

    /// All the data that is there, in order: [`Receiver::data`], and what the records right behind it hold.
    pub fn data_slices(&self) -> impl Iterator<Item = &[u8]> {
        let streaming = self.state == ReceiveState::Streaming;
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

    /// The datagram that [`Receiver::data`] gives is done with.
    pub fn consume_datagram(&mut self) {
        if self.gathered.is_whole {
            self.gathered = Gathered::default();
        } else if let Some(Content::Data(_)) = self.ready.front() {
            self.ready.pop_front();
        }
    }

    fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            match self.ready.front() {
                _ if self.gathered.is_whole => return Ok(Some(Event::Data)),
                Some(Content::Data(range)) => match self.state {
                    ReceiveState::Streaming if self.data_unit == DataUnit::None => {
                        return Err(PeerMisbehaved::UnexpectedMessage.into());
                    }
                    ReceiveState::Streaming if self.data_unit == DataUnit::Datagram => {
                        if range.len() < MAX_PAYLOAD_LEN && !self.gathered.is_unfinished() {
                            return Ok(Some(Event::Data));
                        }
                        self.gathered.add(self.buffer.data(range.clone()))?;
                        self.ready.pop_front();
                    }
                    ReceiveState::Streaming if !range.is_empty() => return Ok(Some(Event::Data)),
                    ReceiveState::Streaming | ReceiveState::Discarding => {
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
                }
            }
        }
    }

    fn handle_control(&mut self, message: ControlMessage) -> Result<Option<Event>, Error> {
        use ReceiveState::{Closed, Discarding, Idle, Opening, Streaming};

        // What ends the channel does so within a datagram, too.
        let may_come_within = matches!(
            message,
            ControlMessage::KeyUpdate | ControlMessage::Reset { .. } | ControlMessage::Close
        );
        if self.gathered.is_unfinished() && !may_come_within {
            return Err(PeerMisbehaved::UnexpectedMessage.into());
        }
        let unexpected = || Err(PeerMisbehaved::UnexpectedMessage.into());
        let shared = &*self.shared;
        let said_close = shared.said_close.load(Ordering::Acquire);
        let owes_end = shared.owes_end.load(Ordering::Acquire);
        let parked = shared.parked.load(Ordering::Acquire);
        let (state, event) = match (self.state, message) {
            (Closed, _) => return unexpected(),
            (_, ControlMessage::Reset { code }) => return Err(Error::Reset(code)),
            // The key is updated already: what is left is whether one could come here.
            (state, ControlMessage::KeyUpdate) => (state, None),
            (state, ControlMessage::Ping { nonce }) => (state, Some(Event::Ping(nonce))),
            (state, ControlMessage::Pong { nonce }) => match shared.answer_ping() {
                true => (state, Some(Event::Pong(nonce))),
                false => return unexpected(),
            },
            // The client opens streams until it parks the channel, the server from then on.
            (Idle, ControlMessage::Open { .. }) if parked != (self.side == Side::Client) => {
                return unexpected();
            }
            (Idle, ControlMessage::Park { .. }) if parked || self.side == Side::Client => {
                return unexpected();
            }
            // They have crossed our Close: the stream never stood, and nobody waits for the lease.
            (Idle, ControlMessage::Open { .. }) if said_close => (Discarding, None),
            (Idle, ControlMessage::Park { .. }) if said_close => {
                shared.parked.store(true, Ordering::Release);
                (Idle, None)
            }
            // The stream before is not over.
            (Idle, ControlMessage::Open { .. } | ControlMessage::Park { .. }) if owes_end => {
                return unexpected();
            }
            (Idle, ControlMessage::Open { target }) => {
                shared.owes_end.store(true, Ordering::Release);
                let takes_data = !matches!(target, Target::Listen { .. });
                self.data_unit = if takes_data { DataUnit::Byte } else { DataUnit::None };
                self.opening = self::Opening::Stream;
                (Streaming, Some(Event::Open(target)))
            }
            (Idle, ControlMessage::Park { lease }) => {
                shared.parked.store(true, Ordering::Release);
                (Idle, Some(Event::Park(lease)))
            }
            (Opening, ControlMessage::Opened) if self.opening != self::Opening::Listen => {
                (Streaming, Some(Event::Opened))
            }
            (Opening, ControlMessage::Listening { port }) if self.opening == self::Opening::Listen => {
                (Streaming, Some(Event::Listening(port)))
            }
            (Opening, ControlMessage::Refused { code }) => {
                self.opening = self::Opening::Refused;
                (Idle, Some(Event::Refused(code)))
            }
            // It would say that a message was handed on whose end has not been said yet.
            (Streaming, ControlMessage::EndOfStream)
                if self.opening == self::Opening::Message && owes_end =>
            {
                return unexpected();
            }
            (Streaming, ControlMessage::EndOfStream) => (Idle, Some(Event::EndOfStream)),
            (Discarding, ControlMessage::EndOfStream) => (Idle, None),
            // A stream that ends without EndOfStream has lost its end, whatever else the peer says. And a Close cannot
            // speak for what this side has not sent yet, unless the stream never stood.
            (Streaming, ControlMessage::Close) => return Err(Error::Truncated),
            (Idle, ControlMessage::Close) if owes_end && self.opening != self::Opening::Refused => {
                return Err(Error::Truncated);
            }
            (Idle | Opening | Discarding, ControlMessage::Close) => {
                shared.got_close.store(true, Ordering::Release);
                (Closed, Some(Event::Close))
            }
            _ => return unexpected(),
        };
        self.state = state;
        if state == Idle {
            self.data_unit = DataUnit::Byte;
        }
        Ok(event)
    }

    fn fail(&mut self, error: Error) -> Error {
        *self.failed.get_or_insert(error)
    }
}

/// The longest datagram: the longest that UDP carries over IPv4 (section 8).
pub const MAX_DATAGRAM_LEN: usize = 65_507;

/// Seals a control message and appends it to `out`.
pub(crate) fn append_control(
    sealer: &mut Sealer,
    message: &ControlMessage,
    out: &mut impl Append,
) -> Result<(), Error> {
    append_message(sealer, ContentType::Control, message, out)?;
    Ok(())
}
