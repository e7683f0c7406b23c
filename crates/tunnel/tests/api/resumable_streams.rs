//! What a server knows of resumable streams that are not there: never had, given up by their clients, or lost.

use std::sync::Arc;
use std::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use getrandom::SysRng;
use tokio::io::{DuplexStream, duplex};
use tokio::time::{sleep, timeout};
use tunnel::resumable_streams::{Client, ResumableStreams, ResumptionLimits, Taken};
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::{Retention, ServerLimits, Target};
use wire_protocol::stream::{
    Channel, Incoming, ResumeRequest, RetentionBudget, RsaPool, Suspended, accept_channel, connect_channel,
};

/// The one client that there is.
#[derive(Debug, Clone)]
struct Somebody;

impl Client for Somebody {
    fn is_same(&self, _: &Self) -> bool {
        true
    }

    fn renew(&mut self, _: &Self) {}
}

/// Both ends of a channel: the client's and the server's.
async fn new_channel() -> [Channel<DuplexStream>; 2] {
    let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", KeyId([7; 32])).unwrap());
    let config = Arc::new(ServerConfig {
        identity: None,
        psks: [(psk.id().to_owned(), Arc::clone(&psk))].into(),
        tickets: None,
        client_auth: ClientAuth::Optional,
        limits: ServerLimits { idle_timeout_seconds: 60 },
    });
    let (here, there) = duplex(64 * 1024);
    let rsa = RsaPool::new(1);
    let (client, server) = tokio::join!(
        connect_channel(here, ClientConfig::new(ExpectedServer::Psk(psk))),
        accept_channel(there, config, &rsa, |_| Ok(())),
    );
    [client.unwrap(), server.unwrap()]
}

/// A stream that was asked for and not answered: as the client has it, and the server's end of the channel, on which its Open has
/// come.
async fn unanswered() -> (Box<Suspended>, Channel<DuplexStream>) {
    let [client, mut server] = new_channel().await;
    let target = Target::Service { name: "db".into() };
    let reservation = RetentionBudget::new(1 << 20).reserve().unwrap();
    let mut opening = client.begin_open_resumable(&target, Retention::default(), reservation).unwrap();
    assert!(timeout(Duration::from_secs(1), opening.answered()).await.is_err());
    let Incoming::OpenResumable(..) = server.next_incoming().await.unwrap() else { panic!() };
    (Box::new(opening.into_suspended().unwrap()), server)
}

/// The server's end of a channel on which the client asks for its stream.
async fn asked_for(stream: Box<Suspended>) -> (Channel<DuplexStream>, ResumeRequest) {
    let [client, mut server] = new_channel().await;
    tokio::spawn(client.resume(stream, Duration::from_secs(30)));
    let Incoming::Resume(request) = server.next_incoming().await.unwrap() else { panic!() };
    (server, request)
}

/// Streams of a server that has run for ten seconds.
async fn streams() -> Arc<ResumableStreams<Somebody>> {
    let limits = ResumptionLimits { retention: Retention::default(), per_client: 1 << 20, total: 1 << 20 };
    let streams = ResumableStreams::new(limits, 10);
    sleep(Duration::from_secs(10)).await;
    streams
}

/// For how long the server remembers all streams, where it does not have this one.
async fn remembers(streams: &Arc<ResumableStreams<Somebody>>, stream: Box<Suspended>) -> Duration {
    let (server, request) = asked_for(stream).await;
    match streams.take_over(&request, server.exporter(), &Somebody, |_| true).await {
        Taken::Gone { remembers } => remembers,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_that_comes_behind_the_clients_request_is_not_served() {
    let streams = streams().await;
    let (stream, server) = unanswered().await;
    assert!(remembers(&streams, stream).await >= Duration::from_secs(10));
    assert!(streams.announce(server.asked_stream(), Somebody).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_server_remembers_no_longer_than_it_has_run_and_than_it_keeps_an_id() {
    let streams = streams().await;
    let (stream, _server) = unanswered().await;
    let remembered = remembers(&streams, stream).await;
    assert!((10..15).contains(&remembered.as_secs()), "{remembered:?}");
    sleep(Duration::from_secs(3600)).await;
    let (stream, _server) = unanswered().await;
    assert_eq!(remembers(&streams, stream).await, Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_stood_was_never_there() {
    let streams = streams().await;
    let (stream, server) = unanswered().await;
    drop(streams.announce(server.asked_stream(), Somebody).unwrap());
    assert!(remembers(&streams, stream).await >= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stood_and_is_lost_was_there_for_as_long_as_it_could_be_asked_for() {
    let streams = streams().await;
    for (later, was_there) in [(0, true), (290, true), (301, false)] {
        let (stream, server) = unanswered().await;
        let announced = streams.announce(server.asked_stream(), Somebody).unwrap();
        drop(announced.enter(Somebody));
        sleep(Duration::from_secs(later)).await;
        // What is due is forgotten when there is something new to remember.
        let (other, _server) = unanswered().await;
        assert!(remembers(&streams, other).await >= Duration::from_secs(10));
        assert_eq!(remembers(&streams, stream).await == Duration::ZERO, was_there, "{later} s later");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_could_not_be_taken_over_was_there() {
    let streams = streams().await;
    let (stream, server) = unanswered().await;
    streams.announce(server.asked_stream(), Somebody).unwrap().cannot_be_taken_over();
    assert_eq!(remembers(&streams, stream).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_client_without_the_right_to_its_stream_does_not_hear_that_it_was_never_there() {
    let streams = streams().await;
    let (stream, server) = unanswered().await;
    let announced = streams.announce(server.asked_stream(), Somebody).unwrap();
    let _carried = announced.enter(Somebody);
    let (server, request) = asked_for(stream).await;
    let taken = streams.take_over(&request, server.exporter(), &Somebody, |_| false).await;
    assert!(matches!(taken, Taken::Gone { remembers: Duration::ZERO }), "{taken:?}");
}
