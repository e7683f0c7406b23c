//! The server's side of the handshake.
//!
//! ```text
//! new --> ExpectClientHello --(rsa)--> OpenSecret --+
//!           | ^ KeyRequest, stale key id or ticket  |
//!           |                                       |
//!           +-----(psk, ticket)-------> the answer: ServerHello, ServerReady, Finished
//!                                        |                      |
//!                                        | (rsa)                | (settled)
//!                                        v                      |
//!                                   ExpectClientAuth            |
//!                                        | --> VerifyClientAuth |
//!                                        v                      v
//!                                      ExpectClientFinished <---+    behind ClientAuth, also for Invite
//!                                        v
//!                                      Authorization --> Established, or denied
//! ```

mod authorization;
mod client_finished;
mod config;
mod credentials;
mod invite;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crypto_core::exchange;
use crypto_core::hash::Transcript;
use crypto_core::identity::{PublicKey, ServerKey};
use crypto_core::schedule::{EarlyStage, Side};
use crypto_core::secret::Secret;
use rand_core::TryCryptoRng;

use super::{ChannelKeys, Flight, Handshake, Step, Work, client_auth_message, next_record_len};
use crate::codec::decode;
use crate::error::{Error, PeerMisbehaved};
use crate::frame::{self, FrameKind};
use crate::message::{
    ASKS_REASON, AbortCode, ClientAuthPolicy, ClientHello, ClientIdentity, HandshakeMessage, HelloAuth,
    KeyOffer, Mode, SUITE, ServerHello,
};

pub use authorization::Authorization;
pub use client_finished::ExpectClientFinished;
use client_finished::{Pending, UntilDone};
pub use config::{ClientAuth, Established, ServerConfig, TICKET_CHAIN_LIFETIME, TICKET_LIFETIME};
pub use invite::{InviteAttempt, InviteVerdict};

/// Most KeyOffers on a connection (section 3): one for a first contact, one for a stale ticket.
pub const MAX_KEY_OFFERS: u8 = 2;
/// The states of a server's handshake that wait for a message.
#[derive(Debug)]
pub enum ServerHandshake {
    /// For the client's first words.
    ClientHello(ExpectClientHello),
    /// For who the client is.
    ClientAuth(Box<ExpectClientAuth>),
    /// For the proof that the client has the keys.
    ClientFinished(Box<ExpectClientFinished>),
}

impl ServerHandshake {
    /// Starts a handshake. `now` is the time since the Unix epoch, for the age of tickets.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>, now: Duration) -> Self {
        Self::ClientHello(ExpectClientHello { config, now, key_offers: 0, refused_ticket: false })
    }
}

impl Handshake for ServerHandshake {
    type Work = ServerWork;
    type Outcome = Box<Authorization>;

    fn message_len(&self, prefix: &[u8]) -> Result<Option<usize>, Error> {
        match self {
            Self::ClientHello(_) => {
                frame::frame_len_among(prefix, &[FrameKind::KeyRequest, FrameKind::ClientHello])
            }
            Self::ClientAuth(_) | Self::ClientFinished(_) => next_record_len(prefix),
        }
    }

    fn has_refused_ticket(&self) -> bool {
        matches!(self, Self::ClientHello(ExpectClientHello { refused_ticket: true, .. }))
    }

    /// Before a hello: a client that has asked for the key to show it to somebody, or one that only wanted to know whether
    /// somebody listens here.
    fn peer_may_leave(&self) -> bool {
        matches!(self, Self::ClientHello(_))
    }

    fn handle<R: TryCryptoRng + ?Sized>(
        self,
        message: &mut [u8],
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Step<Self>, Error> {
        match self {
            Self::ClientHello(state) => state.handle(message, rng, out),
            Self::ClientAuth(state) => state.handle(message),
            Self::ClientFinished(state) => Ok(match state.handle(message)? {
                UntilDone::Waiting(state) => Step::Continue(Self::ClientFinished(state)),
                UntilDone::Done(authorization) => Step::Done(authorization),
            }),
        }
    }
}

/// An RSA operation that a server has to do during a handshake.
#[derive(Debug)]
pub enum ServerWork {
    /// Open the secret in a hello.
    OpenSecret(Box<OpenSecret>),
    /// Check the client's signature.
    VerifyClientAuth(Box<VerifyClientAuth>),
}

impl Work<ServerHandshake> for ServerWork {
    fn run<R: TryCryptoRng + ?Sized>(
        self,
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Step<ServerHandshake>, Error> {
        match self {
            Self::OpenSecret(work) => work.run(rng, out),
            Self::VerifyClientAuth(work) => work.run(),
        }
    }
}

/// Waits for ClientHello, or for a request for the server's key.
#[derive(Debug)]
pub struct ExpectClientHello {
    config: Arc<ServerConfig>,
    now: Duration,
    /// KeyOffers made on this connection.
    key_offers: u8,
    /// Whether the last one was made since a ticket was of no use.
    refused_ticket: bool,
}

impl ExpectClientHello {
    fn handle<R: TryCryptoRng + ?Sized>(
        self,
        message: &[u8],
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Step<ServerHandshake>, Error> {
        match frame::parse(message)? {
            (FrameKind::KeyRequest, []) => Self { refused_ticket: false, ..self }.offer_key(out),
            (FrameKind::ClientHello, body) => {
                let hello: ClientHello = decode(body)?;
                if !hello.suites.contains(&SUITE) {
                    return Err(PeerMisbehaved::NoCommonSuite.into());
                }
                self.handle_hello(message, hello, rng, out)
            }
            _ => Err(PeerMisbehaved::UnexpectedMessage.into()),
        }
    }

    fn handle_hello<R: TryCryptoRng + ?Sized>(
        self,
        message: &[u8],
        hello: ClientHello,
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Step<ServerHandshake>, Error> {
        let full_handshake_at = self.now;
        match &hello.auth {
            HelloAuth::Rsa { sealed } => match &self.config.identity {
                None => Err(Error::UnknownServerOrPsk(AbortCode::PskOnly)),
                Some(identity) if identity.public().id() != hello.server_id => {
                    Self { refused_ticket: false, ..self }.offer_key(out)
                }
                Some(identity) => {
                    let (identity, sealed) = (Arc::clone(identity), sealed.clone());
                    let answer = self.into_answer(message, hello, Mode::Rsa, full_handshake_at);
                    Ok(Step::Work(ServerWork::OpenSecret(Box::new(OpenSecret { identity, sealed, answer }))))
                }
            },
            HelloAuth::Psk { id, .. } => {
                let early = credentials::check_psk(&self.config, id, hello.server_id, message)?;
                let client = ClientIdentity::Psk(id.clone());
                let answer = self.into_answer(message, hello, Mode::Psk, full_handshake_at);
                answer.send(early, None, Some(client), rng, out)
            }
            HelloAuth::Ticket { ticket, .. } => {
                match credentials::check_ticket(&self.config, self.now, ticket, hello.server_id, message) {
                    Ok((early, content)) => {
                        let full_handshake_at = Duration::from_secs(content.full_handshake_at);
                        let answer = self.into_answer(message, hello, Mode::Resumption, full_handshake_at);
                        answer.send(early, None, Some(content.client), rng, out)
                    }
                    Err(_) => Self { refused_ticket: true, ..self }.offer_key(out),
                }
            }
        }
    }

    fn offer_key(self, out: &mut Vec<u8>) -> Result<Step<ServerHandshake>, Error> {
        let Some(identity) = &self.config.identity else {
            return Err(Error::UnknownServerOrPsk(AbortCode::PskOnly));
        };
        if self.key_offers == MAX_KEY_OFFERS {
            return Err(PeerMisbehaved::TooManyKeyOffers.into());
        }
        let offer = KeyOffer { spki: identity.public().spki_der().to_vec() };
        out.extend_from_slice(&frame::write(FrameKind::KeyOffer, &offer));
        let state = Self { key_offers: self.key_offers + 1, ..self };
        Ok(Step::Continue(ServerHandshake::ClientHello(state)))
    }

    fn into_answer(
        self,
        message: &[u8],
        hello: ClientHello,
        mode: Mode,
        full_handshake_at: Duration,
    ) -> Answer {
        let mut transcript = Transcript::new();
        transcript.update(message);
        Answer { config: self.config, now: self.now, hello, mode, transcript, full_handshake_at }
    }
}

/// The RSA operation that decrypts the secret in a ClientHello.
#[derive(Debug)]
pub struct OpenSecret {
    identity: Arc<ServerKey>,
    sealed: Vec<u8>,
    answer: Answer,
}

impl OpenSecret {
    fn run<R: TryCryptoRng + ?Sized>(
        self,
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Step<ServerHandshake>, Error> {
        let secret = self.identity.open_secret(rng, &self.sealed)?;
        self.answer.send(EarlyStage::new(None), Some(&secret), None, rng, out)
    }
}

/// The server's answer to a hello, to be sent.
#[derive(Debug)]
struct Answer {
    config: Arc<ServerConfig>,
    now: Duration,
    hello: ClientHello,
    mode: Mode,
    transcript: Transcript,
    full_handshake_at: Duration,
}

impl Answer {
    /// `client` is who the hello has settled that the client is, if it has.
    fn send<R: TryCryptoRng + ?Sized>(
        self,
        early: EarlyStage,
        rsa_secret: Option<&Secret<32>>,
        client: Option<ClientIdentity>,
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Step<ServerHandshake>, Error> {
        let Self { config, now, hello, mode, mut transcript, full_handshake_at } = self;
        let random = Secret::<32>::random(rng)?;
        let (share, shared) = exchange::respond(rng, &hello.x25519, &hello.encapsulation_key)?;
        let answer = ServerHello {
            random: *random.expose(),
            suite: SUITE,
            x25519: share.x25519,
            ciphertext: share.ciphertext,
            mode,
        };
        let answer = frame::write(FrameKind::ServerHello, &answer);
        transcript.update(&answer);
        out.extend_from_slice(&answer);

        let stage = early.into_server_stage(rsa_secret).into_handshake_stage(&shared);
        let t1 = transcript.hash();
        let own_secret = stage.handshake_secret(Side::Server, &t1);
        let keys = ChannelKeys::new(
            stage.handshake_secret(Side::Server, &t1),
            stage.handshake_secret(Side::Client, &t1),
        );
        let mut flight = Flight { keys, transcript };
        let client_auth = match (&client, config.client_auth) {
            (Some(_), _) => ClientAuthPolicy::Settled,
            (None, ClientAuth::Required) => ClientAuthPolicy::Required,
            (None, ClientAuth::Optional) => ClientAuthPolicy::Optional,
        };
        flight.send(&HandshakeMessage::ServerReady { client_auth, limits: config.limits }, out)?;
        let mac = own_secret.finished(&flight.transcript.hash());
        flight.send(&HandshakeMessage::Finished { mac }, out)?;

        let pending = Pending {
            client_secret: stage.handshake_secret(Side::Client, &t1),
            server_id: hello.server_id,
            config,
            now,
            mode,
            full_handshake_at,
            asks_reason: hello.suites.contains(&ASKS_REASON),
            stage,
            flight,
        };
        Ok(Step::Continue(match client {
            Some(client) => {
                ServerHandshake::ClientFinished(Box::new(ExpectClientFinished::new(pending, client)))
            }
            None => ServerHandshake::ClientAuth(Box::new(ExpectClientAuth { pending })),
        }))
    }
}

/// Waits for ClientAuth, with which the client names its key and proves that it has it, or stays anonymous.
#[derive(Debug)]
pub struct ExpectClientAuth {
    pending: Pending,
}

impl ExpectClientAuth {
    fn handle(self, message: &mut [u8]) -> Result<Step<ServerHandshake>, Error> {
        let Self { mut pending } = self;
        let t2 = pending.flight.transcript.hash();
        match pending.flight.receive(message)? {
            HandshakeMessage::ClientAuth { spki, signature } => {
                let work = VerifyClientAuth { pending, t2, spki, signature };
                Ok(Step::Work(ServerWork::VerifyClientAuth(Box::new(work))))
            }
            HandshakeMessage::Anonymous => {
                Ok(waiting(ExpectClientFinished::new(pending, ClientIdentity::Anonymous)))
            }
            _ => Err(PeerMisbehaved::UnexpectedMessage.into()),
        }
    }
}

/// The RSA operation that verifies the signature of a client.
#[derive(Debug)]
pub struct VerifyClientAuth {
    pending: Pending,
    t2: [u8; 32],
    spki: Vec<u8>,
    signature: Vec<u8>,
}

impl VerifyClientAuth {
    fn run(self) -> Result<Step<ServerHandshake>, Error> {
        let key = PublicKey::from_spki_der(&self.spki)?;
        key.verify(&client_auth_message(&self.t2, &key.id()), &self.signature)?;
        Ok(waiting(ExpectClientFinished::after_client_auth(self.pending, self.t2, key.id())))
    }
}

fn waiting(state: ExpectClientFinished) -> Step<ServerHandshake> {
    Step::Continue(ServerHandshake::ClientFinished(Box::new(state)))
}
