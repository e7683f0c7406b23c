//! Messages that cross on the way, and peers that say more than they listen to: a stream or a relay on one side, on
//! the other a client that is played by hand.

use std::io::{self, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;

use crypto_core::record::ContentType;
use crypto_core::schedule::Side;
use getrandom::SysRng;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf, duplex};
use wire_protocol::Error;
use wire_protocol::channel::Event;
use wire_protocol::handshake::client::{ClientHandshake, Established};
use wire_protocol::handshake::{Handshake as _, Step, Work as _};
use wire_protocol::message::{ControlMessage, Target};
use wire_protocol::stream::RelayError;
use wire_protocol::stream::relay::relay;
use wire_protocol::stream::{SecureStream, accept, blocking, connect, error_in};

use super::line::{End, Heard, seal, seal_control};
use super::pair::{knows_psk, opening, server_config};

/// Does the handshake of a client that opens a pipe with it. Also gives what has come behind it.
fn establish(mut socket: UnixStream) -> (UnixStream, Established, Vec<u8>) {
    let (mut inbox, mut out) = (Vec::new(), Vec::new());
    let config = opening(knows_psk(), Target::Pipe);
    let mut step = Step::Continue(ClientHandshake::start(config, &mut SysRng, &mut out).unwrap());
    let established = loop {
        socket.write_all(&out).unwrap();
        out.clear();
        step = match step {
            Step::Continue(handshake) => match handshake.message_len(&inbox).unwrap() {
                Some(len) if inbox.len() >= len => {
                    let mut message: Vec<u8> = inbox.drain(..len).collect();
                    handshake.handle(&mut message, &mut SysRng, &mut out).unwrap()
                }
                _ => {
                    let mut chunk = [0; 4096];
                    let len = socket.read(&mut chunk).unwrap();
                    inbox.extend_from_slice(&chunk[..len]);
                    Step::Continue(handshake)
                }
            },
            Step::Work(work) => work.run(&mut SysRng, &mut out).unwrap(),
            Step::Done(established) => break established,
        };
    };
    (socket, established, inbox)
}

/// A client with a pipe open, whose every word the test chooses.
struct Client {
    socket: UnixStream,
    end: End,
}

impl Client {
    fn connect(socket: UnixStream) -> Self {
        let (socket, established, early) = establish(socket);
        let mut client =
            Self { socket, end: End::new(Side::Client, established.keys, &early, established.opening) };
        let heard = client.end.hear(&[]).unwrap();
        if heard.is_empty() {
            assert_eq!(client.hear(), [Heard::Event(Event::Opened)]);
        }
        client
    }

    fn say(&mut self, messages: &[ControlMessage]) {
        for message in messages {
            let record = self.end.control(message);
            self.socket.write_all(&record).unwrap();
        }
    }

    /// What comes with one read; nothing at the end.
    fn hear(&mut self) -> Vec<Heard> {
        let mut chunk = [0; 16384];
        let len = self.socket.read(&mut chunk).unwrap();
        self.end.hear(&chunk[..len]).unwrap()
    }
}

/// A client played by hand, and the stream of the server that it has a pipe with.
async fn with_stream() -> (Client, SecureStream<tokio::net::UnixStream>) {
    let (here, there) = UnixStream::pair().unwrap();
    there.set_nonblocking(true).unwrap();
    let there = tokio::net::UnixStream::from_std(there).unwrap();
    let client = tokio::task::spawn_blocking(|| Client::connect(here));
    let server = accept(there, Arc::new(server_config()), |_| Ok(())).await.unwrap();
    (client.await.unwrap(), server)
}

/// A client played by hand, and the halves of the server that it has a pipe with.
fn with_halves() -> (Client, blocking::Halves<UnixStream>) {
    let (here, there) = UnixStream::pair().unwrap();
    let client = thread::spawn(|| Client::connect(here));
    let server = blocking::accept(there, Arc::new(server_config()), |_| Ok(())).unwrap();
    (client.join().unwrap(), server.into_split().unwrap())
}

#[tokio::test]
async fn a_peer_that_pings_and_does_not_listen_is_owed_one_answer_at_a_time() {
    const PINGS: usize = 20_000;
    let (mut client, mut server) = with_stream().await;
    let client = tokio::task::spawn_blocking(move || {
        for nonce in 0..PINGS {
            client.say(&[ControlMessage::Ping { nonce: u64::try_from(nonce).unwrap() }]);
            let data = client.end.data(b"x");
            client.socket.write_all(&data).unwrap();
        }
        client.say(&[ControlMessage::EndOfStream]);
        client
    });
    let mut data = Vec::new();
    server.read_to_end(&mut data).await.unwrap();
    assert_eq!(data.len(), PINGS);
    let mut client = client.await.unwrap();

    let client = tokio::task::spawn_blocking(move || {
        let mut pongs = 0;
        loop {
            for heard in client.hear() {
                match heard {
                    Heard::Event(Event::Pong(_)) => pongs += 1,
                    // Not gone yet: a last answer may be on its way.
                    Heard::Event(Event::EndOfStream) => return (pongs, client),
                    other => panic!("{other:?}"),
                }
            }
        }
    });
    server.shutdown().await.unwrap();
    let (pongs, _client) = client.await.unwrap();
    // What a socket buffers, and no more; an answer for each would have been held in memory.
    assert!((1..PINGS / 2).contains(&pongs), "{pongs} pongs");
}

/// Counts how often it was woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// As with `tokio::io::split`, where a socket keeps one waker for writing.
#[tokio::test]
async fn a_writer_that_waits_is_not_forgotten_when_reading_sends() {
    let (there, here) = duplex(4096);
    let (client, server) =
        tokio::join!(connect(here, knows_psk()), accept(there, Arc::new(server_config()), |_| Ok(())));
    let (mut client, mut server) = (Box::pin(client.unwrap()), server.unwrap());
    let (writer, reader) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    let (write_waker, read_waker) = (Waker::from(Arc::clone(&writer)), Waker::from(reader));
    let mut write_context = Context::from_waker(&write_waker);

    while client.as_mut().poll_write(&mut write_context, &[7; 65536]).is_ready() {}
    let mut byte = [0];
    let mut place = ReadBuf::new(&mut byte);
    assert!(client.as_mut().poll_read(&mut Context::from_waker(&read_waker), &mut place).is_pending());
    // Reading has taken the socket's waker over: the writer has to come back for it.
    assert_eq!(writer.0.load(Ordering::SeqCst), 1);
    assert!(client.as_mut().poll_write(&mut write_context, &[7; 65536]).is_pending());

    // The other side takes what the socket holds, which is not a whole record yet.
    let mut place = ReadBuf::new(&mut byte);
    assert!(Pin::new(&mut server).poll_read(&mut Context::from_waker(&read_waker), &mut place).is_pending());
    assert_eq!(writer.0.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_ping_that_crosses_our_close_is_not_answered_and_does_no_harm() {
    let (mut client, mut server) = with_stream().await;
    client.say(&[ControlMessage::EndOfStream, ControlMessage::Ping { nonce: 1 }]);
    let ended = server.read(&mut [0]).await.unwrap();
    assert_eq!(ended, 0);
    server.shutdown().await.unwrap();
    client.say(&[ControlMessage::Ping { nonce: 2 }, ControlMessage::Close]);
    server.close().await.unwrap();
    let mut heard = Vec::new();
    while heard.last() != Some(&Heard::Event(Event::Close)) {
        heard.extend(client.hear());
    }
    assert!(!heard.contains(&Heard::Event(Event::Pong(2))), "{heard:?}");
}

#[tokio::test]
async fn an_open_that_crosses_our_close_never_stood() {
    let (mut client, mut server) = with_stream().await;
    client.say(&[ControlMessage::EndOfStream]);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    server.shutdown().await.unwrap();
    assert_eq!(client.hear(), [Heard::Event(Event::EndOfStream)]);
    // All of it before the client can know of the Close, and then its own.
    client.say(&[ControlMessage::Open { target: Target::Pipe }]);
    let data = client.end.data(b"for nobody");
    client.socket.write_all(&data).unwrap();
    client.say(&[ControlMessage::EndOfStream]);
    let client = tokio::task::spawn_blocking(move || {
        let mut heard = Vec::new();
        while heard.last() != Some(&Heard::Event(Event::Close)) {
            heard.extend(client.hear());
        }
        client.say(&[ControlMessage::Close]);
        heard
    });
    server.close().await.unwrap();
    assert!(!client.await.unwrap().contains(&Heard::Event(Event::Opened)));
}

/// One that has crossed a Close without its end: the client says Close in place of it.
#[tokio::test]
async fn a_client_whose_open_crosses_a_close_closes_too() {
    let (there, here) = duplex(4096);
    let (client, server) =
        tokio::join!(connect(here, knows_psk()), accept(there, Arc::new(server_config()), |_| Ok(())));
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    server.shutdown().await.unwrap();
    let client = client.finish().await.unwrap();

    let (closed, opened) = tokio::join!(server.close(), async {
        let mut client = client.begin_open(&Target::Pipe).unwrap();
        client.write_all(b"for nobody").await.unwrap();
        client.flush().await.unwrap();
        client.confirm().await
    });
    assert_eq!(error_in(&opened.unwrap_err().into()), Some(&Error::Closed));
    closed.unwrap();
}

/// Section 7: what was sent cannot have reached its place where its end had not been said yet.
#[tokio::test]
async fn a_close_before_our_own_end_is_truncation() {
    let (mut client, mut server) = with_stream().await;
    client.say(&[ControlMessage::EndOfStream, ControlMessage::Close]);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(server.hold().await.map_err(|error| error_in(&error).copied()), Err(Some(Error::Truncated)));
}

/// Where a relay's output goes.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Relays an input that says nothing and does not end, against a client that `play`s its part.
fn relay_against(play: impl FnOnce(Client) -> Option<Client>) -> (Result<(), RelayError>, Vec<u8>) {
    let (client, halves) = with_halves();
    relay_with(halves, || play(client))
}

/// As [`relay_against`], with whatever is at the other end: what `play` gives stays until the relay is over.
fn relay_with<T>(
    (read_half, write_half): blocking::Halves<UnixStream>,
    play: impl FnOnce() -> T,
) -> (Result<(), RelayError>, Vec<u8>) {
    let (input, _silent) = UnixStream::pair().unwrap();
    let output = Output::default();
    let printed = output.clone();
    let relaying = thread::spawn(move || relay(input, output, read_half, write_half));
    let _peer = play();
    let result = relaying.join().unwrap();
    let printed = printed.0.lock().unwrap().clone();
    (result, printed)
}

#[track_caller]
fn check(result: Result<(), RelayError>, expected: Error) {
    match result {
        Err(RelayError::Channel(error)) => assert_eq!(error_in(&error), Some(&expected)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_that_is_gone_behind_its_end_of_stream_is_noticed() {
    let (result, _) = relay_against(|mut client| {
        client.say(&[ControlMessage::EndOfStream]);
        None
    });
    check(result, Error::Truncated);
}

#[test]
fn a_close_that_cannot_have_waited_for_our_data_is_truncation() {
    let (result, _) = relay_against(|mut client| {
        client.say(&[ControlMessage::EndOfStream, ControlMessage::Close]);
        Some(client)
    });
    check(result, Error::Truncated);
}

#[test]
fn data_behind_the_end_of_the_stream_never_comes_out() {
    let (there, here) = UnixStream::pair().unwrap();
    let accepting =
        thread::spawn(move || blocking::accept(there, Arc::new(server_config()), |_| Ok(())).unwrap());
    let (mut socket, established, _) = establish(here);
    let halves = accepting.join().unwrap().into_split().unwrap();
    let (result, printed) = relay_with(halves, || {
        // No honest sender seals anything more.
        let mut sealer = established.keys.sealer;
        let mut out = seal(&mut sealer, ContentType::Data, b"before", 0);
        out.extend(seal_control(&mut sealer, &ControlMessage::EndOfStream));
        out.extend(seal_control(&mut sealer, &ControlMessage::Open { target: Target::Pipe }));
        out.extend(seal(&mut sealer, ContentType::Data, b"AFTER", 0));
        socket.write_all(&out).unwrap();
        socket
    });
    assert!(result.is_err());
    assert_eq!(printed, b"before");
}
