//! The three handshakes, run by the state machines with fixed randomness, and the records behind them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::invite::InviteSecret;
use crypto_core::record::{ContentType, HEADER_LEN, OVERHEAD, Outgoing, Sealer, record_len};
use crypto_core::schedule::{BinderKind, Side};
use crypto_core::secret::Secret;
use crypto_core::ticket::TicketKey;
use crypto_core::{pem, psk::PreSharedKey};
use wire_protocol::codec::encode;
use wire_protocol::frame;
use wire_protocol::handshake::client::{
    ClientConfig, ClientHandshake, Established, ExpectedServer, ResumptionTicket,
};
use wire_protocol::handshake::server::{
    Authorization, ClientAuth, InviteVerdict, ServerConfig, ServerHandshake,
};
use wire_protocol::handshake::{Handshake, Step, Work as _};
use wire_protocol::message::{
    ClientIdentity, ControlMessage, DeniedCode, HandshakeMessage, JoinOutcome, Joined, ServerLimits, Target,
    TicketContent,
};

use super::format::{Answer, Draw, InviteInHand, Message, Record, Setup, TicketInHand, Vector, hex};
use super::schedule::{Derived, Inputs, derive, traffic};
use super::script::{Script, draw};

/// A handshake, and what a hostile peer could know of it.
pub(crate) struct Recorded {
    pub(crate) file: &'static str,
    pub(crate) vector: Vector,
    pub(crate) messages: Said,
    /// Index of the hello that was answered.
    pub(crate) hello: usize,
    pub(crate) derived: Derived,
}

pub(crate) fn all() -> Vec<Recorded> {
    vec![rsa(), psk(), resumption(), invite()]
}

const NOW: u64 = 1_700_000_000;
const LIMITS: ServerLimits = ServerLimits { idle_timeout_seconds: 60 };
const SERVER_KEY: &str = include_str!("../../tests/fixtures/test-only-server.pem");
const CLIENT_KEY: &str = include_str!("../../tests/fixtures/test-only-client.pem");

const CLIENT_DRAWS: [(&str, usize); 3] = [("random", 32), ("x25519 secret", 32), ("ml-kem d and z", 64)];
const CLIENT_RSA_DRAWS: [(&str, usize); 3] = [("rsa secret", 32), ("oaep seed", 32), ("pss salt", 32)];
const SERVER_DRAWS: [(&str, usize); 3] = [("random", 32), ("x25519 secret", 32), ("ml-kem m", 32)];
const TICKET_DRAWS: [(&str, usize); 2] = [("ticket nonce", 16), ("ticket sealing nonce", 16)];

/// The randomness of a handshake, by side and name.
struct Randomness {
    mode: &'static str,
    draws: Vec<Draw>,
}

impl Randomness {
    fn new(mode: &'static str) -> Self {
        Self { mode, draws: Vec::new() }
    }

    fn add(mut self, side: &'static str, names: &[(&'static str, usize)]) -> Self {
        for &(name, len) in names {
            self.draws.push(Draw { side, name, bytes: hex(draw(self.mode, side, name, len)) });
        }
        self
    }

    fn bytes(&self, side: &'static str, name: &'static str) -> Vec<u8> {
        let found = self.draws.iter().find(|draw| draw.side == side && draw.name == name);
        data_encoding::HEXLOWER
            .decode(found.expect("only what is drawn is asked for").bytes.as_bytes())
            .expect("it is our own hexadecimal")
    }

    fn script(&self, side: &'static str) -> Script {
        let draws = self.draws.iter().filter(|draw| draw.side == side);
        Script::new(draws.map(|draw| self.bytes(side, draw.name)))
    }
}

fn rsa() -> Recorded {
    let randomness = Randomness::new("rsa")
        .add("client", &CLIENT_DRAWS)
        .add("client", &CLIENT_RSA_DRAWS)
        .add("server", &SERVER_DRAWS)
        .add("server", &TICKET_DRAWS);
    let client_key = pem::read_client_key(CLIENT_KEY, None).expect("the fixture is a key");
    let server = server_config();
    let id = server.identity.as_ref().expect("it has one").public().id();
    let client = ClientConfig {
        server: ExpectedServer::Key { id, key: None, ticket: None },
        identity: Some(Arc::new(client_key)),
        invite: None,
        open: Some(Target::Pipe),
        asks_reason: false,
    };
    let setup = Setup {
        client_auth: "required",
        client_key: Some(CLIENT_KEY),
        ticket_key: Some(hex(ticket_master())),
        ..setup(id)
    };
    let rsa = randomness.bytes("client", "rsa secret").try_into().ok();
    record(
        "handshake_rsa.json",
        "A first contact: the client knows the id of the server's key, asks for the key, and has a key of its own.",
        &[
            "KeyRequest",
            "KeyOffer",
            "ClientHello",
            "ServerHello",
            "ServerReady",
            "Finished",
            "ClientAuth",
            "Finished",
            "Welcome",
        ],
        (client, server, setup, randomness),
        Secrets { rsa, ..Secrets::default() },
    )
}

fn psk() -> Recorded {
    let randomness = Randomness::new("psk").add("client", &CLIENT_DRAWS).add("server", &SERVER_DRAWS);
    let server_id = draw("psk", "setup", "server id", 32);
    let server_id = KeyId(server_id.try_into().expect("it is as long as it was asked for"));
    let mut secret = Script::new([draw("psk", "setup", "secret", 32)]);
    let key = PreSharedKey::generate(&mut secret, "laptop", server_id).expect("the id is a good one");
    let (text, symmetric) = (key.to_text().to_string(), *key.secret().expose());
    let key = Arc::new(key);
    let server = ServerConfig {
        identity: None,
        psks: BTreeMap::from([(key.id().to_owned(), Arc::clone(&key))]),
        tickets: None,
        client_auth: ClientAuth::Required,
        limits: LIMITS,
    };
    let client = ClientConfig {
        server: ExpectedServer::Psk(key),
        identity: None,
        invite: None,
        open: Some(Target::Pipe),
        asks_reason: false,
    };
    let setup = Setup { client_auth: "required", server_key: None, psk: Some(text), ..setup(server_id) };
    record(
        "handshake_psk.json",
        "A pre-shared key. The server has no RSA key.",
        &["ClientHello", "ServerHello", "ServerReady", "Finished", "Finished", "Welcome"],
        (client, server, setup, randomness),
        Secrets { symmetric: Some((BinderKind::PreSharedKey, symmetric)), ..Secrets::default() },
    )
}

fn resumption() -> Recorded {
    let randomness = Randomness::new("resumption")
        .add("client", &CLIENT_DRAWS)
        .add("server", &SERVER_DRAWS)
        .add("server", &TICKET_DRAWS);
    let server = server_config();
    let id = server.identity.as_ref().expect("it has one").public().id();
    let client_key = pem::read_client_key(CLIENT_KEY, None).expect("the fixture is a key");
    let symmetric: [u8; 32] =
        draw("resumption", "setup", "ticket secret", 32).try_into().expect("as long as it was asked for");
    let content = TicketContent {
        server_id: id,
        secret: symmetric,
        issued_at: NOW - 3600,
        full_handshake_at: NOW - 2 * 24 * 3600,
        client: ClientIdentity::Key(client_key.public().id()),
    };
    let mut encoded = Vec::new();
    encode(&content, &mut encoded);
    let mut nonce = Script::new([draw("resumption", "setup", "ticket sealing nonce", 16)]);
    let issued_at = Duration::from_secs(content.issued_at);
    let key = TicketKey::new(Secret::new(ticket_master()));
    let ticket = key.seal(&mut nonce, issued_at, &encoded).expect("the script is long enough");
    let in_hand = TicketInHand {
        ticket: hex(&ticket),
        secret: hex(symmetric),
        lifetime_seconds: 24 * 3600,
        content: hex(&encoded),
    };
    let setup = Setup {
        client_auth: "required",
        ticket_key: Some(hex(ticket_master())),
        ticket: Some(in_hand),
        ..setup(id)
    };
    let ticket = ResumptionTicket { ticket, secret: Secret::new(symmetric), lifetime_seconds: 24 * 3600 };
    let client = ClientConfig {
        server: ExpectedServer::Key { id, key: None, ticket: Some(ticket) },
        identity: None,
        invite: None,
        open: Some(Target::Pipe),
        asks_reason: false,
    };
    record(
        "handshake_resumption.json",
        "A ticket of an hour ago, from a chain that began two days ago with a client's key.",
        &["ClientHello", "ServerHello", "ServerReady", "Finished", "Finished", "Welcome"],
        (client, server, setup, randomness),
        Secrets { symmetric: Some((BinderKind::Resumption, symmetric)), ..Secrets::default() },
    )
}

const INVITE_NAME: &str = "laptop";
const INVITE_GRANT: &str = "--message --tcp 10.0.0.1:5432";

fn invite() -> Recorded {
    let randomness = Randomness::new("invite")
        .add("client", &CLIENT_DRAWS)
        .add("client", &CLIENT_RSA_DRAWS)
        .add("server", &SERVER_DRAWS)
        .add("server", &TICKET_DRAWS);
    let client_key = pem::read_client_key(CLIENT_KEY, None).expect("the fixture is a key");
    let server = server_config();
    let id = server.identity.as_ref().expect("it has one").public().id();
    let secret: [u8; 32] =
        draw("invite", "setup", "invite secret", 32).try_into().expect("as long as it was asked for");
    let client = ClientConfig {
        server: ExpectedServer::Key { id, key: None, ticket: None },
        identity: Some(Arc::new(client_key)),
        invite: Some(Arc::new(InviteSecret::new(Secret::new(secret)))),
        open: Some(Target::Pipe),
        asks_reason: false,
    };
    let setup = Setup {
        client_auth: "required",
        client_key: Some(CLIENT_KEY),
        ticket_key: Some(hex(ticket_master())),
        invite: Some(InviteInHand { secret: hex(secret), name: INVITE_NAME, grant: INVITE_GRANT }),
        ..setup(id)
    };
    let rsa = randomness.bytes("client", "rsa secret").try_into().ok();
    let mut recorded = record(
        "handshake_invite.json",
        "A first contact by an invite, which enrols the client. Each of the answers may stand in place of the last message.",
        &[
            "KeyRequest",
            "KeyOffer",
            "ClientHello",
            "ServerHello",
            "ServerReady",
            "Finished",
            "ClientAuth",
            "Invite",
            "Finished",
            "Joined",
        ],
        (client, server, setup, randomness),
        Secrets { rsa, invite: Some(secret), ..Secrets::default() },
    );
    recorded.vector.mode = "rsa";
    recorded.vector.answers = answers(&recorded.derived);
    recorded
}

pub(crate) fn joined(outcome: JoinOutcome) -> Joined {
    Joined { outcome, name: INVITE_NAME.into(), grant: INVITE_GRANT.into() }
}

/// The other answers to an invite. A refusal has the same bytes whatever its reason.
fn answers(derived: &Derived) -> Vec<Answer> {
    let joined = |outcome| HandshakeMessage::Joined { joined: joined(outcome), ticket: None };
    [
        ("Joined, enrolled, without a ticket", joined(JoinOutcome::Enrolled)),
        ("Joined, enrolled before", joined(JoinOutcome::EnrolledBefore)),
        ("Joined, known already", joined(JoinOutcome::Known)),
        ("Denied, not allowed", HandshakeMessage::Denied { code: DeniedCode::NotAllowed }),
        ("Denied, too many channels", HandshakeMessage::Denied { code: DeniedCode::TooManyChannels }),
    ]
    .map(|(name, message)| {
        let mut payload = Vec::new();
        encode(&message, &mut payload);
        let mut sealer = Sealer::new(traffic(&derived.server.application));
        let bytes = hex(seal(&mut sealer, ContentType::Handshake, &payload, 0));
        Answer { name, payload: hex(&payload), bytes }
    })
    .into()
}

fn ticket_master() -> [u8; 32] {
    draw("all", "setup", "ticket key", 32).try_into().expect("it is as long as it was asked for")
}

fn server_config() -> ServerConfig {
    // What replaces a secret that does not open is drawn when a key is read; no vector depends on it.
    let key = pem::read_server_key(&mut Script::new([]), SERVER_KEY, None).expect("the fixture is a key");
    ServerConfig {
        identity: Some(Arc::new(key)),
        psks: BTreeMap::new(),
        tickets: Some(Arc::new(TicketKey::new(Secret::new(ticket_master())))),
        client_auth: ClientAuth::Required,
        limits: LIMITS,
    }
}

fn setup(server_id: KeyId) -> Setup {
    Setup {
        now: NOW,
        idle_timeout_seconds: LIMITS.idle_timeout_seconds,
        server_id: hex(server_id.0),
        server_key: Some(SERVER_KEY),
        ..Setup::default()
    }
}

/// Messages, by the side that said them.
pub(crate) type Said = Vec<(Side, Vec<u8>)>;

/// What the two sides share, or one of them makes.
#[derive(Default)]
struct Secrets {
    symmetric: Option<(BinderKind, [u8; 32])>,
    rsa: Option<[u8; 32]>,
    invite: Option<[u8; 32]>,
}

fn record(
    file: &'static str,
    description: &'static str,
    names: &[&'static str],
    (client, server, setup, randomness): (ClientConfig, ServerConfig, Setup, Randomness),
    Secrets { symmetric, rsa, invite }: Secrets,
) -> Recorded {
    let (established, messages, open) = run(client, server, &randomness);
    assert_eq!(messages.len(), names.len(), "{file}");
    let hello = names.iter().position(|name| *name == "ClientHello").expect("there is one");
    let drawn = |side, name| randomness.bytes(side, name);
    let inputs = Inputs {
        client_x25519: &drawn("client", "x25519 secret"),
        client_ml_kem: &drawn("client", "ml-kem d and z"),
        server_x25519: &drawn("server", "x25519 secret"),
        server_ml_kem: &drawn("server", "ml-kem m"),
        symmetric,
        rsa,
        invite,
    };
    let derived = derive(&messages[hello..], &inputs);
    let records = records(&derived, &open);
    if let Some(ticket) = established.ticket {
        let secret = derived.secrets.iter().find(|secret| secret.name == "ticket secret");
        assert_eq!(secret.map(|secret| &secret.bytes), Some(&hex(ticket.secret.expose())));
    }

    let payloads = std::iter::repeat_n(&None, hello).chain(&derived.payloads);
    let vector_messages = messages
        .iter()
        .zip(names)
        .zip(payloads)
        .map(|(((from, bytes), name), payload)| Message {
            from: side_name(*from),
            name,
            bytes: hex(bytes),
            payload: payload.as_ref().map(hex),
        })
        .collect();
    let mut derived = derived;
    let vector = Vector {
        description,
        mode: randomness.mode,
        setup,
        randomness: randomness.draws,
        messages: vector_messages,
        answers: Vec::new(),
        transcripts: std::mem::take(&mut derived.transcripts),
        secrets: std::mem::take(&mut derived.secrets),
        keys: std::mem::take(&mut derived.keys),
        records,
    };
    Recorded { file, vector, messages, hello, derived }
}

/// Runs the two state machines. Also gives the Open that the client says right behind its Finished.
fn run(client: ClientConfig, server: ServerConfig, randomness: &Randomness) -> (Established, Said, Vec<u8>) {
    let (mut client_rng, mut server_rng) = (randomness.script("client"), randomness.script("server"));
    let mut messages = Vec::new();
    let mut to_server = Vec::new();
    let invited = client.invite.clone();
    let server_id = server.identity.as_ref().map_or(KeyId([0; 32]), |key| key.public().id());
    let start =
        ClientHandshake::start(client, &mut client_rng, &mut to_server).expect("the config is in order");
    let mut client = Step::Continue(start);
    let mut server = Step::Continue(ServerHandshake::new(Arc::new(server), Duration::from_secs(NOW)));

    let authorization: Box<Authorization> = loop {
        let mut to_client = Vec::new();
        server = advance(server, &mut server_rng, &mut to_server, &mut to_client, |message| {
            messages.push((Side::Client, message.to_vec()));
        });
        if let Step::Done(authorization) = server {
            break authorization;
        }
        client = advance(client, &mut client_rng, &mut to_client, &mut to_server, |message| {
            messages.push((Side::Server, message.to_vec()));
        });
    };
    let open = to_server;
    let mut to_client = Vec::new();
    let let_in = match authorization.invite() {
        None => authorization.welcome(&mut server_rng, &mut to_client),
        Some(attempt) => {
            let kept = invited.expect("only an invite is presented").verifier(server_id);
            let checked = attempt.check(Some(&kept), &mut Script::new([])).expect("there is randomness");
            assert_eq!(checked, InviteVerdict::Right);
            authorization.join(joined(JoinOutcome::Enrolled), &mut server_rng, &mut to_client)
        }
    };
    let_in.expect("the script is long enough");
    client = advance(client, &mut client_rng, &mut to_client, &mut Vec::new(), |message| {
        messages.push((Side::Server, message.to_vec()));
    });
    assert!(client_rng.is_over() && server_rng.is_over(), "nothing was scripted in vain");
    let Step::Done(established) = client else { panic!("the client waits for more") };
    (established, messages, open)
}

fn advance<H: Handshake>(
    mut step: Step<H>,
    rng: &mut Script,
    inbox: &mut Vec<u8>,
    out: &mut Vec<u8>,
    mut tell: impl FnMut(&[u8]),
) -> Step<H> {
    loop {
        step = match step {
            Step::Continue(handshake) if inbox.is_empty() => return Step::Continue(handshake),
            Step::Continue(handshake) => {
                let len = message_len(inbox);
                let mut message: Vec<u8> = inbox.drain(..len).collect();
                tell(&message);
                handshake.handle(&mut message, rng, out).expect("the peer is honest")
            }
            Step::Work(work) => work.run(rng, out).expect("the peer is honest"),
            Step::Done(outcome) => return Step::Done(outcome),
        };
    }
}

fn message_len(inbox: &[u8]) -> usize {
    if inbox.starts_with(b"SKS") {
        return frame::frame_len(inbox).ok().flatten().expect("the peer says whole frames");
    }
    let header = inbox.first_chunk().expect("the peer says whole records");
    record_len(*header).expect("the peer says records of a good length")
}

/// A conversation on the channel, sealed under the derived secrets. The client's Open is the state machine's own,
/// and has to be the same.
fn records(derived: &Derived, open: &[u8]) -> Vec<Record> {
    let mut client = Voice::new(Side::Client, derived, 0);
    // The Welcome was the server's first record.
    let mut server = Voice::new(Side::Server, derived, 1);
    let records = vec![
        client.control("Open", &ControlMessage::Open { target: Target::Pipe }),
        server.control("Opened", &ControlMessage::Opened),
        client.data("data", b"Hello, World!", 0),
        server.data("data with padding", b"Hello yourself.", 49),
        client.data("data with padding", b"", 16),
        client.control("KeyUpdate", &ControlMessage::KeyUpdate),
        client.data("data under the next key", &[0x5A; 1000], 0),
        server.control("KeyUpdate", &ControlMessage::KeyUpdate),
        server.data("data under the next key", &[0xA5; 33], 1),
        client.control("Ping", &ControlMessage::Ping { nonce: 0x0102_0304_0506_0708 }),
        server.control("Pong", &ControlMessage::Pong { nonce: 0x0102_0304_0506_0708 }),
        client.control("EndOfStream", &ControlMessage::EndOfStream),
        server.control("EndOfStream", &ControlMessage::EndOfStream),
        client.control("Close", &ControlMessage::Close),
        server.control("Close", &ControlMessage::Close),
    ];
    assert_eq!(records[0].bytes, hex(open), "the machine's Open");
    records
}

/// One side of the conversation.
pub(crate) struct Voice {
    side: Side,
    sealer: Sealer,
    sequence: u64,
    updated: bool,
}

impl Voice {
    /// `said` records have been sealed already.
    pub(crate) fn new(side: Side, derived: &Derived, said: u64) -> Self {
        let secrets = if side == Side::Client { &derived.client } else { &derived.server };
        let mut sealer = Sealer::new(traffic(&secrets.application));
        for _ in 0..said {
            seal(&mut sealer, ContentType::Data, b"", 0);
        }
        Self { side, sealer, sequence: said, updated: false }
    }

    fn control(&mut self, name: &'static str, message: &ControlMessage) -> Record {
        let mut payload = Vec::new();
        encode(message, &mut payload);
        let record = self.record(name, ContentType::Control, &payload, 0);
        if *message == ControlMessage::KeyUpdate {
            self.sealer.update_key();
            (self.sequence, self.updated) = (0, true);
        }
        record
    }

    fn data(&mut self, name: &'static str, payload: &[u8], padding: usize) -> Record {
        self.record(name, ContentType::Data, payload, padding)
    }

    pub(crate) fn record(
        &mut self,
        name: &'static str,
        content_type: ContentType,
        payload: &[u8],
        padding: usize,
    ) -> Record {
        let sequence = self.sequence;
        self.sequence += 1;
        Record {
            from: side_name(self.side),
            name,
            keys: match (self.side, self.updated) {
                (Side::Client, false) => "c ap",
                (Side::Client, true) => "c ap, updated",
                (Side::Server, false) => "s ap",
                (Side::Server, true) => "s ap, updated",
            },
            sequence,
            content_type: match content_type {
                ContentType::Handshake => "handshake",
                ContentType::Control => "control",
                _ => "data",
            },
            payload: hex(payload),
            padding,
            bytes: hex(seal(&mut self.sealer, content_type, payload, padding)),
        }
    }
}

pub(crate) fn seal(
    sealer: &mut Sealer,
    content_type: ContentType,
    payload: &[u8],
    padding: usize,
) -> Vec<u8> {
    let mut record = vec![0; payload.len() + OVERHEAD + padding];
    record[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(payload);
    let outgoing = Outgoing { buffer: &mut record, payload_len: payload.len(), content_type };
    sealer.seal(&mut [outgoing]).expect("the record has a good length");
    record
}

pub(crate) fn side_name(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
    }
}
