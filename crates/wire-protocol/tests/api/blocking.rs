//! The stream over std::io, and the two kinds of stream with one another.

use std::io::{self, BufRead as _, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use wire_protocol::Error;
use wire_protocol::channel::KeyLimits;
use wire_protocol::handshake::client::ClientConfig;
use wire_protocol::handshake::server::ServerConfig;
use wire_protocol::message::{AbortCode, DeniedCode, Mode, RefusedCode, ResetCode, Target};
use wire_protocol::stream::blocking::{Channel, SecureStream, Timeouts, Unlimited, accept, connect};
use wire_protocol::stream::{CLOSE_DEADLINE, OpenError, error_in};

use super::line::pattern;
use super::pair::{knows_id, knows_key, knows_psk, opening, server_config, with_identity};

type Ends<S> = (SecureStream<S>, SecureStream<S>);

pub(crate) fn over_unix(client: ClientConfig) -> Ends<UnixStream> {
    let (there, here) = UnixStream::pair().unwrap();
    handshake(here, there, client)
}

pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (here, listener.accept().unwrap().0)
}

pub(crate) fn handshake<S: Read + Write + Timeouts + Send + 'static>(
    here: S,
    there: S,
    client: ClientConfig,
) -> Ends<S> {
    let server = thread::spawn(move || accept(there, Arc::new(server_config()), |_| Ok(())));
    let client = connect(here, client).unwrap();
    (client, server.join().unwrap().unwrap())
}

#[track_caller]
pub(crate) fn check_error<T>(result: io::Result<T>, kind: io::ErrorKind, inside: Error) {
    let error = result.err().expect("it went well");
    assert_eq!((error.kind(), error_in(&error)), (kind, Some(&inside)), "{error}");
}

#[test]
fn every_kind_of_client_gets_its_stream() {
    for (config, mode) in
        [(knows_key(), Mode::Rsa), (with_identity(knows_id()), Mode::Rsa), (knows_psk(), Mode::Psk)]
    {
        let (mut client, mut server) = over_unix(config);
        assert_eq!((client.session().mode, server.session().mode), (mode, mode));
        client.write_all(b"question").unwrap();
        client.shutdown().unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).unwrap();
        server.write_all(b"answer").unwrap();
        server.shutdown().unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((&question[..], &answer[..]), ("question", "answer"));

        let closing = thread::spawn(move || server.close());
        client.close().unwrap();
        closing.join().unwrap().unwrap();
    }
}

/// An idle channel between the two.
fn idle() -> (Channel<UnixStream>, Channel<UnixStream>) {
    let (client, server) = over_unix(knows_psk());
    let server = thread::spawn(move || server.finish().unwrap());
    (client.finish().unwrap(), server.join().unwrap())
}

#[test]
fn a_channel_carries_one_stream_after_the_other() {
    let (mut client, mut server) = idle();
    for target in [Target::Pipe, Target::Message] {
        let serving = thread::spawn(move || {
            let asked = server.next_open().unwrap();
            let mut stream = server.answer_open().unwrap();
            let mut received = String::new();
            stream.read_to_string(&mut received).unwrap();
            (asked, received, stream.finish().unwrap())
        });
        let mut stream = client.open(&target).unwrap();
        stream.write_all(b"hello").unwrap();
        client = stream.finish().unwrap();
        let (asked, received, idle) = serving.join().unwrap();
        assert_eq!((asked, &received[..]), (Some(target), "hello"));
        server = idle;
    }
    let serving = thread::spawn(move || {
        assert_eq!(server.next_open().unwrap(), None);
        server.close()
    });
    client.close().unwrap();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_refused_stream_gives_the_channel_back() {
    let (client, mut server) = idle();
    let serving = thread::spawn(move || {
        server.next_open().unwrap();
        let mut server = server.refuse_open(RefusedCode::Busy).unwrap();
        server.next_open().unwrap();
        server.answer_open().unwrap();
    });
    let client = match client.open(&Target::Pipe).unwrap_err() {
        OpenError::Refused { code: RefusedCode::Busy, channel } => channel,
        error => panic!("{error}"),
    };
    client.open(&Target::Pipe).unwrap();
    serving.join().unwrap();
}

#[test]
fn a_client_whose_open_crosses_a_close_closes_too() {
    let (client, server) = idle();
    let closing = thread::spawn(move || server.close());
    let error = io::Error::from(client.open(&Target::Pipe).unwrap_err());
    assert_eq!(error_in(&error), Some(&Error::Closed));
    closing.join().unwrap().unwrap();
}

/// A side that waits for a Close before its own has no limit, and one that waits behind it has one.
#[test]
fn a_close_that_does_not_come_is_waited_for_within_a_limit() {
    let (client, server) = over_unix(knows_psk());
    let serving = thread::spawn(move || server.finish().unwrap());
    let (mut reader, mut writer) = client.into_split().unwrap();
    writer.shutdown().unwrap();
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    writer.close().unwrap();
    let _silent = serving.join().unwrap();
    let start = Instant::now();
    assert_eq!(reader.expect_close().unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(start.elapsed() >= CLOSE_DEADLINE, "{:?}", start.elapsed());
}

/// A transport that lets nothing go before it is flushed.
struct Gathering(UnixStream, Vec<u8>);

impl Read for Gathering {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Gathering {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.write_all(&std::mem::take(&mut self.1))
    }
}

#[test]
fn nothing_stays_behind_in_a_transport_that_gathers() {
    let (here, there) = UnixStream::pair().unwrap();
    let ends = [here, there].map(|socket| {
        // Only so that a fault is no wait without an end.
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Unlimited(Gathering(socket, Vec::new()))
    });
    let [here, there] = ends;
    let (mut client, mut server) = handshake(here, there, knows_psk());
    client.write_all(b"question").unwrap();
    client.shutdown().unwrap();
    let mut question = String::new();
    server.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    server.shutdown().unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let server = thread::spawn(move || server.close());
    client.close().unwrap();
    server.join().unwrap().unwrap();
}

#[test]
fn halves_in_threads_of_their_own_move_megabytes_both_ways_at_once() {
    let (here, there) = tcp_pair();
    let (mut client, server) = handshake(here, there, knows_psk());
    client.set_key_limits(KeyLimits { records: 3, bytes: u64::MAX });
    let data = pattern(3_000_017);
    let mut threads = Vec::new();
    for stream in [client, server] {
        let (mut reader, mut writer) = stream.into_split().unwrap();
        let (data, expected) = (data.clone(), data.clone());
        threads.push(thread::spawn(move || {
            writer.write_all(&data).unwrap();
            writer.shutdown().unwrap();
        }));
        threads.push(thread::spawn(move || {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).unwrap();
            assert!(received == expected);
        }));
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn all_that_is_decrypted_is_given_at_once() {
    let (client, server) = over_unix(knows_psk());
    let data = pattern(100_000);
    let sent = data.clone();
    let serving = thread::spawn(move || {
        let (reader, mut writer) = server.into_split().unwrap();
        writer.write_all(&sent).unwrap();
        writer.shutdown().unwrap();
        reader
    });
    let (mut reader, _writer) = client.into_split().unwrap();
    let _open = serving.join().unwrap();
    let (mut received, mut most) = (Vec::new(), 0);
    loop {
        let slices: Vec<&[u8]> = reader.fill_slices().unwrap().collect();
        if slices.is_empty() {
            break;
        }
        most = most.max(slices.len());
        // Half a slice stays behind.
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>().div_ceil(2);
        received.extend_from_slice(&slices.concat()[..length]);
        reader.consume(length);
    }
    assert!(received == data);
    assert!(most > 1, "all of it was there");
}

#[test]
fn a_connection_that_is_cut_is_not_an_end() {
    let (mut client, server) = over_unix(knows_psk());
    drop(server);
    check_error(client.read(&mut [0; 9]), io::ErrorKind::UnexpectedEof, Error::Truncated);
    check_error(client.read(&mut [0; 9]), io::ErrorKind::UnexpectedEof, Error::Truncated);

    let (here, there) = tcp_pair();
    let (mut client, server) = handshake(here, there, knows_psk());
    drop(server);
    let failed = loop {
        if let Err(error) = client.write_all(&[0; 65536]) {
            break error;
        }
    };
    check_error::<()>(Err(failed), io::ErrorKind::UnexpectedEof, Error::Truncated);
    let (client, server) = over_unix(knows_psk());
    drop(server);
    assert!(client.close().is_err());
}

#[test]
fn a_reset_says_why() {
    let (client, mut server) = over_unix(knows_psk());
    let (_reader, mut writer) = client.into_split().unwrap();
    writer.write_all(b"half of it").unwrap();
    writer.reset(ResetCode::Input).unwrap();
    let mut received = Vec::new();
    let result = server.read_to_end(&mut received);
    check_error(result, io::ErrorKind::ConnectionReset, Error::Reset(ResetCode::Input));
    assert_eq!(received, b"half of it");
    let after = writer.write_all(b"more").unwrap_err();
    assert!(matches!(error_in(&after), Some(Error::ApiMisuse(_))));
}

#[test]
fn clients_that_are_not_let_in_are_told() {
    let (there, here) = UnixStream::pair().unwrap();
    let server =
        thread::spawn(move || accept(there, Arc::new(server_config()), |_| Err(DeniedCode::NotAllowed)));
    let denied = Error::Denied(DeniedCode::NotAllowed);
    check_error(connect(here, knows_psk()), io::ErrorKind::PermissionDenied, denied);
    check_error(server.join().unwrap(), io::ErrorKind::PermissionDenied, denied);

    let (there, here) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        let config = ServerConfig { psks: Default::default(), ..server_config() };
        accept(there, Arc::new(config), |_| Ok(()))
    });
    let code = AbortCode::UnknownPsk;
    check_error(connect(here, knows_psk()), io::ErrorKind::ConnectionRefused, Error::Aborted(code));
    check_error(server.join().unwrap(), io::ErrorKind::InvalidData, Error::UnknownServerOrPsk(code));
}

#[test]
fn a_peer_that_leaves_or_talks_nonsense_is_an_error() {
    let (there, here) = UnixStream::pair().unwrap();
    drop(here);
    let error = accept(there, Arc::new(server_config()), |_| Ok(())).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);

    let (there, mut here) = UnixStream::pair().unwrap();
    here.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let error = accept(there, Arc::new(server_config()), |_| Ok(())).err().unwrap();
    assert!(matches!(error_in(&error), Some(Error::InvalidMessage(_))));
    let mut answer = Vec::new();
    here.read_to_end(&mut answer).ok();
    assert_eq!(answer, b"", "strangers get no answer");
}

#[cfg(feature = "tokio")]
mod with_tokio {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use wire_protocol::stream;

    use super::*;

    /// A handshake in the reactor, the stream in threads.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stream_moves_from_the_reactor_to_threads() {
        let (here, there) = tcp_pair();
        here.set_nonblocking(true).unwrap();
        let here = tokio::net::TcpStream::from_std(here).unwrap();
        let server = thread::spawn(move || accept(there, Arc::new(server_config()), |_| Ok(())).unwrap());
        let mut client = stream::connect(here, with_identity(knows_key())).await.unwrap();
        client.write_all(b"before, ").await.unwrap();
        client.flush().await.unwrap();

        let (socket, parts) = client.into_parts();
        let socket = socket.into_std().unwrap();
        socket.set_nonblocking(false).unwrap();
        let mut client = SecureStream::from_parts(socket, parts);
        client.write_all(b"behind").unwrap();
        client.shutdown().unwrap();
        let mut server = server.join().unwrap();
        let mut received = String::new();
        server.read_to_string(&mut received).unwrap();
        assert_eq!(received, "before, behind");
        server.write_all(b"answer").unwrap();
        server.shutdown().unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
    }

    /// What has arrived and is not read yet moves along.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_lost_between_the_two() {
        let (here, there) = tcp_pair();
        here.set_nonblocking(true).unwrap();
        let here = tokio::net::TcpStream::from_std(here).unwrap();
        let server = thread::spawn(move || {
            let mut server = accept(there, Arc::new(server_config()), |_| Ok(())).unwrap();
            server.write_all(&pattern(200_000)).unwrap();
            server.shutdown().unwrap();
            server
        });
        let mut client = stream::connect(here, knows_psk()).await.unwrap();
        let mut first = [0; 1000];
        client.read_exact(&mut first).await.unwrap();
        let (socket, parts) = client.into_parts();
        let socket = socket.into_std().unwrap();
        socket.set_nonblocking(false).unwrap();
        let mut client = SecureStream::from_parts(socket, parts);
        let mut rest = first.to_vec();
        client.read_to_end(&mut rest).unwrap();
        assert!(rest == pattern(200_000));
        drop(server.join().unwrap());
    }

    /// As a relay would, though nothing but `Read` is called.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_reads_a_tunnel_keeps_it_up() {
        let (here, there) = tcp_pair();
        there.set_nonblocking(true).unwrap();
        let there = tokio::net::TcpStream::from_std(there).unwrap();
        let client = thread::spawn(move || {
            let target = Target::Tcp { host: "localhost".into(), port: 22 };
            let mut client = connect(here, opening(knows_psk(), target)).unwrap();
            client.read(&mut [0]).map_err(|error| error.kind())
        });
        let (pool, config) = (stream::RsaPool::new(1), Arc::new(server_config()));
        let mut server = stream::accept_channel(there, config, &pool, |_| Ok(())).await.unwrap();
        server.next_open().await.unwrap();
        let mut server = server.answer_open().await.unwrap();
        let start = Instant::now();
        assert_eq!(server.read_or_sign_of_life(&mut [0]).await.unwrap(), None);
        let elapsed = start.elapsed();
        let expected = stream::HEARTBEAT - Duration::from_secs(1)..stream::HEARTBEAT + Duration::from_secs(5);
        assert!(expected.contains(&elapsed), "{elapsed:?}");
        drop(server);
        let read = tokio::task::spawn_blocking(move || client.join().unwrap()).await.unwrap();
        assert_eq!(read, Err(io::ErrorKind::UnexpectedEof));
    }

    /// A keepalive that crosses our Close, as the server sends them, is no reason to fail.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_ping_that_crosses_a_close_does_not_spoil_it() {
        let (here, there) = tcp_pair();
        there.set_nonblocking(true).unwrap();
        let there = tokio::net::TcpStream::from_std(there).unwrap();
        let client = thread::spawn(move || {
            let mut client = connect(here, knows_psk()).unwrap();
            client.shutdown().unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            client
        });
        let mut server = stream::accept(there, Arc::new(server_config()), |_| Ok(())).await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        server.shutdown().await.unwrap();
        let client = tokio::task::spawn_blocking(move || client.join().unwrap()).await.unwrap();
        {
            // The Ping is on its way; its answer is not waited for.
            let mut ping = std::pin::pin!(server.ping());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(ping.as_mut().poll(&mut cx).is_pending());
        }
        let closing = thread::spawn(move || client.close());
        let mut server = server.finish().await.unwrap();
        assert_eq!(server.next_open().await.unwrap(), None);
        server.close().await.unwrap();
        let closed = tokio::task::spawn_blocking(move || closing.join().unwrap()).await.unwrap();
        closed.unwrap();
    }
}
