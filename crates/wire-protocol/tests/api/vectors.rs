//! The test vectors, read as a second implementation would read them: the recorded messages are fed to the state
//! machines, which have to say what is recorded, and the hostile ones have to be refused for the reason given.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crypto_core::cipher::CtrKey;
use crypto_core::hash::sha256;
use crypto_core::identity::KeyId;
use crypto_core::invite::InviteSecret;
use crypto_core::mac::MacKey;
use crypto_core::pem;
use crypto_core::psk::PreSharedKey;
use crypto_core::record::{ContentType, HEADER_LEN, Opener};
use crypto_core::schedule::{Side, TrafficSecret};
use crypto_core::secret::Secret;
use crypto_core::ticket::TicketKey;
use data_encoding::HEXLOWER;
use rand_core::{TryCryptoRng, TryRng};
use serde_json::Value;
use wire_protocol::channel::Event;
use wire_protocol::codec::{decode, encode};
use wire_protocol::handshake::ChannelKeys;
use wire_protocol::handshake::client::{ClientConfig, ClientHandshake, ExpectedServer, ResumptionTicket};
use wire_protocol::handshake::server::{
    self, Authorization, ClientAuth, InviteVerdict, ServerConfig, ServerHandshake,
};
use wire_protocol::message::{
    AbortCode, ControlMessage, DeniedCode, HandshakeMessage, JoinOutcome, Joined, Mode, ResetCode,
    ServerLimits, Target,
};
use wire_protocol::{Error, Foreign, InvalidMessage, PeerMisbehaved};

use super::line::{End, Heard};
use super::pair::Peer;

const HANDSHAKES: [(&str, &str); 4] = [
    ("handshake_rsa.json", include_str!("../vectors/handshake_rsa.json")),
    ("handshake_psk.json", include_str!("../vectors/handshake_psk.json")),
    ("handshake_resumption.json", include_str!("../vectors/handshake_resumption.json")),
    ("handshake_invite.json", include_str!("../vectors/handshake_invite.json")),
];
const HOSTILE: &str = include_str!("../vectors/hostile.json");
const FILES: &str = include_str!("../vectors/files.json");

fn file(name: &str) -> Value {
    let (_, text) = HANDSHAKES.iter().find(|(file, _)| *file == name).expect("a file that there is");
    serde_json::from_str(text).expect("a vector file is JSON")
}

/// The entries of a list that must not be empty.
#[track_caller]
fn list(value: &Value) -> &[Value] {
    let list = value.as_array().expect("a list");
    assert!(!list.is_empty(), "an empty list tests nothing");
    list
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

#[track_caller]
fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(text(value).as_bytes()).expect("hexadecimal")
}

#[track_caller]
fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("as many bytes as the field has")
}

/// The entry of a list that has this name.
#[track_caller]
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    self::list(list).iter().find(|entry| entry["name"] == name).expect("an entry of that name")
}

/// Hands out the draws of one side. Draws of another length are RSA blinding, which changes no result.
struct Draws(VecDeque<Vec<u8>>);

impl Draws {
    fn new(vector: &Value, side: &str) -> Self {
        let draws = list(&vector["randomness"]).iter().filter(|draw| draw["side"] == side);
        Self(draws.map(|draw| bytes(&draw["bytes"])).collect())
    }
}

impl TryRng for Draws {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(7)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(7)
    }

    fn try_fill_bytes(&mut self, place: &mut [u8]) -> Result<(), Infallible> {
        match self.0.front() {
            Some(draw) if draw.len() == place.len() => {
                place.copy_from_slice(draw);
                self.0.pop_front();
            }
            _ => place.fill(7),
        }
        Ok(())
    }
}

impl TryCryptoRng for Draws {}

fn client(vector: &Value) -> (Peer<ClientHandshake, Draws>, Vec<u8>) {
    let setup = &vector["setup"];
    let id = KeyId(array(&setup["server_id"]));
    let server = match setup.get("psk") {
        Some(psk) => ExpectedServer::Psk(Arc::new(PreSharedKey::from_text(text(psk)).unwrap())),
        None => ExpectedServer::Key {
            id,
            key: None,
            ticket: setup.get("ticket").map(|ticket| ResumptionTicket {
                ticket: bytes(&ticket["ticket"]),
                secret: Secret::new(array(&ticket["secret"])),
                lifetime_seconds: u32::try_from(ticket["lifetime_seconds"].as_u64().unwrap()).unwrap(),
            }),
        },
    };
    let identity =
        setup.get("client_key").map(|key| Arc::new(pem::read_client_key(text(key), None).unwrap()));
    let invite = setup.get("invite").map(|invite| Arc::new(invite_secret(invite)));
    let config = ClientConfig { server, identity, invite, open: Some(Target::Pipe), asks_reason: false };
    let mut draws = Draws::new(vector, "client");
    let mut out = Vec::new();
    let start = ClientHandshake::start(config, &mut draws, &mut out);
    (Peer::new(start, draws), out)
}

fn invite_secret(invite: &Value) -> InviteSecret {
    InviteSecret::new(Secret::new(array(&invite["secret"])))
}

/// What the server says to a client that may come in: that it has been enrolled, where it has an invite.
fn let_in(
    vector: &Value,
    authorization: Box<Authorization>,
    draws: &mut Draws,
    out: &mut Vec<u8>,
) -> server::Established {
    let Some(attempt) = authorization.invite() else { return authorization.welcome(draws, out).unwrap() };
    let invite = &vector["setup"]["invite"];
    let kept = invite_secret(invite).verifier(KeyId(array(&vector["setup"]["server_id"])));
    assert_eq!(attempt.check(Some(&kept), &mut Draws(VecDeque::new())), Ok(InviteVerdict::Right));
    let [name, grant] = ["name", "grant"].map(|field| text(&invite[field]).to_owned());
    authorization.join(Joined { outcome: JoinOutcome::Enrolled, name, grant }, draws, out).unwrap()
}

fn server(vector: &Value) -> Peer<ServerHandshake, Draws> {
    let setup = &vector["setup"];
    let psks = setup.get("psk").map(|psk| {
        let psk = PreSharedKey::from_text(text(psk)).unwrap();
        (psk.id().to_owned(), Arc::new(psk))
    });
    let config = ServerConfig {
        identity: setup
            .get("server_key")
            .map(|key| Arc::new(pem::read_server_key(&mut Draws(VecDeque::new()), text(key), None).unwrap())),
        psks: BTreeMap::from_iter(psks),
        tickets: setup.get("ticket_key").map(|key| Arc::new(TicketKey::new(Secret::new(array(key))))),
        client_auth: match text(&setup["client_auth"]) {
            "required" => ClientAuth::Required,
            _ => ClientAuth::Optional,
        },
        limits: ServerLimits {
            idle_timeout_seconds: u32::try_from(setup["idle_timeout_seconds"].as_u64().unwrap()).unwrap(),
        },
    };
    let now = Duration::from_secs(setup["now"].as_u64().unwrap());
    Peer::new(Ok(ServerHandshake::new(Arc::new(config), now)), Draws::new(vector, "server"))
}

/// All that one side says in a handshake, in a row.
fn said(vector: &Value, side: &str) -> Vec<u8> {
    let messages = list(&vector["messages"]).iter().filter(|message| message["from"] == side);
    messages.flat_map(|message| bytes(&message["bytes"])).collect()
}

/// Both ends of the channel that a file's handshake leads to, each from the other side's recorded messages.
fn replayed(vector: &Value) -> (End, End) {
    let (mut client, mut client_said) = client(vector);
    client_said.extend(client.feed(&said(vector, "server")));
    let open = bytes(&vector["records"][0]["bytes"]);
    assert_eq!(client_said, [said(vector, "client"), open].concat(), "the client says what is recorded");
    assert!(client.rng.0.is_empty());
    let client = client.into_outcome();

    let mut server = server(vector);
    let mut server_said = server.feed(&said(vector, "client"));
    let mut draws = std::mem::replace(&mut server.rng, Draws(VecDeque::new()));
    let server = let_in(vector, server.into_outcome(), &mut draws, &mut server_said);
    assert_eq!(server_said, said(vector, "server"), "the server says what is recorded");
    assert!(draws.0.is_empty());

    let mode = match text(&vector["mode"]) {
        "rsa" => Mode::Rsa,
        "psk" => Mode::Psk,
        _ => Mode::Resumption,
    };
    assert_eq!((client.mode, server.mode), (mode, mode));
    if let Some(ticket) = &client.ticket {
        assert_eq!(ticket.secret.expose(), &array(&named(&vector["secrets"], "ticket secret")["bytes"]));
    }
    (End::new(Side::Client, client.keys, &[], client.opening), End::new(Side::Server, server.keys, &[], None))
}

#[test]
fn the_files_are_what_the_code_makes() {
    let recorded = HANDSHAKES.into_iter().chain([("hostile.json", HOSTILE), ("files.json", FILES)]);
    for ((name, recorded), (made_name, made)) in recorded.zip(crate::vectors::all()) {
        assert_eq!(name, made_name);
        assert!(recorded == made, "{name} differs: see `cargo xtask vectors`");
    }
}

#[test]
fn each_side_says_what_is_recorded_and_understands_the_other() {
    for (name, _) in HANDSHAKES {
        let vector = file(name);
        let (mut client, mut server) = replayed(&vector);
        for record in list(&vector["records"]) {
            let sealed = bytes(&record["bytes"]);
            let (speaker, hearer) = match text(&record["from"]) {
                "client" => (&mut client, &mut server),
                _ => (&mut server, &mut client),
            };
            // What a side has said decides what it may hear. The client's Open went out with the handshake, and a key
            // update says nothing.
            if text(&record["content_type"]) == "control"
                && !matches!(text(&record["name"]), "Open" | "KeyUpdate")
            {
                speaker.control(&decode(&bytes(&record["payload"])).unwrap());
            }
            let heard = hearer.hear(&sealed).unwrap();
            let payload = bytes(&record["payload"]);
            let expected = match text(&record["name"]) {
                "data" | "data with padding" | "data under the next key" if payload.is_empty() => vec![],
                "data" | "data with padding" | "data under the next key" => vec![Heard::Data(payload)],
                "KeyUpdate" => vec![],
                "Open" => vec![Heard::Event(Event::Open(Target::Pipe))],
                "Opened" => vec![Heard::Event(Event::Opened)],
                "Ping" => vec![Heard::Event(Event::Ping(0x0102_0304_0506_0708))],
                "Pong" => vec![Heard::Event(Event::Pong(0x0102_0304_0506_0708))],
                "EndOfStream" => vec![Heard::Event(Event::EndOfStream)],
                "Close" => vec![Heard::Event(Event::Close)],
                other => panic!("no such record: {other}"),
            };
            assert_eq!(heard, expected, "{name}: {record}");
        }
        assert_eq!(client.receiver.handle_end(), Ok(()));
        assert_eq!(server.receiver.handle_end(), Ok(()));
    }
}

/// Up to the first padding, which a sender of ours never adds.
#[test]
fn senders_seal_the_recorded_records() {
    for (name, _) in HANDSHAKES {
        let vector = file(name);
        let (mut client, mut server) = replayed(&vector);
        let records = &vector["records"];
        assert_eq!(
            server.hear(&bytes(&records[0]["bytes"])),
            Ok(vec![Heard::Event(Event::Open(Target::Pipe))])
        );
        assert_eq!(server.control(&ControlMessage::Opened), bytes(&records[1]["bytes"]), "{name}");
        assert_eq!(client.data(b"Hello, World!"), bytes(&records[2]["bytes"]), "{name}");
    }
}

/// Each record, opened with the keys that the file names and two primitives.
#[test]
fn records_are_made_of_the_recorded_keys() {
    for (name, _) in HANDSHAKES {
        let vector = file(name);
        for record in list(&vector["records"]) {
            let keys = named(&vector["keys"], text(&record["keys"]));
            let mut sealed = bytes(&record["bytes"]);
            let sequence = record["sequence"].as_u64().unwrap();
            let tag = sealed.split_off(sealed.len() - 32);
            let mac = MacKey::new(&bytes(&keys["mac"]));
            assert_eq!(mac.verify(&[&sequence.to_be_bytes(), &sealed], &tag), Ok(()), "{name}: {record}");
            let plaintext = &mut sealed[HEADER_LEN..];
            CtrKey::new(&Secret::new(array(&keys["enc"]))).apply(sequence, plaintext);
            let content_type = match text(&record["content_type"]) {
                "handshake" => 1,
                "control" => 2,
                _ => 3,
            };
            let padding = vec![0; usize::try_from(record["padding"].as_u64().unwrap()).unwrap()];
            let expected = [bytes(&record["payload"]), vec![content_type], padding].concat();
            assert_eq!(plaintext, expected, "{name}: {record}");
        }
    }
}

#[test]
fn encrypted_messages_open_under_the_recorded_secrets_and_make_the_recorded_hashes() {
    for (name, _) in HANDSHAKES {
        let vector = file(name);
        let opener = |keys| {
            let secret = Secret::new(array(&named(&vector["keys"], keys)["secret"]));
            Opener::new(TrafficSecret::new(secret))
        };
        let (mut from_client, mut from_server, mut welcome) =
            (opener("c hs"), opener("s hs"), opener("s ap"));
        let mut said = Vec::new();
        let mut hashes = BTreeSet::new();
        for message in list(&vector["messages"]) {
            let mut record = bytes(&message["bytes"]);
            match text(&message["name"]) {
                "KeyRequest" | "KeyOffer" => continue,
                "ClientHello" | "ServerHello" => said.extend_from_slice(&record),
                kind => {
                    let opener = match (kind, text(&message["from"])) {
                        ("Welcome" | "Joined", _) => &mut welcome,
                        (_, "client") => &mut from_client,
                        _ => &mut from_server,
                    };
                    let mut opened = Vec::new();
                    assert_eq!(opener.open(&mut [&mut record], &mut opened), Ok(1), "{name}: {kind}");
                    assert_eq!(opened[0].content_type, ContentType::Handshake);
                    let payload = &record[HEADER_LEN..HEADER_LEN + opened[0].payload_len];
                    assert_eq!(payload, bytes(&message["payload"]), "{name}: {kind}");
                    if !matches!(kind, "Welcome" | "Joined") {
                        said.extend_from_slice(payload);
                    }
                }
            }
            hashes.insert(HEXLOWER.encode(&sha256(&said)));
        }
        for transcript in list(&vector["transcripts"]) {
            assert!(hashes.contains(text(&transcript["bytes"])), "{name}: {transcript}");
        }
        let last = &named(&vector["transcripts"], "t3")["bytes"];
        assert_eq!(text(last), HEXLOWER.encode(&sha256(&said)), "{name}");
    }
}

/// Each other answer to the Invite, as the server makes it and as the client takes it.
#[test]
fn the_other_answers_to_an_invite_are_what_is_recorded() {
    let vector = file("handshake_invite.json");
    for answer in list(&vector["answers"]) {
        let (mut client, _) = client(&vector);
        let said = said(&vector, "server");
        let last = bytes(&list(&vector["messages"]).last().unwrap()["bytes"]);
        client.feed(said.strip_suffix(&last[..]).unwrap());
        client.feed(&bytes(&answer["bytes"]));

        let mut server = server(&vector);
        server.feed(&self::said(&vector, "client"));
        let authorization = server.into_outcome();
        let mut out = Vec::new();
        match decode(&bytes(&answer["payload"])).unwrap() {
            HandshakeMessage::Joined { joined, ticket: None } => {
                assert_eq!(client.into_outcome().joined, Some(joined.clone()));
                // The server would say a ticket, too; what it is without one was sealed by the example.
                let mut draws = Draws(VecDeque::new());
                authorization.join(joined, &mut draws, &mut out).unwrap();
                assert!(out.len() > bytes(&answer["bytes"]).len());
            }
            HandshakeMessage::Denied { code } => {
                assert_eq!(client.error(), Some(Error::Denied(code)));
                authorization.deny(code, &mut out).unwrap();
                assert_eq!(out, bytes(&answer["bytes"]), "{answer}");
            }
            other => panic!("{other:?} answers no Invite"),
        }
    }
}

/// One side of a hostile case, in the handshake or behind it.
enum Stage {
    Client(Box<Peer<ClientHandshake, Draws>>),
    Server(Box<Value>, Box<Peer<ServerHandshake, Draws>>),
    Channel(Box<End>),
}

impl Stage {
    fn new(vector: &Value, side: &str) -> Self {
        match side {
            "client" => Self::Client(Box::new(client(vector).0)),
            _ => Self::Server(Box::new(vector.clone()), Box::new(server(vector))),
        }
    }

    /// Gives what is said to it, or why it gives up.
    fn feed(self, input: &[u8]) -> (Self, Result<Vec<u8>, Error>) {
        match self {
            Self::Client(mut peer) => {
                let said = peer.feed(input);
                if !peer.is_done() {
                    let outcome = peer.error().map_or(Ok(said), Err);
                    return (Self::Client(peer), outcome);
                }
                let early = peer.early().to_vec();
                let established = peer.into_outcome();
                (channel(Side::Client, established.keys, &early, established.opening), Ok(said))
            }
            Self::Server(vector, mut peer) => {
                let mut said = peer.feed(input);
                if !peer.is_done() {
                    let outcome = peer.error().map_or(Ok(said), Err);
                    return (Self::Server(vector, peer), outcome);
                }
                let early = peer.early().to_vec();
                let mut draws = std::mem::replace(&mut peer.rng, Draws(VecDeque::new()));
                let established = let_in(&vector, peer.into_outcome(), &mut draws, &mut said);
                (channel(Side::Server, established.keys, &early, None), Ok(said))
            }
            Self::Channel(mut end) => {
                let outcome = end.hear(input).map(|heard| match heard.first() {
                    Some(Heard::Event(Event::Open(_))) => end.control(&ControlMessage::Opened),
                    _ => Vec::new(),
                });
                (Self::Channel(end), outcome)
            }
        }
    }

    fn end(self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Channel(mut end) => end.receiver.handle_end().map(|()| Vec::new()),
            _ => panic!("a handshake that ends is the transport's to see"),
        }
    }
}

fn channel(side: Side, keys: ChannelKeys, early: &[u8], opening: Option<Target>) -> Stage {
    Stage::Channel(Box::new(End::new(side, keys, early, opening)))
}

#[test]
fn hostile_inputs_are_refused_for_the_reason_given() {
    let hostile: Value = serde_json::from_str(HOSTILE).unwrap();
    let cases = list(&hostile["cases"]);
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let names: BTreeSet<&str> = cases.iter().map(|case| text(&case["name"])).collect();
    assert_eq!(names.len(), cases.len(), "each case has a name of its own");
    for case in cases {
        check_hostile(case);
    }
}

#[track_caller]
fn check_hostile(case: &Value) {
    let name = text(&case["name"]);
    let vector = file(text(&case["handshake"]));
    let mut victim = Stage::new(&vector, text(&case["to"]));
    let (last, before) = list(&case["input"]).split_last().unwrap();
    for input in before {
        let (next, outcome) = victim.feed(&input_bytes(&vector, input));
        victim = next;
        assert!(outcome.is_ok(), "{name}: refused too early: {outcome:?}");
    }
    let outcome = if *last == "end" { victim.end() } else { victim.feed(&input_bytes(&vector, last)).1 };
    match (outcome, case.get("error"), case.get("answer")) {
        (Err(error), Some(expected), None) => {
            assert_eq!(class(error), text(expected), "{name}");
            let abort = error.abort_code().filter(|_| case["to"] == "server").map(abort_name);
            assert_eq!(abort, case.get("abort").map(text), "{name}");
        }
        (Ok(said), None, Some(expected)) => {
            let kind = match said[4] {
                2 => "KeyOffer",
                4 => "ServerHello",
                _ => "something else",
            };
            assert_eq!(kind, text(expected), "{name}");
        }
        (outcome, ..) => panic!("{name}: {outcome:?}"),
    }
}

#[track_caller]
fn input_bytes(vector: &Value, input: &Value) -> Vec<u8> {
    let index = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let (kind, value) = input.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "message" => bytes(&vector["messages"][index(value)]["bytes"]),
        "record" => bytes(&vector["records"][index(value)]["bytes"]),
        "bytes" => bytes(value),
        other => panic!("no such input: {other}"),
    }
}

/// The name of an error's class, which is the same in every implementation.
fn class(error: Error) -> &'static str {
    match error {
        Error::InvalidMessage(invalid) => match invalid {
            InvalidMessage::NotSockseal(Foreign::Http) => "not-sockseal-http",
            InvalidMessage::NotSockseal(Foreign::Tls) => "not-sockseal-tls",
            InvalidMessage::NotSockseal(Foreign::Ssh) => "not-sockseal-ssh",
            InvalidMessage::NotSockseal(_) => "not-sockseal",
            InvalidMessage::Version(_) => "version",
            InvalidMessage::UnknownKind(_) => "unknown-kind",
            InvalidMessage::TooLong => "too-long",
            InvalidMessage::RecordLength => "record-length",
            InvalidMessage::Malformed => "malformed",
            other => panic!("{other} has no class"),
        },
        Error::PeerMisbehaved(misbehaved) => match misbehaved {
            PeerMisbehaved::UnexpectedMessage => "unexpected-message",
            PeerMisbehaved::TooManyKeyOffers => "too-many-key-offers",
            PeerMisbehaved::NoCommonSuite => "no-common-suite",
            PeerMisbehaved::SelectedUnoffered => "selected-unoffered",
            PeerMisbehaved::PolicyMismatch => "policy-mismatch",
            PeerMisbehaved::RecordsBehindKeyUpdate => "records-behind-key-update",
            other => panic!("{other} has no class"),
        },
        Error::Authentication => "authentication",
        Error::ServerKeyMismatch { .. } => "server-key-mismatch",
        Error::PeerKey(crypto_core::KeyProblem::TooSmall { .. }) => "peer-key-too-small",
        Error::PeerKey(crypto_core::KeyProblem::Malformed) => "peer-key-malformed",
        Error::Aborted(AbortCode::Busy) => "aborted-busy",
        Error::Denied(DeniedCode::NotAllowed) => "denied-not-allowed",
        Error::Reset(ResetCode::TooLong) => "reset-too-long",
        Error::Truncated => "truncated",
        Error::UnknownServerOrPsk(AbortCode::UnknownPsk) => "unknown-psk",
        Error::UnknownServerOrPsk(AbortCode::PskOnly) => "psk-only",
        other => panic!("{other} has no class"),
    }
}

fn abort_name(code: AbortCode) -> &'static str {
    let mut encoded = Vec::new();
    encode(&code, &mut encoded);
    match encoded[3] {
        0 => "Busy",
        1 => "Version",
        2 => "Suite",
        3 => "UnknownPsk",
        _ => "PskOnly",
    }
}
