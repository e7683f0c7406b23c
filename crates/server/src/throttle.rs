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
