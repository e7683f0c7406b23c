//! The server as a library: it runs until the caller's future is ready, and writes messages to the caller's sink.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use cli_support::home::Home;
use crypto_core::identity::{KeyId, ServerKey};
use crypto_core::ticket::TicketKey;
use getrandom::SysRng;
use server::config::ServerConfig;
use server::{
    AccessFile, Control, Error, Identity, Listeners, MessageFormat, Messages, ReloadableConfig, Services,
    Settings, listen, serve,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tunnel::address::Address;
use tunnel::network::Network;
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::message::{ResetCode, Target};
use wire_protocol::stream::{self, Channel, OpenError, SecureStream};

/// A sink that collects its input.
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Fixture {
    settings: Settings,
    listeners: Listeners,
    address: SocketAddr,
    key: KeyId,
    printed: Arc<Mutex<Vec<u8>>>,
    _home: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let listeners = listen(&Network::System, &["127.0.0.1:0".parse().unwrap()]).await.unwrap();
    let address = match listeners[0].1.address().unwrap() {
        Address::Tcp { host, port } => format!("{host}:{port}").parse().unwrap(),
        address => panic!("listening on {address}"),
    };
    // The key is shared, since making one takes a while.
    static KEY: LazyLock<Arc<ServerKey>> =
        LazyLock::new(|| Arc::new(ServerKey::generate(&mut SysRng, 2048).unwrap()));
    let key = Arc::clone(&KEY);
    let printed = Arc::new(Mutex::new(Vec::new()));
    Fixture {
        key: key.public().id(),
        settings: settings(folder.path(), key, Arc::clone(&printed)),
        listeners,
        address,
        printed,
        _home: folder,
    }
}

fn settings(home: &Path, key: Arc<ServerKey>, printed: Arc<Mutex<Vec<u8>>>) -> Settings {
    let home = Home::resolve(Some(home.into())).unwrap();
    Settings {
        identity: Identity::Key(key),
        tickets: Arc::new(TicketKey::generate(&mut SysRng).unwrap()),
        access: AccessFile::new(home),
        accounts: None,
        services: Services::new()
            .messages(Messages::new(MessageFormat::Text, 1024, Some(Sink(printed))))
            .tunnels()
            .listening(),
        config: ReloadableConfig::from(&ServerConfig::default()),
        network: Network::System,
    }
}

async fn connect(address: SocketAddr, id: KeyId) -> Channel<TcpStream> {
    let socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let server = ExpectedServer::Key { id, key: None, ticket: None };
    let config = ClientConfig::new(server);
    stream::connect_channel(socket, config).await.unwrap()
}

async fn open_message(address: SocketAddr, id: KeyId) -> SecureStream<TcpStream> {
    connect(address, id).await.open(&Target::Message).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_the_sink_and_the_shutdown_future_ends_the_server() {
    check_message_and_shutdown().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_server_runs_on_a_single_thread() {
    check_message_and_shutdown().await;
}

async fn check_message_and_shutdown() {
    let Fixture { settings, listeners, address, key, printed, _home } = fixture().await;
    let (shut_down, told) = oneshot::channel::<()>();
    let (control, events) = Control::new();
    let server = tokio::spawn(serve(settings, listeners, async { drop(told.await) }, events));

    let mut stream = open_message(address, key).await;
    assert_eq!(control.status().await.unwrap().counts.streams, 1);
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(*printed.lock().unwrap(), b"[anonymous] hello\n");
    stream.close().await.unwrap();

    shut_down.send(()).unwrap();
    timeout(DEADLINE, server).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    assert!(control.status().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_waits_for_a_stream_is_ended_through_its_control() {
    let Fixture { settings, listeners, address, key, _home, .. } = fixture().await;
    let (shut_down, told) = oneshot::channel::<()>();
    let (control, events) = Control::new();
    let server = tokio::spawn(serve(settings, listeners, async { drop(told.await) }, events));
    let _open = open_message(address, key).await;

    // Without a shutdown in progress, the event has no effect.
    control.end_now().await;
    assert_eq!(control.status().await.unwrap().counts.streams, 1);
    shut_down.send(()).unwrap();
    // The event may come before the shutdown, and then it must not end the server.
    let ended = async {
        while !server.is_finished() {
            control.end_now().await;
            tokio::task::yield_now().await;
        }
        server.await.unwrap()
    };
    let result = timeout(DEADLINE, ended).await.unwrap();
    assert!(matches!(result, Err(Error::NotDrained { streams: 1 })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_refuses_anonymous_clients_ends_what_they_have_open() {
    let Fixture { settings, listeners, address, key, _home, .. } = fixture().await;
    // With a list, only listed clients are let in, unless anonymous ones are admitted.
    settings.access.edit(|access| access.note_psk("laptop")).unwrap();
    let anyone = ServerConfig { anyone: true, ..ServerConfig::default() };
    let settings = Settings { config: ReloadableConfig::from(&anyone), ..settings };
    let (control, events) = Control::new();
    let server = tokio::spawn(serve(settings, listeners, std::future::pending(), events));
    let mut stream = open_message(address, key).await;

    let addresses = || vec!["127.0.0.1:0".parse().unwrap()];
    control.reload(ReloadableConfig::from(&anyone), addresses()).await.unwrap().unwrap();
    stream.write_all(b"still here").await.unwrap();
    stream.flush().await.unwrap();
    control.reload(ReloadableConfig::from(&ServerConfig::default()), addresses()).await.unwrap().unwrap();
    let error = timeout(DEADLINE, stream.read(&mut [0; 1])).await.unwrap().unwrap_err();
    let reset = wire_protocol::Error::Reset(ResetCode::NotAllowed);
    assert_eq!(stream::error_in(&error), Some(&reset), "{error}");
    server.abort();
}

/// Counts the log lines about refused streams, and collects the rules that they name.
struct Refusals;

static REFUSALS: AtomicUsize = AtomicUsize::new(0);
static MISSING_RULES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct MissingRule;

impl Visit for MissingRule {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "denied" {
            MISSING_RULES.lock().unwrap().push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Subscriber for Refusals {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.module_path() == Some("server::services::refusal")
    }

    fn event(&self, event: &Event<'_>) {
        REFUSALS.fetch_add(1, Ordering::Relaxed);
        event.record(&mut MissingRule);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A connected client, also an anonymous one, can ask for refused streams as fast as the network carries its
/// requests.
#[tokio::test(flavor = "multi_thread")]
async fn refused_streams_name_the_missing_rule_in_the_log_and_do_not_fill_it() {
    tracing::subscriber::set_global_default(Refusals).unwrap();
    let Fixture { settings, listeners, address, key, _home, .. } = fixture().await;
    let (_control, events) = Control::new();
    let server = tokio::spawn(serve(settings, listeners, std::future::pending(), events));
    let mut channel = connect(address, key).await;
    let tcp = Target::Tcp { host: "192.0.2.1".into(), port: 4711 };
    for target in std::iter::once(tcp).chain(std::iter::repeat_n(Target::Pipe, 500)) {
        channel = match channel.open(&target).await.unwrap_err() {
            OpenError::Refused { channel, .. } => channel,
            error => panic!("{error}"),
        };
    }
    assert!(MISSING_RULES.lock().unwrap().contains(&"no --tcp permits it".to_owned()));
    assert!((1..500).contains(&REFUSALS.load(Ordering::Relaxed)));
    server.abort();
}

/// Time limit, longer than any step of these tests takes, also on a shared machine.
const DEADLINE: Duration = Duration::from_secs(20);
