//! Two endpoints with no socket between them: virtual time, seeded randomness, and a tape of what was said.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use crypto_core::invite::InviteVerifier;
use crypto_core::record;
use crypto_core::schedule::Side;
use crypto_core::secret::Secret;
use rand_core::{SeedableRng as _, TryCryptoRng};
use wire_protocol::handshake::client::{
    self, ClientConfig, ClientHandshake, ExpectedServer, ResumptionTicket,
};
use wire_protocol::handshake::server::{
    self, Authorization, ClientAuth, InviteVerdict, ServerConfig, ServerHandshake,
};
use wire_protocol::handshake::{Handshake, Step, Work as _};
use wire_protocol::message::{DeniedCode, JoinOutcome, Joined, ServerLimits, Target};
use wire_protocol::{Error, frame};

use super::keys;

/// What the server's clock says where a test does not care. No multiple of a ticket's epoch.
pub(crate) const NOW: Duration = Duration::from_secs(1_700_000_000);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(crate) const LIMITS: ServerLimits = ServerLimits { idle_timeout_seconds: 60 };

/// One endpoint of a handshake.
pub(crate) struct Peer<H: Handshake, R = ChaCha20Rng> {
    step: Result<Step<H>, Error>,
    inbox: Vec<u8>,
    pub(crate) rng: R,
    /// How many times it had to do RSA.
    pub(crate) works: usize,
}

impl<H: Handshake, R: TryCryptoRng> Peer<H, R> {
    pub(crate) fn new(start: Result<H, Error>, rng: R) -> Self {
        Self { step: start.map(Step::Continue), inbox: Vec::new(), rng, works: 0 }
    }

    /// Goes as far as it can with `bytes` behind all that came before. Gives what it says to that.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.inbox.extend_from_slice(bytes);
        let mut out = Vec::new();
        let step = mem::replace(&mut self.step, Err(Error::ApiMisuse("it is being fed")));
        self.step = step.and_then(|step| self.advance(step, &mut out));
        out
    }

    fn advance(&mut self, mut step: Step<H>, out: &mut Vec<u8>) -> Result<Step<H>, Error> {
        loop {
            step = match step {
                Step::Continue(handshake) => match handshake.message_len(&self.inbox)? {
                    Some(len) if self.inbox.len() >= len => {
                        let mut message: Vec<u8> = self.inbox.drain(..len).collect();
                        handshake.handle(&mut message, &mut self.rng, out)?
                    }
                    _ => return Ok(Step::Continue(handshake)),
                },
                Step::Work(work) => {
                    self.works += 1;
                    work.run(&mut self.rng, out)?
                }
                done @ Step::Done(_) => return Ok(done),
            }
        }
    }

    pub(crate) fn error(&self) -> Option<Error> {
        self.step.as_ref().err().copied()
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.step, Ok(Step::Done(_)))
    }

    /// The state that waits for a message.
    #[track_caller]
    pub(crate) fn into_waiting(self) -> H {
        match self.step {
            Ok(Step::Continue(handshake)) => handshake,
            Ok(_) => panic!("it does not wait for a message"),
            Err(error) => panic!("it failed: {error}"),
        }
    }

    #[track_caller]
    pub(crate) fn into_outcome(self) -> H::Outcome {
        match self.step {
            Ok(Step::Done(outcome)) => outcome,
            Ok(_) => panic!("it is not done yet"),
            Err(error) => panic!("it failed: {error}"),
        }
    }

    /// What came behind the handshake.
    pub(crate) fn early(&self) -> &[u8] {
        &self.inbox
    }
}

/// A client and what it says first.
pub(crate) fn client(config: ClientConfig) -> (Peer<ClientHandshake>, Vec<u8>) {
    let mut rng = ChaCha20Rng::seed_from_u64(CLIENT_SEED);
    let mut out = Vec::new();
    let start = ClientHandshake::start(config, &mut rng, &mut out);
    (Peer::new(start, rng), out)
}

pub(crate) fn server(config: ServerConfig, now: Duration) -> Peer<ServerHandshake> {
    let start = ServerHandshake::new(Arc::new(config), now);
    Peer::new(Ok(start), ChaCha20Rng::seed_from_u64(SERVER_SEED))
}

/// A client and a server, and the line between them.
pub(crate) struct Pair {
    pub(crate) client: Peer<ClientHandshake>,
    pub(crate) server: Peer<ServerHandshake>,
    /// The server's side of the channel, once it has let the client in.
    pub(crate) welcomed: Option<server::Established>,
    /// What the server says to whoever the client turns out to be.
    pub(crate) decision: Result<(), DeniedCode>,
    /// What the server keeps of the one invite that it has made.
    pub(crate) kept: Option<InviteVerifier>,
    /// What it thinks of the one that the client has presented.
    pub(crate) verdict: Option<InviteVerdict>,
    /// What it says to a client that has the invite.
    pub(crate) joined: Joined,
    /// What was delivered, message by message, by the side that said it.
    pub(crate) tape: Vec<(Side, Vec<u8>)>,
    to_server: Vec<u8>,
    early: Vec<u8>,
}

impl Pair {
    pub(crate) fn new(client: ClientConfig, server: ServerConfig) -> Self {
        Self::at(NOW, client, server)
    }

    pub(crate) fn at(now: Duration, client: ClientConfig, server: ServerConfig) -> Self {
        let (client, to_server) = self::client(client);
        Self {
            client,
            server: self::server(server, now),
            welcomed: None,
            decision: Ok(()),
            kept: Some(keys::invite().verifier(keys::server_id())),
            verdict: None,
            joined: joined(JoinOutcome::Enrolled),
            tape: Vec::new(),
            to_server,
            early: Vec::new(),
        }
    }

    /// Lets the two talk until both are silent.
    pub(crate) fn run(&mut self) {
        self.run_with(|_, _| {});
    }

    /// As [`Pair::run`], with somebody on the line who may change each message. They are counted from 0.
    pub(crate) fn run_with(&mut self, mut tamper: impl FnMut(usize, &mut Vec<u8>)) {
        let mut from = Side::Client;
        let mut flight = mem::take(&mut self.to_server);
        while !flight.is_empty() {
            let mut answer = Vec::new();
            for mut message in messages(&flight) {
                tamper(self.tape.len(), &mut message);
                answer.extend(match from {
                    Side::Client => self.feed_server(&message),
                    Side::Server => self.client.feed(&message),
                });
                self.tape.push((from, message));
            }
            flight = answer;
            from = !from;
        }
    }

    fn feed_server(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = self.server.feed(bytes);
        if self.server.is_done() && self.welcomed.is_none() {
            let over = Err(Error::ApiMisuse("the handshake is over"));
            let done = mem::replace(&mut self.server.step, over);
            let Ok(Step::Done(authorization)) = done else { return out };
            self.answer(authorization, &mut out);
        }
        if self.welcomed.is_some() {
            self.early = self.server.early().to_vec();
        }
        out
    }

    fn answer(&mut self, authorization: Box<Authorization>, out: &mut Vec<u8>) {
        let rng = &mut self.server.rng;
        self.verdict = authorization.invite().map(|attempt| attempt.check(self.kept.as_ref(), rng).unwrap());
        let established = match (self.decision, self.verdict) {
            (Ok(()), None) => authorization.welcome(rng, out),
            (Ok(()), Some(InviteVerdict::Right)) => authorization.join(self.joined.clone(), rng, out),
            (Ok(()), Some(_)) => return authorization.deny(DeniedCode::NotAllowed, out).unwrap(),
            (Err(code), _) => return authorization.deny(code, out).unwrap(),
        };
        match established {
            Ok(established) => self.welcomed = Some(established),
            Err(error) => self.server.step = Err(error),
        }
    }

    /// Whether each side believes that the channel stands.
    pub(crate) fn both_established(&self) -> bool {
        self.client.is_done() && self.welcomed.is_some()
    }

    /// Both sides of the channel, and what came early to the server.
    #[track_caller]
    pub(crate) fn into_established(self) -> (client::Established, server::Established, Vec<u8>) {
        let server = match self.welcomed {
            Some(established) => established,
            None => panic!("the server did not welcome the client: {:?}", self.server.error()),
        };
        (self.client.into_outcome(), server, self.early)
    }
}

/// The ways to get a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    /// RSA mode; the client asks for the server's key and has one of its own.
    FirstContact,
    /// RSA mode; the client has the server's key and does not say who it is.
    Anonymous,
    /// A pre-shared key.
    Psk,
    /// A ticket of an hour ago.
    Resumption,
    /// RSA mode; the client has the server's key, one of its own, and an invite.
    Invited,
}

impl Scene {
    pub(crate) const ALL: [Self; 5] =
        [Self::FirstContact, Self::Anonymous, Self::Psk, Self::Resumption, Self::Invited];

    pub(crate) fn client(self) -> ClientConfig {
        match self {
            Self::FirstContact => with_identity(knows_id()),
            Self::Anonymous => knows_key(),
            Self::Psk => knows_psk(),
            Self::Resumption => has_ticket(ticket()),
            Self::Invited => invited(with_identity(knows_key())),
        }
    }

    pub(crate) fn pair(self) -> Pair {
        Pair::new(self.client(), server_config())
    }
}

/// Everything that a server can offer.
pub(crate) fn server_config() -> ServerConfig {
    let psk = keys::psk();
    ServerConfig {
        identity: Some(keys::server()),
        psks: BTreeMap::from([(psk.id().to_owned(), psk)]),
        tickets: Some(keys::ticket_key()),
        client_auth: ClientAuth::Optional,
        limits: LIMITS,
    }
}

pub(crate) fn knows_id() -> ClientConfig {
    expecting(ExpectedServer::Key { id: keys::server_id(), key: None, ticket: None })
}

pub(crate) fn knows_key() -> ClientConfig {
    let key = keys::server().public().clone();
    expecting(ExpectedServer::Key { id: key.id(), key: Some(key), ticket: None })
}

pub(crate) fn knows_psk() -> ClientConfig {
    expecting(ExpectedServer::Psk(keys::psk()))
}

pub(crate) fn has_ticket(ticket: ResumptionTicket) -> ClientConfig {
    expecting(ExpectedServer::Key { id: keys::server_id(), key: None, ticket: Some(ticket) })
}

pub(crate) fn expecting(server: ExpectedServer) -> ClientConfig {
    ClientConfig::new(server)
}

pub(crate) fn with_identity(config: ClientConfig) -> ClientConfig {
    ClientConfig { identity: Some(keys::client()), ..config }
}

pub(crate) fn invited(config: ClientConfig) -> ClientConfig {
    ClientConfig { invite: Some(keys::invite()), ..config }
}

pub(crate) fn joined(outcome: JoinOutcome) -> Joined {
    Joined { outcome, name: "laptop".into(), grant: "--message --tcp 10.0.0.1:5432".into() }
}

pub(crate) fn opening(config: ClientConfig, target: Target) -> ClientConfig {
    ClientConfig { open: Some(target), ..config }
}

/// The ticket that the client with [`keys::client`] got an hour before [`NOW`].
pub(crate) fn ticket() -> ResumptionTicket {
    static TICKET: OnceLock<(Vec<u8>, [u8; 32], u32)> = OnceLock::new();
    let (ticket, secret, lifetime_seconds) = TICKET.get_or_init(|| {
        let mut pair = Pair::at(NOW - HOUR, with_identity(knows_key()), server_config());
        pair.run();
        let (client, _, _) = pair.into_established();
        let ticket = client.ticket.unwrap();
        (ticket.ticket, *ticket.secret.expose(), ticket.lifetime_seconds)
    });
    ResumptionTicket {
        ticket: ticket.clone(),
        secret: Secret::new(*secret),
        lifetime_seconds: *lifetime_seconds,
    }
}

/// Takes a flight apart: frames by their headers, records by theirs. A record cannot look like a frame, since
/// `SK` as a length is beyond the limit.
#[track_caller]
pub(crate) fn messages(mut flight: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while !flight.is_empty() {
        let len = if flight.starts_with(b"SKS") {
            frame::frame_len(flight).unwrap().unwrap()
        } else {
            record::record_len(*flight.first_chunk().unwrap()).unwrap()
        };
        let (message, rest) = flight.split_at(len);
        messages.push(message.to_vec());
        flight = rest;
    }
    messages
}

const CLIENT_SEED: u64 = 0xC1;
const SERVER_SEED: u64 = 0x5E;
