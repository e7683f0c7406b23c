//! The blocking stream's limits of time, against peers that are silent, slow, or take nothing.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crypto_core::schedule::Side;
use wire_protocol::channel::Event;
use wire_protocol::handshake::server::ServerConfig;
use wire_protocol::message::{ControlMessage, ServerLimits};
use wire_protocol::stream::blocking::{Timeouts, Unlimited, accept, connect};
use wire_protocol::stream::{CLOSE_DEADLINE, HANDSHAKE_DEADLINE};

use super::blocking::{handshake, over_unix, tcp_pair};
use super::line::{End, Heard};
use super::pair::{client, knows_psk, server_config};

/// What a limit may be missed by on a machine that is busy.
const SLACK: Duration = Duration::from_secs(8);

/// Has `work` fail in a thread of its own, with `TimedOut` and words that hold `expected`, once `limit` has passed.
fn fails_after<T>(
    limit: Duration,
    expected: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let start = Instant::now();
        let error = work().err().expect("it waited for no peer");
        let passed = start.elapsed();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(limit <= passed && passed < limit + SLACK, "{passed:?} in place of {limit:?}: {expected}");
    })
}

fn accepts<S: Read + Write + Timeouts + Send + 'static>(socket: S) -> JoinHandle<()> {
    fails_after(HANDSHAKE_DEADLINE, "handshake", || accept(socket, Arc::new(server_config()), |_| Ok(())))
}

fn connects<S: Read + Write + Timeouts + Send + 'static>(socket: S) -> JoinHandle<()> {
    fails_after(HANDSHAKE_DEADLINE, "handshake", || connect(socket, knows_psk()))
}

/// Says a frame of the longest kind, a byte a second, until nobody listens any more.
fn dribbles(mut socket: impl Write + Send + 'static, kind: u8) -> JoinHandle<()> {
    thread::spawn(move || {
        let frame = [&b"SKS\x01"[..], &[kind], b"\0\x20\0", &[0; 30]].concat();
        for byte in frame {
            if socket.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_secs(1));
        }
    })
}

#[test]
fn nobody_waits_longer_than_the_limits() {
    let (tcp_here, tcp_there) = tcp_pair();
    let (unix_here, unix_there) = UnixStream::pair().unwrap();
    let (memory_here, memory_there) = memory_pair(1 << 16);
    // It holds less than a hello, so that a client waits for room.
    let (narrow_here, narrow_there) = memory_pair(100);
    let silent = (tcp_here, unix_here, memory_here, narrow_there);
    let mut waiting = vec![accepts(tcp_there), accepts(unix_there), accepts(memory_there)];
    waiting.push(connects(narrow_here));

    let (here, there) = tcp_pair();
    waiting.extend([accepts(there), dribbles(here, 3)]);
    let (here, there) = UnixStream::pair().unwrap();
    waiting.extend([connects(there), dribbles(here, 4)]);
    let (here, there) = UnixStream::pair().unwrap();
    waiting.extend([accepts(Unlimited(there)), dribbles(here, 3)]);

    let (closing, open) = over_unix(knows_psk());
    waiting.push(fails_after(CLOSE_DEADLINE, "closed the channel", move || {
        let mut closing = closing;
        closing.shutdown()?;
        closing.close()
    }));

    for waiting in waiting {
        waiting.join().unwrap();
    }
    drop((silent, open));
}

/// A Ping is a sign of life; without one, or an Open, the server closes as soon as its limits say.
#[test]
fn a_client_that_opens_nothing_is_closed() {
    let (there, mut here) = UnixStream::pair().unwrap();
    let limits = ServerLimits { idle_timeout_seconds: 1 };
    let server = thread::spawn(move || {
        let config = ServerConfig { limits, ..server_config() };
        let start = Instant::now();
        let error = accept(there, Arc::new(config), |_| Ok(())).err().unwrap();
        (error, start.elapsed())
    });
    let (mut peer, hello) = client(knows_psk());
    here.write_all(&hello).unwrap();
    let mut chunk = vec![0; 1 << 16];
    while !peer.is_done() {
        let len = here.read(&mut chunk).unwrap();
        assert_ne!(len, 0, "the server gave up");
        let answer = peer.feed(&chunk[..len]);
        here.write_all(&answer).unwrap();
    }
    let early = peer.early().to_vec();
    let mut end = End::new(Side::Client, peer.into_outcome().keys, &early, None);
    for nonce in 0..2 {
        thread::sleep(Duration::from_millis(600));
        here.write_all(&end.control(&ControlMessage::Ping { nonce })).unwrap();
    }
    let mut heard = Vec::new();
    while heard.last() != Some(&Heard::Event(Event::Close)) {
        let len = here.read(&mut chunk).unwrap();
        assert_ne!(len, 0, "the server left without a word: {heard:?}");
        heard.extend(end.hear(&chunk[..len]).unwrap());
    }
    assert_eq!(heard[..2], [0, 1].map(|nonce| Heard::Event(Event::Pong(nonce))));
    here.write_all(&end.control(&ControlMessage::Close)).unwrap();
    let (error, passed) = server.join().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("idle for longer than 1 second"), "{error}");
    assert!(Duration::from_millis(2200) <= passed && passed < SLACK, "{passed:?}");
}

#[test]
fn the_limits_that_a_socket_had_are_put_back() {
    let (here, there) = tcp_pair();
    let own = (Some(Duration::from_secs(7)), Some(Duration::from_secs(70)));
    here.set_read_timeout(own.0).unwrap();
    here.set_write_timeout(own.1).unwrap();
    let limits = |socket: &TcpStream| (socket.read_timeout().unwrap(), socket.write_timeout().unwrap());
    let (client_socket, server_socket) = (here.try_clone().unwrap(), there.try_clone().unwrap());
    let _ends = handshake(here, there, knows_psk());
    assert_eq!((limits(&client_socket), limits(&server_socket)), (own, (None, None)));

    let (here, there) = tcp_pair();
    here.set_read_timeout(own.0).unwrap();
    drop(there);
    assert!(connect(&here, knows_psk()).is_err());
    assert_eq!(limits(&here), (own.0, None));
}

/// A socket that has a shorter limit of its own keeps it.
#[test]
fn a_shorter_limit_of_the_socket_holds() {
    let (_here, there) = UnixStream::pair().unwrap();
    there.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let start = Instant::now();
    let error = accept(there, Arc::new(server_config()), |_| Ok(())).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    assert!(start.elapsed() < HANDSHAKE_DEADLINE);
}

#[test]
fn a_pair_in_memory_serves_as_well() {
    let (here, there) = memory_pair(100);
    let (mut client, mut server) = handshake(here, there, knows_psk());
    let answering = thread::spawn(move || {
        let mut heard = String::new();
        server.read_to_string(&mut heard).unwrap();
        server.shutdown().unwrap();
        server.close().unwrap();
        heard
    });
    client.write_all(b"through memory").unwrap();
    client.shutdown().unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    client.close().unwrap();
    assert_eq!(answering.join().unwrap(), "through memory");
}

/// One direction between the two ends of a [`Memory`].
#[derive(Default)]
struct Line {
    state: Mutex<LineState>,
    changed: Condvar,
}

#[derive(Default)]
struct LineState {
    bytes: VecDeque<u8>,
    capacity: usize,
    is_closed: bool,
}

impl Line {
    /// Waits until `ready`, for `limit` at most.
    fn wait(
        &self,
        limit: Option<Duration>,
        ready: impl Fn(&LineState) -> bool,
    ) -> io::Result<MutexGuard<'_, LineState>> {
        let state = self.state.lock().unwrap();
        let limit = limit.unwrap_or(Duration::from_secs(3600));
        let (state, waited) = self.changed.wait_timeout_while(state, limit, |state| !ready(state)).unwrap();
        if waited.timed_out() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(state) }
    }

    fn close(&self) {
        self.state.lock().unwrap().is_closed = true;
        self.changed.notify_all();
    }
}

/// One end of a pair without a socket.
struct Memory {
    incoming: Arc<Line>,
    outgoing: Arc<Line>,
    limits: Mutex<(Option<Duration>, Option<Duration>)>,
}

fn memory_pair(capacity: usize) -> (Memory, Memory) {
    let line = || {
        let state = LineState { capacity, ..LineState::default() };
        Arc::new(Line { state: Mutex::new(state), ..Line::default() })
    };
    let end = |incoming: &Arc<Line>, outgoing: &Arc<Line>| Memory {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        limits: Mutex::default(),
    };
    let (there, back) = (line(), line());
    (end(&back, &there), end(&there, &back))
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.incoming.close();
        self.outgoing.close();
    }
}

impl Read for Memory {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let limit = self.limits.lock().unwrap().0;
        let mut state = self.incoming.wait(limit, |state| !state.bytes.is_empty() || state.is_closed)?;
        let len = state.bytes.read(buf)?;
        self.incoming.changed.notify_all();
        Ok(len)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let limit = self.limits.lock().unwrap().1;
        let has_room = |state: &LineState| state.bytes.len() < state.capacity || state.is_closed;
        let mut state = self.outgoing.wait(limit, has_room)?;
        if state.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let len = bytes.len().min(state.capacity - state.bytes.len());
        state.bytes.extend(&bytes[..len]);
        self.outgoing.changed.notify_all();
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Timeouts for Memory {
    fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.limits.lock().unwrap().0)
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.limits.lock().unwrap().0 = limit;
        Ok(())
    }

    fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.limits.lock().unwrap().1)
    }

    fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.limits.lock().unwrap().1 = limit;
        Ok(())
    }
}
