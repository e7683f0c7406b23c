//! Ingress on one side of a channel, egress on the other, in either role.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use getrandom::SysRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::address::Address;
use tunnel::counter::Counter;
use tunnel::dial;
use tunnel::drops::{DropCounter, FlowDrops};
use tunnel::egress::{self, Destination};
use tunnel::ingress::{Ingress, IngressError};
use tunnel::listener::Listener;
use tunnel::memory::{Conditions, MemoryNetwork};
use tunnel::network::Network;
use tunnel::network_monitor::NetworkMonitor;
use tunnel::network_monitor::source::{NetworkSource, NetworkState};
use tunnel::network_monitor::suspend_clock::SuspendClock;
use tunnel::parked::{Parked, StreamHolder};
use tunnel::pending_queue::PendingQueue;
use tunnel::pending_stream::PendingStream;
use tunnel::pool::{Connect, Fault, Pool};
use tunnel::proxy_header::ProxyHeader;
use tunnel::resumptions::Resumptions;
use tunnel::socket::{OnDrop, Socket};
use tunnel::socks::Dialect;
use tunnel::terms::Unlimited;
use tunnel::traffic::Traffic;
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::{LEASE_LEN, RefusedCode, Retention, ServerLimits, Target};
use wire_protocol::stream::{
    Channel, Incoming, Interrupted, RelayError, ResumableStream, RetentionBudget, RsaPool, accept_channel,
    connect_channel,
};

use super::server::Failure;

/// What the other side does with the next streams that it is asked for; those behind them it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Serves,
    Refuses(RefusedCode),
    Closes,
    Cuts,
    IsSilent,
    /// To a Resume: there is no such stream, and it has forgotten none for so many seconds.
    Remembers(u64),
}

/// A server and a target on a network in memory.
struct Scene {
    network: Network,
    psk: Arc<PreSharedKey>,
    server: SocketAddr,
    target: SocketAddr,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

/// Connects to the server of a scene.
struct Connector(Network, SocketAddr, Arc<PreSharedKey>);

impl Connect for Connector {
    type Socket = Socket;
    type Error = Failure;

    async fn connect(&self) -> Result<Channel<Socket>, Failure> {
        let Self(network, address, psk) = self;
        let socket = network.dial(&(*address).into()).await.map_err(|_| Failure(Fault::Passing))?;
        let config = ClientConfig::new(ExpectedServer::Psk(Arc::clone(psk)));
        connect_channel(socket, config).await.map_err(|_| Failure(Fault::Passing))
    }

    fn no_channel(&self) -> Failure {
        Failure(Fault::Permanent)
    }
}

/// Whatever is asked for is permitted, but port 1.
struct AnyTarget<'a>(&'a Network, &'a Target, Unlimited);

impl egress::Request for AnyTarget<'_> {
    type Terms = Unlimited;
    type Refusal = Refusal;

    fn terms(&self) -> &Unlimited {
        &self.2
    }

    fn network(&self) -> &Network {
        self.0
    }

    fn destination(&self) -> Result<Destination<'_>, Refusal> {
        match self.1 {
            Target::Tcp { host, port } => Ok(Destination::Host(host, *port)),
            _ => Err(RefusedCode::NotOffered.into()),
        }
    }

    fn asker(&self) -> &str {
        "somebody"
    }

    fn permit(&self, address: SocketAddr) -> Result<ProxyHeader, Refusal> {
        if address.port() == 1 { Err(RefusedCode::NotAllowed.into()) } else { Ok(ProxyHeader::None) }
    }

    fn note_reached(&self, address: Option<SocketAddr>, _: ProxyHeader) {
        assert!(address.is_some_and(|address| address.port() != 1));
    }

    fn header(&self, _: Option<SocketAddr>) -> Vec<u8> {
        Vec::new()
    }

    fn drops(&self, _: &str, _: u16) -> FlowDrops {
        DropCounter::default().flow("x".into())
    }

    fn refuse(&self, refusal: Refusal) -> RefusedCode {
        refusal.0
    }
}

#[derive(Debug)]
struct Refusal(RefusedCode);

impl From<RefusedCode> for Refusal {
    fn from(code: RefusedCode) -> Self {
        Self(code)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self(dial::refusal(&error))
    }
}

/// Serves what the other side opens on a channel, as `answers` say.
async fn answer(
    mut channel: Channel<Socket>,
    network: &Network,
    answers: &Mutex<VecDeque<Answer>>,
) -> io::Result<()> {
    loop {
        let target = match channel.next_incoming().await? {
            // It has no streams, so that none can be taken over.
            Incoming::Open(target) | Incoming::OpenResumable(target, _) => target,
            Incoming::Resume(_) => {
                let next = answers.lock().unwrap().pop_front();
                let remembers = match next {
                    Some(Answer::Remembers(seconds)) => Duration::from_secs(seconds),
                    _ => Duration::ZERO,
                };
                channel.answer_gone(remembers).await?;
                continue;
            }
            Incoming::SignOfLife => continue,
            Incoming::Close => return channel.close().await,
            Incoming::Park(_) => {
                return Err(io::ErrorKind::InvalidData.into());
            }
        };
        let next = answers.lock().unwrap().pop_front();
        channel = match next.unwrap_or(Answer::Serves) {
            Answer::Serves => {
                let terms = Unlimited {
                    udp_timeout: Duration::from_secs(60),
                    traffic: Traffic::default(),
                    resumptions: None,
                    ending: CancellationToken::new(),
                    monitor: None,
                };
                egress::serve(channel, &AnyTarget(network, &target, terms)).await?
            }
            Answer::Refuses(code) => channel.refuse_open(code).await?,
            Answer::Remembers(_) => unreachable!("nobody asks for a stream that there was"),
            Answer::Closes => return channel.close().await,
            Answer::Cuts => return Ok(()),
            Answer::IsSilent => {
                sleep(Duration::from_secs(3600)).await;
                return Ok(());
            }
        };
    }
}

fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

async fn listen(network: &Network, at: SocketAddr) -> Listener {
    network.listen_beside(&Address::from(at), OnDrop::Resets, &[]).await.unwrap()
}

impl Scene {
    /// With a target that sends back what it gets, once that has ended.
    async fn new(answers: &[Answer]) -> Self {
        let conditions = Conditions { max_delay: Duration::from_millis(5), capacity: 64 * 1024 };
        let network = Network::Memory(MemoryNetwork::new(1, conditions).host([10, 0, 0, 1].into()));
        let (server, target) = (address(2, 5000), address(3, 7));
        let psk = Arc::new(PreSharedKey::generate(&mut SysRng, "laptop", KeyId([7; 32])).unwrap());
        let echo = listen(&network, target).await;
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = echo.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut all = Vec::new();
                    socket.read_to_end(&mut all).await?;
                    socket.write_all(&all).await?;
                    socket.shutdown().await?;
                    socket.end_well();
                    io::Result::Ok(())
                });
            }
        });
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect()));
        Self { network, psk, server, target, answers }
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::new(ServerConfig {
            identity: None,
            psks: BTreeMap::from([(self.psk.id().to_owned(), Arc::clone(&self.psk))]),
            tickets: None,
            client_auth: ClientAuth::Optional,
            limits: ServerLimits { idle_timeout_seconds: 60 },
        })
    }

    /// A server that reaches targets for its clients, and a pool of channels to it.
    async fn ingress(&self) -> Arc<Ingress<Connector>> {
        self.ingress_with(Resumptions::none(), None).await
    }

    /// As [`Scene::ingress`], with streams that can be taken over, and a monitor of the network.
    async fn ingress_with(
        &self,
        resumptions: Resumptions,
        monitor: Option<Arc<NetworkMonitor>>,
    ) -> Arc<Ingress<Connector>> {
        let listener = listen(&self.network, self.server).await;
        let (config, network, answers) = (self.config(), self.network.clone(), Arc::clone(&self.answers));
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (config, network, answers) = (Arc::clone(&config), network.clone(), Arc::clone(&answers));
                tokio::spawn(async move {
                    let channel = accept_channel(socket, config, &RsaPool::new(1), |_| Ok(())).await?;
                    answer(channel, &network, &answers).await
                });
            }
        });
        let connector = Connector(self.network.clone(), self.server, Arc::clone(&self.psk));
        let pool = Pool::new(connector);
        let ingress = Ingress {
            pool: Arc::clone(&pool),
            streams: Counter::default(),
            traffic: Traffic::default(),
            wait: Duration::from_secs(30),
            udp_timeout: Duration::from_secs(60),
            resumptions,
            ending: CancellationToken::new(),
            monitor,
        };
        tokio::spawn(async move { pool.keep_up(|| {}).await });
        sleep(Duration::from_secs(1)).await;
        Arc::new(ingress)
    }

    /// The two ends of a connection that has come in here.
    async fn connection(&self) -> (Socket, Socket) {
        let here = address(1, 0);
        let listener = listen(&self.network, here).await;
        let address = listener.address().unwrap();
        let (dialed, accepted) = tokio::join!(self.network.dial(&address), listener.accept());
        (dialed.unwrap(), accepted.unwrap().0)
    }

    /// A channel that the client has parked, from the client's end and the server's, which has come by this listener.
    async fn parked(&self, listener: &Listener) -> (Channel<Socket>, Channel<Socket>) {
        let connector = Connector(self.network.clone(), self.server, Arc::clone(&self.psk));
        let admission = RsaPool::new(1);
        let accepted = async {
            let (socket, _) = listener.accept().await.unwrap();
            accept_channel(socket, self.config(), &admission, |_| Ok(())).await.unwrap()
        };
        let (dialed, mut accepted) = tokio::join!(connector.connect(), accepted);
        let mut channel = dialed.unwrap();
        channel.park([7; LEASE_LEN]).await.unwrap();
        assert_eq!(accepted.next_incoming().await.unwrap(), Incoming::Park([7; LEASE_LEN]));
        (channel, accepted)
    }

    fn target(&self, port: u16) -> Arc<Target> {
        Arc::new(Target::Tcp { host: self.target.ip().to_string(), port })
    }
}

/// Asks, and reads the answer to its end.
async fn exchange(mut socket: Socket, question: &[u8]) -> io::Result<Vec<u8>> {
    socket.write_all(question).await?;
    socket.shutdown().await?;
    let mut all = Vec::new();
    socket.read_to_end(&mut all).await?;
    Ok(all)
}

type Carried = JoinHandle<Result<(), IngressError<Failure>>>;

fn carry(ingress: &Arc<Ingress<Connector>>, pending: PendingStream) -> Carried {
    let ingress = Arc::clone(ingress);
    tokio::spawn(async move { ingress.carry(pending).await })
}

fn refused_code(carried: Result<(), IngressError<Failure>>) -> Option<RefusedCode> {
    let Err(IngressError::Stream(RelayError::Channel(error))) = carried else { return None };
    match wire_protocol::stream::error_in(&error) {
        Some(wire_protocol::Error::Refused(code)) => Some(*code),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_carried_to_its_target_and_its_channel_comes_back() {
    let scene = Scene::new(&[]).await;
    let ingress = scene.ingress().await;
    for number in 0..20 {
        let (client, accepted) = scene.connection().await;
        let carried = carry(&ingress, PendingStream::connection(accepted, scene.target(7)));
        let question = vec![number; 1000 * usize::from(number)];
        assert_eq!(exchange(client, &question).await.unwrap(), question);
        carried.await.unwrap().unwrap();
    }
    assert_eq!((ingress.streams.count(), ingress.pool.idle()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn what_was_said_early_arrives_once_however_often_its_stream_is_opened() {
    let scene = Scene::new(&[Answer::Refuses(RefusedCode::Stopping); 3]).await;
    let ingress = scene.ingress().await;
    let (client, accepted) = scene.connection().await;
    let carried = carry(&ingress, PendingStream::connection(accepted, scene.target(7)));
    assert_eq!(exchange(client, b"only once").await.unwrap(), b"only once");
    carried.await.unwrap().unwrap();
    assert!(scene.answers.lock().unwrap().is_empty());
}

/// Nobody knows whether it has arrived.
#[tokio::test(start_paused = true)]
async fn what_was_said_on_a_channel_that_is_cut_is_not_said_again() {
    let scene = Scene::new(&[Answer::Cuts]).await;
    let ingress = scene.ingress().await;
    let (mut client, accepted) = scene.connection().await;
    client.write_all(b"once at most").await.unwrap();
    sleep(Duration::from_millis(20)).await;
    let carried = carry(&ingress, PendingStream::connection(accepted, scene.target(7)));
    assert!(matches!(carried.await.unwrap(), Err(IngressError::Stream(RelayError::Channel(_)))));
    assert_eq!(client.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// For how long the server says that it remembers changes nothing: another one with its key may have had the stream.
#[tokio::test(start_paused = true)]
async fn what_was_said_early_is_not_said_again_whatever_the_server_remembers() {
    for remembers in [0, 3600] {
        let scene = Scene::new(&[Answer::Cuts, Answer::Remembers(remembers)]).await;
        let resumptions = Resumptions::new(Retention::default(), RetentionBudget::new(1 << 20));
        let ingress = scene.ingress_with(resumptions, None).await;
        let (mut client, accepted) = scene.connection().await;
        client.write_all(b"once at most").await.unwrap();
        sleep(Duration::from_millis(20)).await;
        let carried = carry(&ingress, PendingStream::connection(accepted, scene.target(7)));
        assert!(matches!(carried.await.unwrap(), Err(IngressError::Stream(RelayError::Channel(_)))));
        assert_eq!(client.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(scene.answers.lock().unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_gives_the_channel_back_and_resets_the_connection() {
    let scene = Scene::new(&[]).await;
    let ingress = scene.ingress().await;
    for (port, code) in [(1, RefusedCode::NotAllowed), (9, RefusedCode::TargetRefused)] {
        let (mut client, accepted) = scene.connection().await;
        let carried = carry(&ingress, PendingStream::connection(accepted, scene.target(port)));
        assert_eq!(client.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(refused_code(carried.await.unwrap()), Some(code));
    }
    assert!(ingress.pool.idle() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_socks_client_is_told_what_became_of_its_connection() {
    for (answers, port, reply) in
        [(&[][..], 7, 0), (&[Answer::Cuts, Answer::Closes], 7, 0), (&[], 1, 2), (&[Answer::IsSilent], 7, 6)]
    {
        let scene = Scene::new(answers).await;
        let ingress = scene.ingress().await;
        let (mut client, socket) = scene.connection().await;
        let (dialect, target) = (Dialect::Socks5, scene.target(port));
        let carried = carry(&ingress, PendingStream::Socks { socket, dialect, target });
        let mut head = [0; 10];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(head[..2], [5, reply], "{answers:?}");
        if reply == 0 {
            assert_eq!(exchange(client, b"hello").await.unwrap(), b"hello");
            carried.await.unwrap().unwrap();
        } else {
            carried.await.unwrap().unwrap_err();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_opening_leaves_a_channel_on_which_this_machine_has_slept() {
    let budget = RetentionBudget::new(1 << 20);
    for resumptions in [Resumptions::none(), Resumptions::new(Retention::default(), budget)] {
        let scene = Scene::new(&[Answer::IsSilent]).await;
        let sleeper = Sleeper::default();
        let monitor = NetworkMonitor::start_with(sleeper.clone(), sleeper.clone());
        let ingress = scene.ingress_with(resumptions, Some(Arc::new(monitor))).await;
        let (mut client, socket) = scene.connection().await;
        let begun = Instant::now();
        let (dialect, target) = (Dialect::Socks5, scene.target(7));
        let carried = carry(&ingress, PendingStream::Socks { socket, dialect, target });
        sleep(Duration::from_secs(2)).await;
        *sleeper.suspended.lock().unwrap() = Duration::from_secs(3600);
        let mut head = [0; 10];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(head[..2], [5, 0]);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(exchange(client, b"hello").await.unwrap(), b"hello");
        carried.await.unwrap().unwrap();
    }
}

/// A machine whose network never changes, and which has slept as long as it is told.
#[derive(Debug, Clone, Default)]
struct Sleeper {
    suspended: Arc<Mutex<Duration>>,
}

impl NetworkSource for Sleeper {
    async fn notified(&mut self) {
        std::future::pending::<()>().await;
    }

    fn is_polled(&self) -> bool {
        false
    }

    fn state(&mut self) -> io::Result<NetworkState> {
        Ok(NetworkState::default())
    }
}

impl SuspendClock for Sleeper {
    fn suspended(&self) -> Duration {
        *self.suspended.lock().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_waits_for_a_channel_no_longer_than_it_may() {
    let scene = Scene::new(&[Answer::IsSilent]).await;
    let ingress = scene.ingress().await;
    let (_client, accepted) = scene.connection().await;
    let (ingress, target) = (&ingress, scene.target(7));
    let carried = ingress.carry(PendingStream::connection(accepted, target)).await;
    assert!(matches!(carried, Err(IngressError::NoChannel(Failure(Fault::Permanent)))));

    let nowhere = Connector(scene.network.clone(), address(9, 9), Arc::clone(&scene.psk));
    let (wait, udp_timeout) = (Duration::from_secs(7), Duration::from_secs(60));
    let (streams, traffic, resumptions) = (Counter::default(), Traffic::default(), Resumptions::none());
    let (pool, ending) = (Pool::new(nowhere), CancellationToken::new());
    let monitor = None;
    let ingress = Ingress { pool, streams, traffic, wait, udp_timeout, resumptions, ending, monitor };
    let (_client, accepted) = scene.connection().await;
    let before = Instant::now();
    ingress.carry(PendingStream::connection(accepted, scene.target(7))).await.unwrap_err();
    assert_eq!(before.elapsed(), wait);
}

/// The roles flipped: the server has accepted, and the client reaches the target.
#[tokio::test(start_paused = true)]
async fn what_comes_in_by_a_lease_is_carried_by_the_next_parked_channel_where_one_fails() {
    let scene = Scene::new(&[Answer::Closes, Answer::Cuts]).await;
    let queue = Arc::new(PendingQueue::new(8, Arc::new(Semaphore::new(8))));
    let (ended, stopping) = (CancellationToken::new(), CancellationToken::new());
    let listener = listen(&scene.network, scene.server).await;
    let streams = Counter::default();
    let mut parked = Vec::new();
    for _ in 0..3 {
        let (channel, accepted) = scene.parked(&listener).await;
        let (queue, ended, stopping, streams) =
            (Arc::clone(&queue), ended.clone(), stopping.clone(), streams.clone());
        parked.push(tokio::spawn(async move {
            let (queue, ended, stopping, streams) = (&queue, &ended, &stopping, &streams);
            let idle_timeout = Duration::from_secs(60);
            let terms = Unlimited {
                udp_timeout: Duration::from_secs(60),
                traffic: Traffic::default(),
                resumptions: None,
                ending: CancellationToken::new(),
                monitor: None,
            };
            let parked = Parked { queue, ended, stopping, idle_timeout, streams, observer: &(), holder: &() };
            parked.serve(accepted, &terms).await
        }));
        let (network, answers) = (scene.network.clone(), Arc::clone(&scene.answers));
        tokio::spawn(async move { answer(channel, &network, &answers).await });
    }
    for _ in 0..3 {
        let (client, accepted) = scene.connection().await;
        queue.add(PendingStream::connection(accepted, scene.target(7)), None);
        // Not at once, so that a channel that is cut has carried nothing of it.
        sleep(Duration::from_millis(200)).await;
        let exchanged = timeout(Duration::from_secs(10), exchange(client, b"hello")).await;
        assert_eq!(exchanged.unwrap().unwrap(), b"hello");
    }
    assert_eq!((streams.count(), scene.answers.lock().unwrap().len()), (0, 0));
    ended.cancel();
    let mut served = Vec::new();
    for parked in parked {
        served.push(parked.await.unwrap().is_ok());
    }
    served.sort_unstable();
    assert_eq!(served, [false, false, true]);
}

/// Takes note of what it is given.
#[derive(Debug, Default)]
struct Holder {
    is_asked_for: bool,
    held: AtomicUsize,
    forgotten: AtomicUsize,
}

impl StreamHolder for Holder {
    async fn carry(&self, _: ResumableStream<Socket>, _: Socket) -> io::Result<Channel<Socket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn hold(&self, _: Box<Interrupted<Socket>>) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    fn is_asked_for(&self) -> bool {
        self.is_asked_for
    }

    fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::Relaxed);
    }
}

/// The client may have the stream. Where nothing was said on it, another one is as good, unless the client asks for this one, or no
/// other channel takes it any more.
#[tokio::test(start_paused = true)]
async fn what_was_not_answered_on_a_parked_channel_waits_for_the_client_or_for_another_channel() {
    for (said, is_asked_for, has_ended, is_held) in [
        (&b""[..], false, false, false),
        (b"", true, false, true),
        (b"", false, true, true),
        (b"hello", false, false, true),
    ] {
        let scene = Scene::new(&[]).await;
        let queue = PendingQueue::new(8, Arc::new(Semaphore::new(8)));
        let (ended, stopping, streams) =
            (CancellationToken::new(), CancellationToken::new(), Counter::default());
        let listener = listen(&scene.network, scene.server).await;
        let (mut channel, accepted) = scene.parked(&listener).await;
        let (mut visitor, socket) = scene.connection().await;
        visitor.write_all(said).await.unwrap();
        queue.add(PendingStream::connection(socket, scene.target(7)), None);
        let terms = Unlimited {
            udp_timeout: Duration::from_secs(60),
            traffic: Traffic::default(),
            resumptions: Some(Resumptions::new(Retention::default(), RetentionBudget::new(1 << 20))),
            ending: CancellationToken::new(),
            monitor: None,
        };
        let holder = Holder { is_asked_for, ..Holder::default() };
        let (queue, idle_timeout) = (&queue, Duration::from_secs(60));
        let parked = Parked {
            queue,
            ended: &ended,
            stopping: &stopping,
            idle_timeout,
            streams: &streams,
            observer: &(),
            holder: &holder,
        };
        let client = async {
            assert!(matches!(channel.next_incoming().await.unwrap(), Incoming::OpenResumable(..)));
            // What the visitor has said is there by then.
            sleep(Duration::from_millis(200)).await;
            if has_ended {
                ended.cancel();
            }
            drop(channel);
        };
        let (served, ()) = tokio::join!(parked.serve(accepted, &terms), client);
        served.unwrap_err();
        let case = format!("{said:?}, asked for: {is_asked_for}, ended: {has_ended}");
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) == 1;
        assert_eq!((count(&holder.held), count(&holder.forgotten)), (is_held, !is_held), "{case}");
        let waits = timeout(Duration::from_secs(1), queue.take()).await.is_ok();
        assert_eq!(waits, !is_held, "{case}");
    }
}
