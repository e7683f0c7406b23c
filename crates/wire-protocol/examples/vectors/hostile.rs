//! Inputs that have to be refused, each with one fault, and the class of the error that refuses it.

use crypto_core::cipher::CtrKey;
use crypto_core::hash::sha256;
use crypto_core::identity::KeyId;
use crypto_core::kdf::expand_label;
use crypto_core::mac::MacKey;
use crypto_core::pem;
use crypto_core::record::{ContentType, Sealer};
use crypto_core::schedule::{BinderKind, EarlyStage, Side};
use crypto_core::secret::Secret;
use serde::Serialize;
use wire_protocol::codec::{decode, encode};
use wire_protocol::frame::{self, FrameKind};
use wire_protocol::message::{
    Abort, AbortCode, ClientAuthPolicy, ClientHello, ControlMessage, DeniedCode, HandshakeMessage, HelloAuth,
    KeyOffer, LEASE_LEN, Mode, RefusedCode, ResetCode, ServerHello, ServerLimits, Target,
};

use super::format::{Case, Hostile, Input, hex};
use super::handshakes::{Recorded, seal, side_name};
use super::schedule::traffic;
use super::script::Script;

const OTHER_SERVER_KEY: &str = include_str!("../../tests/fixtures/test-only-other-server.pem");
const SMALL_SPKI: &[u8] = include_bytes!("../../tests/fixtures/test-only-rsa1024-public.der");

pub(crate) fn cases(handshakes: &[Recorded]) -> Hostile {
    let [rsa, psk, resumption, _] = handshakes else { panic!("there are four handshakes") };
    let mut cases = Vec::new();
    frames(rsa, &mut cases);
    hellos(rsa, &mut cases);
    pre_shared_keys(psk, &mut cases);
    tickets(resumption, &mut cases);
    key_offers(rsa, psk, &mut cases);
    server_hellos(rsa, psk, &mut cases);
    aborts(psk, &mut cases);
    server_flights(rsa, psk, &mut cases);
    client_flights(rsa, psk, &mut cases);
    welcomes(psk, &mut cases);
    records(psk, &mut cases);
    channels(psk, &mut cases);
    Hostile {
        description: "Each case starts from a handshake file and has one fault. Only the last input is refused.",
        cases,
    }
}

/// What the last input of a case leads to.
pub(crate) enum Outcome {
    Error(&'static str),
    ErrorAndAbort(&'static str, &'static str),
    Answer(&'static str),
}

use Outcome::{Answer, Error, ErrorAndAbort};

pub(crate) const AUTHENTICATION: Outcome = Error("authentication");
pub(crate) const MALFORMED: Outcome = Error("malformed");
pub(crate) const UNEXPECTED: Outcome = Error("unexpected-message");

impl Recorded {
    /// A case at `to`, that has heard the genuine messages before the one at `index`.
    pub(crate) fn case(
        &self,
        name: &'static str,
        to: Side,
        index: usize,
        hostile: Vec<Input>,
        outcome: Outcome,
    ) -> Case {
        let heard = self.messages[..index].iter().enumerate().filter(|(_, (from, _))| *from != to);
        let mut input: Vec<Input> = heard.map(|(index, _)| Input::Message(index)).collect();
        input.extend(hostile);
        let (answer, error, abort) = match outcome {
            Error(error) => (None, Some(error), None),
            ErrorAndAbort(error, abort) => (None, Some(error), Some(abort)),
            Answer(answer) => (Some(answer), None, None),
        };
        Case { name, handshake: self.file, to: side_name(to), input, answer, error, abort }
    }

    /// A case behind the whole handshake.
    fn channel_case(&self, name: &'static str, to: Side, hostile: Vec<Input>, error: &'static str) -> Case {
        self.case(name, to, self.messages.len(), hostile, Error(error))
    }

    fn hello(&self) -> &[u8] {
        &self.messages[self.hello].1
    }

    fn server_hello(&self) -> &[u8] {
        &self.messages[self.hello + 1].1
    }

    /// Index of the server's first encrypted message.
    fn server_flight(&self) -> usize {
        self.hello + 2
    }

    /// Index of the client's first encrypted message.
    pub(crate) fn client_flight(&self) -> usize {
        self.hello + 4
    }

    fn changed_hello(&self, change: impl FnOnce(&mut ClientHello)) -> Vec<u8> {
        let mut hello: ClientHello = decode(&self.hello()[frame::HEADER_LEN..]).expect("it is a hello");
        change(&mut hello);
        frame::write(FrameKind::ClientHello, &hello)
    }

    fn changed_server_hello(&self, change: impl FnOnce(&mut ServerHello)) -> Vec<u8> {
        let mut hello: ServerHello =
            decode(&self.server_hello()[frame::HEADER_LEN..]).expect("it is a server's hello");
        change(&mut hello);
        frame::write(FrameKind::ServerHello, &hello)
    }

    pub(crate) fn handshake_secret(&self, side: Side) -> &Secret<32> {
        match side {
            Side::Client => &self.derived.client.handshake,
            Side::Server => &self.derived.server.handshake,
        }
    }

    pub(crate) fn application_secret(&self, side: Side) -> &Secret<32> {
        match side {
            Side::Client => &self.derived.client.application,
            Side::Server => &self.derived.server.application,
        }
    }

    /// The Finished that is right for `side` behind other payloads than the recorded ones.
    pub(crate) fn finished(&self, side: Side, payloads: &[&[u8]]) -> HandshakeMessage {
        let said = [self.hello(), self.server_hello(), &payloads.concat()].concat();
        HandshakeMessage::Finished { mac: traffic(self.handshake_secret(side)).finished(&sha256(&said)) }
    }
}

/// A record of `side` under the secret, at `sequence`.
pub(crate) fn sealed(
    secret: &Secret<32>,
    sequence: u64,
    content_type: ContentType,
    payload: &[u8],
) -> Vec<u8> {
    let mut sealer = Sealer::new(traffic(secret));
    for _ in 0..sequence {
        seal(&mut sealer, ContentType::Data, b"", 0);
    }
    seal(&mut sealer, content_type, payload, 0)
}

/// A record whose plaintext is exactly this, whatever it is.
fn forged(secret: &Secret<32>, sequence: u64, plaintext: &[u8]) -> Vec<u8> {
    let encryption = CtrKey::new(&expand_label(secret, "enc", &[]));
    let mac = MacKey::new(expand_label::<32>(secret, "mac", &[]).expose());
    let mut ciphertext = plaintext.to_vec();
    encryption.apply(sequence, &mut ciphertext);
    let header = u16::try_from(ciphertext.len()).expect("a record is short").to_be_bytes();
    let tag = mac.tag(&[&sequence.to_be_bytes(), &header, &ciphertext]);
    [&header[..], &ciphertext, &tag].concat()
}

pub(crate) fn encoded(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes);
    bytes
}

pub(crate) fn bytes(bytes: impl AsRef<[u8]>) -> Vec<Input> {
    vec![Input::Bytes(hex(bytes))]
}

/// The frame with its length set right after its body was changed.
fn resized(mut frame: Vec<u8>) -> Vec<u8> {
    let len = u16::try_from(frame.len() - frame::HEADER_LEN).expect("a frame is short");
    frame[6..8].copy_from_slice(&len.to_be_bytes());
    frame
}

fn flipped(bytes: &[u8], place: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[place] ^= 1;
    flipped
}

fn frames(rsa: &Recorded, cases: &mut Vec<Case>) {
    let mut whole = |name, input: &[u8], outcome| {
        cases.push(rsa.case(name, Side::Server, 0, bytes(input), outcome));
    };
    whole("an HTTP client", b"GET / HTTP/1.1\r\n\r\n", Error("not-sockseal-http"));
    whole("a TLS client", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", Error("not-sockseal-tls"));
    whole("an SSH client", b"SSH-2.0-OpenSSH_9.2\r\n", Error("not-sockseal-ssh"));
    whole("a wrong third byte", b"SKT\x01\x01\x00\x00\x00", Error("not-sockseal"));
    whole("a version of tomorrow", b"SKS\x02\x01\x00\x00\x00", ErrorAndAbort("version", "Version"));
    whole("frame kind 0", b"SKS\x01\x00\x00\x00\x00", Error("unknown-kind"));
    whole("frame kind 6", b"SKS\x01\x06\x00\x00\x00", Error("unknown-kind"));
    whole("a reserved byte that is set", b"SKS\x01\x01\x01\x00\x00", MALFORMED);
    whole("a frame beyond the limit", b"SKS\x01\x03\x00\x20\x01", Error("too-long"));
    whole("a KeyRequest with a body", b"SKS\x01\x01\x00\x00\x01\x00", UNEXPECTED);
    // Refused at the last of these bytes, though a header has 8.
    whole("a reserved byte that is set, and no more", b"SKS\x01\x03\x01", MALFORMED);
    whole("the first byte of a length beyond the limit", b"SKS\x01\x03\x00\x21", Error("too-long"));
    whole("the first byte of a KeyRequest's length", b"SKS\x01\x01\x00\x01", UNEXPECTED);
    whole("the kind of a KeyOffer", b"SKS\x01\x02", UNEXPECTED);
    whole("the kind of a ServerHello", b"SKS\x01\x04", UNEXPECTED);
    whole("the kind of an Abort", b"SKS\x01\x05", UNEXPECTED);
    whole("a record before the hello", &[0, 1, 0], Error("not-sockseal"));
    let offer = KeyOffer { spki: SMALL_SPKI.to_vec() };
    whole("a KeyOffer from a client", &frame::write(FrameKind::KeyOffer, &offer), UNEXPECTED);
    whole("a ServerHello from a client", rsa.server_hello(), UNEXPECTED);
    let abort = Abort { code: AbortCode::Busy };
    whole("an Abort from a client", &frame::write(FrameKind::Abort, &abort), UNEXPECTED);
    let requests = (0..3).map(|_| Input::Message(0)).collect();
    cases.push(rsa.case("a third KeyRequest", Side::Server, 0, requests, Error("too-many-key-offers")));
}

fn hellos(rsa: &Recorded, cases: &mut Vec<Case>) {
    let mut hello = |name, input: Vec<u8>, outcome| {
        cases.push(rsa.case(name, Side::Server, rsa.hello, bytes(input), outcome));
    };
    let genuine = rsa.hello().to_vec();
    let auth = genuine.len() - 256 - 8 - 4;
    hello("a hello with a byte too many", resized([&genuine[..], &[0]].concat()), MALFORMED);
    hello("a hello with a byte too few", resized(genuine[..genuine.len() - 1].to_vec()), MALFORMED);
    let mut lying = genuine.clone();
    lying[auth + 4..auth + 12].copy_from_slice(&u64::MAX.to_be_bytes());
    hello("a sealed secret of 2^64 - 1 bytes", lying, MALFORMED);
    let mut unknown = genuine;
    unknown[auth + 3] = 3;
    hello("an authentication that does not exist", unknown, MALFORMED);
    let no_suite = || ErrorAndAbort("no-common-suite", "Suite");
    hello("no suite", rsa.changed_hello(|hello| hello.suites = vec![]), no_suite());
    hello("another suite", rsa.changed_hello(|hello| hello.suites = vec![2]), no_suite());
    hello("an X25519 value of zero", rsa.changed_hello(|hello| hello.x25519 = [0; 32]), AUTHENTICATION);
    let mut one = [0; 32];
    one[0] = 1;
    hello("an X25519 value of order 1", rsa.changed_hello(|hello| hello.x25519 = one), AUTHENTICATION);
    let mut minus_one = [0xFF; 32];
    (minus_one[0], minus_one[31]) = (0xEC, 0x7F);
    hello("an X25519 value of order 2", rsa.changed_hello(|hello| hello.x25519 = minus_one), AUTHENTICATION);
    hello(
        "an ML-KEM key with a coefficient of 3329",
        rsa.changed_hello(|hello| hello.encapsulation_key[..2].copy_from_slice(&[0x01, 0x0D])),
        AUTHENTICATION,
    );
    hello(
        "a hello that names another server",
        rsa.changed_hello(|hello| hello.server_id = KeyId([0x55; 32])),
        Answer("KeyOffer"),
    );

    // A sealed secret that does not open is answered as any other; what is said behind it is not understood.
    let mut rng = Script::new([]);
    let other = pem::read_server_key(&mut rng, OTHER_SERVER_KEY, None).expect("the fixture is a key");
    let sealed =
        other.public().seal_secret(&mut rng, &Secret::new([0x77; 32])).expect("the script never ends");
    for (name, then, sealed) in [
        ("a secret sealed to another key", "what follows a secret sealed to another key", sealed),
        ("a sealed secret of zeros", "what follows a sealed secret of zeros", vec![0; 256]),
        ("a sealed secret of 255 bytes", "what follows a sealed secret of 255 bytes", vec![1; 255]),
        ("a sealed secret of no bytes", "what follows a sealed secret of no bytes", vec![]),
    ] {
        let hello = rsa.changed_hello(|hello| hello.auth = HelloAuth::Rsa { sealed });
        cases.push(rsa.case(name, Side::Server, rsa.hello, bytes(&hello), Answer("ServerHello")));
        let mut input = bytes(&hello);
        input.push(Input::Message(rsa.client_flight()));
        cases.push(rsa.case(then, Side::Server, rsa.hello, input, AUTHENTICATION));
    }
}

fn pre_shared_keys(psk: &Recorded, cases: &mut Vec<Case>) {
    let unknown = || ErrorAndAbort("unknown-psk", "UnknownPsk");
    let mut hello = |name, input: Vec<u8>, outcome| {
        cases.push(psk.case(name, Side::Server, 0, bytes(input), outcome));
    };
    let bound = |change: &dyn Fn(&mut ClientHello), secret: &Secret<32>| {
        let mut hello = psk.changed_hello(change);
        let key = EarlyStage::new(Some(secret)).binder_key(BinderKind::PreSharedKey);
        let (before, binder) = hello.split_last_chunk_mut::<32>().expect("a hello is longer");
        *binder = key.tag(&[before]);
        hello
    };
    let renamed = |hello: &mut ClientHello| {
        hello.auth = HelloAuth::Psk { id: "phone".to_owned(), binder: [0; 32] };
    };
    hello("a wrong binder", flipped(psk.hello(), psk.hello().len() - 1), unknown());
    hello("a binder under another secret", bound(&|_| {}, &Secret::new([0x33; 32])), unknown());
    hello("an unknown pre-shared key", bound(&renamed, &Secret::new([0x33; 32])), unknown());
    hello("an unknown pre-shared key of zeros", bound(&renamed, &Secret::new([0; 32])), unknown());
    hello("a hello changed under its binder", flipped(psk.hello(), 8), unknown());
    let other_server = psk.changed_hello(|hello| hello.server_id = KeyId([0x55; 32]));
    hello("a pre-shared key of another server", other_server, unknown());
    let request = frame::write_empty(FrameKind::KeyRequest);
    hello("a KeyRequest to a server without a key", request, ErrorAndAbort("psk-only", "PskOnly"));
}

fn tickets(resumption: &Recorded, cases: &mut Vec<Case>) {
    let mut hello = |name, input: Vec<u8>| {
        cases.push(resumption.case(name, Side::Server, 0, bytes(input), Answer("KeyOffer")));
    };
    let genuine = resumption.hello();
    hello("a ticket with a wrong tag", flipped(genuine, genuine.len() - 33));
    hello("a ticket with a wrong binder", flipped(genuine, genuine.len() - 1));
    hello("a ticket hello that names another server", {
        resumption.changed_hello(|hello| hello.server_id = KeyId([0x55; 32]))
    });
    hello("a ticket of no bytes", {
        resumption.changed_hello(|hello| {
            hello.auth = HelloAuth::Ticket { ticket: vec![], binder: [0; 32] };
        })
    });
}

fn key_offers(rsa: &Recorded, psk: &Recorded, cases: &mut Vec<Case>) {
    let mut rng = Script::new([]);
    let other = pem::read_server_key(&mut rng, OTHER_SERVER_KEY, None).expect("the fixture is a key");
    let offer = |spki: &[u8]| frame::write(FrameKind::KeyOffer, &KeyOffer { spki: spki.to_vec() });
    let other = offer(other.public().spki_der());
    cases.push(rsa.case(
        "a key that is not the pinned one",
        Side::Client,
        0,
        bytes(other),
        Error("server-key-mismatch"),
    ));
    let small = bytes(offer(SMALL_SPKI));
    cases.push(rsa.case("a key of 1024 bits", Side::Client, 0, small, Error("peer-key-too-small")));
    // Its algorithm without the NULL parameters: the encoding is looked at before the size.
    let algorithm = SMALL_SPKI.windows(2).position(|bytes| bytes == [0x30, 0x0D]).expect("it is RSA");
    let mut other = [&SMALL_SPKI[..=algorithm], &[0x0B], &SMALL_SPKI[algorithm + 2..algorithm + 13]].concat();
    other.extend_from_slice(&SMALL_SPKI[algorithm + 15..]);
    other[2] -= 2;
    let other = bytes(offer(&other));
    cases.push(rsa.case(
        "a key of 1024 bits in another encoding",
        Side::Client,
        0,
        other,
        Error("peer-key-malformed"),
    ));
    let nothing = bytes(offer(b""));
    cases.push(rsa.case("a key of no bytes", Side::Client, 0, nothing, Error("peer-key-malformed")));
    let again = vec![Input::Message(1), Input::Message(1)];
    cases.push(rsa.case("a second KeyOffer", Side::Client, 0, again, Error("too-many-key-offers")));
    let genuine = bytes(&rsa.messages[1].1);
    cases.push(psk.case("a KeyOffer in reply to a pre-shared key", Side::Client, 0, genuine, UNEXPECTED));
}

fn server_hellos(rsa: &Recorded, psk: &Recorded, cases: &mut Vec<Case>) {
    let mut hello = |name, from: &Recorded, input: Vec<u8>, outcome| {
        cases.push(from.case(name, Side::Client, from.hello + 1, bytes(input), outcome));
    };
    let unoffered = || Error("selected-unoffered");
    hello("another suite was picked", rsa, rsa.changed_server_hello(|hello| hello.suite = 2), unoffered());
    let as_psk = rsa.changed_server_hello(|hello| hello.mode = Mode::Psk);
    hello("another mode was taken than rsa", rsa, as_psk, unoffered());
    let as_rsa = psk.changed_server_hello(|hello| hello.mode = Mode::Rsa);
    hello("another mode was taken than psk", psk, as_rsa, unoffered());
    let mut unknown = psk.server_hello().to_vec();
    *unknown.last_mut().expect("a hello has bytes") = 3;
    hello("a mode that does not exist", psk, unknown, MALFORMED);
    let grown = resized([psk.server_hello(), &[0]].concat());
    hello("a ServerHello with a byte too many", psk, grown, MALFORMED);
    let zero = psk.changed_server_hello(|hello| hello.x25519 = [0; 32]);
    hello("an X25519 value of zero from a server", psk, zero, AUTHENTICATION);
    hello("a ClientHello returned to its sender", psk, psk.hello().to_vec(), UNEXPECTED);

    for (name, changed) in [
        ("another random than the server's", psk.changed_server_hello(|hello| hello.random[0] ^= 1)),
        ("another X25519 value than the server's", psk.changed_server_hello(|hello| hello.x25519[0] ^= 1)),
        ("another ML-KEM ciphertext than the server's", {
            psk.changed_server_hello(|hello| hello.ciphertext[0] ^= 1)
        }),
    ] {
        let mut input = bytes(changed);
        input.push(Input::Message(psk.server_flight()));
        cases.push(psk.case(name, Side::Client, psk.hello + 1, input, AUTHENTICATION));
    }
}

fn aborts(psk: &Recorded, cases: &mut Vec<Case>) {
    let abort = frame::write(FrameKind::Abort, &Abort { code: AbortCode::Busy });
    cases.push(psk.case("an Abort", Side::Client, 1, bytes(&abort), Error("aborted-busy")));
    let mut unknown = abort.clone();
    *unknown.last_mut().expect("an Abort has bytes") = 5;
    cases.push(psk.case("an Abort for no known reason", Side::Client, 1, bytes(unknown), MALFORMED));
    let late = bytes(abort);
    cases.push(psk.case(
        "an Abort once there are keys",
        Side::Client,
        psk.server_flight(),
        late,
        Error("record-length"),
    ));
}

/// A server that has the right keys and says the wrong thing.
fn server_flights(rsa: &Recorded, psk: &Recorded, cases: &mut Vec<Case>) {
    let limits = ServerLimits { idle_timeout_seconds: 60 };
    for (name, from, client_auth) in [
        ("settled in rsa mode", rsa, ClientAuthPolicy::Settled),
        ("required in psk mode", psk, ClientAuthPolicy::Required),
        ("optional in psk mode", psk, ClientAuthPolicy::Optional),
    ] {
        let secret = from.handshake_secret(Side::Server);
        let ready = encoded(&HandshakeMessage::ServerReady { client_auth, limits });
        let finished = encoded(&from.finished(Side::Server, &[&ready]));
        let mut input = bytes(sealed(secret, 0, ContentType::Handshake, &ready));
        input.extend(bytes(sealed(secret, 1, ContentType::Handshake, &finished)));
        cases.push(from.case(name, Side::Client, from.server_flight(), input, Error("policy-mismatch")));
    }

    let secret = psk.handshake_secret(Side::Server);
    let first = psk.server_flight();
    let finished = encoded(&psk.finished(Side::Server, &[]));
    let mut flight = |name, index: usize, record: Vec<u8>, outcome| {
        cases.push(psk.case(name, Side::Client, index, bytes(record), outcome));
    };
    let handshake = ContentType::Handshake;
    flight("a Finished before ServerReady", first, sealed(secret, 0, handshake, &finished), UNEXPECTED);
    flight(
        "a wrong Finished from the server",
        first + 1,
        sealed(secret, 1, handshake, &finished),
        AUTHENTICATION,
    );
    let welcome = encoded(&HandshakeMessage::Welcome { ticket: None });
    flight("a Welcome before Finished", first + 1, sealed(secret, 1, handshake, &welcome), UNEXPECTED);
    let update = encoded(&ControlMessage::KeyUpdate);
    let update = sealed(secret, 0, ContentType::Control, &update);
    flight("a KeyUpdate within the handshake", first, update, UNEXPECTED);
    flight("data within the handshake", first, sealed(secret, 0, ContentType::Data, b"data"), UNEXPECTED);
    let twice = psk.messages[first].1.clone();
    flight("ServerReady twice", first + 1, twice, AUTHENTICATION);
    flight("a changed ServerReady", first, flipped(&psk.messages[first].1, 2), AUTHENTICATION);
    flight("a changed tag", first, flipped(&psk.messages[first].1, 40), AUTHENTICATION);
    let own = sealed(psk.handshake_secret(Side::Client), 0, handshake, &finished);
    flight("a record under the client's own key", first, own, AUTHENTICATION);
    let trailing = [encoded(&HandshakeMessage::Anonymous), vec![0]].concat();
    let trailing = sealed(secret, 0, handshake, &trailing);
    flight("a handshake message with a byte too many", first, trailing, MALFORMED);
}

/// A client that has the right keys and says the wrong thing.
fn client_flights(rsa: &Recorded, psk: &Recorded, cases: &mut Vec<Case>) {
    let secret = rsa.handshake_secret(Side::Client);
    let first = rsa.client_flight();
    let genuine = rsa.derived.payloads[4].as_ref().expect("it is a record");
    let HandshakeMessage::ClientAuth { spki, signature } = decode(genuine).expect("it is well formed") else {
        panic!("the fifth message is ClientAuth")
    };
    let auth = |spki: &[u8], signature: &[u8]| {
        let auth = HandshakeMessage::ClientAuth { spki: spki.to_vec(), signature: signature.to_vec() };
        sealed(secret, 0, ContentType::Handshake, &encoded(&auth))
    };
    let mut flight = |name, index: usize, record: Vec<u8>, outcome| {
        cases.push(rsa.case(name, Side::Server, index, bytes(record), outcome));
    };
    flight("a wrong signature", first, auth(&spki, &flipped(&signature, 0)), AUTHENTICATION);
    flight("a signature of no bytes", first, auth(&spki, b""), AUTHENTICATION);
    flight("a client key of 1024 bits", first, auth(SMALL_SPKI, &signature), Error("peer-key-too-small"));
    let grown = [&spki[..], &[0]].concat();
    flight("a client key with a byte too many", first, auth(&grown, &signature), Error("peer-key-malformed"));
    let server_key = rsa.messages[1].1[16..].to_vec();
    flight("a signature by another key", first, auth(&server_key, &signature), AUTHENTICATION);
    let finished = encoded(&HandshakeMessage::Finished { mac: [0; 32] });
    let early = sealed(secret, 0, ContentType::Handshake, &finished);
    flight("a Finished before ClientAuth", first, early, UNEXPECTED);
    let late = sealed(secret, 1, ContentType::Handshake, &finished);
    flight("a wrong Finished from the client", first + 1, late, AUTHENTICATION);

    let secret = psk.handshake_secret(Side::Client);
    let first = psk.client_flight();
    let mut flight = |name, record: Vec<u8>, outcome| {
        cases.push(psk.case(name, Side::Server, first, bytes(record), outcome));
    };
    let anonymous = encoded(&HandshakeMessage::Anonymous);
    let anonymous = sealed(secret, 0, ContentType::Handshake, &anonymous);
    flight("Anonymous in psk mode", anonymous, UNEXPECTED);
    let echoed = psk.derived.payloads[3].as_ref().expect("it is a record");
    let echoed = sealed(secret, 0, ContentType::Handshake, echoed);
    flight("the server's own Finished", echoed, AUTHENTICATION);
    flight("the server's own record", psk.messages[psk.server_flight()].1.clone(), AUTHENTICATION);
    flight("a record of no ciphertext", vec![0, 0], Error("record-length"));
    flight("a record of 16641 bytes of ciphertext", vec![0x41, 0x01], Error("record-length"));
    flight("a record of nothing but padding", forged(secret, 0, &[0; 40]), AUTHENTICATION);
    flight("a record of type 0x04", forged(secret, 0, b"\0\0\0\x03\x04"), AUTHENTICATION);
    flight(
        "a handshake message beyond the limit",
        sealed(secret, 0, ContentType::Handshake, &[0; 8193]),
        Error("too-long"),
    );
}

fn welcomes(psk: &Recorded, cases: &mut Vec<Case>) {
    let last = psk.messages.len() - 1;
    let mut welcome = |name, record: Vec<u8>, outcome| {
        cases.push(psk.case(name, Side::Client, last, bytes(record), outcome));
    };
    let said = encoded(&HandshakeMessage::Welcome { ticket: None });
    let handshake = psk.handshake_secret(Side::Server);
    let application = psk.application_secret(Side::Server);
    welcome(
        "a Welcome under the handshake key",
        sealed(handshake, 2, ContentType::Handshake, &said),
        AUTHENTICATION,
    );
    let denied = encoded(&HandshakeMessage::Denied { code: DeniedCode::NotAllowed });
    welcome("Denied", sealed(application, 0, ContentType::Handshake, &denied), Error("denied-not-allowed"));
    let opened = encoded(&ControlMessage::Opened);
    welcome("an Opened before Welcome", sealed(application, 0, ContentType::Control, &opened), UNEXPECTED);
    let no_option = [&said[..4], &[2]].concat();
    let no_option = sealed(application, 0, ContentType::Handshake, &no_option);
    welcome("a Welcome with neither a ticket nor none", no_option, MALFORMED);
}

/// Index of the records of each side in the file, by what is in them.
const CLIENT_RECORDS: [usize; 8] = [0, 2, 4, 5, 6, 9, 11, 13];
const SERVER_RECORDS: [usize; 7] = [1, 3, 7, 8, 10, 12, 14];

/// The line of an established channel in hostile hands.
fn records(psk: &Recorded, cases: &mut Vec<Case>) {
    let record = |index: usize| {
        let text = psk.vector.records[index].bytes.as_bytes();
        data_encoding::HEXLOWER.decode(text).expect("it is our own hexadecimal")
    };
    let genuine = |indices: &[usize]| indices.iter().copied().map(Input::Record).collect::<Vec<_>>();
    let [open, data, padded, update, next, ..] = CLIENT_RECORDS;
    let mut case = |name, mut input: Vec<Input>, hostile: Option<Vec<u8>>, error| {
        input.extend(hostile.map(|record| Input::Bytes(hex(record))));
        cases.push(psk.channel_case(name, Side::Server, input, error));
    };
    case("a record replayed", genuine(&[open, data, data]), None, "authentication");
    case("a record left out", genuine(&[open, padded]), None, "authentication");
    let swapped = Some([record(padded), record(data)].concat());
    case("two records swapped", genuine(&[open]), swapped, "authentication");
    case("the first record left out", genuine(&[data]), None, "authentication");
    let own = Some(record(SERVER_RECORDS[0]));
    case("a record returned to its sender", genuine(&[open]), own, "authentication");
    case("a changed length", genuine(&[open]), Some(flipped(&record(next), 1)), "authentication");
    case("changed data", genuine(&[open]), Some(flipped(&record(data), 2)), "authentication");
    let last = record(data).len() - 1;
    case(
        "changed data behind the tag",
        genuine(&[open]),
        Some(flipped(&record(data), last)),
        "authentication",
    );
    case("the next key without a KeyUpdate", genuine(&[open, data, padded, next]), None, "authentication");
    let secret = psk.application_secret(Side::Client);
    let old = sealed(secret, 4, ContentType::Data, b"old");
    let behind = Some([record(update), old.clone()].concat());
    case(
        "the old key behind a KeyUpdate in one read",
        genuine(&[open, data, padded]),
        behind,
        "records-behind-key-update",
    );
    let updated = genuine(&[open, data, padded, update]);
    case("the old key behind a KeyUpdate", updated, Some(old), "authentication");
    let long = Some(forged(secret, 1, &[&[7; 16385][..], &[3]].concat()));
    case("a payload of 16385 bytes", genuine(&[open]), long, "authentication");
    let no_type = Some(forged(secret, 1, b"data\x05"));
    case("a record of no known type", genuine(&[open]), no_type, "authentication");
    case("a record of no ciphertext on the channel", genuine(&[open]), Some(vec![0, 0]), "record-length");
    let cut = Some(record(data)[..20].to_vec());
    let mut input = genuine(&[open]);
    input.extend(cut.map(|record| Input::Bytes(hex(record))));
    input.push(Input::End);
    cases.push(psk.channel_case("the end within a record", Side::Server, input, "truncated"));
}

/// A peer that has the right keys and says what does not belong here.
fn channels(psk: &Recorded, cases: &mut Vec<Case>) {
    let client = psk.application_secret(Side::Client);
    let server = psk.application_secret(Side::Server);
    let control = |secret, sequence, message: &ControlMessage| {
        sealed(secret, sequence, ContentType::Control, &encoded(message))
    };
    let open = || vec![Input::Record(0)];
    let mut at_server = |name, mut input: Vec<Input>, record: Vec<u8>, error| {
        input.push(Input::Bytes(hex(record)));
        cases.push(psk.channel_case(name, Side::Server, input, error));
    };
    let unexpected = "unexpected-message";
    at_server("data before Open", vec![], sealed(client, 0, ContentType::Data, b"data"), unexpected);
    let again = ControlMessage::Open { target: Target::Pipe };
    at_server("Open within a stream", open(), control(client, 1, &again), unexpected);
    at_server("Opened from a client", open(), control(client, 1, &ControlMessage::Opened), unexpected);
    at_server(
        "EndOfStream without a stream",
        vec![],
        control(client, 0, &ControlMessage::EndOfStream),
        unexpected,
    );
    at_server("Close within a stream", open(), control(client, 1, &ControlMessage::Close), "truncated");
    let reset = ControlMessage::Reset { code: ResetCode::TooLong };
    at_server("Reset", open(), control(client, 1, &reset), "reset-too-long");
    let trailing = [encoded(&ControlMessage::Ping { nonce: 1 }), vec![0]].concat();
    let trailing = sealed(client, 1, ContentType::Control, &trailing);
    at_server("a control message with a byte too many", open(), trailing, "malformed");
    let unknown = sealed(client, 1, ContentType::Control, b"\0\0\0\x09");
    at_server("a control message that does not exist", open(), unknown, "malformed");
    let target = sealed(client, 0, ContentType::Control, b"\0\0\0\0\0\0\0\x02");
    at_server("a target that does not exist", vec![], target, "malformed");
    let anonymous = encoded(&HandshakeMessage::Anonymous);
    let anonymous = sealed(client, 1, ContentType::Handshake, &anonymous);
    at_server("a handshake message on the channel", open(), anonymous, unexpected);

    let end = control(client, 1, &ControlMessage::EndOfStream);
    let ended = || vec![Input::Record(0), Input::Bytes(hex(&end))];
    at_server("data behind EndOfStream", ended(), sealed(client, 2, ContentType::Data, b"more"), unexpected);
    let twice = control(client, 2, &ControlMessage::EndOfStream);
    at_server("EndOfStream twice", ended(), twice, unexpected);
    let close = control(client, 2, &ControlMessage::Close);
    at_server("Close before the server's own EndOfStream", ended(), close, "truncated");
    at_server("Open before the server's own EndOfStream", ended(), control(client, 2, &again), unexpected);
    let closed = bytes(control(client, 0, &ControlMessage::Close));
    let behind = control(client, 1, &ControlMessage::Ping { nonce: 1 });
    at_server("a message behind Close", closed, behind, unexpected);
    let unasked = control(client, 1, &ControlMessage::Pong { nonce: 1 });
    at_server("a Pong that nobody asked for", open(), unasked, unexpected);
    let park = ControlMessage::Park { lease: [0x11; LEASE_LEN] };
    at_server("Park within a stream", open(), control(client, 1, &park), unexpected);
    let parked = || bytes(control(client, 0, &park));
    at_server("Open on a parked channel", parked(), control(client, 1, &again), unexpected);
    at_server("Park twice", parked(), control(client, 1, &park), unexpected);
    for (name, mut input) in [("the end without Close", ended()), ("the end within a stream", open())] {
        input.push(Input::End);
        cases.push(psk.channel_case(name, Side::Server, input, "truncated"));
    }

    let mut at_client = |name, mut input: Vec<Input>, record: Vec<u8>, error| {
        input.push(Input::Bytes(hex(record)));
        cases.push(psk.channel_case(name, Side::Client, input, error));
    };
    let opened = || vec![Input::Record(SERVER_RECORDS[0])];
    at_client("data before Opened", vec![], sealed(server, 1, ContentType::Data, b"data"), unexpected);
    at_client("Opened twice", opened(), control(server, 2, &ControlMessage::Opened), unexpected);
    let refused = ControlMessage::Refused { code: RefusedCode::Busy };
    at_client("Refused behind Opened", opened(), control(server, 2, &refused), unexpected);
    let unasked = control(server, 2, &ControlMessage::Pong { nonce: 1 });
    at_client("a Pong that the client has not asked for", opened(), unasked, unexpected);
    let listening = control(server, 1, &ControlMessage::Listening { port: 80 });
    at_client("Listening where nobody was asked to", vec![], listening, unexpected);
    let end = control(server, 2, &ControlMessage::EndOfStream);
    let close = control(server, 3, &ControlMessage::Close);
    let mut ended = opened();
    ended.extend(bytes(end));
    at_client("Close before the client's own EndOfStream", ended, close, "truncated");
    let second = HandshakeMessage::Welcome { ticket: None };
    let second = sealed(server, 1, ContentType::Handshake, &encoded(&second));
    at_client("a second Welcome", vec![], second, unexpected);
    let same_number = sealed(server, 0, ContentType::Control, &encoded(&ControlMessage::Opened));
    at_client("the sequence number of the Welcome again", vec![], same_number, "authentication");
}
