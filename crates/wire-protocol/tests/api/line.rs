//! One end of an established channel, without a socket; and records that no honest end would seal.

use std::fmt;

use crypto_core::record::{ContentType, HEADER_LEN, OVERHEAD, Opener, Outgoing, Sealer};
use crypto_core::schedule::{Side, TrafficSecret};
use crypto_core::secret::Secret;
use wire_protocol::Error;
use wire_protocol::channel::{Event, Receiver, Sender, Timestamp};
use wire_protocol::codec::encode;
use wire_protocol::handshake::ChannelKeys;
use wire_protocol::message::{ControlMessage, Target};
use wire_protocol::record::{SendBuffer, batch};

/// What time it is where that makes no difference.
pub(crate) const START: Timestamp = Timestamp::START;

/// One end of a channel.
pub(crate) struct End {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
}

/// What an end hears.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Event(Event),
    /// Data in a row, however it was cut into records.
    Data(Vec<u8>),
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => event.fmt(f),
            Self::Data(data) if data.len() <= 32 => write!(f, "{:?}", String::from_utf8_lossy(data)),
            Self::Data(data) => write!(f, "{} bytes", data.len()),
        }
    }
}

impl End {
    pub(crate) fn new(side: Side, keys: ChannelKeys, early: &[u8], opening: Option<Target>) -> Self {
        let sender = Sender::new(side, keys.sealer, opening.as_ref(), START);
        let receiver = Receiver::new(&sender, keys.opener, early);
        Self { sender, receiver }
    }

    /// An idle end that says nothing, and hears what [`sealer`] 1 seals.
    pub(crate) fn listening(side: Side) -> Self {
        Self::new(side, ChannelKeys { sealer: sealer(2), opener: opener(1) }, &[], None)
    }

    pub(crate) fn control(&mut self, message: &ControlMessage) -> Vec<u8> {
        let mut out = SendBuffer::default();
        self.sender.send_control(message, START, &mut out).unwrap();
        out.to_vec()
    }

    pub(crate) fn data(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut out = SendBuffer::default();
        while !bytes.is_empty() {
            let slots = self.sender.begin_data(batch(), START, &mut out).unwrap();
            let mut taken = 0;
            for place in slots.payloads(&mut out) {
                let (now, later) = bytes.split_at(bytes.len().min(place.len()));
                place[..now.len()].copy_from_slice(now);
                taken += now.len();
                bytes = later;
            }
            self.sender.finish_data(slots, taken, &mut out).unwrap();
        }
        out.to_vec()
    }

    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, Error> {
        hear(&mut self.receiver, bytes)
    }
}

/// Hands `bytes` to a receiver as its buffer has room for them, and takes everything that comes of it.
pub(crate) fn hear(receiver: &mut Receiver, mut bytes: &[u8]) -> Result<Vec<Heard>, Error> {
    let mut heard = Vec::new();
    loop {
        while let Some(event) = receiver.poll_event(START)? {
            if event != Event::Data {
                heard.push(Heard::Event(event));
                continue;
            }
            match heard.last_mut() {
                Some(Heard::Data(data)) => data.extend_from_slice(receiver.data()),
                _ => heard.push(Heard::Data(receiver.data().to_vec())),
            }
            receiver.consume(receiver.data().len());
        }
        if bytes.is_empty() {
            return Ok(heard);
        }
        let spare = receiver.spare();
        let len = spare.len().min(bytes.len());
        spare[..len].copy_from_slice(&bytes[..len]);
        receiver.handle_input(len);
        bytes = &bytes[len..];
    }
}

/// The two ends of an idle channel.
pub(crate) fn ends() -> (End, End) {
    let end = |side, own, theirs| {
        let keys = ChannelKeys { sealer: sealer(own), opener: opener(theirs) };
        End::new(side, keys, &[], None)
    };
    (end(Side::Client, 1, 2), end(Side::Server, 2, 1))
}

/// The two ends of a channel on which a pipe is open.
pub(crate) fn streaming_ends() -> (End, End) {
    let (mut client, mut server) = ends();
    let open = client.control(&ControlMessage::Open { target: Target::Pipe });
    assert_eq!(server.hear(&open), Ok(vec![Heard::Event(Event::Open(Target::Pipe))]));
    let opened = server.control(&ControlMessage::Opened);
    assert_eq!(client.hear(&opened), Ok(vec![Heard::Event(Event::Opened)]));
    (client, server)
}

pub(crate) fn sealer(seed: u8) -> Sealer {
    Sealer::new(TrafficSecret::new(Secret::new([seed; 32])))
}

pub(crate) fn opener(seed: u8) -> Opener {
    Opener::new(TrafficSecret::new(Secret::new([seed; 32])))
}

/// A record of anything at all.
pub(crate) fn seal(
    sealer: &mut Sealer,
    content_type: ContentType,
    payload: &[u8],
    padding: usize,
) -> Vec<u8> {
    let mut record = vec![0; payload.len() + OVERHEAD + padding];
    record[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(payload);
    sealer.seal(&mut [Outgoing { buffer: &mut record, payload_len: payload.len(), content_type }]).unwrap();
    record
}

pub(crate) fn seal_control(sealer: &mut Sealer, message: &ControlMessage) -> Vec<u8> {
    let mut payload = Vec::new();
    encode(message, &mut payload);
    seal(sealer, ContentType::Control, &payload, 0)
}

/// Bytes that are not all alike.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}
