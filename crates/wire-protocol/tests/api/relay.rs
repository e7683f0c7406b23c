//! The relay of a pipe: every byte on both sides, or an error.

use std::io::{self, Cursor, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use wire_protocol::Error;
use wire_protocol::message::ResetCode;
use wire_protocol::stream::RelayError;
use wire_protocol::stream::blocking::SecureStream;
use wire_protocol::stream::error_in;
use wire_protocol::stream::relay::{Relay, relay};

use super::blocking::{handshake, over_unix, tcp_pair};
use super::line::pattern;
use super::pair::knows_psk;

/// Where a relay's output goes, to be looked at afterwards.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An input or output that does not work, after so many bytes.
struct Broken(usize);

impl Read for Broken {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("the disk is on fire"));
        }
        let len = place.len().min(self.0);
        place[..len].fill(1);
        self.0 -= len;
        Ok(len)
    }
}

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("the disk is full"));
        }
        let len = bytes.len().min(self.0);
        self.0 -= len;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start<S>(
    stream: SecureStream<S>,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> JoinHandle<Result<(), RelayError>>
where
    S: wire_protocol::stream::blocking::Split + Send + 'static,
    S::Read: Send + 'static,
    S::Write: Send + 'static,
{
    let (read_half, write_half) = stream.into_split().unwrap();
    thread::spawn(move || relay(input, output, read_half, write_half))
}

#[track_caller]
fn check_both_ways(there: Vec<u8>, back: Vec<u8>) {
    let (here_socket, there_socket) = tcp_pair();
    let (client, server) = handshake(here_socket, there_socket, knows_psk());
    let (at_client, at_server) = (Output::default(), Output::default());
    let client = start(client, Cursor::new(there.clone()), at_client.clone());
    let server = start(server, Cursor::new(back.clone()), at_server.clone());
    client.join().unwrap().unwrap();
    server.join().unwrap().unwrap();
    assert!(at_server.bytes() == there);
    assert!(at_client.bytes() == back);
}

#[test]
fn megabytes_cross_both_ways_at_once() {
    check_both_ways(pattern(5_000_011), pattern(4_000_037));
}

#[test]
fn every_mixture_of_nothing_and_something_ends_well() {
    for (there, back) in [(0, 0), (0, 1), (1, 0), (16_384, 16_385), (65_536, 0), (65_537, 131_072)] {
        check_both_ways(pattern(there), pattern(back));
    }
}

/// A pipe of the operating system hands out what it has, not what is asked for.
#[test]
fn input_that_comes_in_pieces_is_sent_as_it_comes() {
    let (client, server) = over_unix(knows_psk());
    let (input, mut feed) = UnixStream::pair().unwrap();
    let output = Output::default();
    let client = start(client, input, io::sink());
    let (mut read_half, mut write_half) = server.into_split().unwrap();
    for piece in [1, 10, 1000, 30_000] {
        feed.write_all(&pattern(piece)).unwrap();
        let mut received = vec![0; piece];
        read_half.read_exact(&mut received).unwrap();
        assert!(received == pattern(piece), "nothing waits for more input");
    }
    drop(feed);
    assert_eq!(read_half.read(&mut [0]).unwrap(), 0);
    write_half.shutdown().unwrap();
    write_half.close().unwrap();
    read_half.expect_close().unwrap();
    client.join().unwrap().unwrap();
    assert_eq!(output.bytes(), b"");
}

/// Passes bytes on until so many have gone one way, and then cuts the line.
fn cut_after(limit: u64) -> (UnixStream, UnixStream) {
    let (client, client_line) = UnixStream::pair().unwrap();
    let (server, server_line) = UnixStream::pair().unwrap();
    let (mut from_server, mut to_client) =
        (server_line.try_clone().unwrap(), client_line.try_clone().unwrap());
    thread::spawn(move || io::copy(&mut from_server, &mut to_client).ok());
    thread::spawn(move || {
        io::copy(&mut (&client_line).take(limit), &mut &server_line).ok();
        for line in [client_line, server_line] {
            line.shutdown(std::net::Shutdown::Both).ok();
        }
    });
    (client, server)
}

#[track_caller]
fn check_cut(result: Result<(), RelayError>) {
    match result {
        Err(RelayError::Channel(error)) => {
            assert_eq!(error_in(&error), Some(&Error::Truncated), "{error}");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_that_is_cut_is_never_ok() {
    // In the middle of the data; within its last bytes; before the Close, which is all that is missing then.
    let len = 300_000;
    let handshake_and_open = 1_400 + 71 + 43;
    let ciphertext = handshake_and_open + 300_000 + (300_000 / 16_384 + 1) * 35;
    for limit in [2_000, 17_000, 150_000, 299_999, ciphertext - 300, ciphertext] {
        let (here, there) = cut_after(limit);
        let (client, server) = handshake(here, there, knows_psk());
        let output = Output::default();
        let client = start(client, Cursor::new(pattern(len)), io::sink());
        let server = start(server, Cursor::new(Vec::new()), output.clone());
        check_cut(server.join().unwrap());
        match client.join().unwrap() {
            // Only its own Close was cut off: the server's, which says that all has arrived, may have come before.
            Ok(()) => assert!(limit == ciphertext && output.bytes() == pattern(len)),
            cut => check_cut(cut),
        }
        assert!(pattern(len).starts_with(&output.bytes()));
    }
}

/// Even while its input has nothing to say and does not end.
#[test]
fn a_cut_connection_ends_a_relay_that_waits_for_input() {
    let (client, server) = over_unix(knows_psk());
    let (input, _silent) = UnixStream::pair().unwrap();
    let client = start(client, input, io::sink());
    drop(server);
    check_cut(client.join().unwrap());
}

#[test]
fn an_input_that_fails_is_told_to_the_other_side() {
    let (client, server) = over_unix(knows_psk());
    let output = Output::default();
    let client = start(client, Broken(100_000), io::sink());
    let server = start(server, Cursor::new(Vec::new()), output.clone());
    match client.join().unwrap() {
        Err(RelayError::Input(error)) => assert_eq!(error.to_string(), "the disk is on fire"),
        other => panic!("{other:?}"),
    }
    match server.join().unwrap() {
        Err(RelayError::Channel(error)) => {
            assert_eq!(error_in(&error), Some(&Error::Reset(ResetCode::Input)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(output.bytes(), vec![1; 100_000]);
}

#[test]
fn an_output_that_fails_ends_the_relay() {
    let (client, server) = over_unix(knows_psk());
    let server = start(server, Cursor::new(pattern(1_000_000)), io::sink());
    let (input, silent) = UnixStream::pair().unwrap();
    match start(client, input, Broken(50_000)).join().unwrap() {
        Err(RelayError::Output(error)) => assert_eq!(error.to_string(), "the disk is full"),
        other => panic!("{other:?}"),
    }
    // What the relay left to itself goes with its input, and with it the socket.
    drop(silent);
    assert!(server.join().unwrap().is_err());
}

/// A relay that is stopped in the middle, whatever its two ends wait for: `input_ends` before, or waits for more.
#[track_caller]
fn check_stop(input_ends: bool) {
    let (here, there) = tcp_pair();
    let (client, server) = handshake(here, there, knows_psk());
    let (input, mut feed) = UnixStream::pair().unwrap();
    let waker = input.try_clone().unwrap();
    let output = Output::default();
    let printed = output.clone();
    let (read_half, write_half) = server.into_split().unwrap();
    let relay = Relay::new(input, output, read_half, write_half);
    let stop = relay.stop_handle();
    let relaying = thread::spawn(move || relay.run());

    let (mut read_half, mut write_half) = client.into_split().unwrap();
    feed.write_all(b"down").unwrap();
    let mut down = [0; 4];
    read_half.read_exact(&mut down).unwrap();
    if input_ends {
        feed.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_half.read(&mut [0]).unwrap(), 0);
    }
    write_half.write_all(b"before").unwrap();
    while printed.bytes() != b"before" {
        thread::yield_now();
    }
    stop.stop(ResetCode::NotAllowed);
    stop.stop(ResetCode::Output);
    waker.shutdown(std::net::Shutdown::Read).unwrap();
    // However much is under way, the reason arrives, and nothing else does.
    let sending = thread::spawn(move || (0..30).all(|_| write_half.write_all(&pattern(100_000)).is_ok()));
    let word = if input_ends { read_half.expect_close() } else { read_half.read(&mut [0]).map(drop) };
    assert_eq!(error_in(&word.unwrap_err()), Some(&Error::Reset(ResetCode::NotAllowed)));
    drop(read_half);
    assert!(matches!(relaying.join().unwrap(), Err(RelayError::Stopped(ResetCode::NotAllowed))));
    assert_eq!(printed.bytes(), b"before");
    sending.join().unwrap();
}

#[test]
fn a_relay_that_is_stopped_tells_the_other_side_why() {
    check_stop(false);
    check_stop(true);
}

/// What came last from the other side says more than the write that found it gone.
#[test]
fn a_reason_that_the_other_side_gave_is_the_error_even_where_writing_fails_first() {
    let (client, server) = over_unix(knows_psk());
    let (_read_half, mut write_half) = server.into_split().unwrap();
    write_half.reset(ResetCode::NotAllowed).unwrap();
    drop((_read_half, write_half));
    match start(client, io::repeat(1), io::sink()).join().unwrap() {
        Err(RelayError::Channel(error)) => {
            assert_eq!(error_in(&error), Some(&Error::Reset(ResetCode::NotAllowed)));
        }
        other => panic!("{other:?}"),
    }
}
