//! The UDP socket towards a target: uses the first of its addresses that does not refuse datagrams.
//!
//! Nobody says that a datagram has arrived, but a port where nobody listens is told of as a rule. So what goes out is
//! kept for a moment where there are other addresses, and sent to the next one when the first refuses.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;
use tokio::time::{Sleep, sleep};
use wire_protocol::channel::MAX_DATAGRAM_LEN;
use wire_protocol::stream::{DatagramSocket, Dropped, send_past_earlier_errors};

use crate::drops::FlowDrops;

/// A connected UDP socket that exchanges datagrams with one address of a target.
pub struct DatagramTarget<'a> {
    socket: Arc<UdpSocket>,
    /// Where to go when nobody is there.
    others: std::vec::IntoIter<SocketAddr>,
    kept: Kept,
    /// Waits for a refusal, which the system tells of in another way than of a datagram; while there are others.
    refusal: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    drops: FlowDrops,
    reached: Box<dyn FnMut(SocketAddr) + Send + 'a>,
}

/// What has gone out and may have been refused.
#[derive(Default)]
struct Kept {
    datagrams: Vec<Vec<u8>>,
    bytes: usize,
    /// From then on nothing is kept any more.
    until: Option<Pin<Box<Sleep>>>,
}

impl<'a> DatagramTarget<'a> {
    /// Towards the first of `candidates` there is a way to; `reached` is told of it, and of each that takes its place.
    /// Datagrams that are dropped are told to `drops`.
    ///
    /// # Errors
    /// `NotFound` where there are no candidates, else those of the socket.
    pub fn connect(
        candidates: Vec<SocketAddr>,
        drops: FlowDrops,
        mut reached: impl FnMut(SocketAddr) + Send + 'a,
    ) -> io::Result<Self> {
        let mut others = candidates.into_iter();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        while let Some(candidate) = others.next() {
            match connect(candidate).and_then(UdpSocket::from_std) {
                Ok(socket) => {
                    reached(candidate);
                    let (kept, reached) = (Kept::default(), Box::new(reached));
                    return Ok(Self { socket: socket.into(), others, kept, refusal: None, drops, reached });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Goes on with the next address there is a way to, and sends there what may have been refused. Stays where it is
    /// where there is none.
    fn go_on(&mut self) {
        while let Some(candidate) = self.others.next() {
            let socket = connect(candidate).and_then(|socket| {
                for datagram in &self.kept.datagrams {
                    send_past_earlier_errors(|| socket.send(datagram)).ok();
                }
                UdpSocket::from_std(socket)
            });
            let Ok(socket) = socket else { continue };
            tracing::debug!(address = %candidate, "nobody takes datagrams at the address before: trying this one");
            (self.socket, self.refusal) = (socket.into(), None);
            (self.reached)(candidate);
            if !self.is_refused() {
                break;
            }
        }
        if self.others.as_slice().is_empty() {
            self.stay();
        }
    }

    /// This is the address.
    fn stay(&mut self) {
        self.others = Vec::new().into_iter();
        (self.kept, self.refusal) = (Kept::default(), None);
    }

    /// Whether this says that nobody is there, and there is another address.
    fn is_refusal(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::ConnectionRefused && !self.others.as_slice().is_empty()
    }

    /// Whether the system has been told that nobody is there, and there is another address.
    fn is_refused(&self) -> bool {
        self.socket.take_error().is_ok_and(|error| error.is_some_and(|error| self.is_refusal(&error)))
    }

    /// Ready once there may have been a refusal.
    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let refusal = self.refusal.get_or_insert_with(|| {
            let socket = Arc::clone(&self.socket);
            Box::pin(async move {
                if socket.ready(Interest::ERROR).await.is_ok() {
                    // The next wait is for the next one.
                    socket
                        .try_io(Interest::ERROR, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()))
                        .ok();
                }
            })
        });
        ready!(refusal.as_mut().poll(cx));
        self.refusal = None;
        Poll::Ready(())
    }

    /// Keeps a datagram as long as it may be refused and there is another address.
    fn keep(&mut self, datagram: &[u8]) {
        if self.others.as_slice().is_empty() {
            return;
        }
        let Kept { datagrams, bytes, until } = &mut self.kept;
        let may_be_kept = !until.as_ref().is_some_and(|until| until.is_elapsed());
        if may_be_kept && *bytes + datagram.len() <= MAX_KEPT_LEN && datagrams.len() < MAX_KEPT {
            datagrams.push(datagram.to_vec());
            *bytes += datagram.len();
            until.get_or_insert_with(|| Box::pin(sleep(KEEP_FOR)));
        }
    }
}

impl DatagramSocket for DatagramTarget<'_> {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut room = ReadBuf::new(buf);
            match self.socket.poll_recv(cx, &mut room) {
                Poll::Ready(Ok(())) => {
                    let len = room.filled().len();
                    // A service listens there.
                    self.stay();
                    return Poll::Ready(Ok(len));
                }
                Poll::Ready(Err(error)) if self.is_refusal(&error) => self.go_on(),
                Poll::Ready(Err(error)) if is_of_an_earlier_one(&error) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, error)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if !self.others.as_slice().is_empty() && self.poll_refusal(cx).is_ready() => {
                    if self.is_refused() {
                        self.go_on();
                    }
                }
                Poll::Pending => {
                    if let Some(until) = &mut self.kept.until
                        && !self.kept.datagrams.is_empty()
                    {
                        ready!(until.as_mut().poll(cx));
                        (self.kept.datagrams, self.kept.bytes) = (Vec::new(), 0);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn try_send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.keep(datagram);
        // Past the reactor, which knows nothing yet of a socket that has just taken the place of another.
        match SockRef::from(&self.socket).send(datagram) {
            Ok(_) => {
                // On this machine it is known at once.
                if !self.others.as_slice().is_empty() && self.is_refused() {
                    self.go_on();
                }
                Ok(())
            }
            Err(error) if self.is_refusal(&error) => {
                self.go_on();
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(_) => send_past_earlier_errors(|| SockRef::from(&self.socket).send(datagram)),
        }
    }

    fn dropped(&mut self, len: usize, why: &Dropped<'_>) {
        self.drops.note_relay(why, len);
    }
}

impl fmt::Debug for DatagramTarget<'_> {
    /// Nothing of what is kept.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramTarget").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn connect(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let any: SocketAddr =
        if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether an earlier datagram has come to nothing: the socket is as good as before.
fn is_of_an_earlier_one(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNREFUSED
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::NOPROTOOPT
                | Errno::MSGSIZE
                | Errno::ACCESS
                | Errno::PERM
        )
    )
}

/// How long what went out is kept: a refusal that comes later says nothing of whether anybody was there at the start.
const KEEP_FOR: Duration = Duration::from_secs(2);
/// One of the longest, or several that are short.
const MAX_KEPT_LEN: usize = MAX_DATAGRAM_LEN;
const MAX_KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Mutex;

    use super::*;
    use crate::drops::DropCounter;

    async fn received(target: &mut DatagramTarget<'_>) -> Vec<u8> {
        let mut buf = [0; 100];
        let len = poll_fn(|cx| target.poll_recv(cx, &mut buf)).await.unwrap();
        buf[..len].to_vec()
    }

    /// Ports where nobody is, on two of this machine's addresses, and one where somebody is.
    async fn addresses() -> ([SocketAddr; 2], UdpSocket) {
        let mut nobody = Vec::new();
        for address in ["127.0.0.2:0", "127.0.0.3:0"] {
            nobody.push(UdpSocket::bind(address).await.unwrap().local_addr().unwrap());
        }
        ([nobody[0], nobody[1]], UdpSocket::bind("127.0.0.1:0").await.unwrap())
    }

    #[tokio::test]
    async fn what_is_refused_at_one_address_arrives_at_the_next() {
        let ([first, second], service) = addresses().await;
        let there = service.local_addr().unwrap();
        let reached = Mutex::new(Vec::new());
        let drops = DropCounter::default();
        let mut target =
            DatagramTarget::connect(vec![first, second, there], drops.flow("x".into()), |address| {
                reached.lock().unwrap().push(address);
            })
            .unwrap();
        target.try_send(b"one").unwrap();
        target.try_send(b"two").unwrap();
        let echo = async {
            let mut buf = [0; 100];
            for expected in [&b"one"[..], b"two"] {
                let (len, peer) = service.recv_from(&mut buf).await.unwrap();
                assert_eq!(&buf[..len], expected);
                service.send_to(&buf[..len], peer).await.unwrap();
            }
        };
        let (one, ()) = tokio::join!(received(&mut target), echo);
        assert_eq!((one, received(&mut target).await), (b"one".to_vec(), b"two".to_vec()));
        assert_eq!(*reached.lock().unwrap(), [first, second, there]);
        assert_eq!((target.kept.datagrams.len(), drops.count()), (0, 0));
    }

    #[tokio::test]
    async fn the_datagram_after_a_refused_one_goes_out() {
        let ([first, second], _) = addresses().await;
        let drops = DropCounter::default();
        let mut target =
            DatagramTarget::connect(vec![first, second], drops.flow("x".into()), |_| {}).unwrap();
        target.try_send(b"one").unwrap();
        target.try_send(b"two").unwrap();
        // A service begins to listen; the refusal of the datagram before is still to be told of.
        let mut buf = [0; 100];
        let service = UdpSocket::bind(second).await.unwrap();
        target.try_send(b"three").unwrap();
        let len = service.recv(&mut buf).await.unwrap();
        assert_eq!((&buf[..len], target.kept.datagrams.len()), (&b"three"[..], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_in_length_number_and_time() {
        let (_, service) = addresses().await;
        let there = service.local_addr().unwrap();
        let drops = DropCounter::default();
        let mut target = DatagramTarget::connect(vec![there; 2], drops.flow("x".into()), |_| {}).unwrap();
        for _ in 0..2 * MAX_KEPT {
            target.try_send(b"one").unwrap();
        }
        assert_eq!(target.kept.datagrams.len(), MAX_KEPT);
        target.try_send(&vec![0; MAX_KEPT_LEN]).unwrap();
        assert_eq!(target.kept.bytes, 3 * MAX_KEPT);
        let mut buf = [0; 100];
        let waited = poll_fn(|cx| target.poll_recv(cx, &mut buf));
        tokio::time::timeout(KEEP_FOR * 2, waited).await.unwrap_err();
        assert_eq!(target.kept.datagrams.len(), 0);
        target.try_send(b"late").unwrap();
        assert_eq!(target.kept.datagrams.len(), 0);
    }
}
