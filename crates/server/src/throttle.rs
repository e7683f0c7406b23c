//! How many bytes a second a client may have, over all its channels.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use leaky_bucket::RateLimiter;
use wire_protocol::stream::Pace;

/// Holds bytes up where there is a limit.
#[derive(Clone, Default)]
pub(crate) struct Throttle(Option<Arc<RateLimiter>>);

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
