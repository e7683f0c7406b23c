//! One end of a connection in memory.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire_protocol::stream::Duplex;

use super::connection::{Connection, Side};

/// One end of a connection in memory. It behaves as a TCP connection of the system does: back pressure, half-closes, and a
/// reset for whoever writes to an end that is gone or leaves something unread.
#[derive(Debug)]
pub struct MemorySocket {
    connection: Arc<Connection>,
    side: Side,
}

impl MemorySocket {
    pub(super) fn new(connection: Arc<Connection>, side: Side) -> Self {
        Self { connection, side }
    }

    /// Whether dropping it resets the connection; it does not at first.
    pub fn set_reset_on_drop(&self, resets: bool) {
        self.connection.set_reset_on_drop(self.side, resets);
    }

    /// The address of the other side.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        let [dialer, dialed] = self.connection.addresses;
        if self.side == Side::Dialed { dialed } else { dialer }
    }

    /// The address of this side.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        let [dialer, dialed] = self.connection.addresses;
        if self.side == Side::Dialed { dialer } else { dialed }
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        self.connection.close(self.side);
    }
}

impl Duplex for MemorySocket {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_read_ready(self.side, cx).map(Ok)
    }

    fn try_read_vectored(&self, places: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.connection.read(self.side, places)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_write_ready(self.side, cx).map(Ok)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.connection.write(self.side, slices)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.connection.shut_down(self.side)
    }

    fn finish(self) {
        self.set_reset_on_drop(false);
    }

    async fn reset(&self) -> io::Error {
        self.connection.reset(self.side).await
    }
}

impl AsyncRead for MemorySocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.connection.poll_read_ready(self.side, cx));
            match self.try_read_vectored(&mut [IoSliceMut::new(buf.initialize_unfilled())]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(len) => {
                    buf.advance(len);
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for MemorySocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.connection.poll_write_ready(self.side, cx));
            match self.try_write_vectored(&[IoSlice::new(bytes)]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::{Instant, timeout};

    use super::super::listener::MemoryListener;
    use super::super::network::MemoryNetwork;
    use super::super::random::Random;
    use super::super::registry::Conditions;
    use super::*;

    const CAPACITY: usize = 100;

    fn network(seed: u64, max_delay: u64) -> (MemoryNetwork, MemoryListener) {
        let conditions = Conditions { max_delay: Duration::from_millis(max_delay), capacity: CAPACITY };
        let network = MemoryNetwork::new(seed, conditions);
        let listener = network.host([10, 0, 0, 1].into()).listen("10.0.0.1:80".parse().unwrap()).unwrap();
        (network, listener)
    }

    async fn pair(network: &MemoryNetwork, listener: &MemoryListener) -> (MemorySocket, MemorySocket) {
        let host = network.host([10, 0, 0, 2].into());
        let (dialed, accepted) = tokio::join!(host.dial(listener.address()), listener.accept());
        (dialed.unwrap(), accepted.unwrap())
    }

    fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
        result.unwrap_err().kind()
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_arrive_once_and_in_order_whatever_the_delays() {
        for seed in 0..50 {
            let (network, listener) = network(seed, 50);
            let (mut one, mut other) = pair(&network, &listener).await;
            assert_eq!(one.peer_address(), other.local_address());
            assert_eq!(other.peer_address(), one.local_address());
            let mut random = Random::new(seed);
            let sent: Vec<u8> = (0..5000_u32).map(|index| index.to_le_bytes()[0]).collect();
            let write = async {
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    let len = one.write(&rest[..(random.index(300) + 1).min(rest.len())]).await.unwrap();
                    assert!(len <= CAPACITY);
                    rest = &rest[len..];
                }
                one.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            let ((), read) = tokio::join!(write, other.read_to_end(&mut received));
            assert_eq!(read.unwrap(), sent.len(), "seed {seed}");
            assert!(received == sent, "seed {seed}");
            // The other direction is open still.
            other.write_all(b"answer").await.unwrap();
            drop(other);
            let mut answer = String::new();
            one.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "answer", "seed {seed}");
            drop(one);
            assert_eq!(network.open_connections(), Vec::<String>::new());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_connection_takes_nothing_until_somebody_reads() {
        let (network, listener) = network(1, 0);
        let (mut one, mut other) = pair(&network, &listener).await;
        one.write_all(&[0; CAPACITY]).await.unwrap();
        assert_eq!(kind(one.try_write_vectored(&[IoSlice::new(&[1])])), io::ErrorKind::WouldBlock);
        timeout(Duration::from_secs(60), one.write_all(&[1])).await.unwrap_err();
        let (read, written) = tokio::join!(other.read_u8(), one.write_all(&[1]));
        assert_eq!(read.unwrap(), 0);
        written.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_dropped_ends_well_or_resets_as_it_was_told() {
        let (network, listener) = network(1, 0);
        let (one, mut other) = pair(&network, &listener).await;
        one.set_reset_on_drop(true);
        let (error, ()) = tokio::join!(other.reset(), async { drop(one) });
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(kind(other.read_u8().await), io::ErrorKind::ConnectionReset);
        assert_eq!(kind(other.write_u8(1).await), io::ErrorKind::ConnectionReset);

        let (one, mut other) = pair(&network, &listener).await;
        one.set_reset_on_drop(true);
        one.finish();
        assert_eq!(other.read(&mut [0; 8]).await.unwrap(), 0);
        // Nobody is there to take it: the first one goes out, and is answered.
        other.write_u8(1).await.unwrap();
        assert_eq!(kind(other.write_u8(1).await), io::ErrorKind::ConnectionReset);

        // What is left unread is lost, and its writer is told.
        let (one, mut other) = pair(&network, &listener).await;
        other.write_u8(1).await.unwrap();
        drop(one);
        assert_eq!(kind(other.read_u8().await), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_can_be_cut_with_a_word_and_without_one() {
        let (network, listener) = network(1, 0);
        let (mut one, mut other) = pair(&network, &listener).await;
        assert!(!network.cut(|address| address.port() != 80));
        let (one_read, other_read, ()) =
            tokio::join!(one.read_u8(), other.read_u8(), async { assert!(network.cut(|_| true)) });
        assert_eq!(kind(one_read), io::ErrorKind::ConnectionReset);
        assert_eq!(kind(other_read), io::ErrorKind::ConnectionReset);
        drop((one, other));

        let (mut one, mut other) = pair(&network, &listener).await;
        assert!(network.silence(|_| true) && !network.silence(|_| true));
        one.write_all(&[0; CAPACITY]).await.unwrap();
        timeout(Duration::from_secs(3600), one.write_u8(0)).await.unwrap_err();
        drop(one);
        timeout(Duration::from_secs(3600), other.read_u8()).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn who_dials_is_told_whether_somebody_listens_where_it_arrives() {
        let (network, listener) = network(1, 0);
        let host = network.host([10, 0, 0, 2].into());
        assert_eq!(kind(host.dial("10.0.0.1:81".parse().unwrap()).await), io::ErrorKind::ConnectionRefused);
        let address = listener.address();
        assert_eq!(kind(host.listen(address)), io::ErrorKind::AddrInUse);
        network.set_reachable(address, false);
        timeout(Duration::from_secs(3600), host.dial(address)).await.unwrap_err();
        network.set_reachable(address, true);
        let mut waiting = host.dial(address).await.unwrap();
        drop(listener);
        assert_eq!(kind(waiting.read_u8().await), io::ErrorKind::ConnectionReset);
        assert_eq!(kind(host.dial(address).await), io::ErrorKind::ConnectionRefused);
        assert!(network.listened_on().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn delays_pass_on_the_clock_of_the_test() {
        let (network, listener) = network(3, 1000);
        let (mut one, mut other) = pair(&network, &listener).await;
        let begun = Instant::now();
        for _ in 0..20 {
            one.write_u8(1).await.unwrap();
            other.read_u8().await.unwrap();
        }
        let passed = begun.elapsed();
        assert!(passed > Duration::from_secs(1) && passed < Duration::from_secs(20), "{passed:?}");
    }
}
