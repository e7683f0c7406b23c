//! What the relay of a tunnel does while it waits: for a peer that takes nothing, and for its pace.

use std::future::{pending, poll_fn};
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::thread::sleep;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::UnixStream;
use tokio::task::coop::poll_proceed;
use tokio::time::Instant;
use wire_protocol::Error;
use wire_protocol::message::{ResetCode, Target};
use wire_protocol::record::batch;
use wire_protocol::stream::{
    Direction, Duplex, Pace, Parts, RelayError, SILENCE, SecureStream, error_in, tunnel, tunnel_until,
};

use super::line::pattern;
use super::tunnel::channel;

/// A relay does not ask again and again where its peer takes nothing, whether its directions share a task or not, and with a
/// pace or without one.
#[tokio::test(start_paused = true)]
async fn a_relay_whose_peer_takes_nothing_waits_until_the_channel_counts_as_dead() {
    for (len, hold) in [(1, None), (100_000, None), (1, Some(1)), (100_000, Some(1))] {
        let (_client, _there, parts) = streaming().await;
        let socket = Socket { takes_nothing: true, ..Socket::default() };
        let (plain, mut application) = UnixStream::pair().unwrap();
        application.write_all(&pattern(len)).await.unwrap();
        let begun = Instant::now();
        let stream = SecureStream::from_parts(socket, parts);
        let relayed = tunnel(stream, plain, Held(hold.map(Duration::from_secs))).await;
        let Err(RelayError::Channel(error)) = relayed else { panic!("{relayed:?}") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < SILENCE + Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}

/// What the other side has said last counts, even while the pace holds up what came before it.
#[tokio::test(start_paused = true)]
async fn the_last_word_of_a_peer_is_heard_behind_a_short_wait_of_the_pace() {
    let (mut client, mut there, parts) = streaming().await;
    client.write_all(b"data").await.unwrap();
    drop(client.reset(ResetCode::Output).await.unwrap());
    let mut readable = Vec::new();
    there.read_to_end(&mut readable).await.unwrap();
    let socket = Socket { readable: Mutex::new(readable), max_read: 4096, ..Socket::default() };
    let (plain, mut application) = UnixStream::pair().unwrap();
    application.write_all(b"nobody takes this").await.unwrap();
    let stream = SecureStream::from_parts(socket, parts);
    let relayed = tunnel(stream, plain, Held(Some(Duration::from_millis(20)))).await;
    let Err(RelayError::Channel(error)) = relayed else { panic!("{relayed:?}") };
    assert_eq!(error_in(&error), Some(&Error::Reset(ResetCode::Output)));
}

/// A relay that is stopped between the end of its sending task and the moment that its receiving direction learns of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_stopped_while_it_ends_says_so() {
    let (mut client, mut there, parts) = streaming().await;
    client.shutdown().await.unwrap();
    let mut readable = vec![0; 1000];
    let len = there.read(&mut readable).await.unwrap();
    readable.truncate(len);
    let events = Arc::new(Events::default());
    let socket = EndsTogether {
        readable: Mutex::new(readable),
        asked: AtomicUsize::new(0),
        events: Arc::clone(&events),
    };
    let plain = EndsWhenTold { has_said: AtomicBool::new(false), events: Arc::clone(&events) };
    let stopped = poll_fn(|_| {
        let has_ended = events.sent_end.load(Ordering::SeqCst);
        if has_ended { Poll::Ready(ResetCode::NotAllowed) } else { Poll::Pending }
    });
    let relayed = tunnel_until(SecureStream::from_parts(socket, parts), plain, (), stopped).await;
    assert!(matches!(relayed, Err(RelayError::Stopped(ResetCode::NotAllowed))), "{relayed:?}");
}

/// A peer that always has more to say does not keep this side from saying anything.
#[tokio::test]
async fn a_peer_that_never_pauses_lets_the_other_direction_through() {
    let (mut client, mut there, parts) = streaming().await;
    client.write_all(&pattern(500_000)).await.unwrap();
    client.flush().await.unwrap();
    let mut readable = vec![0; 1 << 20];
    let len = there.read(&mut readable).await.unwrap();
    readable.truncate(len);
    let unread = Arc::new(AtomicUsize::new(0));
    let readable = Mutex::new(readable);
    let socket = Socket { readable, max_read: 64, unread: Arc::clone(&unread), ..Socket::default() };
    let (plain, mut application) = UnixStream::pair().unwrap();
    application.write_all(b"nobody takes this").await.unwrap();
    let relayed = tunnel(SecureStream::from_parts(socket, parts), plain, ()).await;
    assert!(matches!(relayed, Err(RelayError::Channel(_))), "{relayed:?}");
    let unread = unread.load(Ordering::Relaxed);
    assert!(unread > 450_000, "{unread} bytes were unread when the other direction came to write");
}

/// A stream that is kept up: its client, the server's end of the socket, and the server's stream without it.
async fn streaming() -> (SecureStream<DuplexStream>, DuplexStream, Parts) {
    let (here, there) = duplex(1 << 20);
    let (client, mut server) = channel(here, there).await;
    let target = Target::Tcp { host: "target".into(), port: 1 };
    let (client, server) = tokio::join!(client.open(&target), async {
        server.next_open().await.unwrap();
        server.answer_open().await.unwrap()
    });
    let (there, parts) = server.into_parts();
    (client.unwrap(), there, parts)
}

/// Holds up for this long after each read and write.
#[derive(Debug, Clone)]
struct Held(Option<Duration>);

impl Pace for Held {
    fn note(&self, _: usize, _: Direction) -> Option<Instant> {
        self.0.map(|time| Instant::now() + time)
    }

    fn records(&self) -> usize {
        batch()
    }
}

/// A socket that gives what is readable, so much at once, and either takes nothing for now, or fails when it is written to.
#[derive(Debug, Default)]
struct Socket {
    readable: Mutex<Vec<u8>>,
    /// Bytes that a read gives at most.
    max_read: usize,
    takes_nothing: bool,
    /// How often a writer has waited.
    asked: AtomicUsize,
    /// What was readable when it was written to first.
    unread: Arc<AtomicUsize>,
}

impl Duplex for Socket {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.readable.lock().unwrap().is_empty() {
            return Poll::Pending;
        }
        ready!(poll_proceed(cx)).made_progress();
        Poll::Ready(Ok(()))
    }

    fn try_read_vectored(&self, places: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut readable = self.readable.lock().unwrap();
        let len = readable.len().min(places[0].len()).min(self.max_read);
        places[0][..len].copy_from_slice(&readable[..len]);
        readable.drain(..len);
        Ok(len)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(poll_proceed(cx)).made_progress();
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        assert!(asked < 1000, "it asks again and again");
        if self.takes_nothing { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn try_write_vectored(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        let unread = self.readable.lock().unwrap().len();
        self.unread.fetch_max(unread, Ordering::Relaxed);
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn shutdown_write(&self) -> io::Result<()> {
        Ok(())
    }

    fn finish(self) {}

    async fn reset(&self) -> io::Error {
        pending().await
    }
}

/// What has happened to the two sockets of a relay.
#[derive(Debug, Default)]
struct Events {
    /// The plain connection may end.
    may_end: AtomicBool,
    plain: Mutex<Option<Waker>>,
    /// The sending direction has written its end.
    sent_end: AtomicBool,
}

/// A channel's socket that has what is readable, and does not give an answer the second time that it has nothing before the
/// sending direction has ended.
#[derive(Debug)]
struct EndsTogether {
    readable: Mutex<Vec<u8>>,
    asked: AtomicUsize,
    events: Arc<Events>,
}

impl Duplex for EndsTogether {
    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.readable.lock().unwrap().is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.asked.fetch_add(1, Ordering::SeqCst) == 1 {
            self.events.may_end.store(true, Ordering::SeqCst);
            while !self.events.sent_end.load(Ordering::SeqCst) {
                if let Some(waker) = self.events.plain.lock().unwrap().take() {
                    waker.wake();
                }
                sleep(Duration::from_millis(1));
            }
            // For the task to be over.
            sleep(Duration::from_millis(100));
        }
        Poll::Pending
    }

    fn try_read_vectored(&self, places: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut readable = self.readable.lock().unwrap();
        let len = readable.len();
        places[0][..len].copy_from_slice(&readable);
        readable.clear();
        Ok(len)
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.events.sent_end.store(self.events.may_end.load(Ordering::SeqCst), Ordering::SeqCst);
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn shutdown_write(&self) -> io::Result<()> {
        Ok(())
    }

    fn finish(self) {}

    async fn reset(&self) -> io::Error {
        pending().await
    }
}

/// A plain connection that has much to say at once, and ends when it is told to.
#[derive(Debug)]
struct EndsWhenTold {
    has_said: AtomicBool,
    events: Arc<Events>,
}

impl Duplex for EndsWhenTold {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        *self.events.plain.lock().unwrap() = Some(cx.waker().clone());
        let may_read = !self.has_said.load(Ordering::SeqCst) || self.events.may_end.load(Ordering::SeqCst);
        if may_read { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn try_read_vectored(&self, places: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let has_said = self.has_said.swap(true, Ordering::SeqCst);
        Ok(if has_said { 0 } else { places.iter().map(|place| place.len()).sum() })
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn shutdown_write(&self) -> io::Result<()> {
        Ok(())
    }

    fn finish(self) {}

    async fn reset(&self) -> io::Error {
        pending().await
    }
}
