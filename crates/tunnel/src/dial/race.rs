//! Happy Eyeballs (RFC 8305, section 5): attempts to connect that begin one after the other and run beside one another.
//!
//! By hand rather than with one of the crates of that name: they take a name where this takes addresses that were checked,
//! none gives back which address answered, and all are years old or not kept up.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Type};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::deadline::in_time;
use super::explain::{lacks_scope, scope_missing};
use super::history;

/// Connects to the first of `candidates` that answers, and says which one that was.
pub(super) async fn connect_first(candidates: Vec<SocketAddr>) -> io::Result<(TcpStream, SocketAddr)> {
    if let [only] = candidates[..] {
        return Ok((in_time(connect(only)).await?, only));
    }
    let mut attempts = Attempts::default();
    let mut failure = Failure::default();
    let mut candidates = candidates.into_iter();
    loop {
        let Some(candidate) = candidates.next() else {
            // None is left to be begun.
            match attempts.next().await {
                Some(Ok(connected)) => return Ok(connected),
                Some(Err(error)) => failure.note(error),
                None => return Err(failure.into_error()),
            }
            continue;
        };
        // The first has the descriptor that its connection is going to have.
        let permit = loop {
            if attempts.0.is_empty() {
                break None;
            }
            tokio::select! {
                biased;
                permit = MORE_ATTEMPTS.acquire() => break permit.ok(),
                ended = attempts.next() => match ended {
                    Some(Ok(connected)) => return Ok(connected),
                    Some(Err(error)) => failure.note(error),
                    None => break None,
                }
            }
        };
        if let Some(given_up) = attempts.begin(candidate, permit) {
            failure.note(given_up);
        }
        match timeout(ATTEMPT_DELAY, attempts.next()).await {
            Ok(Some(Ok(connected))) => return Ok(connected),
            Ok(Some(Err(error))) => failure.note(error),
            Ok(None) | Err(_) => {}
        }
    }
}

/// A place for an attempt to connect beside the first one of the same connection; `None` where this process makes 32 such
/// attempts already, for which alone it has set descriptors aside.
#[must_use]
pub fn further_attempt() -> Option<SemaphorePermit<'static>> {
    MORE_ATTEMPTS.try_acquire().ok()
}

/// Attempts under way, the oldest first.
#[derive(Default)]
struct Attempts(VecDeque<(SocketAddr, Attempt, Option<SemaphorePermit<'static>>)>);

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

impl Attempts {
    /// Where there are too many, the oldest is given up, and how it has ended is told.
    fn begin(
        &mut self,
        candidate: SocketAddr,
        permit: Option<SemaphorePermit<'static>>,
    ) -> Option<io::Error> {
        let oldest = if self.0.len() >= MAX_ATTEMPTS { self.0.pop_front() } else { None };
        self.0.push_back((candidate, Box::pin(in_time(connect(candidate))), permit));
        oldest.map(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer within two seconds"))
    }

    /// How the next one ends; `None` where there is none. Can be dropped and called again.
    async fn next(&mut self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<(TcpStream, SocketAddr)>>> {
        for at in 0..self.0.len() {
            let Some((candidate, attempt, _)) = self.0.get_mut(at) else { break };
            let Poll::Ready(ended) = attempt.as_mut().poll(cx) else { continue };
            let candidate = *candidate;
            self.0.remove(at);
            let ended = match ended {
                Ok(stream) => {
                    history::worked(candidate);
                    Ok((stream, candidate))
                }
                Err(error) => {
                    tracing::debug!(%candidate, %error, "one address of several does not answer");
                    Err(error)
                }
            };
            return Poll::Ready(Some(ended));
        }
        if self.0.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// What is told where nothing has come of any attempt.
#[derive(Default)]
struct Failure(Option<io::Error>);

impl Failure {
    /// That there is no way to an address, such as to those of IPv6 on a machine without, counts only where nothing else
    /// has happened.
    fn note(&mut self, error: io::Error) {
        if self.0.is_none() || !is_no_way(&error) {
            self.0 = Some(error);
        }
    }

    fn into_error(self) -> io::Error {
        self.0.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    }
}

/// Whether this machine has no way to an address, as to those of IPv6 on one without.
#[must_use]
pub fn is_no_way(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)
    )
}

/// Connects without waiting for the event that says so where that has happened already, as it has on this machine.
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    if lacks_scope(address) {
        return Err(scope_missing(address.ip()));
    }
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    let connected = match socket.connect(&address.into()) {
        Ok(()) => true,
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::INPROGRESS) => socket.peer_addr().is_ok(),
            // For IPv6 it can also mean that this machine has no address from which that one is to be reached.
            Some(Errno::ADDRNOTAVAIL) if address.is_ipv4() => {
                let message = "all ports of this machine for connections to there are in use";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
            }
            _ => return Err(error),
        },
    };
    let stream = TcpStream::from_std(socket.into())?;
    if !connected {
        stream.writable().await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
    }
    Ok(stream)
}

/// RFC 8305's Connection Attempt Delay.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// At once, each of which has a descriptor: where more are due, the oldest, which has had two seconds, gives way.
const MAX_ATTEMPTS: usize = 8;
/// Attempts of the whole process beside the first one of each connection: what is set aside for descriptors has room for as
/// many. Where there are more, the next address waits for its turn.
static MORE_ATTEMPTS: Semaphore = Semaphore::const_new(32);

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;
    use std::time::Instant;

    use socket2::Socket;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A listener that keeps so many connections that nobody accepts, and one more.
    fn listener(backlog: i32) -> (Socket, SocketAddr) {
        listener_at([127, 0, 0, 1], backlog)
    }

    fn listener_at(ip: [u8; 4], backlog: i32) -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
        socket.listen(backlog).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn a_connection_that_stands_at_once_carries_both_ways() {
        let (listener, address) = listener(16);
        let Poll::Ready(stream) = pin!(connect(address)).poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it waits for an event");
        };
        let mut stream = stream.unwrap();
        stream.write_all(b"there").await.unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.send(b"back").unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"back");
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_refuses() {
        let (listener, address) = listener(16);
        drop(listener);
        assert_eq!(connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    /// The system drops what a full listener is asked, and asks again a second later.
    #[tokio::test]
    async fn a_connection_that_does_not_stand_yet_is_waited_for() {
        let (listener, address) = listener(0);
        let _kept = connect(address).await.unwrap();
        let mut waiting = Box::pin(connect(address));
        timeout(Duration::from_millis(100), &mut waiting).await.expect_err("the listener was not full");
        listener.accept().unwrap();
        let stream = in_time(waiting).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    }

    /// Addresses that swallow what they are asked, as behind a firewall that drops it: full listeners.
    async fn swallowing(count: u8) -> Vec<(Socket, TcpStream, SocketAddr)> {
        let mut all = Vec::new();
        for last in 0..count {
            let (listener, address) = listener_at([127, 0, 1, last + 1], 0);
            all.push((listener, connect(address).await.unwrap(), address));
        }
        all
    }

    #[tokio::test]
    async fn addresses_that_swallow_packets_cost_a_quarter_of_a_second_each() {
        for count in [1, 9] {
            let swallowing = swallowing(count).await;
            let (_listener, good) = listener_at([127, 0, 0, 2], 16);
            let candidates: Vec<_> = swallowing.iter().map(|(.., address)| *address).chain([good]).collect();
            let begun = Instant::now();
            let (stream, address) = connect_first(candidates.clone()).await.unwrap();
            let (least, took) = (ATTEMPT_DELAY * count.into(), begun.elapsed());
            assert_eq!((stream.peer_addr().unwrap(), address), (good, good));
            assert!(took >= least && took < least + Duration::from_secs(2), "{count}: {took:?}");
            // From now on it is the first.
            assert_eq!(history::sorted(candidates)[0], good);
        }
    }

    #[tokio::test]
    async fn what_is_refused_costs_nothing_and_counts_for_more_than_no_way() {
        let (listener, refused) = listener(16);
        drop(listener);
        let (_good_listener, good) = listener_at([127, 0, 0, 2], 16);
        let begun = Instant::now();
        let (_, address) = connect_first(vec![refused, good]).await.unwrap();
        assert_eq!(address, good);
        assert!(begun.elapsed() < ATTEMPT_DELAY, "{:?}", begun.elapsed());

        // Nobody has an address of this network (RFC 6666), and IPv6 may be off altogether.
        let nowhere = "[100::1]:9".parse().unwrap();
        for candidates in [[refused, nowhere], [nowhere, refused]] {
            let error = connect_first(candidates.to_vec()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
        assert_eq!(connect_first(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_link_local_address_is_told_that_it_needs_an_interface() {
        let error = connect("[fe80::1]:80".parse().unwrap()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "fe80::1 is link-local, and needs the interface behind it: [fe80::1%eth0]"
        );
    }
}
