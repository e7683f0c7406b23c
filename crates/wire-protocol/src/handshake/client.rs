//! The client's side of the handshake.
//!
//! ```text
//! start --(key unknown)--> ExpectKeyOffer --+
//!   |                                       |
//!   +----------> ExpectServerHello <--------+
//!                  |           ^ KeyOffer: the ticket was stale
//!                  v
//!                ExpectServerReady
//!                  v
//!                ExpectServerFinished --(own key)--> SignClientAuth
//!                  |                                      |
//!                  +------------> ExpectWelcome <---------+
//!                                     v
//!                                 Established
//! ```
//!
//! With an invite there is no ticket but a key of the client's, and Joined in place of Welcome.

mod answer;
mod config;
mod key_offer;
mod welcome;

use alloc::boxed::Box;
use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crypto_core::exchange::ClientExchange;
use crypto_core::hash::Transcript;
use crypto_core::identity::ClientKey;
use crypto_core::schedule::{BinderKind, EarlyStage, HandshakeStage, Side, TrafficSecret};
use crypto_core::secret::Secret;
use rand_core::TryCryptoRng;

use super::binder::{BINDER_LEN, write_binder};
use super::{ChannelKeys, Flight, Handshake, Step, Work, next_record_len};
use crate::codec::decode;
use crate::error::{Error, PeerMisbehaved};
use crate::frame::{self, FrameKind};
use crate::message::{
    ASKS_REASON, Abort, ClientAuthPolicy, ClientHello, HandshakeMessage, HelloAuth, Mode, SUITE, ServerHello,
    ServerLimits,
};

use answer::Answer;
pub use config::{ClientConfig, Established, ExpectedServer, MAX_TICKET_LEN, ResumptionTicket};
pub use key_offer::KeyFetch;
use key_offer::{KEY_OFFERS, accept_key, parse_key_offer};
pub use welcome::ExpectWelcome;

/// The states of a client's handshake that wait for a message.
#[derive(Debug)]
pub enum ClientHandshake {
    /// For the server's key.
    KeyOffer(Box<ExpectKeyOffer>),
    /// For the answer to the hello.
    ServerHello(Box<ExpectServerHello>),
    /// For the server's first encrypted message.
    ServerReady(Box<ExpectServerReady>),
    /// For the proof that the server has its key.
    ServerFinished(Box<ExpectServerFinished>),
    /// For the server's last word.
    Welcome(Box<ExpectWelcome>),
}

impl ClientHandshake {
    /// Starts a handshake: what is to be sent first is appended to `out`.
    ///
    /// # Errors
    /// [`Error::ServerKeyMismatch`] when `config` holds a key and the id of another, [`Error::ApiMisuse`] for a ticket
    /// of more than [`MAX_TICKET_LEN`] bytes, and for an invite without an identity, with a ticket or with a pre-shared key,
    /// [`Error::Crypto`] when `rng` fails.
    pub fn start<R: TryCryptoRng + ?Sized>(
        mut config: ClientConfig,
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Self, Error> {
        config.check_invite()?;
        match &mut config.server {
            ExpectedServer::Key { id, key: Some(key), .. } if key.id() != *id => {
                Err(Error::ServerKeyMismatch { expected: *id, offered: key.id() })
            }
            ExpectedServer::Key { ticket: Some(ticket), .. } if ticket.ticket.len() > MAX_TICKET_LEN => {
                Err(Error::ApiMisuse("the ticket is too long for a hello"))
            }
            ExpectedServer::Key { ticket, .. } if ticket.is_some() => {
                let ticket = ticket.take();
                ExpectServerHello::start(config, ticket, rng, out)
            }
            ExpectedServer::Key { key: None, .. } => {
                out.extend_from_slice(&frame::write_empty(FrameKind::KeyRequest));
                Ok(Self::KeyOffer(Box::new(ExpectKeyOffer { config })))
            }
            ExpectedServer::Key { .. } | ExpectedServer::Psk(_) => {
                ExpectServerHello::start(config, None, rng, out)
            }
        }
    }

    /// Whether the server has proven its key.
    #[must_use]
    pub fn has_verified_server(&self) -> bool {
        matches!(self, Self::Welcome(_))
    }
}

impl Handshake for ClientHandshake {
    type Work = SignClientAuth;
    type Outcome = Established;

    fn message_len(&self, prefix: &[u8]) -> Result<Option<usize>, Error> {
        match self {
            Self::KeyOffer(_) => frame::frame_len_among(prefix, &KEY_OFFERS),
            Self::ServerHello(_) => frame::frame_len_among(
                prefix,
                &[FrameKind::ServerHello, FrameKind::KeyOffer, FrameKind::Abort],
            ),
            Self::ServerReady(_) | Self::ServerFinished(_) | Self::Welcome(_) => next_record_len(prefix),
        }
    }

    /// A server of a version that knows no invites ends the connection at the sight of one.
    fn when_closed(&self) -> Option<Error> {
        match self {
            Self::Welcome(state) if state.has_invite() => Some(Error::InviteUnanswered),
            _ => None,
        }
    }

    fn handle<R: TryCryptoRng + ?Sized>(
        self,
        message: &mut [u8],
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Step<Self>, Error> {
        match self {
            Self::KeyOffer(state) => state.handle(message, rng, out),
            Self::ServerHello(state) => state.handle(message, rng, out),
            Self::ServerReady(state) => state.handle(message),
            Self::ServerFinished(state) => state.handle(message, out),
            Self::Welcome(state) => state.handle(message).map(Step::Done),
        }
    }
}

/// Waits for the server's key, which the pinned id then accepts or refuses.
#[derive(Debug)]
pub struct ExpectKeyOffer {
    config: ClientConfig,
}

impl ExpectKeyOffer {
    fn handle<R: TryCryptoRng + ?Sized>(
        self,
        message: &[u8],
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Step<ClientHandshake>, Error> {
        let Self { mut config } = self;
        let offered = parse_key_offer(message)?;
        accept_key(&mut config.server, offered)?;
        ExpectServerHello::start(config, None, rng, out).map(Step::Continue)
    }
}

/// Waits for the answer to a hello.
#[derive(Debug)]
pub struct ExpectServerHello {
    config: ClientConfig,
    mode: Mode,
    early: EarlyStage,
    rsa_secret: Option<Secret<32>>,
    exchange: ClientExchange,
    transcript: Transcript,
}

impl ExpectServerHello {
    /// Says a hello with everything in it fresh, and starts the transcript with it.
    fn start<R: TryCryptoRng + ?Sized>(
        config: ClientConfig,
        ticket: Option<ResumptionTicket>,
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<ClientHandshake, Error> {
        let random = Secret::<32>::random(rng)?;
        let exchange = ClientExchange::generate(rng)?;
        let (mode, server_id, auth, early, rsa_secret, binder_key) = match (&config.server, ticket) {
            (ExpectedServer::Key { id, .. }, Some(ticket)) => {
                let early = EarlyStage::new(Some(&ticket.secret));
                let binder_key = early.binder_key(BinderKind::Resumption);
                let auth = HelloAuth::Ticket { ticket: ticket.ticket, binder: [0; BINDER_LEN] };
                (Mode::Resumption, *id, auth, early, None, Some(binder_key))
            }
            (ExpectedServer::Key { id, key: Some(key), .. }, None) => {
                let secret = Secret::random(rng)?;
                let auth = HelloAuth::Rsa { sealed: key.seal_secret(rng, &secret)? };
                (Mode::Rsa, *id, auth, EarlyStage::new(None), Some(secret), None)
            }
            (ExpectedServer::Key { key: None, .. }, None) => {
                return Err(Error::ApiMisuse("a hello needs the server's key"));
            }
            (ExpectedServer::Psk(psk), _) => {
                let early = EarlyStage::new(Some(psk.secret()));
                let binder_key = early.binder_key(BinderKind::PreSharedKey);
                let auth = HelloAuth::Psk { id: psk.id().to_string(), binder: [0; BINDER_LEN] };
                (Mode::Psk, psk.server_id(), auth, early, None, Some(binder_key))
            }
        };
        let hello = ClientHello {
            random: *random.expose(),
            suites: if config.asks_reason { vec![SUITE, ASKS_REASON] } else { vec![SUITE] },
            x25519: exchange.x25519(),
            encapsulation_key: exchange.encapsulation_key(),
            server_id,
            auth,
        };
        let mut hello = frame::write(FrameKind::ClientHello, &hello);
        if let Some(binder_key) = binder_key {
            write_binder(&mut hello, &binder_key);
        }
        let mut transcript = Transcript::new();
        transcript.update(&hello);
        out.extend_from_slice(&hello);
        Ok(ClientHandshake::ServerHello(Box::new(Self {
            config,
            mode,
            early,
            rsa_secret,
            exchange,
            transcript,
        })))
    }

    fn handle<R: TryCryptoRng + ?Sized>(
        self,
        message: &[u8],
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Step<ClientHandshake>, Error> {
        match frame::parse(message)? {
            (FrameKind::ServerHello, body) => {
                let hello: ServerHello = decode(body)?;
                self.handle_server_hello(message, &hello)
            }
            (FrameKind::KeyOffer, _) => self.handle_key_offer(message, rng, out),
            (FrameKind::Abort, body) => Err(Error::Aborted(decode::<Abort>(body)?.code)),
            _ => Err(PeerMisbehaved::UnexpectedMessage.into()),
        }
    }

    fn handle_server_hello(
        self,
        message: &[u8],
        hello: &ServerHello,
    ) -> Result<Step<ClientHandshake>, Error> {
        if hello.suite != SUITE || hello.mode != self.mode {
            return Err(PeerMisbehaved::SelectedUnoffered.into());
        }
        let Self { config, mode, early, rsa_secret, exchange, mut transcript, .. } = self;
        transcript.update(message);
        let shared = exchange.finish(&hello.x25519, &hello.ciphertext)?;
        let stage = early.into_server_stage(rsa_secret.as_ref()).into_handshake_stage(&shared);
        let t1 = transcript.hash();
        let keys = ChannelKeys::new(
            stage.handshake_secret(Side::Client, &t1),
            stage.handshake_secret(Side::Server, &t1),
        );
        Ok(Step::Continue(ClientHandshake::ServerReady(Box::new(ExpectServerReady {
            config,
            mode,
            own_secret: stage.handshake_secret(Side::Client, &t1),
            server_secret: stage.handshake_secret(Side::Server, &t1),
            stage,
            flight: Flight { keys, transcript },
        }))))
    }

    /// The server does not know the key id or the ticket of the hello. With a ticket that is no surprise, and
    /// the handshake starts over with the server's key; in RSA mode it means that the server has another key,
    /// and a pre-shared key leaves it nothing to offer.
    fn handle_key_offer<R: TryCryptoRng + ?Sized>(
        self,
        message: &[u8],
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Step<ClientHandshake>, Error> {
        let Self { mut config, mode, .. } = self;
        if mode == Mode::Psk {
            return Err(PeerMisbehaved::UnexpectedMessage.into());
        }
        let offered = parse_key_offer(message)?;
        accept_key(&mut config.server, offered)?;
        match mode {
            Mode::Resumption => ExpectServerHello::start(config, None, rng, out).map(Step::Continue),
            // A second one, or the very key that the hello was for.
            _ => Err(PeerMisbehaved::TooManyKeyOffers.into()),
        }
    }
}

/// Waits for ServerReady, which says whether the client has to authenticate.
#[derive(Debug)]
pub struct ExpectServerReady {
    config: ClientConfig,
    mode: Mode,
    stage: HandshakeStage,
    own_secret: TrafficSecret,
    server_secret: TrafficSecret,
    flight: Flight,
}

impl ExpectServerReady {
    fn handle(mut self, message: &mut [u8]) -> Result<Step<ClientHandshake>, Error> {
        match self.flight.receive(message)? {
            HandshakeMessage::ServerReady { client_auth, limits } => {
                Ok(Step::Continue(ClientHandshake::ServerFinished(Box::new(ExpectServerFinished {
                    ready: self,
                    client_auth,
                    limits,
                }))))
            }
            _ => Err(PeerMisbehaved::UnexpectedMessage.into()),
        }
    }
}

/// Waits for the proof that the server has its key. Nothing in ServerReady counts before it.
#[derive(Debug)]
pub struct ExpectServerFinished {
    ready: ExpectServerReady,
    client_auth: ClientAuthPolicy,
    limits: ServerLimits,
}

impl ExpectServerFinished {
    fn handle(self, message: &mut [u8], out: &mut Vec<u8>) -> Result<Step<ClientHandshake>, Error> {
        let Self { ready, client_auth, limits } = self;
        let ExpectServerReady { config, mode, stage, own_secret, server_secret, mut flight } = ready;
        let verified = flight.receive_finished(&server_secret, message)?;
        let answer = Answer { config, mode, stage, own_secret, flight, limits, verified };
        match (mode, client_auth) {
            (Mode::Rsa, ClientAuthPolicy::Required | ClientAuthPolicy::Optional) => {
                match answer.config.identity.clone() {
                    Some(key) => Ok(Step::Work(SignClientAuth { answer: Box::new(answer), key })),
                    None => answer.finish_anonymous(out).map(waiting),
                }
            }
            (Mode::Psk | Mode::Resumption, ClientAuthPolicy::Settled) => answer.finish(out).map(waiting),
            _ => Err(PeerMisbehaved::PolicyMismatch.into()),
        }
    }
}

/// The RSA operation that makes the signature of the client.
#[derive(Debug)]
pub struct SignClientAuth {
    answer: Box<Answer>,
    key: Arc<ClientKey>,
}

impl Work<ClientHandshake> for SignClientAuth {
    fn run<R: TryCryptoRng + ?Sized>(
        self,
        rng: &mut R,
        out: &mut Vec<u8>,
    ) -> Result<Step<ClientHandshake>, Error> {
        self.answer.finish_signed(&self.key, rng, out).map(waiting)
    }
}

fn waiting(state: ExpectWelcome) -> Step<ClientHandshake> {
    Step::Continue(ClientHandshake::Welcome(Box::new(state)))
}
