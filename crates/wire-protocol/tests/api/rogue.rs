//! An endpoint that has the right keys and no manners: it can say anything, at any time.
//!
//! Built from crypto-core alone, so that the schedule it goes through is not the state machines' own.

use std::sync::Arc;

use chacha20::ChaCha20Rng;
use crypto_core::exchange::{self, ClientExchange};
use crypto_core::hash::Transcript;
use crypto_core::identity::{ClientKey, KeyId, ServerKey};
use crypto_core::psk::PreSharedKey;
use crypto_core::record::{ContentType, HEADER_LEN, Opener, Sealer};
use crypto_core::schedule::{BinderKind, EarlyStage, HandshakeStage, Side, TrafficSecret};
use crypto_core::secret::Secret;
use rand_core::SeedableRng as _;
use wire_protocol::codec::{decode, encode};
use wire_protocol::frame::{self, FrameKind};
use wire_protocol::message::{ClientHello, HandshakeMessage, HelloAuth, Mode, SUITE, ServerHello};

use super::line::seal;
use super::{keys, pair};

/// Either side of a handshake, once the hellos are exchanged.
pub(crate) struct Rogue {
    side: Side,
    stage: HandshakeStage,
    sealer: Sealer,
    opener: Opener,
    own_secret: TrafficSecret,
    transcript: Transcript,
    pub(crate) rng: ChaCha20Rng,
}

impl Rogue {
    /// A server that answers `hello` in the mode it asks for, knowing all the keys of [`keys`]. `change` has the
    /// last word on what is sent.
    pub(crate) fn server(hello: &[u8], change: impl FnOnce(&mut ServerHello)) -> (Self, Vec<u8>) {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let (_, body) = frame::parse(hello).unwrap();
        let parsed: ClientHello = decode(body).unwrap();
        let (mode, early, rsa_secret) = match &parsed.auth {
            HelloAuth::Rsa { sealed } => {
                let opened = keys::server().open_secret(&mut rng, sealed).unwrap();
                (Mode::Rsa, EarlyStage::new(None), Some(opened))
            }
            HelloAuth::Psk { .. } => (Mode::Psk, EarlyStage::new(Some(keys::psk().secret())), None),
            HelloAuth::Ticket { .. } => {
                (Mode::Resumption, EarlyStage::new(Some(&pair::ticket().secret)), None)
            }
        };
        let random = Secret::<32>::random(&mut rng).unwrap();
        let (share, shared) = exchange::respond(&mut rng, &parsed.x25519, &parsed.encapsulation_key).unwrap();
        let mut answer = ServerHello {
            random: *random.expose(),
            suite: SUITE,
            x25519: share.x25519,
            ciphertext: share.ciphertext,
            mode,
        };
        change(&mut answer);
        let answer = frame::write(FrameKind::ServerHello, &answer);
        let mut transcript = Transcript::new();
        transcript.update(hello);
        transcript.update(&answer);
        let stage = early.into_server_stage(rsa_secret.as_ref()).into_handshake_stage(&shared);
        (Self::new(Side::Server, stage, transcript, rng), answer)
    }

    fn new(side: Side, stage: HandshakeStage, transcript: Transcript, rng: ChaCha20Rng) -> Self {
        let t1 = transcript.hash();
        Self {
            side,
            sealer: Sealer::new(stage.handshake_secret(side, &t1)),
            opener: Opener::new(stage.handshake_secret(!side, &t1)),
            own_secret: stage.handshake_secret(side, &t1),
            stage,
            transcript,
            rng,
        }
    }

    /// Seals a handshake message under its handshake key.
    pub(crate) fn say(&mut self, message: &HandshakeMessage) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(message, &mut payload);
        self.transcript.update(&payload);
        self.seal(ContentType::Handshake, &payload)
    }

    /// Seals anything under its handshake key.
    pub(crate) fn seal(&mut self, content_type: ContentType, payload: &[u8]) -> Vec<u8> {
        seal(&mut self.sealer, content_type, payload, 0)
    }

    /// The Finished that is right at this point.
    pub(crate) fn finished(&self) -> HandshakeMessage {
        HandshakeMessage::Finished { mac: self.own_secret.finished(&self.transcript.hash()) }
    }

    /// Says who the client is, as it is right behind the server's Finished.
    pub(crate) fn say_client_auth(&mut self, key: &ClientKey) -> Vec<u8> {
        let signed = [&b"sockseal v1 client auth\0"[..], &self.transcript(), &key.public().id().0].concat();
        let signature = key.sign(&mut self.rng, &signed).unwrap();
        self.say(&HandshakeMessage::ClientAuth { spki: key.public().spki_der().to_vec(), signature })
    }

    /// Opens what the other side says under its handshake key.
    #[track_caller]
    pub(crate) fn hear(&mut self, record: &[u8]) -> HandshakeMessage {
        let mut record = record.to_vec();
        let mut opened = Vec::new();
        assert_eq!(self.opener.open(&mut [&mut record], &mut opened), Ok(1));
        let payload = &record[HEADER_LEN..HEADER_LEN + opened[0].payload_len];
        self.transcript.update(payload);
        decode(payload).unwrap()
    }

    /// T1, T2 or T3, by what was said.
    pub(crate) fn transcript(&self) -> [u8; 32] {
        self.transcript.hash()
    }

    /// Goes over to the keys that carry data.
    pub(crate) fn into_traffic(self) -> (Sealer, Opener) {
        let t3 = self.transcript.hash();
        let stage = self.stage.into_application_stage();
        let secret = |side| stage.traffic_secret(side, &t3);
        (Sealer::new(secret(self.side)), Opener::new(secret(!self.side)))
    }
}

/// A client that has said its hello.
pub(crate) struct RogueHello {
    early: EarlyStage,
    rsa_secret: Option<Secret<32>>,
    exchange: ClientExchange,
    transcript: Transcript,
    rng: ChaCha20Rng,
}

impl RogueHello {
    /// A hello in RSA mode, to `server`. `change` has the last word on what is sent.
    pub(crate) fn rsa(server: &Arc<ServerKey>, change: impl FnOnce(&mut ClientHello)) -> (Self, Vec<u8>) {
        let mut rng = ChaCha20Rng::seed_from_u64(8);
        let secret = Secret::random(&mut rng).unwrap();
        let sealed = server.public().seal_secret(&mut rng, &secret).unwrap();
        let server_id = server.public().id();
        let early = EarlyStage::new(None);
        Self::new(rng, early, Some(secret), None, server_id, HelloAuth::Rsa { sealed }, change)
    }

    /// A hello in psk mode.
    pub(crate) fn psk(psk: &PreSharedKey, change: impl FnOnce(&mut ClientHello)) -> (Self, Vec<u8>) {
        let auth = HelloAuth::Psk { id: psk.id().to_owned(), binder: [0; 32] };
        let early = EarlyStage::new(Some(psk.secret()));
        let rng = ChaCha20Rng::seed_from_u64(9);
        let kind = Some(BinderKind::PreSharedKey);
        Self::new(rng, early, None, kind, psk.server_id(), auth, change)
    }

    /// A hello with a ticket, whatever that is, to [`keys::server`].
    pub(crate) fn ticket(ticket: Vec<u8>, secret: &Secret<32>) -> (Self, Vec<u8>) {
        let auth = HelloAuth::Ticket { ticket, binder: [0; 32] };
        let rng = ChaCha20Rng::seed_from_u64(10);
        let kind = Some(BinderKind::Resumption);
        Self::new(rng, EarlyStage::new(Some(secret)), None, kind, keys::server_id(), auth, |_| {})
    }

    fn new(
        mut rng: ChaCha20Rng,
        early: EarlyStage,
        rsa_secret: Option<Secret<32>>,
        binder: Option<BinderKind>,
        server_id: KeyId,
        auth: HelloAuth,
        change: impl FnOnce(&mut ClientHello),
    ) -> (Self, Vec<u8>) {
        let exchange = ClientExchange::generate(&mut rng).unwrap();
        let mut hello = ClientHello {
            random: [0xC1; 32],
            suites: vec![SUITE],
            x25519: exchange.x25519(),
            encapsulation_key: exchange.encapsulation_key(),
            server_id,
            auth,
        };
        change(&mut hello);
        let mut hello = frame::write(FrameKind::ClientHello, &hello);
        if let Some(kind) = binder {
            bind(&mut hello, &early, kind);
        }
        let mut transcript = Transcript::new();
        transcript.update(&hello);
        (Self { early, rsa_secret, exchange, transcript, rng }, hello)
    }

    /// Takes the server's answer.
    pub(crate) fn hear(self, answer: &[u8]) -> Rogue {
        let Self { early, rsa_secret, exchange, mut transcript, rng } = self;
        let (kind, body) = frame::parse(answer).unwrap();
        assert_eq!(kind, FrameKind::ServerHello);
        let parsed: ServerHello = decode(body).unwrap();
        transcript.update(answer);
        let shared = exchange.finish(&parsed.x25519, &parsed.ciphertext).unwrap();
        let stage = early.into_server_stage(rsa_secret.as_ref()).into_handshake_stage(&shared);
        Rogue::new(Side::Client, stage, transcript, rng)
    }
}

/// Writes the binder that ends the frame of a hello.
pub(crate) fn bind(hello: &mut [u8], early: &EarlyStage, kind: BinderKind) {
    let (before, binder) = hello.split_last_chunk_mut::<32>().unwrap();
    *binder = early.binder_key(kind).tag(&[before]);
}
