//! A running server for tests, with one client that is known by a pre-shared key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cli_support::home::Home;
use cli_support::private_file;
use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use crypto_core::ticket::TicketKey;
use getrandom::SysRng;
use server::config::ServerConfig;
use server::{AccessFile, Control, Error, Identity, ReloadableConfig, Services, Settings, listen, serve};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tunnel::address::Address;
use tunnel::network::Network;
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::message::{ListenAddress, RefusedCode, Target};
use wire_protocol::stream::{self, Channel, OpenError, SecureStream};

/// A channel of the client.
pub(super) type Stream = SecureStream<TcpStream>;

/// A running server, with the key and the address that its client needs.
pub(super) struct Running {
    pub(super) control: Control,
    pub(super) home: tempfile::TempDir,
    pub(super) server: JoinHandle<Result<(), Error>>,
    address: SocketAddr,
    psk: Arc<PreSharedKey>,
}

impl Running {
    /// Starts a server with `services` whose only client has `rights`, in the form of `clients.toml`.
    pub(super) async fn start(services: Services, config: &ServerConfig, rights: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let listeners = listen(&Network::System, &["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        let address = match listeners[0].1.address().unwrap() {
            Address::Tcp { host, port } => format!("{host}:{port}").parse().unwrap(),
            address => panic!("listening on {address}"),
        };
        let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", KeyId([7; 32])).unwrap());
        let settings = Settings {
            identity: Identity::Psk(BTreeMap::from([("laptop".to_owned(), Arc::clone(&psk))])),
            tickets: Arc::new(TicketKey::generate(&mut SysRng).unwrap()),
            access: AccessFile::new(Home::resolve(Some(home.path().into())).unwrap()),
            accounts: None,
            services,
            config: ReloadableConfig::from(config),
            network: Network::System,
        };
        let (control, events) = Control::new();
        let running = |server| Self { control, home, server, address, psk };
        let server = tokio::spawn(serve(settings, listeners, std::future::pending(), events));
        let running = running(server);
        running.write_rights(rights);
        running
    }

    /// The path of the file of allowed clients.
    pub(super) fn access_path(&self) -> PathBuf {
        self.home.path().join("clients.toml")
    }

    /// Writes the file of allowed clients as an editor does, without notifying the server.
    pub(super) fn write_rights(&self, rights: &str) {
        let text = format!("[[psk]]\nname = \"laptop\"\n{rights}\n");
        private_file::replace(&self.access_path(), text.as_bytes()).unwrap();
    }

    /// Changes the client's rights and has the server check them.
    pub(super) async fn change_rights(&self, rights: &str) {
        self.write_rights(rights);
        assert!(self.control.recheck().await);
    }

    /// Opens a channel of the client. The error says why it is refused.
    pub(super) async fn connect(&self) -> std::io::Result<Channel<TcpStream>> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let server = ExpectedServer::Psk(Arc::clone(&self.psk));
        let config = ClientConfig::new(server);
        timeout(DEADLINE, stream::connect_channel(socket, config)).await.unwrap()
    }

    /// The addresses that the server listens on.
    pub(super) fn addresses(&self) -> Vec<Address> {
        vec!["127.0.0.1:0".parse().unwrap()]
    }

    /// Returns whether no server listens any more.
    pub(super) async fn is_gone(&self) -> bool {
        timeout(DEADLINE, TcpStream::connect(self.address)).await.unwrap().is_err()
    }

    /// Opens a stream of the client to `target`. The error is the server's answer where it refuses.
    pub(super) async fn open(&self, target: &Target) -> Result<Stream, RefusedCode> {
        let channel = self.connect().await.unwrap();
        let opened = async {
            match target {
                Target::Listen { .. } => channel.open_listen(target).await.map(|(stream, _)| stream),
                target => channel.open(target).await,
            }
        };
        match timeout(DEADLINE, opened).await.unwrap() {
            Ok(stream) => Ok(stream),
            Err(OpenError::Refused { code, .. }) => Err(code),
            Err(error) => panic!("{target}: {error}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A target for listening on a port of the system's choice.
pub(super) fn listening() -> Target {
    Target::Listen {
        address: ListenAddress::Port { host: "127.0.0.1".into(), port: 0 },
        kind: wire_protocol::message::ListenKind::Stream,
        lease: [1; wire_protocol::message::LEASE_LEN],
    }
}

/// Time limit, longer than any step of these tests takes, also on a shared machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);
