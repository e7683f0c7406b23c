//! The server as a library: it runs until the future that it was given is ready, and writes messages to a sink of the
//! caller's own.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crypto_core::identity::{KeyId, ServerKey};
use crypto_core::secret::Secret;
use crypto_core::ticket::TicketKey;
use getrandom::SysRng;
use program::address::Address;
use program::home::Home;
use server::config::ServerConfig;
use server::{
    AccessFile, Control, Error, Identity, Listeners, Live, MessageFormat, Messages, Service, Settings,
    listen, serve,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::message::Target;
use wire_protocol::stream::{self, SecureStream};

/// A sink that hands on what is written to it.
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
    let listeners = listen(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
    let address = match listeners[0].1.address().unwrap() {
        Address::Tcp { host, port } => format!("{host}:{port}").parse().unwrap(),
        Address::Unix(path) => panic!("listening on {}", path.display()),
    };
    let key = Arc::new(ServerKey::generate(&mut SysRng, 2048).unwrap());
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
        tickets: Arc::new(TicketKey::new(Secret::random(&mut SysRng).unwrap())),
        access: AccessFile::new(home),
        service: Service::Messages(Messages::new(MessageFormat::Text, 1024, Some(Sink(printed)))),
        live: Live::from(&ServerConfig::default()),
    }
}

async fn open_message(address: SocketAddr, id: KeyId) -> SecureStream<TcpStream> {
    let socket = TcpStream::connect(address).await.unwrap();
    let server = ExpectedServer::Key { id, key: None, ticket: None };
    let config = ClientConfig { server, identity: None, open: None };
    let mut stream = stream::connect_channel(socket, config).await.unwrap();
    stream.open(Target::Message).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_the_sink_and_the_shutdown_future_ends_the_server() {
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

    // Without a shutdown that has begun, nothing ends.
    control.end_now().await;
    assert_eq!(control.status().await.unwrap().counts.streams, 1);
    shut_down.send(()).unwrap();
    // The event may come before the shutdown, and then it is no reason to end.
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

/// Longer than anything here takes, also where other tests share the machine.
const DEADLINE: Duration = Duration::from_secs(20);
