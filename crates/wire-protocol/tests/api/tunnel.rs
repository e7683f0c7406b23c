//! The relay of a tunnel: both directions to their ends, resets that stay resets, and a channel that is good for the next
//! stream the moment that the last one is over.

use std::future::pending;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, duplex};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::coop::{consume_budget, has_budget_remaining};
use tokio::time::Instant;
use wire_protocol::Error;
use wire_protocol::message::{ControlMessage, ResetCode, Target};
use wire_protocol::stream::{
    Channel, Duplex, HEARTBEAT, OpeningStream, RelayError, RsaPool, SecureStream, accept_channel,
    connect_channel, error_in, open_early, tunnel, tunnel_until,
};

use super::line::{pattern, seal_control};
use super::pair::{client, knows_psk, server_config};

/// An idle channel over any two ends of a connection.
pub(crate) async fn channel<S: AsyncRead + AsyncWrite + Unpin>(
    here: S,
    there: S,
) -> (Channel<S>, Channel<S>) {
    let pool = RsaPool::new(1);
    let config = Arc::new(server_config());
    let (client, server) =
        tokio::join!(connect_channel(here, knows_psk()), accept_channel(there, config, &pool, |_| Ok(())));
    (client.unwrap(), server.unwrap())
}

pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

/// Opens a stream and answers it.
pub(crate) async fn open(
    client: Channel<TcpStream>,
    mut server: Channel<TcpStream>,
) -> (SecureStream<TcpStream>, SecureStream<TcpStream>) {
    let (opened, answered) = tokio::join!(client.open(&Target::Pipe), async {
        assert_eq!(server.next_open().await.unwrap(), Some(Target::Pipe));
        server.answer_open().await
    });
    (opened.unwrap(), answered.unwrap())
}

/// Both directions at once, byte for byte, each to an end of its own; again and again on one channel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_directions_end_each_by_itself_and_the_channel_goes_on() {
    let (here, there) = tcp_pair().await;
    let (mut client, mut server) = channel(here, there).await;
    for (up, down) in [(0, 0), (1, 0), (0, 1), (16_384, 16_385), (3_000_017, 2_000_003)] {
        let (client_stream, server_stream) = open(client, server).await;
        let (mut application, at_client) = tcp_pair().await;
        let (at_server, mut target) = tcp_pair().await;
        let relays = (
            tokio::spawn(tunnel(client_stream, at_client, ())),
            tokio::spawn(tunnel(server_stream, at_server, ())),
        );

        let (mut read, mut write) = application.split();
        let (mut target_read, mut target_write) = target.split();
        let (sent_up, sent_down) = (pattern(up), pattern(down));
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        let (first, second, third, fourth) = tokio::join!(
            async {
                write.write_all(&sent_up).await?;
                write.shutdown().await
            },
            async {
                target_write.write_all(&sent_down).await?;
                target_write.shutdown().await
            },
            target_read.read_to_end(&mut got_up),
            read.read_to_end(&mut got_down),
        );
        first.and(second).and(third).and(fourth).unwrap();
        assert!(got_up == sent_up && got_down == sent_down, "{up} up, {down} down");
        client = relays.0.await.unwrap().unwrap();
        server = relays.1.await.unwrap().unwrap();
    }
}

/// What came with the Open reaches its target first; whoever opened the stream learns that it stands, whether the target
/// answers or not.
#[tokio::test]
async fn an_answer_that_was_begun_arrives_even_where_the_target_is_silent() {
    let (client, mut target) = opened_with_a_request().await;
    tokio::time::pause();
    let begun = Instant::now();
    let mut client = client.confirm().await.unwrap();
    let waited = begun.elapsed();
    assert!(waited > HEARTBEAT / 2 && waited < 2 * HEARTBEAT, "it was held back for {waited:?}");
    target.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");
}

#[tokio::test]
async fn an_answer_that_was_begun_arrives_at_once_where_it_is_asked_for() {
    let (mut client, _target) = opened_with_a_request().await;
    let begun = Instant::now();
    client.begin_ping().await.unwrap();
    client.confirm().await.unwrap();
    assert!(begun.elapsed() < HEARTBEAT / 2);
}

/// A client whose request has reached the target, and which has not been told that the stream stands.
async fn opened_with_a_request() -> (OpeningStream<TcpStream>, TcpStream) {
    let (here, there) = tcp_pair().await;
    // The request is to be there with the Open.
    here.set_nodelay(true).unwrap();
    let (client, mut server) = channel(here, there).await;
    let mut client = client.begin_open(&Target::Pipe).unwrap();
    client.write_all(b"request").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(server.next_open().await.unwrap(), Some(Target::Pipe));
    let server = server.begin_answer().unwrap();
    let (at_server, mut target) = tcp_pair().await;
    tokio::spawn(tunnel(server, at_server, ()));
    let mut request = [0; 7];
    target.read_exact(&mut request).await.unwrap();
    assert_eq!(&request, b"request");
    (client, target)
}

/// A target that says nothing before it has the whole of a request.
#[tokio::test]
async fn an_end_that_follows_the_open_reaches_a_silent_target_at_once() {
    for pause in [Duration::ZERO, Duration::from_millis(100)] {
        let (here, there) = tcp_pair().await;
        let (client, mut server) = channel(here, there).await;
        let (mut application, plain) = tcp_pair().await;
        // It goes along with the Open.
        application.write_all(b"request").await.unwrap();
        plain.readable().await.unwrap();
        let begun = Instant::now();
        let at_client = tokio::spawn(async move {
            let stream = open_early(client, &Target::Pipe, &plain, &mut Vec::new()).await?;
            tunnel(stream, plain, ()).await
        });
        let (at_server, mut target) = tcp_pair().await;
        let at_server = tokio::spawn(async move {
            assert_eq!(server.next_open().await.unwrap(), Some(Target::Pipe));
            tunnel(server.begin_answer().unwrap(), at_server, ()).await
        });
        tokio::time::sleep(pause).await;
        application.shutdown().await.unwrap();
        let mut request = Vec::new();
        target.read_to_end(&mut request).await.unwrap();
        assert_eq!(request, b"request");
        assert!(begun.elapsed() < HEARTBEAT / 2, "{pause:?}");
        target.write_all(b"answer").await.unwrap();
        drop(target);
        let mut answer = Vec::new();
        application.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        at_client.await.unwrap().unwrap();
        at_server.await.unwrap().unwrap();
    }
}

/// The client may send no more than goes along with the Open, and the target wants all of it; and all of that is there before
/// the server has reached the target.
#[tokio::test]
async fn a_request_that_is_longer_than_what_goes_along_with_the_open_is_not_held_up() {
    let (here, there) = tcp_pair().await;
    let (client, mut server) = channel(here, there).await;
    let (mut application, plain) = tcp_pair().await;
    let begun = Instant::now();
    tokio::spawn(async move {
        let stream = open_early(client, &Target::Pipe, &plain, &mut Vec::new()).await.unwrap();
        tunnel(stream, plain, ()).await.unwrap();
    });
    let request = pattern(300_000);
    let sent = request.clone();
    tokio::spawn(async move {
        application.write_all(&sent).await.unwrap();
        std::future::pending::<()>().await;
    });
    let (at_server, mut target) = tcp_pair().await;
    tokio::spawn(async move {
        assert_eq!(server.next_open().await.unwrap(), Some(Target::Pipe));
        tokio::time::sleep(Duration::from_millis(200)).await;
        tunnel(server.begin_answer().unwrap(), at_server, ()).await.unwrap();
    });
    let mut arrived = vec![0; request.len()];
    target.read_exact(&mut arrived).await.unwrap();
    assert!(arrived == request);
    assert!(begun.elapsed() < HEARTBEAT / 2);
}

/// No event has been seen yet: the runtime's own function would write nothing.
#[tokio::test]
async fn a_new_connection_is_written_to_before_its_first_event() {
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    let here = UnixStream::from_std(here).unwrap();
    assert_eq!(here.try_write(b"at once").unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(Duplex::try_write_vectored(&here, &[IoSlice::new(b"at "), IoSlice::new(b"once")]).unwrap(), 7);
    let mut arrived = [0; 7];
    io::Read::read_exact(&mut &there, &mut arrived).unwrap();
    assert_eq!(&arrived, b"at once");
}

#[tokio::test]
async fn a_plain_connection_that_is_reset_is_a_reset_at_the_other_end() {
    let (here, there) = tcp_pair().await;
    let (client, server) = channel(here, there).await;
    let (client, mut server) = open(client, server).await;
    let (application, at_client) = tcp_pair().await;
    let relay = tokio::spawn(tunnel(client, at_client, ()));
    application.set_zero_linger().unwrap();
    drop(application);
    assert!(matches!(relay.await.unwrap(), Err(RelayError::Input(_))));
    let error = server.read(&mut [0]).await.unwrap_err();
    assert_eq!(error_in(&error), Some(&Error::Reset(ResetCode::Input)));
}

/// Both directions under way, or one of them over: the reason arrives though the other side sends all it can, and the plain
/// connection is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_is_stopped_tells_the_other_side_why() {
    for over in ["neither", "ours", "theirs"] {
        let (here, there) = tcp_pair().await;
        let (client, server) = channel(here, there).await;
        let (mut client, server) = open(client, server).await;
        let (at_server, mut target) = tcp_pair().await;
        at_server.set_zero_linger().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let stopped = async { stopped.await.unwrap_or(ResetCode::Output) };
        let relay = tokio::spawn(tunnel_until(server, at_server, (), stopped));

        client.write_all(b"up").await.unwrap();
        client.flush().await.unwrap();
        target.read_exact(&mut [0; 2]).await.unwrap();
        if over == "ours" {
            target.shutdown().await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
        if over == "theirs" {
            client.shutdown().await.unwrap();
            assert_eq!(target.read(&mut [0]).await.unwrap(), 0);
        }
        stop.send(ResetCode::NotAllowed).unwrap();
        // Behind the other side's end nothing is read any more, but signs of life.
        let word = if over == "ours" {
            client.write_all(&pattern(300_000)).await.ok();
            client.hold().await
        } else {
            let (mut read, mut write) = client.into_split();
            let sending = tokio::spawn(async move {
                while over != "theirs" && write.write_all(&pattern(100_000)).await.is_ok() {}
            });
            let word = read.read(&mut [0]).await.map(drop);
            drop(read);
            sending.await.unwrap();
            word
        };
        let error = word.unwrap_err();
        assert_eq!(error_in(&error), Some(&Error::Reset(ResetCode::NotAllowed)), "{over} is over: {error}");
        let outcome = relay.await.unwrap().map(drop);
        assert!(matches!(outcome, Err(RelayError::Stopped(ResetCode::NotAllowed))), "{over}: {outcome:?}");
        let cut = tokio::io::copy(&mut target, &mut tokio::io::sink()).await;
        // Behind an end a reset looks like one.
        assert!(over == "theirs" || cut.is_err(), "{over} is over: the target saw an end");
    }
}

/// A task that has done much in its turn is told by its sockets that there is nothing, so that it lets others have theirs.
#[tokio::test]
async fn a_channel_that_is_gone_does_not_stand_at_the_end_of_a_turn_either() {
    let (here, there) = tcp_pair().await;
    let (mut client, server) = channel(here, there).await;
    assert!(client.is_standing());
    drop(server);
    client.get_ref().readable().await.unwrap();
    while has_budget_remaining() {
        consume_budget().await;
    }
    assert!(!client.is_standing());
}

/// The other side may open the next stream as soon as it has both ends, which may be before the receiving direction here
/// has been told of ours.
#[tokio::test]
async fn an_open_right_behind_the_last_end_belongs_to_the_next_stream() {
    let (mut here, there) = duplex(1 << 16);
    let (mut client, hello) = client(knows_psk());
    let pool = RsaPool::new(1);
    let mut chunk = [0; 4096];
    let (server, _) =
        tokio::join!(accept_channel(there, Arc::new(server_config()), &pool, |_| Ok(())), async {
            here.write_all(&hello).await.unwrap();
            while !client.is_done() {
                let len = here.read(&mut chunk).await.unwrap();
                let answer = client.feed(&chunk[..len]);
                here.write_all(&answer).await.unwrap();
            }
        });
    let mut server = server.unwrap();
    // What a client says that cannot have heard of the server's end yet.
    let mut sealer = client.into_outcome().keys.sealer;
    let open = seal_control(&mut sealer, &ControlMessage::Open { target: Target::Pipe });
    let end = seal_control(&mut sealer, &ControlMessage::EndOfStream);
    let next = seal_control(&mut sealer, &ControlMessage::Open { target: Target::Message });
    here.write_all(&open).await.unwrap();
    assert_eq!(server.next_open().await.unwrap(), Some(Target::Pipe));
    let server = server.answer_open().await.unwrap();

    let (_raw, parts) = server.into_parts();
    let peer = Prompt::new(end, next);
    let (plain, mut target) = UnixStream::pair().unwrap();
    let relay = tokio::spawn(tunnel(SecureStream::from_parts(peer, parts), plain, ()));
    assert_eq!(target.read(&mut chunk).await.unwrap(), 0, "the client's end has come through");
    target.shutdown().await.unwrap();
    let mut server = relay.await.unwrap().unwrap();
    assert_eq!(server.next_open().await.unwrap(), Some(Target::Message));
}

/// A peer that answers the first thing it is sent before the call that sends it is over.
struct Prompt(Mutex<State>);

struct State {
    readable: Vec<u8>,
    /// What becomes readable with the first write.
    answer: Vec<u8>,
    reader: Option<Waker>,
}

impl Prompt {
    fn new(readable: Vec<u8>, answer: Vec<u8>) -> Self {
        Self(Mutex::new(State { readable, answer, reader: None }))
    }
}

impl Duplex for Prompt {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock().unwrap();
        if state.readable.is_empty() {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn try_read_vectored(&self, places: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        if state.readable.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = state.readable.len().min(places[0].len());
        places[0][..len].copy_from_slice(&state.readable[..len]);
        state.readable.drain(..len);
        Ok(len)
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        let answer = std::mem::take(&mut state.answer);
        state.readable.extend(answer);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
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

impl AsyncRead for Prompt {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_read_ready(cx))?;
        let len = self.try_read_vectored(&mut [IoSliceMut::new(buf.initialize_unfilled())])?;
        buf.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.try_write_vectored(&[IoSlice::new(bytes)]))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
