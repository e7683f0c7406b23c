//! Every secret of a handshake, from what was on the wire and the randomness of both sides alone.
//!
//! Written from section 4 of PROTOCOL.md with HKDF and nothing above it; crypto-core's key schedule is asked
//! afterwards, and the two have to agree.

use crypto_core::exchange::{self, ClientExchange};
use crypto_core::hash::sha256;
use crypto_core::kdf::{expand_label, extract};
use crypto_core::mac::MacKey;
use crypto_core::record::{ContentType, HEADER_LEN, Opener};
use crypto_core::schedule::{BinderKind, EarlyStage, Side, TrafficSecret};
use crypto_core::secret::Secret;
use wire_protocol::codec::decode;
use wire_protocol::frame;
use wire_protocol::message::{ClientHello, HandshakeMessage, ServerHello, Ticket};

use super::format::{Keys, Named, hex};
use super::script::Script;

/// What the randomness was for.
pub(crate) struct Inputs<'a> {
    pub(crate) client_x25519: &'a [u8],
    pub(crate) client_ml_kem: &'a [u8],
    pub(crate) server_x25519: &'a [u8],
    pub(crate) server_ml_kem: &'a [u8],
    /// The pre-shared key's secret or the ticket's, and which of the two it is.
    pub(crate) symmetric: Option<(BinderKind, [u8; 32])>,
    /// The secret that the client sealed to the server's key.
    pub(crate) rsa: Option<[u8; 32]>,
    /// The secret of the client's invite.
    pub(crate) invite: Option<[u8; 32]>,
}

/// The secrets of one side's traffic, from the first on.
pub(crate) struct Traffic {
    pub(crate) handshake: Secret<32>,
    pub(crate) application: Secret<32>,
    pub(crate) updated: Secret<32>,
}

/// Everything that can be computed.
pub(crate) struct Derived {
    pub(crate) secrets: Vec<Named>,
    pub(crate) transcripts: Vec<Named>,
    pub(crate) keys: Vec<Keys>,
    pub(crate) client: Traffic,
    pub(crate) server: Traffic,
    /// What was in each message that is a record.
    pub(crate) payloads: Vec<Option<Vec<u8>>>,
}

/// `messages` starts with the hello that was answered, and ends with the Welcome.
pub(crate) fn derive(messages: &[(Side, Vec<u8>)], inputs: &Inputs<'_>) -> Derived {
    let shared = shared_secret(&messages[0].1, &messages[1].1, inputs);
    let symmetric = inputs.symmetric.map_or(ZEROS, |(_, secret)| secret);
    let rsa = inputs.rsa.unwrap_or(ZEROS);

    let s0 = extract(&ZEROS, &symmetric);
    let s1 = extract(derived(&s0).expose(), &rsa);
    let s2 = extract(derived(&s1).expose(), &shared);
    let s3 = extract(derived(&s2).expose(), &ZEROS);

    let mut said = [&messages[0].1[..], &messages[1].1].concat();
    let t1 = sha256(&said);
    let hs = |side| expand(&s2, if side == Side::Client { "c hs" } else { "s hs" }, &t1);
    let mut openers = [Opener::new(traffic(&hs(Side::Client))), Opener::new(traffic(&hs(Side::Server)))];
    let mut payloads = vec![None, None];
    let (mut t2, mut finished) = (None, Vec::new());
    for (from, record) in &messages[2..messages.len() - 1] {
        let opener = &mut openers[usize::from(*from == Side::Server)];
        let payload = open(opener, record);
        if let HandshakeMessage::Finished { mac } = decode(&payload).expect("the machines say what they mean")
        {
            finished.push((*from, sha256(&said), mac));
        }
        said.extend_from_slice(&payload);
        if *from == Side::Server {
            t2 = Some(sha256(&said));
        }
        payloads.push(Some(payload));
    }
    let (t2, t3) = (t2.expect("the server has finished"), sha256(&said));
    for (side, before, mac) in finished {
        assert_eq!(traffic(&hs(side)).finished(&before), mac, "the Finished of the {side:?}");
    }

    let ap = |side| expand(&s3, if side == Side::Client { "c ap" } else { "s ap" }, &t3);
    let resumption = expand(&s3, "res", &t3);
    let exporter = expand(&s3, "exp", &t3);
    let (_, welcome) = messages.last().expect("a handshake ends with a Welcome");
    let welcome = open(&mut Opener::new(traffic(&ap(Side::Server))), welcome);
    let ticket = match decode(&welcome).expect("the server says what it means") {
        HandshakeMessage::Welcome { ticket } | HandshakeMessage::Joined { ticket, .. } => ticket,
        other => panic!("{other:?}"),
    };
    payloads.push(Some(welcome));

    check_against_the_schedule(
        inputs,
        &shared,
        [&t1, &t3],
        [&hs(Side::Client), &hs(Side::Server)],
        [&ap(Side::Client), &ap(Side::Server), &resumption, &exporter],
    );

    let mut secrets = vec![
        named("symmetric secret", symmetric),
        named("rsa secret", rsa),
        named("x25519 shared", &shared[..32]),
        named("ml-kem shared", &shared[32..]),
        named("s0", s0.expose()),
        named("s0 derived", derived(&s0).expose()),
        named("s1", s1.expose()),
        named("s1 derived", derived(&s1).expose()),
        named("s2", s2.expose()),
        named("s2 derived", derived(&s2).expose()),
        named("s3", s3.expose()),
        named("resumption", resumption.expose()),
        named("exporter", exporter.expose()),
    ];
    if let Some((kind, _)) = inputs.symmetric {
        let label = match kind {
            BinderKind::PreSharedKey => "psk binder",
            BinderKind::Resumption => "res binder",
        };
        let key = expand(&s0, label, &sha256(b""));
        secrets.insert(5, named("binder key", key.expose()));
    }
    if let Some(Ticket { nonce, .. }) = ticket {
        secrets.push(named("ticket secret", expand_label::<32>(&resumption, "ticket", &nonce).expose()));
    }

    if let Some(secret) = inputs.invite {
        secrets.extend(invite(&Secret::new(secret), &messages[0].1, &t2, &payloads));
    }

    let of = |side| Traffic { handshake: hs(side), application: ap(side), updated: update(&ap(side)) };
    let (client, server) = (of(Side::Client), of(Side::Server));
    let keys = vec![
        keys("c hs", &client.handshake, true),
        keys("s hs", &server.handshake, true),
        keys("c ap", &client.application, false),
        keys("s ap", &server.application, false),
        keys("c ap, updated", &client.updated, false),
        keys("s ap, updated", &server.updated, false),
    ];
    let transcripts = vec![named("t1", t1), named("t2", t2), named("t3", t3)];
    Derived { secrets, transcripts, keys, client, server, payloads }
}

/// What comes of the secret of an invite, which has to be what the client has said.
fn invite(
    secret: &Secret<32>,
    client_hello: &[u8],
    t2: &[u8; 32],
    payloads: &[Option<Vec<u8>>],
) -> [Named; 4] {
    let hello: ClientHello =
        decode(frame::parse(client_hello).expect("the machines say frames").1).expect("it is a ClientHello");
    let server = hello.server_id.0;
    let said = |number: usize| payloads[number].as_ref().expect("it is a record");
    let Ok(HandshakeMessage::ClientAuth { spki, .. }) = decode(said(4)) else { panic!("no ClientAuth") };
    let id = expand_label::<16>(secret, "invite id", &server);
    let reveal = expand_label::<32>(secret, "invite reveal", &server);
    let bind = expand_label::<32>(secret, "invite bind", &server);
    let text = b"sockseal v1 invite proof\0";
    let proof = MacKey::new(bind.expose()).tag(&[text, t2, &server, &sha256(&spki), id.expose()]);
    let fields = [id.expose().as_slice(), reveal.expose(), &proof].concat();
    assert_eq!(said(5), &[&[0, 0, 0, 6], &fields[..]].concat(), "the Invite");
    [
        named("invite id", id.expose()),
        named("invite reveal", reveal.expose()),
        named("invite bind", bind.expose()),
        named("invite proof", proof),
    ]
}

/// A copy of a secret for whoever takes it over.
pub(crate) fn traffic(secret: &Secret<32>) -> TrafficSecret {
    TrafficSecret::new(Secret::new(*secret.expose()))
}

/// Both sides' way to the shared secret, which have to meet.
fn shared_secret(client_hello: &[u8], server_hello: &[u8], inputs: &Inputs<'_>) -> [u8; 64] {
    let body = |frame| frame::parse(frame).expect("the machines say frames").1;
    let client_hello: ClientHello = decode(body(client_hello)).expect("it is a ClientHello");
    let server_hello: ServerHello = decode(body(server_hello)).expect("it is a ServerHello");

    let mut script = Script::new([inputs.client_x25519.to_vec(), inputs.client_ml_kem.to_vec()]);
    let client = ClientExchange::generate(&mut script).expect("the script is long enough");
    assert_eq!(client.x25519(), client_hello.x25519);
    assert_eq!(client.encapsulation_key(), client_hello.encapsulation_key);

    let mut script = Script::new([inputs.server_x25519.to_vec(), inputs.server_ml_kem.to_vec()]);
    let (share, at_server) =
        exchange::respond(&mut script, &client_hello.x25519, &client_hello.encapsulation_key)
            .expect("the client's values are in order");
    assert_eq!(share.x25519, server_hello.x25519);
    assert_eq!(share.ciphertext, server_hello.ciphertext);

    let at_client =
        client.finish(&share.x25519, &share.ciphertext).expect("the server's values are in order");
    assert_eq!(at_client.expose(), at_server.expose());
    *at_client.expose()
}

fn check_against_the_schedule(
    inputs: &Inputs<'_>,
    shared: &[u8; 64],
    [t1, t3]: [&[u8; 32]; 2],
    handshake: [&Secret<32>; 2],
    [client, server, resumption, exporter]: [&Secret<32>; 4],
) {
    let symmetric = inputs.symmetric.map(|(_, secret)| Secret::new(secret));
    let rsa = inputs.rsa.map(Secret::new);
    let stage = EarlyStage::new(symmetric.as_ref())
        .into_server_stage(rsa.as_ref())
        .into_handshake_stage(&Secret::new(*shared));
    for (side, derived) in [Side::Client, Side::Server].into_iter().zip(handshake) {
        assert_eq!(stage.handshake_secret(side, t1).expose(), derived.expose());
    }
    let stage = stage.into_application_stage();
    assert_eq!(stage.traffic_secret(Side::Client, t3).expose(), client.expose());
    assert_eq!(stage.traffic_secret(Side::Server, t3).expose(), server.expose());
    assert_eq!(stage.resumption_secret(t3).expose(), resumption.expose());
    assert_eq!(stage.exporter_secret(t3).expose(), exporter.expose());
    assert_eq!(traffic(client).into_next().expose(), update(client).expose());
}

fn open(opener: &mut Opener, record: &[u8]) -> Vec<u8> {
    let mut record = record.to_vec();
    let mut opened = Vec::new();
    opener.open(&mut [&mut record], &mut opened).expect("the keys are those of the machines");
    assert_eq!(opened[0].content_type, ContentType::Handshake);
    record[HEADER_LEN..HEADER_LEN + opened[0].payload_len].to_vec()
}

fn keys(name: &'static str, secret: &Secret<32>, is_handshake: bool) -> Keys {
    let key = |label| hex(expand_label::<32>(secret, label, &[]).expose());
    Keys {
        name,
        secret: hex(secret.expose()),
        enc: key("enc"),
        mac: key("mac"),
        finished: is_handshake.then(|| key("finished")),
    }
}

fn named(name: &'static str, bytes: impl AsRef<[u8]>) -> Named {
    Named { name, bytes: hex(bytes) }
}

fn derived(secret: &Secret<32>) -> Secret<32> {
    expand(secret, "derived", &sha256(b""))
}

fn update(secret: &Secret<32>) -> Secret<32> {
    expand_label(secret, "update", &[])
}

fn expand(secret: &Secret<32>, label: &str, hash: &[u8; 32]) -> Secret<32> {
    expand_label(secret, label, hash)
}

const ZEROS: [u8; 32] = [0; 32];
