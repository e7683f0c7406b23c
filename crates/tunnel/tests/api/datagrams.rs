//! Sessions of datagrams that are refused. The sockets are those of the system, since datagrams have no others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use getrandom::SysRng;
use tokio::net::{UdpSocket, UnixStream};
use tokio_util::sync::CancellationToken;
use tunnel::drops::DropCounter;
use tunnel::pending_stream::{Carried, Opened, PendingStream};
use tunnel::socket::Socket;
use tunnel::terms::Unlimited;
use tunnel::traffic::Traffic;
use tunnel::udp::UdpListener;
use tunnel::udp_sessions::{UdpSessions, by_source};
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::{RefusedCode, ServerLimits, Target};
use wire_protocol::stream::{Channel, RsaPool, accept_channel, connect_channel};

/// The two ends of an idle channel, of the client and of the server.
async fn channels() -> (Channel<Socket>, Channel<Socket>) {
    let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", KeyId([7; 32])).unwrap());
    let config = Arc::new(ServerConfig {
        identity: None,
        psks: BTreeMap::from([(psk.id().to_owned(), Arc::clone(&psk))]),
        tickets: None,
        client_auth: ClientAuth::Optional,
        limits: ServerLimits { idle_timeout_seconds: 60 },
    });
    let (here, there) = UnixStream::pair().unwrap();
    let client = ClientConfig::new(ExpectedServer::Psk(psk));
    let admission = RsaPool::new(1);
    let (client, server) = tokio::join!(
        connect_channel(Socket::Unix(here), client),
        accept_channel(Socket::Unix(there), config, &admission, |_| Ok(()))
    );
    (client.unwrap(), server.unwrap())
}

/// What becomes of a session that is refused for this reason by a server that is gone then.
async fn refused(code: RefusedCode) -> Carried {
    let listener = Arc::new(UdpListener::bind_to("127.0.0.1:0".parse().unwrap()).unwrap());
    let address = listener.local_addr().unwrap();
    let mut sessions = UdpSessions::new(listener, "here".into(), &DropCounter::default());
    let source = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    source.send_to(b"?", address).await.unwrap();
    let (_, session) = sessions.next(by_source).await;
    let target = Arc::new(Target::Udp { host: "x".into(), port: 1 });
    let (client, mut server) = channels().await;
    tokio::spawn(async move {
        server.next_open().await.unwrap();
        drop(server.refuse_open(code).await.unwrap());
    });
    let terms = Unlimited {
        udp_timeout: Duration::from_secs(60),
        traffic: Traffic::default(),
        resumptions: None,
        ending: CancellationToken::new(),
        monitor: None,
    };
    match (PendingStream::Datagrams { session: Box::new(session), target }).open(client, &terms).await {
        Opened::Done(carried) => carried,
        Opened::Connection(..) => panic!("a session of datagrams is no connection"),
    }
}

/// The session was lost then, and the next datagram asked the server again at once.
#[tokio::test]
async fn a_refusal_counts_although_the_server_is_gone_behind_it() {
    let carried = refused(RefusedCode::NotAllowed).await;
    assert!(matches!(carried, Carried::Refused(_, _, RefusedCode::NotAllowed)), "{carried:?}");
    let carried = refused(RefusedCode::Stopping).await;
    assert!(matches!(carried, Carried::NotOpened(..)), "{carried:?}");
}
