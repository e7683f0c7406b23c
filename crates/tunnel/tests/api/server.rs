//! A server in memory whose answers to each attempt to connect are chosen by the test.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use getrandom::SysRng;
use thiserror::Error;
use tokio::io::{DuplexStream, duplex};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::pool::{Attempt, Connect, Fault};
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::ServerLimits;
use wire_protocol::stream::{Channel, Incoming, RsaPool, accept_channel, connect_channel};

/// Connects to the server in memory.
#[derive(Debug)]
pub(crate) struct Connector {
    psk: Arc<PreSharedKey>,
    config: Arc<ServerConfig>,
    server: Arc<Server>,
}

/// What a test sets of the server, and sees of it.
#[derive(Debug, Default)]
pub(crate) struct Server {
    /// What becomes of the next attempts; those behind them succeed.
    pub(crate) faults: Mutex<VecDeque<Option<Fault>>>,
    /// What becomes of every attempt.
    pub(crate) always: Mutex<Option<Fault>>,
    /// How long a handshake takes.
    pub(crate) delay: Mutex<Duration>,
    /// Cuts all channels that there are.
    pub(crate) cut: Mutex<CancellationToken>,
    pub(crate) attempts: AtomicUsize,
    pub(crate) under_way: AtomicUsize,
    pub(crate) most_under_way: AtomicUsize,
    /// Channels that the server has closed for having been idle, and that ended with a Close of the client.
    pub(crate) closed_idle: AtomicUsize,
    pub(crate) closed_well: AtomicUsize,
    pub(crate) signs_of_life: AtomicUsize,
}

/// Why there is no channel.
#[derive(Debug, Error)]
#[error("{0:?}")]
pub(crate) struct Failure(pub(crate) Fault);

impl Attempt for Failure {
    fn fault(&self) -> Fault {
        self.0
    }
}

impl Connector {
    pub(crate) fn new(idle_timeout_seconds: u32) -> (Self, Arc<Server>) {
        let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", KeyId([7; 32])).unwrap());
        let config = Arc::new(ServerConfig {
            identity: None,
            psks: BTreeMap::from([(psk.id().to_owned(), Arc::clone(&psk))]),
            tickets: None,
            client_auth: ClientAuth::Optional,
            limits: ServerLimits { idle_timeout_seconds },
        });
        let server = Arc::new(Server::default());
        (Self { psk, config, server: Arc::clone(&server) }, server)
    }
}

impl Connect for Connector {
    type Socket = DuplexStream;
    type Error = Failure;

    async fn connect(&self) -> Result<Channel<DuplexStream>, Failure> {
        let server = &self.server;
        server.attempts.fetch_add(1, Ordering::Relaxed);
        let under_way = server.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        server.most_under_way.fetch_max(under_way, Ordering::Relaxed);
        let delay = *server.delay.lock().unwrap();
        sleep(delay).await;
        server.under_way.fetch_sub(1, Ordering::Relaxed);
        let next = server.faults.lock().unwrap().pop_front();
        if let Some(fault) = next.unwrap_or_else(|| *server.always.lock().unwrap()) {
            return Err(Failure(fault));
        }
        let (here, there) = duplex(64 * 1024);
        tokio::spawn(serve(there, Arc::clone(&self.config), Arc::clone(server)));
        let expected = ExpectedServer::Psk(Arc::clone(&self.psk));
        let config = ClientConfig::new(expected);
        connect_channel(here, config).await.map_err(|_| Failure(Fault::Passing))
    }

    /// No attempt gives this one.
    fn no_channel(&self) -> Failure {
        Failure(Fault::Permanent)
    }
}

async fn serve(socket: DuplexStream, config: Arc<ServerConfig>, server: Arc<Server>) {
    let cut = server.cut.lock().unwrap().clone();
    let idle_timeout = Duration::from_secs(config.limits.idle_timeout_seconds.into());
    let served = async {
        let mut channel = accept_channel(socket, config, &RsaPool::new(1), |_| Ok(())).await?;
        loop {
            let Ok(incoming) = timeout(idle_timeout, channel.next_incoming()).await else {
                server.closed_idle.fetch_add(1, Ordering::Relaxed);
                return channel.close().await;
            };
            match incoming? {
                Incoming::SignOfLife => {
                    server.signs_of_life.fetch_add(1, Ordering::Relaxed);
                }
                Incoming::Close => {
                    server.closed_well.fetch_add(1, Ordering::Relaxed);
                    return channel.close().await;
                }
                Incoming::Open(_) | Incoming::OpenResumable(..) | Incoming::Resume(_) | Incoming::Park(_) => {
                    return io::Result::Ok(());
                }
            }
        }
    };
    tokio::select! {
        served = served => drop(served),
        () = cut.cancelled() => {}
    }
}
