//! What a handshake costs, next to the primitives that it is made of:
//! `cargo bench -p wire-protocol --bench handshake`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crypto_core::identity::{ClientKey, DEFAULT_BITS, ServerKey};
use crypto_core::pem;
use crypto_core::psk::PreSharedKey;
use crypto_core::secret::Secret;
use crypto_core::ticket::TicketKey;
use divan::Bencher;
use getrandom::SysRng;
use wire_protocol::handshake::client::{ClientConfig, ClientHandshake, ExpectedServer, ResumptionTicket};
use wire_protocol::handshake::server::{Authorization, ClientAuth, ServerConfig, ServerHandshake};
use wire_protocol::handshake::{Handshake, Step, Work as _};
use wire_protocol::message::ServerLimits;

const SERVER_KEY: &str = include_str!("../tests/fixtures/test-only-server-3072.pem");
const CLIENT_KEY: &str = include_str!("../tests/fixtures/test-only-client-3072.pem");
const READ: &str = "the fixture is a key";
const RANDOM: &str = "the system has randomness";
const HONEST: &str = "the peer is honest";
const NOW: Duration = Duration::from_secs(1_700_000_000);

fn main() {
    assert_eq!(keys().server.public().bits(), DEFAULT_BITS);
    divan::main();
}

/// Client and server together, on one core.
mod both_sides {
    use super::*;

    #[divan::bench]
    fn rsa_with_client_key(bencher: Bencher<'_, '_>) {
        bench(bencher, Mode::RsaWithClientKey);
    }

    #[divan::bench]
    fn rsa_without_client_key(bencher: Bencher<'_, '_>) {
        bench(bencher, Mode::Rsa);
    }

    #[divan::bench]
    fn psk(bencher: Bencher<'_, '_>) {
        bench(bencher, Mode::Psk);
    }

    #[divan::bench]
    fn resumed(bencher: Bencher<'_, '_>) {
        bench(bencher, Mode::Resumption);
    }

    fn bench(bencher: Bencher<'_, '_>, mode: Mode) {
        bencher.with_inputs(|| client_config(mode)).bench_local_values(|config| {
            let (client, authorization) = authorized(config);
            let mut welcome = Vec::new();
            let established = authorization.welcome(&mut SysRng, &mut welcome).expect(RANDOM);
            (established, client.hear(welcome).into_outcome())
        });
    }
}

/// The server alone: from a hello to its flight, which is what a stranger can make it do.
mod server_answers_a_hello {
    use super::*;

    #[divan::bench]
    fn rsa(bencher: Bencher<'_, '_>) {
        bench(bencher, Mode::Rsa);
    }

    #[divan::bench]
    fn psk(bencher: Bencher<'_, '_>) {
        bench(bencher, Mode::Psk);
    }

    #[divan::bench]
    fn resumed(bencher: Bencher<'_, '_>) {
        bench(bencher, Mode::Resumption);
    }

    fn bench(bencher: Bencher<'_, '_>, mode: Mode) {
        let hello = Client::start(client_config(mode)).said();
        let inputs = || (Server::new(), hello.clone());
        bencher.with_inputs(inputs).bench_local_values(|(server, hello)| server.hear(hello));
    }
}

/// The client alone: its hello, then its flight.
mod client {
    use super::*;

    #[divan::bench]
    fn says_an_rsa_hello(bencher: Bencher<'_, '_>) {
        bencher.with_inputs(|| client_config(Mode::Rsa)).bench_local_values(Client::start);
    }

    #[divan::bench]
    fn says_a_psk_hello(bencher: Bencher<'_, '_>) {
        bencher.with_inputs(|| client_config(Mode::Psk)).bench_local_values(Client::start);
    }

    #[divan::bench]
    fn answers_in_rsa_mode_with_client_key(bencher: Bencher<'_, '_>) {
        bench(bencher, Mode::RsaWithClientKey);
    }

    #[divan::bench]
    fn answers_in_psk_mode(bencher: Bencher<'_, '_>) {
        bench(bencher, Mode::Psk);
    }

    fn bench(bencher: Bencher<'_, '_>, mode: Mode) {
        let inputs = || {
            let mut client = Client::start(client_config(mode));
            let mut server = Server::new().hear(client.said());
            (client, server.said())
        };
        bencher.with_inputs(inputs).bench_local_values(|(client, flight)| client.hear(flight));
    }
}

mod primitives {
    use crypto_core::exchange::{ClientExchange, respond};

    use super::*;

    #[divan::bench]
    fn rsa_3072_open_secret(bencher: Bencher<'_, '_>) {
        let key = &keys().server;
        let sealed = key.public().seal_secret(&mut SysRng, &Secret::new([1; 32])).expect(RANDOM);
        bencher.bench_local(|| key.open_secret(&mut SysRng, black_box(&sealed)).expect(RANDOM));
    }

    #[divan::bench]
    fn rsa_3072_sign(bencher: Bencher<'_, '_>) {
        let key = &keys().client;
        bencher.bench_local(|| key.sign(&mut SysRng, black_box(&[1; 32])).expect(RANDOM));
    }

    #[divan::bench]
    fn rsa_3072_verify(bencher: Bencher<'_, '_>) {
        let key = &keys().client;
        let signature = key.sign(&mut SysRng, &[1; 32]).expect(RANDOM);
        bencher.bench_local(|| key.public().verify(black_box(&[1; 32]), black_box(&signature)));
    }

    #[divan::bench]
    fn rsa_3072_seal_secret(bencher: Bencher<'_, '_>) {
        let (key, secret) = (&keys().server, Secret::new([1; 32]));
        bencher.bench_local(|| key.public().seal_secret(&mut SysRng, black_box(&secret)).expect(RANDOM));
    }

    #[divan::bench]
    fn x25519_and_ml_kem_client_generates(bencher: Bencher<'_, '_>) {
        bencher.bench_local(|| {
            let client = ClientExchange::generate(&mut SysRng).expect(RANDOM);
            (client.x25519(), client.encapsulation_key(), client)
        });
    }

    #[divan::bench]
    fn x25519_and_ml_kem_server_responds(bencher: Bencher<'_, '_>) {
        let client = ClientExchange::generate(&mut SysRng).expect(RANDOM);
        let (x25519, encapsulation_key) = (client.x25519(), client.encapsulation_key());
        bencher.bench_local(|| respond(&mut SysRng, black_box(&x25519), black_box(&encapsulation_key)));
    }

    #[divan::bench]
    fn x25519_and_ml_kem_client_finishes(bencher: Bencher<'_, '_>) {
        let inputs = || {
            let client = ClientExchange::generate(&mut SysRng).expect(RANDOM);
            let answer = respond(&mut SysRng, &client.x25519(), &client.encapsulation_key());
            (client, answer.expect("a fresh key is in order").0)
        };
        bencher
            .with_inputs(inputs)
            .bench_local_values(|(client, share)| client.finish(&share.x25519, &share.ciphertext));
    }
}

#[derive(Clone, Copy)]
enum Mode {
    RsaWithClientKey,
    Rsa,
    Psk,
    Resumption,
}

struct Keys {
    server: Arc<ServerKey>,
    client: Arc<ClientKey>,
    psk: Arc<PreSharedKey>,
    tickets: Arc<TicketKey>,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let server = pem::read_server_key(&mut SysRng, SERVER_KEY, None).expect(READ);
        let id = server.public().id();
        Keys {
            server: Arc::new(server),
            client: Arc::new(pem::read_client_key(CLIENT_KEY, None).expect(READ)),
            psk: Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", id).expect(RANDOM)),
            tickets: Arc::new(TicketKey::new(Secret::new([7; 32]))),
        }
    })
}

fn client_config(mode: Mode) -> ClientConfig {
    let public = keys().server.public();
    let key = |key, ticket| ExpectedServer::Key { id: public.id(), key, ticket };
    let server = match mode {
        Mode::RsaWithClientKey | Mode::Rsa => key(Some(public.clone()), None),
        Mode::Psk => ExpectedServer::Psk(Arc::clone(&keys().psk)),
        Mode::Resumption => key(None, Some(ticket())),
    };
    let identity = matches!(mode, Mode::RsaWithClientKey).then(|| Arc::clone(&keys().client));
    ClientConfig { server, identity, invite: None, open: None, asks_reason: false }
}

/// A good ticket: one and the same, since the server here remembers none.
fn ticket() -> ResumptionTicket {
    static TICKET: OnceLock<(Vec<u8>, [u8; 32])> = OnceLock::new();
    let (ticket, secret) = TICKET.get_or_init(|| {
        let (client, authorization) = authorized(client_config(Mode::Rsa));
        let mut welcome = Vec::new();
        authorization.welcome(&mut SysRng, &mut welcome).expect(RANDOM);
        let ticket = client.hear(welcome).into_outcome().ticket.expect("the server gives tickets");
        (ticket.ticket, *ticket.secret.expose())
    });
    ResumptionTicket { ticket: ticket.clone(), secret: Secret::new(*secret), lifetime_seconds: 60 }
}

/// A client that waits for its Welcome, and what the server knows of it.
fn authorized(config: ClientConfig) -> (Client, Box<Authorization>) {
    let mut client = Client::start(config);
    let mut server = Server::new().hear(client.said());
    let mut client = client.hear(server.said());
    let server = server.hear(client.said());
    (client, server.into_outcome())
}

/// One end of a handshake, and what it has said.
struct End<H: Handshake> {
    step: Step<H>,
    out: Vec<u8>,
}

type Client = End<ClientHandshake>;
type Server = End<ServerHandshake>;

impl Client {
    fn start(config: ClientConfig) -> Self {
        let mut out = Vec::new();
        let start = ClientHandshake::start(config, &mut SysRng, &mut out).expect(RANDOM);
        Self { step: Step::Continue(start), out }
    }
}

impl Server {
    fn new() -> Self {
        let config = ServerConfig {
            identity: Some(Arc::clone(&keys().server)),
            psks: BTreeMap::from([("laptop".to_owned(), Arc::clone(&keys().psk))]),
            tickets: Some(Arc::clone(&keys().tickets)),
            client_auth: ClientAuth::Optional,
            limits: ServerLimits { idle_timeout_seconds: 60 },
        };
        let start = ServerHandshake::new(Arc::new(config), NOW);
        Self { step: Step::Continue(start), out: Vec::new() }
    }
}

impl<H: Handshake> End<H> {
    fn said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Goes as far as it can with what the other end has said.
    fn hear(mut self, flight: Vec<u8>) -> Self {
        let mut flight = flight.as_slice();
        loop {
            self.step = match self.step {
                Step::Continue(handshake) if !flight.is_empty() => {
                    let len = handshake.message_len(flight).ok().flatten().expect(HONEST);
                    let (message, rest) = flight.split_at(len);
                    flight = rest;
                    handshake.handle(&mut message.to_vec(), &mut SysRng, &mut self.out).expect(HONEST)
                }
                Step::Work(work) => work.run(&mut SysRng, &mut self.out).expect(HONEST),
                waiting_or_done => return Self { step: waiting_or_done, ..self },
            };
        }
    }

    fn into_outcome(self) -> H::Outcome {
        match self.step {
            Step::Done(outcome) => outcome,
            _ => panic!("the handshake is not over"),
        }
    }
}
