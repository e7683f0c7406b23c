//! The stream over tokio: in-memory pipes where a test needs to see every step, TCP where it needs a socket.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Notify;
use wire_protocol::Error;
use wire_protocol::channel::KeyLimits;
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::handshake::server::ServerConfig;
use wire_protocol::message::{
    AbortCode, ClientIdentity, DeniedCode, ListenAddress, ListenKind, Mode, RefusedCode, ResetCode, Target,
};
use wire_protocol::record::batch;
use wire_protocol::stream::{
    Admission, CLOSE_DEADLINE, Channel, HANDSHAKE_DEADLINE, HEARTBEAT, Incoming, OpenError, Operation, Peer,
    Progress, RsaPool, SILENCE, SecureStream, accept, accept_channel, connect, connect_channel, connect_open,
    error_in, fetch_server_key,
};

use super::keys;
use super::line::pattern;
use super::pair::{LIMITS, expecting, knows_id, knows_key, knows_psk, opening, server_config, with_identity};

type Ends<S> = (SecureStream<S>, SecureStream<S>);
type IdleEnds<S> = (Channel<S>, Channel<S>);

/// A pipe is open between the two.
async fn piped(client: ClientConfig, buffer: usize) -> Ends<DuplexStream> {
    let (there, here) = duplex(buffer);
    let (client, server) =
        tokio::join!(connect(here, client), accept(there, Arc::new(server_config()), |_| Ok(())));
    (client.unwrap(), server.unwrap())
}

/// An idle channel between the two.
async fn idle(client: ClientConfig) -> IdleEnds<DuplexStream> {
    let (there, here) = duplex(1 << 16);
    let pool = RsaPool::new(1);
    let (client, server) = tokio::join!(
        connect_channel(here, client),
        accept_channel(there, Arc::new(server_config()), &pool, |_| Ok(()))
    );
    (client.unwrap(), server.unwrap())
}

async fn over_tcp() -> Ends<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) =
        tokio::join!(async { connect(TcpStream::connect(address).await?, knows_psk()).await }, async {
            accept(listener.accept().await?.0, Arc::new(server_config()), |_| Ok(())).await
        });
    (client.unwrap(), server.unwrap())
}

#[track_caller]
fn check_error<T>(result: io::Result<T>, kind: io::ErrorKind, inside: Error) {
    let error = result.err().expect("it went well");
    assert_eq!((error.kind(), error_in(&error)), (kind, Some(&inside)), "{error}");
}

/// Polls once, for tests that go step by step.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn every_kind_of_client_gets_its_stream() {
    let own_key = ClientIdentity::Key(keys::client().public().id());
    for (config, mode, identity) in [
        (knows_key(), Mode::Rsa, ClientIdentity::Anonymous),
        (with_identity(knows_id()), Mode::Rsa, own_key),
        (knows_psk(), Mode::Psk, ClientIdentity::Psk("laptop".into())),
    ] {
        let (mut client, mut server) = piped(config, 1 << 16).await;
        assert_eq!((client.session().mode, server.session().mode), (mode, mode));
        assert_eq!(server.session().peer, Peer::Client(identity));
        let known = (mode == Mode::Rsa).then(|| keys::server().public().clone());
        assert_eq!(client.session().peer, Peer::Server(known));

        client.write_all(b"there").await.unwrap();
        client.flush().await.unwrap();
        let mut buffer = [0; 5];
        server.read_exact(&mut buffer).await.unwrap();
        server.write_all(b"back").await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut buffer[..4]).await.unwrap();
        assert_eq!(&buffer, b"backe");
    }
}

#[tokio::test]
async fn a_ticket_resumes() {
    let (mut first, _server) = piped(knows_key(), 1 << 16).await;
    let ticket = first.session_mut().ticket.take();
    assert!(ticket.is_some());
    let resuming = expecting(ExpectedServer::Key { id: keys::server_id(), key: None, ticket });
    let (client, server) = piped(resuming, 1 << 16).await;
    assert_eq!((client.session().mode, server.session().mode), (Mode::Resumption, Mode::Resumption));
}

/// The least that a transport has to hold is an Open: the client says one while the server says its Welcome.
#[tokio::test]
async fn a_connection_that_trickles_serves_as_well() {
    let (mut client, mut server) = piped(with_identity(knows_id()), 43).await;
    let data = pattern(5000);
    let (sent, received) = tokio::join!(
        async {
            client.write_all(&data).await?;
            client.shutdown().await
        },
        async {
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.map(|_| received)
        }
    );
    sent.unwrap();
    assert!(received.unwrap() == data);
}

#[tokio::test]
async fn half_close_leaves_the_other_direction_open_and_close_ends_both() {
    let (mut client, mut server) = piped(knows_psk(), 1 << 16).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    server.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0, "the end stays the end");
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");

    let (closed, answered) = tokio::join!(client.close(), async {
        let mut server = server.finish().await?;
        assert_eq!(server.next_open().await?, None);
        server.close().await
    });
    closed.unwrap();
    answered.unwrap();
}

#[tokio::test]
async fn both_sides_may_close_at_once() {
    let (client, server) = idle(knows_psk()).await;
    let (client, server) = tokio::join!(client.close(), server.close());
    client.unwrap();
    server.unwrap();
}

#[tokio::test]
async fn writing_behind_the_end_is_an_error() {
    let (mut client, _server) = piped(knows_psk(), 1 << 16).await;
    client.shutdown().await.unwrap();
    client.shutdown().await.unwrap();
    let error = client.write_all(b"more").await.unwrap_err();
    assert!(matches!(error_in(&error), Some(Error::ApiMisuse(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_in_tasks_of_their_own_move_megabytes_both_ways_at_once() {
    let (client, server) = over_tcp().await;
    let data = pattern(3_000_017);
    let (mut readers, mut writers) = (Vec::new(), Vec::new());
    for stream in [client, server] {
        let (mut reader, mut writer) = stream.into_split();
        let (data, expected) = (data.clone(), data.clone());
        writers.push(tokio::spawn(async move {
            writer.write_all(&data).await.unwrap();
            writer.shutdown().await.unwrap();
            writer
        }));
        readers.push(tokio::spawn(async move {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).await.unwrap();
            assert!(received == expected);
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn data_is_byte_exact_over_key_updates() {
    let (mut client, mut server) = piped(knows_psk(), 1 << 14).await;
    client.set_key_limits(KeyLimits { records: 1, bytes: u64::MAX });
    let data = pattern(2_000_003);
    let (sent, received) = tokio::join!(
        async {
            for piece in data.chunks(1777) {
                client.write_all(piece).await?;
            }
            client.shutdown().await
        },
        async {
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.map(|_| received)
        }
    );
    sent.unwrap();
    assert!(received.unwrap() == data);
}

#[tokio::test]
async fn a_channel_carries_one_stream_after_the_other() {
    let (mut client, mut server) = idle(knows_psk()).await;
    for round in 0..5u8 {
        let (opened, accepted) = tokio::join!(client.open(&Target::Message), async {
            assert_eq!(server.next_open().await?, Some(Target::Message));
            server.answer_open().await
        });
        let (mut client_stream, mut server_stream) = (opened.unwrap(), accepted.unwrap());
        client_stream.write_all(&[round; 1000]).await.unwrap();
        client_stream.shutdown().await.unwrap();
        let mut received = Vec::new();
        server_stream.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, [round; 1000]);
        server = server_stream.finish().await.unwrap();
        assert_eq!(client_stream.read(&mut [0]).await.unwrap(), 0);
        client = client_stream.finish().await.unwrap();
    }
    let (closed, none) = tokio::join!(client.close(), async {
        assert_eq!(server.next_open().await?, None);
        server.close().await
    });
    closed.unwrap();
    none.unwrap();
}

#[tokio::test]
async fn a_refused_stream_is_an_error_and_the_channel_goes_on() {
    let (client, mut server) = idle(knows_psk()).await;
    let (refused, answered) = tokio::join!(client.open(&Target::Message), async {
        assert_eq!(server.next_open().await?, Some(Target::Message));
        server.refuse_open(RefusedCode::Busy).await
    });
    let mut server = answered.unwrap();
    let client = match refused.unwrap_err() {
        OpenError::Refused { code: RefusedCode::Busy, channel } => channel,
        error => panic!("{error}"),
    };

    let (opened, accepted) = tokio::join!(client.open(&Target::Pipe), async {
        assert_eq!(server.next_open().await?, Some(Target::Pipe));
        server.answer_open().await
    });
    let (mut client, mut server) = (opened.unwrap(), accepted.unwrap());
    client.write_all(b"and now").await.unwrap();
    client.shutdown().await.unwrap();
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"and now");
}

/// A channel on which a tunnel is open.
async fn tunneled() -> Ends<DuplexStream> {
    let (client, mut server) = idle(knows_psk()).await;
    let target = Target::Tcp { host: "localhost".into(), port: 22 };
    let (opened, accepted) = tokio::join!(client.open(&target), async {
        server.next_open().await?;
        server.answer_open().await
    });
    (opened.unwrap(), accepted.unwrap())
}

/// As a relay would, though nothing but `AsyncRead` is called.
#[tokio::test(start_paused = true)]
async fn whoever_reads_a_tunnel_keeps_it_up() {
    let (mut client, mut server) = tunneled().await;
    let mut data = [0; 5];
    let (read, ()) = tokio::join!(client.read_exact(&mut data), async {
        // Long enough for two Pings, of which the second is no answer to anything.
        tokio::time::sleep(HEARTBEAT * 5 / 2).await;
        let start = tokio::time::Instant::now();
        for _ in 0..2 {
            assert_eq!(server.read_or_sign_of_life(&mut [0]).await.unwrap(), None);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        server.write_all(b"there").await.unwrap();
        server.flush().await.unwrap();
    });
    read.unwrap();
    assert_eq!(&data, b"there");
}

/// The timer of a stream that is not kept up, or not read, takes up a word; so does each of the three parts that are apart.
#[test]
fn a_stream_takes_up_little_beside_its_socket() {
    let words = |bytes: usize| bytes / size_of::<usize>();
    assert_eq!(words(size_of::<SecureStream<()>>()), 3 + words(size_of::<Option<Waker>>()) + 1);
    assert_eq!(size_of::<Channel<()>>(), size_of::<SecureStream<()>>());
}

#[tokio::test(start_paused = true)]
async fn whoever_reads_a_tunnel_notices_that_the_other_side_is_silent() {
    let (mut client, _server) = tunneled().await;
    let start = tokio::time::Instant::now();
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!((SILENCE..SILENCE + Duration::from_secs(1)).contains(&start.elapsed()), "{:?}", start.elapsed());
    // A pipe is not kept up: somebody may type into it.
    let (mut client, _server) = piped(knows_psk(), 1 << 16).await;
    let mut byte = [0];
    let read = tokio::time::timeout(10 * SILENCE, client.read(&mut byte));
    read.await.unwrap_err();
}

/// The other side says Close and takes nothing any more.
#[tokio::test(start_paused = true)]
async fn the_answer_to_a_close_is_waited_for_within_a_limit() {
    let (there, here) = duplex(64);
    let (pool, config) = (RsaPool::new(1), Arc::new(server_config()));
    let (client, server) =
        tokio::join!(connect_channel(here, knows_psk()), accept_channel(there, config, &pool, |_| Ok(())));
    let mut server = server.unwrap();
    // More than goes into the pipe, where the answer waits behind it.
    for _ in 0..20 {
        let _full = poll_once(pin!(server.begin_ping()));
    }
    let mut closing = pin!(client.unwrap().close());
    loop {
        assert!(poll_once(closing.as_mut()).is_pending());
        match poll_once(pin!(server.next_incoming())) {
            Poll::Ready(incoming) => break assert_eq!(incoming.unwrap(), Incoming::Close),
            Poll::Pending => {}
        }
    }
    let start = tokio::time::Instant::now();
    assert_eq!(server.close().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed(), CLOSE_DEADLINE);
}

#[tokio::test]
async fn accept_takes_nothing_but_a_pipe() {
    let (there, here) = duplex(1 << 16);
    let (client, server) = tokio::join!(
        async {
            let client = connect_open(here, opening(knows_psk(), Target::Message)).await?;
            client.confirm().await.map_err(io::Error::from)
        },
        accept(there, Arc::new(server_config()), |_| Ok(()))
    );
    let refused = Error::Refused(RefusedCode::NotOffered);
    check_error(client, io::ErrorKind::PermissionDenied, refused);
    check_error(server, io::ErrorKind::PermissionDenied, refused);
}

#[tokio::test]
async fn a_client_that_is_not_let_in_is_told() {
    let (there, here) = duplex(1 << 16);
    let (client, server) = tokio::join!(
        connect(here, knows_key()),
        accept(there, Arc::new(server_config()), |client| {
            assert_eq!(*client, ClientIdentity::Anonymous);
            Err(DeniedCode::ClientKeyRequired)
        })
    );
    let denied = Error::Denied(DeniedCode::ClientKeyRequired);
    check_error(client, io::ErrorKind::PermissionDenied, denied);
    check_error(server, io::ErrorKind::PermissionDenied, denied);
}

#[tokio::test]
async fn a_server_that_gives_up_before_there_are_keys_says_why() {
    for (config, code) in [
        (ServerConfig { psks: Default::default(), ..server_config() }, AbortCode::UnknownPsk),
        (ServerConfig { identity: None, psks: Default::default(), ..server_config() }, AbortCode::UnknownPsk),
    ] {
        let (there, here) = duplex(1 << 16);
        let (client, server) =
            tokio::join!(connect(here, knows_psk()), accept(there, Arc::new(config), |_| Ok(())));
        check_error(client, io::ErrorKind::ConnectionRefused, Error::Aborted(code));
        check_error(server, io::ErrorKind::InvalidData, Error::UnknownServerOrPsk(code));
    }
}

#[tokio::test]
async fn a_fetched_key_can_be_used_on_the_same_connection() {
    let (there, mut here) = duplex(1 << 16);
    let (client, server) = tokio::join!(
        async {
            let key = fetch_server_key(&mut here).await?;
            assert_eq!(key.id(), keys::server_id());
            let server = ExpectedServer::Key { id: key.id(), key: Some(key), ticket: None };
            connect(here, expecting(server)).await
        },
        accept(there, Arc::new(server_config()), |_| Ok(()))
    );
    client.unwrap();
    server.unwrap();
}

#[tokio::test]
async fn a_peer_that_leaves_during_the_handshake_is_an_error_on_both_sides() {
    let (there, here) = duplex(1 << 16);
    drop(there);
    assert!(connect(here, knows_psk()).await.is_err());
    // A peer that only looks whether the port is open has done nothing wrong, unlike one that breaks off a hello.
    for (said, expected) in
        [(&b""[..], io::ErrorKind::ConnectionAborted), (b"SKS", io::ErrorKind::UnexpectedEof)]
    {
        let (there, mut here) = duplex(1 << 16);
        here.write_all(said).await.unwrap();
        drop(here);
        let error = accept(there, Arc::new(server_config()), |_| Ok(())).await.err().unwrap();
        assert_eq!(error.kind(), expected);
    }
}

/// An admission that notes how far handshakes come, never does RSA, and gives them up once it is told to.
#[derive(Default)]
struct Crowded {
    noted: Mutex<Vec<Progress>>,
    waiting: Notify,
    given_up: Notify,
}

impl Admission for Crowded {
    async fn execute(&self, _: Operation) -> io::Result<()> {
        self.waiting.notify_one();
        std::future::pending().await
    }

    fn note(&self, progress: Progress) {
        self.noted.lock().unwrap().push(progress);
    }

    async fn given_up(&self) -> Error {
        self.given_up.notified().await;
        Error::Busy
    }
}

#[tokio::test]
async fn a_peer_that_leaves_while_rsa_is_waited_for_is_noticed() {
    let (there, here) = duplex(1 << 16);
    let crowded = Crowded::default();
    let (_, server) = tokio::join!(
        async {
            tokio::select! {
                client = connect_channel(here, knows_key()) => drop(client),
                () = crowded.waiting.notified() => {}
            }
        },
        accept_channel(there, Arc::new(server_config()), &crowded, |_| Ok(()))
    );
    assert_eq!(server.err().unwrap().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(*crowded.noted.lock().unwrap(), [Progress::FirstBytes, Progress::Hello]);
}

#[tokio::test]
async fn a_handshake_that_is_given_up_is_told_that_the_server_is_busy() {
    let (there, here) = duplex(1 << 16);
    let crowded = Crowded::default();
    crowded.given_up.notify_one();
    let (client, server) = tokio::join!(
        connect_channel(here, knows_key()),
        accept_channel(there, Arc::new(server_config()), &crowded, |_| Ok(()))
    );
    assert_eq!(error_in(&client.err().unwrap()), Some(&Error::Aborted(AbortCode::Busy)));
    assert_eq!(error_in(&server.err().unwrap()), Some(&Error::Busy));
}

#[tokio::test]
async fn a_connection_that_is_cut_is_not_an_end() {
    let (mut client, server) = piped(knows_psk(), 1 << 16).await;
    drop(server);
    check_error(client.read(&mut [0; 9]).await, io::ErrorKind::UnexpectedEof, Error::Truncated);
    check_error(client.read(&mut [0; 9]).await, io::ErrorKind::UnexpectedEof, Error::Truncated);

    // Over TCP, with data on the way, and cut off by the side that reads.
    let (mut client, mut server) = over_tcp().await;
    client.write_all(b"some").await.unwrap();
    client.flush().await.unwrap();
    let mut some = [0; 4];
    server.read_exact(&mut some).await.unwrap();
    drop(client);
    check_error(server.read(&mut some).await, io::ErrorKind::UnexpectedEof, Error::Truncated);

    let (mut client, server) = over_tcp().await;
    drop(server);
    let failed = loop {
        if let Err(error) = client.write_all(&[0; 65536]).await {
            break error;
        }
    };
    check_error::<()>(Err(failed), io::ErrorKind::UnexpectedEof, Error::Truncated);
}

#[tokio::test]
async fn a_connection_that_is_cut_between_streams_is_no_close() {
    let (client, mut server) = idle(knows_psk()).await;
    drop(client);
    check_error(server.next_open().await, io::ErrorKind::UnexpectedEof, Error::Truncated);
    let (client, server) = idle(knows_psk()).await;
    drop(server);
    assert!(client.close().await.is_err());
}

#[tokio::test]
async fn a_reset_says_why() {
    for code in [ResetCode::Output, ResetCode::Input, ResetCode::TooLong] {
        let (mut client, mut server) = piped(knows_psk(), 1 << 16).await;
        client.write_all(b"half of it").await.unwrap();
        client.reset(code).await.unwrap();
        let mut received = Vec::new();
        let result = server.read_to_end(&mut received).await;
        check_error(result, io::ErrorKind::ConnectionReset, Error::Reset(code));
        assert_eq!(received, b"half of it");
    }
}

#[tokio::test]
async fn an_idle_channel_answers_pings_of_either_side() {
    let (mut client, mut server) = idle(knows_psk()).await;
    {
        let mut waiting = pin!(server.next_open());
        for _ in 0..3 {
            tokio::select! {
                _ = &mut waiting => panic!("nobody opens anything"),
                ping = client.ping() => assert!(ping.unwrap() > std::time::Duration::ZERO),
            }
        }
    }
    {
        let mut opening = pin!(client.next_open());
        tokio::select! {
            _ = &mut opening => panic!("nobody opens anything"),
            ping = server.ping() => { ping.unwrap(); }
        }
    }
}

#[tokio::test]
async fn a_ping_is_answered_while_a_stream_is_read() {
    let (mut client, mut server) = piped(knows_psk(), 1 << 16).await;
    let mut ping = pin!(client.ping());
    assert!(poll_once(ping.as_mut()).is_pending());
    let mut buffer = [0; 9];
    assert!(poll_once(pin!(server.read(&mut buffer))).is_pending());
    ping.await.unwrap();
}

#[tokio::test]
async fn a_ping_is_answered_by_split_halves_with_the_next_flush() {
    let (mut client, server) = piped(knows_psk(), 1 << 16).await;
    let (mut reader, mut writer) = server.into_split();
    let mut ping = pin!(client.ping());
    assert!(poll_once(ping.as_mut()).is_pending());
    let mut buffer = [0; 9];
    assert!(poll_once(pin!(reader.read(&mut buffer))).is_pending());
    assert!(poll_once(ping.as_mut()).is_pending(), "nobody has written yet");
    writer.flush().await.unwrap();
    ping.await.unwrap();
}

/// A keepalive of the other side that crosses our Close is no reason to fail.
#[tokio::test]
async fn a_ping_that_crosses_a_close_does_not_spoil_it() {
    let (client, mut server) = idle(knows_psk()).await;
    assert!(poll_once(pin!(server.ping())).is_pending());
    let mut closing = pin!(client.close());
    match poll_once(closing.as_mut()) {
        Poll::Pending => {}
        Poll::Ready(result) => panic!("closed without a Close: {result:?}"),
    }
    assert_eq!(server.next_open().await.unwrap(), None);
    server.close().await.unwrap();
    closing.await.unwrap();
}

/// A side that asks for a sign of life and gets a Close has lost nothing.
#[tokio::test]
async fn a_close_in_reply_to_a_ping_is_not_a_cut_connection() {
    let (client, mut server) = idle(knows_psk()).await;
    let mut closing = pin!(client.close());
    assert!(poll_once(closing.as_mut()).is_pending());
    let error = server.ping().await.unwrap_err();
    assert_eq!(error_in(&error), Some(&Error::Closed));
    closing.await.unwrap();
}

/// Nobody reads: what a writer gets rid of is bounded, and it goes on once somebody reads.
#[tokio::test]
async fn a_slow_reader_holds_the_writer_back() {
    const PIPE: usize = 10_000;
    let (mut client, mut server) = piped(knows_psk(), PIPE).await;
    let chunk = pattern(16_384);
    let mut taken = 0;
    let data = pattern(10 * 65_536);
    while let Poll::Ready(written) = poll_once(pin!(client.write(&data[taken..]))) {
        taken += written.unwrap();
        assert!(taken <= PIPE + batch() * 16_384, "{taken} bytes and no end");
    }
    assert!(taken >= chunk.len());
    for _ in 0..100 {
        assert!(poll_once(pin!(client.write(&chunk))).is_pending(), "it takes no more");
    }

    let rest = data[taken..].to_vec();
    let (sent, received) = tokio::join!(
        async {
            client.write_all(&rest).await?;
            client.shutdown().await
        },
        async {
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.map(|_| received)
        }
    );
    sent.unwrap();
    assert!(received.unwrap() == data);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// One task writes, another reads, as with `tokio::io::split`: a writer that waits for room must be woken when
/// there is room, whatever the reader has done since.
#[tokio::test]
async fn a_reader_does_not_take_the_writer_s_wakeup() {
    let (mut client, mut server) = piped(knows_psk(), 10_000).await;
    let (writer, reader) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    let data = pattern(65_536);
    let writing = Waker::from(Arc::clone(&writer));
    let mut cx = Context::from_waker(&writing);
    while Pin::new(&mut client).poll_write(&mut cx, &data).is_ready() {}

    let woken = writer.0.load(Ordering::SeqCst);
    let reading = Waker::from(Arc::clone(&reader));
    let mut buffer = [0; 9];
    let polled =
        Pin::new(&mut client).poll_read(&mut Context::from_waker(&reading), &mut ReadBuf::new(&mut buffer));
    assert!(polled.is_pending());

    // No record is whole yet, but the pipe is empty now.
    assert!(poll_once(pin!(server.read(&mut [0; 9]))).is_pending());
    assert!(writer.0.load(Ordering::SeqCst) > woken, "there is room, and the writer sleeps on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rsa_pool_bounds_what_runs_at_once() {
    let pool = RsaPool::new(1);
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (there, here) = duplex(1 << 16);
        let pool = pool.clone();
        tasks.push(tokio::spawn(async move {
            let (client, server) = tokio::join!(
                connect_channel(here, with_identity(knows_key())),
                accept_channel(there, Arc::new(server_config()), &pool, |_| Ok(()))
            );
            client.is_ok() && server.is_ok()
        }));
    }
    for task in tasks {
        assert!(task.await.unwrap());
    }
}

#[tokio::test]
async fn unix_sockets_come_apart_too() {
    let (there, here) = UnixStream::pair().unwrap();
    let (client, server) =
        tokio::join!(connect(here, knows_psk()), accept(there, Arc::new(server_config()), |_| Ok(())));
    let (mut reader, mut writer) = server.unwrap().into_split();
    let echo = tokio::spawn(async move {
        tokio::io::copy(&mut reader, &mut writer).await?;
        writer.shutdown().await
    });
    let mut client = client.unwrap();
    client.write_all(b"Hello, World!").await.unwrap();
    client.shutdown().await.unwrap();
    let mut echoed = String::new();
    client.read_to_string(&mut echoed).await.unwrap();
    assert_eq!(echoed, "Hello, World!");
    echo.await.unwrap().unwrap();
}

/// Section 8: nobody waits for a client that says nothing.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_gets_as_long_as_a_handshake_may_take() {
    let start = tokio::time::Instant::now();
    let (there, here) = duplex(1 << 16);
    let accepted = accept(there, Arc::new(server_config()), |_| Ok(())).await;
    assert_eq!(accepted.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed(), HANDSHAKE_DEADLINE);
    drop(here);
    let (_there, here) = duplex(1 << 16);
    let connected = connect(here, knows_psk()).await;
    assert_eq!(connected.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed(), 2 * HANDSHAKE_DEADLINE);
}

/// In good order: the client learns of it, and both have said Close.
#[tokio::test(start_paused = true)]
async fn a_server_closes_a_channel_that_is_idle_for_longer_than_it_said() {
    let (there, here) = duplex(1 << 16);
    let client = async {
        let mut client = connect_channel(here, knows_psk()).await.unwrap();
        assert_eq!(client.session().limits, LIMITS);
        assert_eq!(client.next_incoming().await.unwrap(), Incoming::Close);
        client.close().await.unwrap();
    };
    let start = tokio::time::Instant::now();
    let ((), accepted) = tokio::join!(client, accept(there, Arc::new(server_config()), |_| Ok(())));
    assert_eq!(accepted.unwrap_err().kind(), io::ErrorKind::TimedOut);
    let limit = Duration::from_secs(LIMITS.idle_timeout_seconds.into());
    assert!((limit..limit + Duration::from_secs(1)).contains(&start.elapsed()), "{:?}", start.elapsed());

    // A Ping counts as use, and a client may wait for as long as it likes.
    let (mut client, mut server) = idle(knows_psk()).await;
    let start = tokio::time::Instant::now();
    let client = async {
        tokio::time::timeout(limit / 2, client.next_open()).await.unwrap_err();
        client.ping().await.unwrap();
        assert_eq!(client.next_open().await.unwrap(), None);
        client.close().await.unwrap();
    };
    let ((), closed) = tokio::join!(client, server.next_open());
    assert_eq!(closed.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(start.elapsed() >= limit * 3 / 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn connect_opens_what_its_config_says() {
    let (there, here) = duplex(1 << 16);
    let pool = RsaPool::new(1);
    let (client, ()) = tokio::join!(connect(here, opening(knows_psk(), Target::Message)), async {
        let config = Arc::new(server_config());
        let mut server = accept_channel(there, config, &pool, |_| Ok(())).await.unwrap();
        assert_eq!(server.next_open().await.unwrap(), Some(Target::Message));
        server.answer_open().await.unwrap();
    });
    client.unwrap();
    let (_there, here) = duplex(1 << 16);
    let address = ListenAddress::Unix { path: "/run/somewhere".into() };
    let listen = Target::Listen { address, kind: ListenKind::Stream, lease: [7; 16] };
    let error = connect(here, opening(knows_psk(), listen)).await.unwrap_err();
    assert!(matches!(error_in(&error), Some(Error::ApiMisuse(_))), "{error}");
}

/// What has come with Opened is looked at before the end of the message goes out, which it would look like an answer to.
#[tokio::test]
async fn a_confirmation_that_comes_with_opened_confirms_nothing() {
    let (client, mut server) = idle(knows_psk()).await;
    let mut client = client.begin_open(&Target::Message).unwrap();
    client.flush().await.unwrap();
    assert_eq!(server.next_open().await.unwrap(), Some(Target::Message));
    let mut server = server.begin_answer().unwrap();
    server.shutdown().await.unwrap();
    let mut client = client.confirm().await.unwrap();
    client.write_all(b"hello").await.unwrap();
    check_error(
        client.shutdown().await,
        io::ErrorKind::InvalidData,
        wire_protocol::PeerMisbehaved::UnexpectedMessage.into(),
    );
}
