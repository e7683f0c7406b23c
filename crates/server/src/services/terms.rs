//! The terms on which the streams of a client are carried.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tunnel::drops::DropReason;
use tunnel::terms::Terms;
use wire_protocol::message::ResetCode;
use wire_protocol::stream::Direction;

use crate::revocation::Revocation;
use crate::throttle::Throttle;

/// The rate of a client, and its right to what it has open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientTerms<'a> {
    pub(crate) throttle: &'a Throttle,
    /// Cancelled once the client has lost the right to what it has open.
    pub(crate) revoked: &'a Revocation,
    /// Cancelled once no more datagrams are to be carried.
    pub(crate) drained: &'a CancellationToken,
}

impl Terms for ClientTerms<'_> {
    type Pace = Throttle;

    fn pace(&self) -> Throttle {
        self.throttle.clone()
    }

    fn admit_datagram(&self, len: usize, direction: Direction) -> Result<(), DropReason> {
        self.throttle.admit(len, direction)
    }

    /// The client says how long a session may be idle.
    fn udp_timeout(&self) -> Duration {
        MAX_UDP_TIMEOUT
    }

    async fn stopped(&self) -> ResetCode {
        self.revoked.cancelled().await;
        self.revoked.code()
    }

    fn stop_reason(&self) -> Option<ResetCode> {
        self.revoked.is_cancelled().then(|| self.revoked.code())
    }

    fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        self.drained.clone().cancelled_owned()
    }
}

/// The longest that `--udp-timeout` can be.
const MAX_UDP_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io;
    use std::num::NonZeroU64;
    use std::task::{Context, Poll};

    use tunnel::drops::DropCounter;
    use tunnel::limited_datagrams::LimitedDatagrams;
    use wire_protocol::stream::{DatagramSocket, Dropped, Pace as _};

    use super::*;

    /// Has datagrams of 100 bytes at any time, and takes all.
    #[derive(Debug)]
    struct Endless {
        left: usize,
    }

    impl DatagramSocket for Endless {
        fn poll_recv(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            if self.left == 0 {
                return Poll::Pending;
            }
            self.left -= 1;
            Poll::Ready(Ok(100))
        }

        fn try_send(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }

    type Limited<'a> = LimitedDatagrams<'a, Endless, ClientTerms<'a>>;

    fn throttle(rate: u64) -> Throttle {
        let throttle = Throttle::default();
        throttle.set_rate(NonZeroU64::new(rate));
        throttle
    }

    async fn received(socket: &mut Limited<'_>) -> usize {
        let mut count = 0;
        while let Ok(Ok(_)) =
            tokio::time::timeout(Duration::ZERO, poll_fn(|cx| socket.poll_recv(cx, &mut []))).await
        {
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn datagrams_beyond_the_limit_are_lost() {
        let rate = throttle(20_000);
        let (revoked, drained) = (Revocation::default(), CancellationToken::new());
        let terms = ClientTerms { throttle: &rate, revoked: &revoked, drained: &drained };
        // A twentieth of a second's bytes at once: ten datagrams, in both directions together.
        let dropped = DropCounter::default();
        let mut endless = Endless { left: 50 };
        let mut socket = LimitedDatagrams::new(&mut endless, &terms, dropped.flow("x".into()));
        let sent = (0..50).filter(|_| socket.try_send(&[0; 100]).is_ok()).count();
        assert_eq!((sent, dropped.count()), (10, 40));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(received(&mut socket).await, 10);
        assert_eq!(dropped.count(), 80);
        // The relay's own word of them is not another one.
        let excess = io::Error::from(io::ErrorKind::QuotaExceeded);
        socket.dropped(100, &Dropped::NotTaken(&excess));
        assert_eq!(dropped.count(), 80);
        let mut endless = Endless { left: 50 };
        let unlimited = Throttle::default();
        let free = ClientTerms { throttle: &unlimited, ..terms };
        assert_eq!(
            received(&mut LimitedDatagrams::new(&mut endless, &free, dropped.flow("y".into()))).await,
            50
        );
        // One that is longer than that passes as well, now and then; what streams have booked is their own.
        rate.note(1_000_000, Direction::Sent);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(socket.try_send(&[0; 16384]).is_ok());
        assert!(socket.try_send(&[0; 1]).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_where_there_is_to_be_one() {
        let unlimited = Throttle::default();
        let (revoked, drained) = (Revocation::default(), CancellationToken::new());
        let terms = ClientTerms { throttle: &unlimited, revoked: &revoked, drained: &drained };
        let mut endless = Endless { left: 1 };
        let mut socket = LimitedDatagrams::new(&mut endless, &terms, DropCounter::default().flow("x".into()));
        assert_eq!(received(&mut socket).await, 1);
        drained.cancel();
        let error = poll_fn(|cx| socket.poll_recv(cx, &mut [])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
