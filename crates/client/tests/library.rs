//! The client as a library: forwards run until the future that they were given is ready, tell what happens to a function
//! of the caller's own, and take no signals.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use cli_support::home::Home;
use client::cli::Trust;
use client::command::forward::{self, Event, Kind};
use client::config::Forward;
use client::{Control, ControlEvents, Credentials, Error, ServerSpec, TrustPolicy};
use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use getrandom::SysRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tunnel::network::Network;
use tunnel::proxy_header::ProxyHeader;
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::ServerLimits;
use wire_protocol::stream::{Channel, RsaPool, accept_channel};

/// A server that sends back what it is sent, and the forwards that lead to it.
struct Fixture {
    credentials: Credentials,
    forward: Forward,
    _home: tempfile::TempDir,
}

/// Sends the data of one channel's streams back.
async fn echo(mut channel: Channel<TcpStream>) -> std::io::Result<()> {
    while channel.next_open().await?.is_some() {
        let mut stream = channel.answer_open().await?;
        let mut chunk = [0; 64];
        loop {
            let len = stream.read(&mut chunk).await?;
            if len == 0 {
                break;
            }
            stream.write_all(&chunk[..len]).await?;
            stream.flush().await?;
        }
        channel = stream.finish().await?;
    }
    channel.close().await
}

async fn fixture() -> Fixture {
    let home = tempfile::tempdir().unwrap();
    let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", KeyId([7; 32])).unwrap());
    let file = home.path().join("laptop.psk");
    let mut written = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&file).unwrap();
    std::io::Write::write_all(&mut written, psk.to_text().as_bytes()).unwrap();
    let config = Arc::new(ServerConfig {
        identity: None,
        psks: BTreeMap::from([("laptop".to_owned(), psk)]),
        tickets: None,
        client_auth: ClientAuth::Required,
        limits: ServerLimits { idle_timeout_seconds: 60 },
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = ServerSpec::Address(listener.local_addr().unwrap().into());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let config = Arc::clone(&config);
            tokio::spawn(async move {
                // A client that ends with a stream open cuts it off.
                echo(accept_channel(socket, config, &RsaPool::new(1), |_| Ok(())).await?).await
            });
        }
    });
    let forward = Forward {
        server,
        trust: Trust { server_key: None, trust: TrustPolicy::Strict, psk: Some(file) },
        local: vec!["127.0.0.1:0:target.example:80".parse().unwrap()],
        remote: Vec::new(),
        dynamic: Vec::new(),
        header: ProxyHeader::None,
        wait: DEADLINE,
        udp_timeout: DEADLINE,
        resume: false,
    };
    let credentials = Credentials::read(Home::resolve(Some(home.path().into())).unwrap()).unwrap();
    Fixture { credentials, forward, _home: home }
}

/// Forwards that run.
struct Running {
    address: String,
    shut_down: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Error>>,
}

impl Running {
    async fn start(credentials: &Credentials, forward: Forward, events: ControlEvents) -> Self {
        let (told, mut addresses) = mpsc::unbounded_channel();
        let tell = move |event: &Event<'_>| {
            if let Event::Listening {
                kind: Kind::Local, address, target: Some("target.example:80"), ..
            } = event
            {
                told.send((*address).to_owned()).unwrap();
            }
        };

        let forwards = forward::bind(&Network::System, credentials, vec![forward], tell).await.unwrap();
        assert!(addresses.try_recv().is_err(), "what does not run yet tells nothing");
        let (shut_down, shutdown) = oneshot::channel::<()>();
        let ended = tokio::spawn(forwards.run(DEADLINE, async { drop(shutdown.await) }, events));
        Self { address: addresses.recv().await.unwrap(), shut_down, ended }
    }

    /// A connection that has carried something.
    async fn connect(&self) -> TcpStream {
        let mut socket = TcpStream::connect(&self.address).await.unwrap();
        socket.write_all(b"hello").await.unwrap();
        let mut answer = [0; 5];
        timeout(DEADLINE, socket.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"hello");
        socket
    }
}

/// A process may forward, stop, and forward again.
#[tokio::test(flavor = "multi_thread")]
async fn the_shutdown_future_ends_forwards_as_often_as_they_run() {
    let Fixture { credentials, forward, _home } = fixture().await;
    for _ in 0..2 {
        let (control, events) = Control::new();
        let running = Running::start(&credentials, forward.clone(), events).await;
        let mut open = running.connect().await;
        assert_eq!(control.status().await.unwrap().counts.streams, 1);
        running.shut_down.send(()).unwrap();
        // What is open comes to its end, and nothing new comes.
        while TcpStream::connect(&running.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        open.write_all(b"bye").await.unwrap();
        open.shutdown().await.unwrap();
        let mut rest = String::new();
        timeout(DEADLINE, open.read_to_string(&mut rest)).await.unwrap().unwrap();
        assert_eq!(rest, "bye");
        timeout(DEADLINE, running.ended).await.unwrap().unwrap().unwrap();
        assert!(control.status().await.is_none());
    }
    assert_eq!(caught_signals() & END_SIGNALS, 0, "a library has taken the process's signals");
}

#[tokio::test(flavor = "multi_thread")]
async fn forwards_that_wait_for_a_connection_are_ended_through_their_control() {
    let Fixture { credentials, forward, _home } = fixture().await;
    let (control, events) = Control::new();
    let running = Running::start(&credentials, forward, events).await;
    let _open = running.connect().await;
    // Without a shutdown that has begun, nothing ends.
    control.end_now().await;
    assert_eq!(control.status().await.unwrap().counts.streams, 1);
    running.shut_down.send(()).unwrap();
    // The event may come before the shutdown, and then it is no reason to end.
    let ended = async {
        while !running.ended.is_finished() {
            control.end_now().await;
            tokio::task::yield_now().await;
        }
        running.ended.await.unwrap()
    };
    let result = timeout(DEADLINE, ended).await.unwrap();
    assert!(matches!(result, Err(Error::NotDrained)), "{result:?}");
}

/// The signals that this process has handlers for, a bit each.
fn caught_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap()
}

/// SIGHUP, SIGINT, SIGQUIT and SIGTERM.
const END_SIGNALS: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 14;
/// Longer than anything here takes, also where other tests share the machine.
const DEADLINE: Duration = Duration::from_secs(20);
