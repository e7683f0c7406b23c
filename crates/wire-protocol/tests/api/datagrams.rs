//! The relay of datagrams: what is kept, what is dropped, and every way that it ends. Time is virtual.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::UdpSocket;
use tokio::time::Instant;
use wire_protocol::Error;
use wire_protocol::message::{RefusedCode, ResetCode, Target};
use wire_protocol::stream::{
    ANSWERED_IDLE, Channel, Connection, DatagramsEnd, HEARTBEAT, Incoming, OpeningStream, RsaPool, SILENCE,
    SecureStream, Streaming, accept_channel, connect_channel, connect_open, error_in, relay_datagrams,
};

use super::line::pattern;
use super::pair::{knows_psk, opening, server_config};
use super::plug::local;

type Idle = Channel<DuplexStream>;
type Opening = OpeningStream<DuplexStream>;
type Open = SecureStream<DuplexStream>;

const IDLE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

fn udp() -> Target {
    Target::Udp { host: "ns.example".into(), port: 53 }
}

async fn idle_ends() -> (Idle, Idle) {
    let (there, here) = duplex(1 << 16);
    let (pool, config) = (RsaPool::new(1), Arc::new(server_config()));
    let (client, server) =
        tokio::join!(connect_channel(here, knows_psk()), accept_channel(there, config, &pool, |_| Ok(())));
    (client.unwrap(), server.unwrap())
}

/// A channel on which the client has opened a flow of datagrams with its handshake, and the server has seen it.
async fn opening_ends(buffer: usize) -> (Opening, Idle) {
    let (there, here) = duplex(buffer);
    let pool = RsaPool::new(1);
    let (client, server) = tokio::join!(connect_open(here, opening(knows_psk(), udp())), async {
        let config = Arc::new(server_config());
        let mut server = accept_channel(there, config, &pool, |_| Ok(())).await?;
        assert_eq!(server.next_open().await?, Some(udp()));
        io::Result::Ok(server)
    });
    (client.unwrap(), server.unwrap())
}

async fn open_ends(buffer: usize) -> (Opening, Open) {
    let (client, server) = opening_ends(buffer).await;
    (client, server.answer_open().await.unwrap())
}

fn end(sent: u64, received: u64) -> DatagramsEnd {
    DatagramsEnd { sent, received, too_long: 0, not_taken: 0 }
}

#[track_caller]
fn check_error<T>(result: io::Result<T>, kind: io::ErrorKind, inside: Option<Error>) {
    let error = result.err().expect("it went well");
    assert_eq!((error.kind(), error_in(&error)), (kind, inside.as_ref()), "{error}");
}

/// A channel is idle and good for another stream when this goes well.
async fn check_reuse<P: Streaming, Q: Streaming>(
    client: Connection<DuplexStream, P>,
    server: Connection<DuplexStream, Q>,
) -> (Idle, Idle) {
    check_idle(client.finish().await.unwrap(), server.finish().await.unwrap()).await
}

/// As [`check_reuse`].
async fn check_idle(client: Idle, mut server: Idle) -> (Idle, Idle) {
    let (sent, received) = tokio::join!(
        async {
            let mut stream = client.open(&Target::Pipe).await?;
            stream.write_all(b"and now bytes").await?;
            stream.finish().await
        },
        async {
            assert_eq!(server.next_open().await?, Some(Target::Pipe));
            let mut stream = server.answer_open().await?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await?;
            io::Result::Ok((received, stream.finish().await?))
        }
    );
    let (received, server) = received.unwrap();
    assert_eq!(received, b"and now bytes");
    (sent.unwrap(), server)
}

#[tokio::test(start_paused = true)]
async fn every_datagram_stays_one_and_the_channel_is_good_for_more() {
    let (mut client, mut server) = idle_ends().await;
    for idle in [IDLE, HEARTBEAT / 10] {
        let ((mut here, mut near), (mut there, mut far)) = (local(), local());
        let lens = [0, 1, 1200, 0, 0, 16384, 16383, 7, 16385, 32741, 65507];
        for len in lens {
            near.put(pattern(len));
            far.put(pattern(len));
        }
        near.put(pattern(65508));
        near.put(pattern(65527));
        near.put(pattern(3));
        let mut client_stream = client.begin_open(&udp()).unwrap();
        client_stream.flush().await.unwrap();
        assert_eq!(server.next_open().await.unwrap(), Some(udp()));
        let mut server_stream = server.answer_open().await.unwrap();
        let start = Instant::now();
        let (client_end, server_end) = tokio::join!(
            relay_datagrams(&mut client_stream, &mut here, idle),
            relay_datagrams(&mut server_stream, &mut there, LONG)
        );
        assert_eq!(client_end.unwrap(), DatagramsEnd { too_long: 2, ..end(12, 11) }, "idle {idle:?}");
        assert_eq!(here.dropped, ["65508 bytes: TooLong", "65527 bytes: TooLong"]);
        assert_eq!(server_end.unwrap(), end(11, 12));
        assert_eq!(far.taken(), [&lens[..], &[3]].concat());
        assert_eq!(near.taken(), lens);
        assert!((idle..idle + Duration::from_secs(1)).contains(&start.elapsed()));

        (client, server) = check_reuse(client_stream, server_stream).await;
    }
}

/// A resolver's client asks once and is gone; whoever goes on is not cut short.
#[tokio::test(start_paused = true)]
async fn a_flow_whose_questions_have_been_answered_ends_early() {
    // What the client's side says (`>`) and what it is answered (`<`), one second after the other.
    for (script, expected) in [
        ("><", ANSWERED_IDLE),
        (">><<", ANSWERED_IDLE),
        (">><<<", ANSWERED_IDLE),
        (">", IDLE),
        (">><", IDLE),
        ("><><", IDLE),
        ("><>", IDLE),
        ("<", IDLE),
    ] {
        for short in [false, true] {
            let (mut client, mut server) = open_ends(1 << 16).await;
            let ((mut here, near), (mut there, far)) = (local(), local());
            let idle = if short { ANSWERED_IDLE / 2 } else { IDLE };
            let (client_end, server_end, last) = tokio::join!(
                relay_datagrams(&mut client, &mut here, idle),
                relay_datagrams(&mut server, &mut there, LONG),
                async {
                    for side in script.bytes() {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        if side == b'>' { near.put(pattern(1)) } else { far.put(pattern(1)) }
                    }
                    Instant::now()
                }
            );
            let (client_end, server_end) = (client_end.unwrap(), server_end.unwrap());
            assert_eq!((client_end.sent, client_end.received), (server_end.received, server_end.sent));
            let lasted = last.elapsed();
            let expected = expected.min(idle);
            assert!((expected..expected + Duration::from_secs(1)).contains(&lasted), "{script}: {lasted:?}");
            check_reuse(client, server).await;
        }
    }
}

/// What became of one datagram is told to whoever sends the next.
#[tokio::test]
async fn the_datagram_after_a_refused_one_is_not_lost() {
    let (mut client, mut server) = open_ends(1 << 16).await;
    let (mut here, near) = local();
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = far.local_addr().unwrap();
    drop(far);
    let mut there = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    there.connect(address).await.unwrap();
    // Nobody is there.
    there.send(b"refused").await.unwrap();
    let far = UdpSocket::bind(address).await.unwrap();
    near.put(pattern(1200));
    let (client_end, server_end) = tokio::join!(
        relay_datagrams(&mut client, &mut here, Duration::from_millis(50)),
        relay_datagrams(&mut server, &mut there, LONG)
    );
    assert_eq!((client_end.unwrap(), server_end.unwrap()), (end(1, 0), end(0, 1)));
    let mut buffer = [0; 2000];
    assert_eq!(far.recv(&mut buffer).await.unwrap(), 1200);
}

/// A datagram of several records that does not go on is no sign of life.
#[tokio::test(start_paused = true)]
async fn a_datagram_that_is_never_finished_ends_the_channel() {
    let (mut client, server) = open_ends(1 << 16).await;
    let (mut here, _near) = local();
    let (_read, mut write) = server.into_split();
    let start = Instant::now();
    let (flow, ()) = tokio::join!(relay_datagrams(&mut client, &mut here, LONG), async {
        write.write_all(&pattern(16384)).await.unwrap();
        write.flush().await.unwrap();
    });
    check_error(flow, io::ErrorKind::TimedOut, None);
    assert!((SILENCE..SILENCE + HEARTBEAT).contains(&start.elapsed()));
}

/// Each side has far more to say than fits between them.
#[tokio::test(start_paused = true)]
async fn two_sides_that_both_send_do_not_wait_for_each_other() {
    for buffer in [64, 20_000] {
        let (mut client, mut server) = open_ends(buffer).await;
        let ((mut here, mut near), (mut there, mut far)) = (local(), local());
        let lens: Vec<usize> = (0..300).map(|index| if index % 3 == 0 { 16384 } else { index }).collect();
        for &len in &lens {
            near.put(pattern(len));
            far.put(pattern(len));
        }
        let (client_end, server_end) = tokio::join!(
            relay_datagrams(&mut client, &mut here, IDLE),
            relay_datagrams(&mut server, &mut there, IDLE)
        );
        assert_eq!((client_end.unwrap(), server_end.unwrap()), (end(300, 300), end(300, 300)));
        assert_eq!((near.taken(), far.taken()), (lens.clone(), lens));
        check_reuse(client, server).await;
    }
}

#[tokio::test(start_paused = true)]
async fn datagrams_travel_before_the_stream_stands() {
    let (mut client, server) = opening_ends(1 << 16).await;
    let ((mut here, near), (mut there, mut far)) = (local(), local());
    near.put(pattern(0));
    near.put(pattern(5));
    let (client_end, server_end) = tokio::join!(relay_datagrams(&mut client, &mut here, IDLE), async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        relay_datagrams(&mut server.answer_open().await?, &mut there, IDLE).await
    });
    assert_eq!((client_end.unwrap(), server_end.unwrap()), (end(2, 0), end(0, 2)));
    assert_eq!(far.taken(), [0, 5]);
}

/// Nobody has anything to say for ten minutes, and still both know that the other is there.
#[tokio::test(start_paused = true)]
async fn signs_of_life_keep_a_silent_flow_up() {
    let (mut client, mut server) = open_ends(1 << 16).await;
    let ((mut here, near), (mut there, mut far)) = (local(), local());
    let (client_end, server_end, ()) = tokio::join!(
        relay_datagrams(&mut client, &mut here, SILENCE * 25),
        relay_datagrams(&mut server, &mut there, SILENCE * 25),
        async {
            tokio::time::sleep(SILENCE * 20).await;
            near.put(pattern(11));
        }
    );
    assert_eq!((client_end.unwrap(), server_end.unwrap()), (end(1, 0), end(0, 1)));
    assert_eq!(far.taken(), [11]);
    check_reuse(client, server).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_flow_leaves_the_channel_idle() {
    for early in [0, 3] {
        let (mut client, server) = opening_ends(1 << 16).await;
        let (mut here, near) = local();
        for _ in 0..early {
            near.put(pattern(1200));
        }
        let (refused, server) = tokio::join!(relay_datagrams(&mut client, &mut here, IDLE), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            server.refuse_open(RefusedCode::NotAllowed).await.unwrap()
        });
        let inside = Error::Refused(RefusedCode::NotAllowed);
        check_error(refused, io::ErrorKind::PermissionDenied, Some(inside));
        check_idle(client.finish().await.unwrap(), server).await;
    }

    let (mut client, server) = opening_ends(1 << 16).await;
    drop(server.refuse_open(RefusedCode::Stopping).await.unwrap());
    let refused = relay_datagrams(&mut client, &mut local().0, IDLE).await;
    check_error(refused, io::ErrorKind::PermissionDenied, Some(Error::Refused(RefusedCode::Stopping)));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_was_closed_instead_is_told_from_one_that_was_cut() {
    // The Close crosses the Open.
    let (client, server) = idle_ends().await;
    let mut client = client.begin_open(&udp()).unwrap();
    let (mut here, _near) = local();
    let (flow, closed) = tokio::join!(relay_datagrams(&mut client, &mut here, IDLE), server.close());
    check_error(flow, io::ErrorKind::NotConnected, Some(Error::Closed));
    closed.unwrap();

    for when in [Duration::ZERO, Duration::from_secs(25)] {
        let (mut client, server) = open_ends(1 << 16).await;
        let (mut here, near) = local();
        near.put(pattern(1200));
        let (flow, ()) = tokio::join!(relay_datagrams(&mut client, &mut here, LONG), async {
            tokio::time::sleep(when).await;
            drop(server);
        });
        check_error(flow, io::ErrorKind::UnexpectedEof, Some(Error::Truncated));
    }

    let (mut client, server) = open_ends(1 << 16).await;
    let (mut here, _near) = local();
    let (flow, reset) = tokio::join!(relay_datagrams(&mut client, &mut here, LONG), async {
        server.reset(ResetCode::Output).await
    });
    check_error(flow, io::ErrorKind::ConnectionReset, Some(Error::Reset(ResetCode::Output)));
    reset.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_side_that_has_gone_silent_is_given_up() {
    let (mut client, _server) = open_ends(1 << 16).await;
    let (mut here, _near) = local();
    let start = Instant::now();
    check_error(relay_datagrams(&mut client, &mut here, LONG).await, io::ErrorKind::TimedOut, None);
    assert!((SILENCE..SILENCE + Duration::from_secs(1)).contains(&start.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn pings_come_in_time() {
    let (client, mut server) = idle_ends().await;
    let mut client = client.begin_open(&udp()).unwrap();
    let (mut here, _near) = local();
    let start = Instant::now();
    let (flow, heard) = tokio::join!(relay_datagrams(&mut client, &mut here, LONG), async {
        assert_eq!(server.next_incoming().await?, Incoming::Open(udp()));
        for count in 1..=12 {
            // Answered, so that the client hears of the server.
            assert_eq!(server.next_incoming().await?, Incoming::SignOfLife);
            assert_eq!(start.elapsed().as_secs(), HEARTBEAT.as_secs() * count);
        }
        drop(server);
        io::Result::Ok(())
    });
    heard.unwrap();
    check_error(flow, io::ErrorKind::UnexpectedEof, Some(Error::Truncated));
}

/// A side that takes nothing makes the other drop datagrams where they come from, not gather them.
#[tokio::test(start_paused = true)]
async fn nothing_is_gathered_for_a_side_that_does_not_read() {
    let (mut client, _server) = open_ends(1 << 16).await;
    let (mut here, near) = local();
    for _ in 0..1000 {
        near.put(pattern(1200));
    }
    check_error(relay_datagrams(&mut client, &mut here, LONG).await, io::ErrorKind::TimedOut, None);
    let left = here.left();
    assert!(left > 900, "all but {left} were taken");
}

#[tokio::test(start_paused = true)]
async fn what_the_local_socket_does_not_take_is_dropped() {
    let (mut client, mut server) = open_ends(1 << 16).await;
    let ((mut here, near), (mut there, mut far)) = (local(), local());
    there.refusals = 2;
    for len in [1, 2, 3, 4] {
        near.put(pattern(len));
    }
    near.fail(io::ErrorKind::ConnectionRefused);
    near.fail(io::ErrorKind::HostUnreachable);
    near.put(pattern(5));
    let (client_end, server_end) = tokio::join!(
        relay_datagrams(&mut client, &mut here, IDLE),
        relay_datagrams(&mut server, &mut there, IDLE)
    );
    assert_eq!(client_end.unwrap(), end(5, 0));
    assert_eq!(server_end.unwrap(), DatagramsEnd { not_taken: 2, ..end(0, 3) });
    assert_eq!(there.dropped, ["1 bytes: NotTaken(Kind(WouldBlock))", "2 bytes: NotTaken(Kind(WouldBlock))"]);
    assert_eq!(far.taken(), [3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_local_socket_that_fails_ends_the_flow() {
    let (mut client, _server) = open_ends(1 << 16).await;
    let (mut here, near) = local();
    near.fail(io::ErrorKind::NetworkDown);
    check_error(relay_datagrams(&mut client, &mut here, IDLE).await, io::ErrorKind::NetworkDown, None);
}

#[tokio::test(start_paused = true)]
async fn a_local_socket_that_has_no_more_ends_the_flow_well_and_at_once() {
    let (mut client, mut server) = open_ends(1 << 16).await;
    let ((mut here, near), (mut there, mut far)) = (local(), local());
    near.put(pattern(7));
    near.fail(io::ErrorKind::UnexpectedEof);
    let start = Instant::now();
    let (client_end, server_end) = tokio::join!(
        relay_datagrams(&mut client, &mut here, LONG),
        relay_datagrams(&mut server, &mut there, LONG)
    );
    assert_eq!((client_end.unwrap(), server_end.unwrap()), (end(1, 0), end(0, 1)));
    assert_eq!(far.taken(), [7]);
    assert!(start.elapsed() < HEARTBEAT);
    check_reuse(client, server).await;
}

/// It shows that it is there, and does not let go.
#[tokio::test(start_paused = true)]
async fn a_side_that_does_not_answer_the_end_is_given_up() {
    let (mut client, server) = open_ends(1 << 16).await;
    let (mut here, _near) = local();
    let (mut read, mut write) = server.into_split();
    let start = Instant::now();
    let (flow, ()) = tokio::join!(
        async {
            let end = relay_datagrams(&mut client, &mut here, IDLE).await;
            drop(client);
            end
        },
        async {
            let mut nothing = [0];
            let (read_end, ()) = tokio::join!(read.read(&mut nothing), async {
                // Answers the Ping that was seen.
                while start.elapsed() < IDLE {
                    tokio::time::sleep(HEARTBEAT / 2).await;
                    write.flush().await.unwrap();
                }
            });
            assert_eq!(read_end.unwrap(), 0);
            while write.write_all(b"datagram").await.is_ok() && write.flush().await.is_ok() {
                tokio::time::sleep(HEARTBEAT / 2).await;
            }
        }
    );
    check_error(flow, io::ErrorKind::TimedOut, None);
    assert!((IDLE + SILENCE..IDLE + SILENCE + HEARTBEAT).contains(&start.elapsed()));
}

/// It refuses everything until the reactor has seen it.
#[tokio::test]
async fn a_udp_socket_that_is_new_loses_nothing() {
    let (mut client, mut server) = open_ends(1 << 16).await;
    let (mut here, near) = local();
    near.put(pattern(1200));
    let far = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let there = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    there.connect(far.local_addr().unwrap()).unwrap();
    there.set_nonblocking(true).unwrap();
    let mut there = UdpSocket::from_std(there).unwrap();
    let (client_end, server_end) = tokio::join!(
        relay_datagrams(&mut client, &mut here, Duration::from_millis(50)),
        relay_datagrams(&mut server, &mut there, LONG)
    );
    assert_eq!((client_end.unwrap(), server_end.unwrap()), (end(1, 0), end(0, 1)));
    let mut buffer = [0; 2000];
    assert_eq!(far.recv(&mut buffer).unwrap(), 1200);
}

#[tokio::test]
async fn a_udp_socket_serves() {
    let (mut client, mut server) = open_ends(1 << 16).await;
    let (near, mut here) = connected().await;
    let (far, mut there) = connected().await;
    let (client_end, server_end, ()) = tokio::join!(
        relay_datagrams(&mut client, &mut here, Duration::from_secs(1)),
        relay_datagrams(&mut server, &mut there, Duration::from_secs(60)),
        async {
            let mut buffer = vec![0; 65_536];
            for len in [1200, 0, 16384, 16385, 32741, 65507] {
                near.send(&pattern(len)).await.unwrap();
                let received = far.recv(&mut buffer).await.unwrap();
                assert!(buffer[..received] == pattern(len));
                far.send(&buffer[..received]).await.unwrap();
                let received = near.recv(&mut buffer).await.unwrap();
                assert!(buffer[..received] == pattern(len));
            }
        }
    );
    assert_eq!((client_end.unwrap(), server_end.unwrap()), (end(6, 6), end(6, 6)));
    check_reuse(client, server).await;
}

/// Two sockets that are connected to each other.
async fn connected() -> (UdpSocket, UdpSocket) {
    let one = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    one.connect(other.local_addr().unwrap()).await.unwrap();
    other.connect(one.local_addr().unwrap()).await.unwrap();
    (one, other)
}
