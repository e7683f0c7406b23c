//! A server and a client on a network in memory.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cli_support::home::Home;
use cli_support::private_file;
use client::cli::Trust;
use client::command::forward::{self, Event, Kind};
use client::config::Forward;
use client::{Credentials, TrustPolicy};
use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use crypto_core::secret::Secret;
use crypto_core::ticket::TicketKey;
use getrandom::SysRng;
use server::config::ServerConfig;
use server::{AccessFile, Identity, ReloadableConfig, Services, Settings};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tunnel::address::Address;
use tunnel::memory::{Conditions, MemoryNetwork};
use tunnel::network::Network;
use tunnel::proxy_header::ProxyHeader;

use super::schedule::{Revocation, Through};

/// Where the server is: the first address is the one that the client has.
pub(super) const SERVER: [SocketAddr; 2] = [address(1, 7000), address(1, 7001)];
/// A target of the server's, and one that speaks first.
pub(super) const SERVER_TARGETS: [SocketAddr; 2] = [address(10, 80), address(10, 81)];
/// The same for the client.
pub(super) const CLIENT_TARGETS: [SocketAddr; 2] = [address(20, 80), address(20, 81)];

const fn address(machine: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, machine)), port)
}

/// Files of both programs and the key that they share, for one schedule after the other.
pub(super) struct Homes {
    psk: Arc<PreSharedKey>,
    psk_file: std::path::PathBuf,
    server: Home,
    client: Home,
    _folder: tempfile::TempDir,
}

impl Homes {
    pub(super) fn new() -> Self {
        // In memory, where the system has such a folder: nothing here has to outlive the test.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let home = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            Home::resolve(Some(path)).unwrap()
        };
        let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", KeyId([7; 32])).unwrap());
        let psk_file = folder.path().join("laptop.psk");
        private_file::replace(&psk_file, psk.to_text().as_bytes()).unwrap();
        Self { psk, psk_file, server: home("server"), client: home("client"), _folder: folder }
    }

    /// Writes what the client may do.
    fn allow(&self, lost: Option<Revocation>) {
        let has = |right| lost != Some(right) && lost != Some(Revocation::All);
        let mut text = String::from("[[psk]]\nname = \"laptop\"\n");
        if lost == Some(Revocation::All) {
            text.push_str("revoked = true\n");
        }
        if has(Revocation::Targets) {
            text.push_str("tcp = [\"*:*\"]\n");
        }
        if has(Revocation::Listening) {
            text.push_str("listen = [\"10.0.0.0/8:*\"]\n");
        }
        text.push_str("messages = false\n");
        private_file::replace(&self.server.file("clients.toml"), text.as_bytes()).unwrap();
    }
}

/// A program that runs, until it is told to end.
pub(super) struct Program<E> {
    shut_down: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), E>>,
}

impl<E> Program<E> {
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_finished()
    }

    /// Ends it. Gives how that went, and `None` where it does not end.
    pub(super) async fn end(self) -> Option<Result<(), E>> {
        self.shut_down.send(()).ok();
        timeout(END_DEADLINE, self.ended).await.ok().map(|ended| ended.unwrap())
    }
}

/// The two programs.
pub(super) struct Pair<'a> {
    pub(super) network: MemoryNetwork,
    pub(super) server: Program<server::Error>,
    pub(super) server_control: server::Control,
    pub(super) client: Program<client::Error>,
    pub(super) client_control: client::Control,
    /// How often the client has found the server.
    connected: Arc<AtomicUsize>,
    /// What the server listens on for the client.
    leases: usize,
    homes: &'a Homes,
    config: ReloadableConfig,
}

impl<'a> Pair<'a> {
    /// Starts both, and waits until all forwards stand: those to the server's targets, and of the others those that are
    /// `needed`, since each lease takes a few handshakes.
    pub(super) async fn start(
        seed: u64,
        conditions: Conditions,
        needed: &[(Through, bool)],
        homes: &'a Homes,
    ) -> Self {
        homes.allow(None);
        let network = MemoryNetwork::new(seed, conditions);
        network.set_name("server.example", vec![SERVER[0].ip()]);
        network.set_name("target.example", vec![SERVER_TARGETS[0].ip()]);
        let config = ReloadableConfig::from(&ServerConfig { grace: GRACE, ..ServerConfig::default() });

        let host = Network::Memory(network.host(SERVER[0].ip()));
        let listeners = server::listen(&host, &[SERVER[0].into()]).await.unwrap();
        let settings = Settings {
            identity: Identity::Psk(BTreeMap::from([("laptop".to_owned(), Arc::clone(&homes.psk))])),
            tickets: Arc::new(TicketKey::new(Secret::random(&mut SysRng).unwrap())),
            access: AccessFile::new(homes.server.clone()),
            accounts: None,
            services: Services::new().tunnels().listening(),
            config: config.clone(),
            network: host,
        };
        let (server_control, events) = server::Control::new();
        let (shut_down, told) = oneshot::channel::<()>();
        let ended = tokio::spawn(server::serve(settings, listeners, async { drop(told.await) }, events));
        let server = Program { shut_down, ended };

        let (connected, listening) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, heard) = (Arc::clone(&connected), Arc::clone(&listening));
        let tell = move |event: &Event<'_>| match event {
            Event::Connected { .. } => drop(counted.fetch_add(1, Ordering::Relaxed)),
            Event::Listening { kind: Kind::Remote, .. } => drop(heard.fetch_add(1, Ordering::Relaxed)),
            Event::Listening { .. } | Event::Status { .. } => {}
        };
        let remote = [
            ((Through::Remote, false), "10.0.0.1:8000:10.0.0.20:80"),
            ((Through::Remote, true), "10.0.0.1:8001:10.0.0.20:81"),
            ((Through::RemoteSocks, false), "10.0.0.1:1080"),
        ];
        let remote: Vec<_> = remote.into_iter().filter(|(what, _)| needed.contains(what)).collect();
        let remote: Vec<_> = remote.into_iter().map(|(_, forward)| forward.parse().unwrap()).collect();
        let leases = remote.len();
        let forward = Forward {
            server: "server.example:7000".parse().unwrap(),
            trust: Trust { server_key: None, trust: TrustPolicy::Strict, psk: Some(homes.psk_file.clone()) },
            local: vec![
                "10.0.0.2:2000:target.example:80".parse().unwrap(),
                "10.0.0.2:2001:10.0.0.10:81".parse().unwrap(),
            ],
            remote,
            dynamic: vec!["10.0.0.2:1080".parse().unwrap()],
            header: ProxyHeader::None,
            wait: WAIT,
            udp_timeout: Duration::from_secs(60),
            resume: false,
        };
        let credentials = Credentials::read(homes.client.clone()).unwrap();
        let host = Network::Memory(network.host(address(2, 0).ip()));
        let forwards = forward::bind(&host, &credentials, vec![forward], tell).await.unwrap();
        let (client_control, events) = client::Control::new();
        let (shut_down, told) = oneshot::channel::<()>();
        let ended = tokio::spawn(forwards.run(GRACE, async { drop(told.await) }, events));
        let client = Program { shut_down, ended };
        let pair = Self {
            network,
            server,
            server_control,
            client,
            client_control,
            connected,
            leases,
            homes,
            config,
        };
        let stand = async {
            while listening.load(Ordering::Relaxed) < leases {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(START_DEADLINE, stand).await.expect("the forwards do not stand");
        pair
    }

    /// Where a forward takes connections.
    pub(super) fn entrance(through: Through, greets: bool) -> SocketAddr {
        match (through, greets) {
            (Through::Local, false) => address(2, 2000),
            (Through::Local, true) => address(2, 2001),
            (Through::Dynamic, _) => address(2, 1080),
            (Through::Remote, false) => address(1, 8000),
            (Through::Remote, true) => address(1, 8001),
            (Through::RemoteSocks, _) => address(1, 1080),
        }
    }

    /// Takes rights from the client, or gives all of them back.
    pub(super) async fn change_rights(&self, lost: Option<Revocation>) {
        self.homes.allow(lost);
        assert!(self.server_control.recheck().await);
    }

    /// Has the server listen on these of its addresses.
    pub(super) async fn listen_on(&self, addresses: &[SocketAddr]) {
        let addresses: Vec<Address> = addresses.iter().copied().map(Address::from).collect();
        self.server_control.reload(self.config.clone(), addresses).await.unwrap().unwrap();
    }

    /// How often the client has found the server again.
    pub(super) fn reconnections(&self) -> usize {
        self.connected.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Waits until both have nothing open but the leases, all of which stand.
    ///
    /// # Panics
    /// Where they do not come to that.
    pub(super) async fn settle(&self) {
        // A connection that was accepted may wait for so long until it has a channel.
        sleep(WAIT).await;
        let begun = Instant::now();
        loop {
            let server = self.server_control.status().await.unwrap().counts;
            let client = self.client_control.status().await.unwrap().counts;
            let is_settled = [server, client]
                .iter()
                .all(|counts| counts.leases == self.leases && counts.streams == self.leases);
            if is_settled {
                return;
            }
            assert!(
                begun.elapsed() < SETTLE_DEADLINE,
                "something is open, or does not come back: {server:?} {client:?}"
            );
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// How long a connection waits for a channel.
const WAIT: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(20);
const START_DEADLINE: Duration = Duration::from_secs(600);
const SETTLE_DEADLINE: Duration = Duration::from_secs(3600);
/// The grace, and what is closed behind it.
const END_DEADLINE: Duration = Duration::from_secs(120);
