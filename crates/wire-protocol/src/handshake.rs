//! The two handshake state machines (sections 3 to 5), without I/O.
//!
//! ```text
//! client                                            server
//! [KeyRequest]          ->
//!                       <-                          [KeyOffer]
//! ClientHello           ->
//!                       <-                          ServerHello
//!                       <-                          {ServerReady, Finished}
//! {ClientAuth, Finished} ->
//!                       <-                          {{Welcome | Denied}}
//!
//! with an invite:
//! {ClientAuth, Invite, Finished} ->
//!                       <-                          {{Joined | Denied}}
//!
//! {..} under the handshake keys, {{..}} under the traffic keys
//! ```
//!
//! [`client::ClientHandshake`] and [`server::ServerHandshake`] are enums of the states that wait for a message,
//! each named for what it expects. The loop that drives either of them:
//!
//! 1. send what is in `out`;
//! 2. ask [`Handshake::message_len`] how long the next message is, and read until it is there;
//! 3. hand it to [`Handshake::handle`], which consumes the state and gives the next [`Step`];
//! 4. a [`Step::Work`] is RSA: run it where it may take milliseconds, then go on with the step that it gives.
//!
//! After an error there is no state left to go on with: send what [`Error::abort_code`] says, if anything, and
//! drop the connection. See `examples/by_hand.rs`.

mod binder;
pub mod client;
pub mod server;

use alloc::vec::Vec;

use crypto_core::hash::Transcript;
use crypto_core::identity::KeyId;
use crypto_core::record::{ContentType, HEADER_LEN, Opened, Opener, Sealer, record_len};
use crypto_core::schedule::{ApplicationStage, ExporterSecret, TrafficSecret};
use crypto_core::stream_secret::StreamSecret;
use rand_core::TryCryptoRng;

use crate::codec::decode;
use crate::error::{Error, InvalidMessage, PeerMisbehaved};
use crate::message::HandshakeMessage;
use crate::record::append_message;

/// The interface of the state machines of both sides, for the loop that drives a handshake.
pub trait Handshake: Sized {
    /// RSA to be done before the handshake can go on.
    type Work: Work<Self>;
    /// What the handshake comes to.
    type Outcome;

    /// Length of the next message, of which `prefix` is what has arrived; `None` while that cannot be said.
    ///
    /// # Errors
    /// [`Error::InvalidMessage`] as soon as `prefix` cannot become a message.
    fn message_len(&self, prefix: &[u8]) -> Result<Option<usize>, Error>;

    /// Whether the peer may end the connection here without having done anything wrong.
    fn peer_may_leave(&self) -> bool {
        false
    }

    /// Whether the peer has just been told to do a full handshake since its ticket was of no use.
    fn has_refused_ticket(&self) -> bool {
        false
    }

    /// What it means that the peer ends the connection here, where that says more than that it was cut.
    fn when_closed(&self) -> Option<Error> {
        None
    }

    /// Takes one whole message, decrypts it in place where it is a record, and appends what is to be sent to
    /// `out`.
    ///
    /// # Errors
    /// Whatever ends the handshake. What is in `out` then may be sent or not.
    fn handle<R: TryCryptoRng + ?Sized>(
        self,
        message: &mut [u8],
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Step<Self>, Error>;
}

/// An RSA operation that a handshake waits for. It takes milliseconds, so a server does it on another thread.
pub trait Work<H: Handshake>: Send {
    /// Does it.
    ///
    /// # Errors
    /// As [`Handshake::handle`].
    fn run<R: TryCryptoRng + ?Sized>(self, rng: &mut R, out: &mut Vec<u8>) -> Result<Step<H>, Error>;
}

/// The next step of a handshake.
#[must_use]
#[derive(Debug)]
pub enum Step<H: Handshake> {
    /// Another message of the peer.
    Continue(H),
    /// RSA.
    Work(H::Work),
    /// Nothing: the handshake is over.
    Done(H::Outcome),
}

/// The keys of an established channel, one for each direction.
#[derive(Debug)]
pub struct ChannelKeys {
    /// Seals what this side sends.
    pub sealer: Sealer,
    /// Opens what the other side sends.
    pub opener: Opener,
}

impl ChannelKeys {
    fn new(send: TrafficSecret, receive: TrafficSecret) -> Self {
        Self { sealer: Sealer::new(send), opener: Opener::new(receive) }
    }

    /// Seals a handshake message and appends it to `out`. The bytes that enter the transcript are returned.
    fn send(&mut self, message: &HandshakeMessage, out: &mut Vec<u8>) -> Result<Vec<u8>, Error> {
        append_message(&mut self.sealer, ContentType::Handshake, message, out)
    }

    /// Opens a record that has to hold a handshake message.
    fn receive<'a>(&mut self, record: &'a mut [u8]) -> Result<(HandshakeMessage, &'a [u8]), Error> {
        let mut opened = Vec::with_capacity(1);
        self.opener.open(&mut [&mut *record], &mut opened)?;
        match *opened {
            [Opened { payload_len, content_type: ContentType::Handshake }] => {
                let payload = &record[HEADER_LEN..HEADER_LEN + payload_len];
                Ok((decode(payload)?, payload))
            }
            _ => Err(PeerMisbehaved::UnexpectedMessage.into()),
        }
    }
}

/// What the resumable streams of a channel are tied to (section 7.7): its exporter secret, and T3.
#[derive(Debug)]
pub struct Exporter {
    secret: ExporterSecret,
    transcript: [u8; 32],
}

impl Exporter {
    fn new(stage: &ApplicationStage, t3: [u8; 32]) -> Self {
        Self { secret: stage.exporter_secret(&t3), transcript: t3 }
    }

    /// The secret of the resumable stream with this number on the channel.
    #[must_use]
    pub fn stream_secret(&self, number: u64) -> StreamSecret {
        self.secret.stream_secret(number)
    }

    /// T3 of the channel, which the proofs of Resume and Resumed are tied to.
    #[must_use]
    pub fn transcript(&self) -> &[u8; 32] {
        &self.transcript
    }
}

/// The encrypted flights: the handshake keys and what has been said so far.
#[derive(Debug)]
struct Flight {
    keys: ChannelKeys,
    transcript: Transcript,
}

impl Flight {
    fn send(&mut self, message: &HandshakeMessage, out: &mut Vec<u8>) -> Result<(), Error> {
        let payload = self.keys.send(message, out)?;
        self.transcript.update(&payload);
        Ok(())
    }

    fn receive(&mut self, record: &mut [u8]) -> Result<HandshakeMessage, Error> {
        let (message, payload) = self.keys.receive(record)?;
        self.transcript.update(payload);
        Ok(message)
    }

    /// Receives the peer's Finished: a MAC over all that came before it.
    fn receive_finished(
        &mut self,
        secret: &TrafficSecret,
        record: &mut [u8],
    ) -> Result<FinishedVerified, Error> {
        match self.receive_until_finished(secret, record)? {
            UntilFinished::Finished(verified) => Ok(verified),
            UntilFinished::Other(_) => Err(PeerMisbehaved::UnexpectedMessage.into()),
        }
    }

    /// As [`Flight::receive_finished`], where something else may come before it.
    fn receive_until_finished(
        &mut self,
        secret: &TrafficSecret,
        record: &mut [u8],
    ) -> Result<UntilFinished, Error> {
        let before = self.transcript.hash();
        match self.receive(record)? {
            HandshakeMessage::Finished { mac } => {
                secret.verify_finished(&before, &mac)?;
                Ok(UntilFinished::Finished(FinishedVerified(())))
            }
            other => Ok(UntilFinished::Other(other)),
        }
    }
}

/// A message of the peer's flight.
enum UntilFinished {
    /// The last one, which was verified.
    Finished(FinishedVerified),
    /// One before it.
    Other(HandshakeMessage),
}

/// Proof that the peer's Finished checked out. Only [`Flight::receive_until_finished`] makes one.
#[derive(Debug)]
struct FinishedVerified(());

fn next_record_len(prefix: &[u8]) -> Result<Option<usize>, Error> {
    match prefix.first_chunk() {
        Some(header) => Ok(Some(record_len(*header).map_err(|_| InvalidMessage::RecordLength)?)),
        None => Ok(None),
    }
}

/// What a client signs: the text, a zero byte, T2 and the id of the signing key (section 5).
fn client_auth_message(transcript: &[u8; 32], key_id: &KeyId) -> Vec<u8> {
    [CLIENT_AUTH_CONTEXT, transcript, &key_id.0].concat()
}

const CLIENT_AUTH_CONTEXT: &[u8] = b"sockseal v1 client auth\0";
