//! How many bytes a second a client may have, over all its channels.

use std::fmt;
use std::future::Future as _;
use std::io;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use leaky_bucket::RateLimiter;
use tokio_util::sync::WaitForCancellationFutureOwned;
use wire_protocol::stream::{DatagramSocket, Pace};

/// Holds bytes up where there is a limit.
#[derive(Clone, Default)]
pub(crate) struct Throttle(Option<Arc<RateLimiter>>);

/// Datagrams of a client: those beyond its limit are lost, and once `ended` there are no more.
#[derive(Debug)]
pub(crate) struct Throttled<D> {
    pub(crate) socket: D,
    pub(crate) throttle: Throttle,
    pub(crate) ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Throttle {
    /// Lets `rate` bytes a second pass, a twentieth of them at once.
    pub(crate) fn new(rate: NonZeroU64) -> Self {
        let rate = usize::try_from(rate.get()).unwrap_or(usize::MAX);
        let share = (rate / SHARES_PER_SECOND).max(1);
        let limiter = RateLimiter::builder()
            .initial(share)
            .max(share)
            .refill(share)
            .interval(Duration::from_secs(1) / u32::try_from(SHARES_PER_SECOND).unwrap_or(1))
            .build();
        Self(Some(Arc::new(limiter)))
    }

    /// Whether a datagram may pass now. One that is longer than all that may pass at once counts as that.
    fn admits(&self, datagram: usize) -> bool {
        self.0.as_ref().is_none_or(|limiter| limiter.try_acquire(datagram.min(limiter.max())))
    }
}

impl<D: DatagramSocket> DatagramSocket for Throttled<D> {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.poll_recv(cx, buf) {
                Poll::Ready(Ok(len)) if !self.throttle.admits(len) => {}
                Poll::Pending if self.ended.as_mut().poll(cx).is_ready() => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                polled => return polled,
            }
        }
    }

    fn try_send(&mut self, datagram: &[u8]) -> io::Result<()> {
        if self.throttle.admits(datagram.len()) {
            self.socket.try_send(datagram)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send_ready(cx)
    }
}

impl Pace for Throttle {
    async fn admit(&self, bytes: usize) {
        if let Some(limiter) = &self.0 {
            limiter.acquire(bytes).await;
        }
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Throttle").field(&self.0.is_some()).finish()
    }
}

/// Often enough that nothing stutters, seldom enough to cost nothing.
const SHARES_PER_SECOND: usize = 20;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Has a datagram of 100 bytes at any time, and takes all.
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

    fn throttled(throttle: Throttle, left: usize) -> (Throttled<Endless>, CancellationToken) {
        let ended = CancellationToken::new();
        let socket = Throttled {
            socket: Endless { left },
            throttle,
            ended: Box::pin(ended.clone().cancelled_owned()),
        };
        (socket, ended)
    }

    async fn received(socket: &mut Throttled<Endless>) -> usize {
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
        let rate = Throttle::new(NonZeroU64::new(20_000).unwrap());
        // A twentieth of a second's bytes at once: ten datagrams, in both directions together.
        let (mut socket, _ended) = throttled(rate.clone(), 50);
        let sent = (0..50).filter(|_| socket.try_send(&[0; 100]).is_ok()).count();
        assert_eq!(sent, 10);
        tokio::time::sleep(Duration::from_millis(51)).await;
        assert_eq!(received(&mut socket).await, 10);
        let (mut free, _ended) = throttled(Throttle::default(), 50);
        assert_eq!(received(&mut free).await, 50);
        // One that is longer than that passes as well, now and then.
        tokio::time::sleep(Duration::from_millis(51)).await;
        assert!(socket.try_send(&[0; 16384]).is_ok());
        assert!(socket.try_send(&[0; 1]).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_where_there_is_to_be_one() {
        let (mut socket, ended) = throttled(Throttle::default(), 1);
        assert_eq!(received(&mut socket).await, 1);
        ended.cancel();
        let error = poll_fn(|cx| socket.poll_recv(cx, &mut [])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
