//! Resumable streams between two relays whose connection is cut after each byte: nothing is lost, repeated or out of order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wire_protocol::message::{Retention, Target};
use wire_protocol::stream::{
    Channel, Incoming, Interrupted, OpenedStream, ResumableStream, ResumeError, ResumeVerifier,
    RetentionBudget, Stop, Suspended, TunnelEnd, tunnel_resumable,
};

use super::line::pattern;
use super::tunnel::{channel, tcp_pair};

fn target() -> Target {
    Target::Service { name: "target".into() }
}

/// A connection through somebody who lets so many bytes pass, and then cuts it.
struct Wire {
    left: [Arc<AtomicI64>; 2],
    cut: Arc<Notify>,
}

impl Wire {
    /// The two ends of a new one that lets everything pass.
    async fn new() -> (TcpStream, TcpStream, Self) {
        let (client, near) = tcp_pair().await;
        let (far, server) = tcp_pair().await;
        for socket in [&client, &near, &far, &server] {
            socket.set_nodelay(true).unwrap();
        }
        let left = [(); 2].map(|()| Arc::new(AtomicI64::new(i64::MAX)));
        let cut = Arc::new(Notify::new());
        let (ways, cutting) = (left.clone(), Arc::clone(&cut));
        tokio::spawn(async move {
            // Bytes that are under way are lost with the connection.
            for socket in [&near, &far] {
                SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
            }
            let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
                (near.into_split(), far.into_split());
            tokio::select! {
                () = pass(&mut near_read, &mut far_write, &ways[0]) => {}
                () = pass(&mut far_read, &mut near_write, &ways[1]) => {}
                () = cutting.notified() => {}
            }
        });
        (client, server, Self { left, cut })
    }

    /// Cuts the connection after so many more bytes in either direction.
    fn cut_after(&self, bytes: i64) {
        for way in &self.left {
            way.store(bytes, Ordering::SeqCst);
        }
        if bytes == 0 {
            self.cut.notify_one();
        }
    }
}

async fn pass(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    left: &AtomicI64,
) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let left = left.fetch_sub(read.try_into().unwrap(), Ordering::SeqCst);
        let passes = read.min(left.max(0).try_into().unwrap_or(usize::MAX));
        if to.write_all(&buffer[..passes]).await.is_err() || passes < read {
            return;
        }
    }
}

async fn new_channels() -> (Channel<TcpStream>, Channel<TcpStream>, Wire) {
    let (here, there, wire) = Wire::new().await;
    let (client, server) = channel(here, there).await;
    (client, server, wire)
}

/// Opens a resumable stream and answers it.
async fn open(
    client: Channel<TcpStream>,
    mut server: Channel<TcpStream>,
    retention: Retention,
    budgets: &[RetentionBudget; 2],
) -> (ResumableStream<TcpStream>, ResumableStream<TcpStream>) {
    let opening = client.begin_open_resumable(&target(), retention, budgets[0].reserve().unwrap()).unwrap();
    let (opened, answered) = tokio::join!(opening.confirm_stream(), async {
        let Incoming::OpenResumable(opened, asked) = server.next_incoming().await.unwrap() else {
            panic!("it was not asked for a resumable stream")
        };
        assert_eq!((opened, asked), (target(), retention));
        let mut stream = server.begin_answer_resumable(asked, budgets[1].reserve().unwrap()).unwrap();
        stream.begin_ping().await.unwrap();
        stream
    });
    let OpenedStream::Resumable(opened) = opened.unwrap() else { panic!("it is not resumable") };
    assert_eq!(opened.id(), answered.id());
    (opened, answered)
}

/// How a side has come out of one channel.
enum Side {
    Over(Box<Suspended>),
    Interrupted(Box<Interrupted<TcpStream>>),
}

async fn relay(stream: ResumableStream<TcpStream>, plain: TcpStream) -> Side {
    match tunnel_resumable(stream, plain, (), std::future::pending::<Stop>()).await.unwrap() {
        TunnelEnd::Over { mut channel, stream } => {
            // Where it is cut now, the server keeps the stream for nothing.
            channel.settle().await.ok();
            Side::Over(stream)
        }
        TunnelEnd::Interrupted(interrupted) => Side::Interrupted(interrupted),
    }
}

/// Both plain connections of a stream, and what comes out of them.
struct Applications {
    at_client: TcpStream,
    at_server: TcpStream,
    ends: JoinHandle<io::Result<(Vec<u8>, Vec<u8>)>>,
}

/// The order in which the target goes about its two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AtOnce,
    /// It reads nothing before it has written all.
    WritesFirst,
}

impl Applications {
    async fn new(up: Vec<u8>, down: Vec<u8>, order: Order) -> Self {
        let (mut application, at_client) = tcp_pair().await;
        let (at_server, mut target) = tcp_pair().await;
        let ends = tokio::spawn(async move {
            let (mut read, mut write) = application.split();
            let (mut target_read, mut target_write) = target.split();
            let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
            tokio::try_join!(
                async {
                    write.write_all(&up).await?;
                    write.shutdown().await
                },
                async {
                    let writing = async {
                        target_write.write_all(&down).await?;
                        target_write.shutdown().await
                    };
                    let reading = target_read.read_to_end(&mut got_up);
                    match order {
                        Order::AtOnce => tokio::try_join!(writing, reading).map(drop),
                        Order::WritesFirst => {
                            writing.await?;
                            reading.await.map(drop)
                        }
                    }
                },
                read.read_to_end(&mut got_down),
            )?;
            Ok((got_up, got_down))
        });
        Self { at_client, at_server, ends }
    }
}

/// Carries one stream over as many channels as `cuts` says that are cut, after so many bytes each, and one that is not. Gives how
/// often it was taken over.
async fn carry(up: usize, down: usize, cuts: impl IntoIterator<Item = i64>, retention: Retention) -> usize {
    carry_in(Order::AtOnce, up, down, cuts, retention).await
}

async fn carry_in(
    order: Order,
    up: usize,
    down: usize,
    cuts: impl IntoIterator<Item = i64>,
    retention: Retention,
) -> usize {
    let budgets = [(); 2].map(|()| RetentionBudget::new(1 << 30));
    let (sent_up, sent_down) = (pattern(up), pattern(down));
    let Applications { at_client, at_server, ends } =
        Applications::new(sent_up.clone(), sent_down.clone(), order).await;
    let mut cuts = cuts.into_iter();
    let (client, server, mut wire) = new_channels().await;
    let (mut client, mut server) = open(client, server, retention, &budgets).await;
    let (mut at_client, mut at_server) = (at_client, at_server);
    let mut taken_over = 0;
    loop {
        if let Some(bytes) = cuts.next() {
            wire.cut_after(bytes);
        }
        let ended = timeout(Duration::from_secs(60), async {
            tokio::join!(tokio::spawn(relay(client, at_client)), tokio::spawn(relay(server, at_server)))
        });
        let (at_client_end, at_server_end) = ended.await.expect("the stream stands still");
        let (client_side, server_side) = (at_client_end.unwrap(), at_server_end.unwrap());
        let interrupted = match (client_side, server_side) {
            (Side::Over(..), Side::Over(..)) => break,
            // The last word of the client was lost: it is content, and the server has nothing left to lose.
            (Side::Over(..), Side::Interrupted(server)) => {
                assert!(server.stream.has_taken_all());
                break;
            }
            (Side::Interrupted(interrupted), server) => (interrupted, server),
        };
        taken_over += 1;
        let (interrupted, server_side) = interrupted;
        let Interrupted { stream, plain, .. } = *interrupted;
        at_client = plain;
        let (new_client, mut new_server, new_wire) = new_channels().await;
        wire = new_wire;
        let resuming = tokio::spawn(new_client.resume(stream, Duration::from_secs(30)));
        let Incoming::Resume(request) = new_server.next_incoming().await.unwrap() else {
            panic!("nothing is taken over")
        };
        match server_side {
            Side::Interrupted(interrupted) => {
                let Interrupted { stream, plain, .. } = *interrupted;
                at_server = plain;
                assert_eq!(request.id(), stream.id());
                server = new_server.answer_resume(stream, &request).await.unwrap();
                client = resuming.await.unwrap().unwrap();
            }
            Side::Over(stream) => {
                let mut tombstone = stream.into_tombstone();
                new_server.answer_resume_over(&mut tombstone, &request).await.unwrap();
                let client = resuming.await.unwrap().unwrap();
                let Side::Over(..) = relay(client, at_client).await else { panic!("it is over") };
                break;
            }
        }
    }
    let (got_up, got_down) = timeout(Duration::from_secs(60), ends).await.unwrap().unwrap().unwrap();
    assert!(got_up == sent_up, "{} bytes of {up} came up", got_up.len());
    assert!(got_down == sent_down, "{} bytes of {down} came down", got_down.len());
    assert_eq!(budgets.map(|budget| budget.used()), [0; 2], "something is still kept");
    taken_over
}

fn small() -> Retention {
    Retention { window: 64 << 10, hold_seconds: 60 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_on_one_channel_ends_as_any_other() {
    for (up, down) in [(0, 0), (1, 0), (0, 1), (16_384, 16_385), (3_000_017, 2_000_003)] {
        assert_eq!(carry(up, down, [], Retention::default()).await, 0, "{up} up, {down} down");
        assert_eq!(carry(up, down, [], small()).await, 0, "{up} up, {down} down, a small window");
    }
}

/// Each place between two bytes of what travels is one at which the connection may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_a_cut_after_each_byte() {
    let mut taken_over = 0;
    for (up, down) in [(40, 30), (0, 50), (50, 0)] {
        for cut in 0..260 {
            taken_over += carry(up, down, [cut], small()).await;
        }
    }
    assert!(taken_over > 300, "{taken_over}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_survives_many_cuts_in_both_directions() {
    let mut seed = 0x5eed_u64;
    let mut random = move |below: i64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(seed >> 33).unwrap() % below
    };
    for (retention, size) in [(small(), 2_000_003), (Retention::default(), 20_000_003)] {
        let cuts: Vec<i64> = (0..20).map(|_| random(i64::try_from(size / 8).unwrap())).collect();
        let taken_over = carry(size, size / 2, cuts.clone(), retention).await;
        assert!(taken_over >= 10, "{taken_over} of {cuts:?}");
    }
}

/// What the target has said is acknowledged behind data for which it has no room before it has said all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_says_all_before_it_reads_is_not_held_up() {
    let (up, down) = (12_000_000, 32_000_000);
    for retention in [small(), Retention::default()] {
        assert_eq!(carry_in(Order::WritesFirst, up, down, [], retention).await, 0);
        let cuts = [100_000, 3_000_000, 5_000_000];
        assert!(carry_in(Order::WritesFirst, up, down, cuts, retention).await > 1);
    }
}

/// What a side reads ahead counts on the memory for its streams, beside what it keeps, and goes back once it is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_ahead_counts_on_the_budget() {
    const BYTES: usize = 16_000_000;
    // Memory is taken from a budget in such pieces: one is enough for all that is kept in a small window.
    const PIECE: u64 = 256 << 10;
    let budgets = [(); 2].map(|()| RetentionBudget::new(1 << 30));
    let (client, server, _wire) = new_channels().await;
    let (opened, answered) = open(client, server, small(), &budgets).await;
    let ((application, at_client), (at_server, target)) = (tcp_pair().await, tcp_pair().await);
    let relays = [tokio::spawn(relay(opened, at_client)), tokio::spawn(relay(answered, at_server))];
    let reads = Arc::new(Semaphore::new(0));
    // Neither end reads anything before it is told to.
    let ends = [application, target].map(|socket| {
        let reads = Arc::clone(&reads);
        tokio::spawn(async move {
            let (mut read, mut write) = socket.into_split();
            let writing = tokio::spawn(async move {
                write.write_all(&pattern(BYTES)).await?;
                write.shutdown().await
            });
            reads.acquire().await.unwrap().forget();
            let mut got = Vec::new();
            read.read_to_end(&mut got).await?;
            writing.await??;
            io::Result::Ok(got)
        })
    });
    for budget in &budgets {
        let counted = async {
            while budget.used() < 2 * PIECE {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), counted).await.expect("what is read ahead is not counted");
    }
    reads.add_permits(2);
    for end in ends {
        let got = timeout(Duration::from_secs(60), end).await.unwrap().unwrap().unwrap();
        assert!(got == pattern(BYTES), "{} bytes came, and others", got.len());
    }
    for relay in relays {
        assert!(matches!(relay.await.unwrap(), Side::Over(_)));
    }
    assert_eq!(budgets.map(|budget| budget.used()), [0; 2], "something is still kept");
}

/// A client's last Acknowledge costs no record of its own where something else is said on the channel: another stream is opened, or
/// it is closed.
#[tokio::test]
async fn the_last_acknowledge_goes_along_with_what_is_said_next() {
    let budgets = [(); 2].map(|()| RetentionBudget::new(1 << 30));
    let (mut client, mut server, _wire) = new_channels().await;
    for last in [false, true] {
        let (opened, answered) = open(client, server, Retention::default(), &budgets).await;
        let Applications { at_client, at_server, ends } =
            Applications::new(pattern(10), pattern(2000), Order::AtOnce).await;
        let serving = tokio::spawn(tunnel_resumable(answered, at_server, (), std::future::pending::<Stop>()));
        let stop = std::future::pending::<Stop>();
        let TunnelEnd::Over { channel, .. } = tunnel_resumable(opened, at_client, (), stop).await.unwrap()
        else {
            panic!("the channel was lost")
        };
        ends.await.unwrap().unwrap();
        assert!(!channel.is_settled() && !serving.is_finished());
        assert!(budgets[1].used() > 2000, "the server keeps what is not acknowledged");
        if last {
            let (closed, served) = tokio::join!(channel.close(), async {
                let TunnelEnd::Over { mut channel, .. } = serving.await.unwrap().unwrap() else {
                    panic!("the channel was lost")
                };
                assert!(channel.is_settled());
                assert!(channel.next_open().await?.is_none());
                channel.close().await
            });
            closed.unwrap();
            served.unwrap();
            break;
        }
        let opening = channel.begin_open(&target()).unwrap();
        let (opened, answered) = tokio::join!(opening.confirm(), async {
            let TunnelEnd::Over { mut channel, .. } = serving.await.unwrap().unwrap() else {
                panic!("the channel was lost")
            };
            assert_eq!(budgets[1].used(), 0, "nothing is kept any more");
            assert_eq!(channel.next_open().await.unwrap(), Some(target()));
            channel.answer_open().await.unwrap()
        });
        let (ended, also_ended) = tokio::join!(opened.unwrap().finish(), answered.finish());
        (client, server) = (ended.unwrap(), also_ended.unwrap());
    }
}

/// A stream that its client takes over while the server takes the old channel for alive.
#[tokio::test]
async fn a_stream_in_use_is_let_go_for_its_client_alone() {
    let budgets = [(); 2].map(|()| RetentionBudget::new(1 << 30));
    let (client, server, wire) = new_channels().await;
    let (client, server) = open(client, server, small(), &budgets).await;
    let mut verifier: ResumeVerifier = server.verifier();
    wire.cut_after(0);
    let suspended = Box::new(client.suspend());

    // Another channel of the client, with another T3: what was said for one counts for nothing on another.
    let (first_client, mut first, _wire) = new_channels().await;
    let resuming = tokio::spawn(first_client.resume(suspended, Duration::from_secs(30)));
    let Incoming::Resume(request) = first.next_incoming().await.unwrap() else { panic!() };
    let (_, other, _other_wire) = new_channels().await;
    assert!(verifier.permits(&request, first.exporter()));
    assert!(!verifier.permits(&request, other.exporter()), "relayed to another channel");
    assert!(!ResumeVerifier::unknown().unwrap().permits(&request, first.exporter()));
    verifier.note(&request);
    assert!(!verifier.permits(&request, first.exporter()), "the generation was used");
    first.answer_gone(Duration::ZERO).await.unwrap();
    match resuming.await.unwrap() {
        Err(ResumeError::Gone { channel, .. }) => {
            // It is idle again on both sides.
            let (closed, incoming) = tokio::join!(channel.close(), async {
                let incoming = first.next_incoming().await;
                first.close().await.unwrap();
                incoming
            });
            closed.unwrap();
            assert_eq!(incoming.unwrap(), Incoming::Close, "the channel is idle again");
        }
        other => panic!("{other:?}"),
    }
    drop(server);
}
