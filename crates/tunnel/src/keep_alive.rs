//! How often an idle channel gives a sign of life.

use std::time::Duration;

use wire_protocol::stream::Channel;

/// How often a client's idle channel gives a sign of life: well before the server closes it, and often enough to notice that
/// the way to it is gone.
pub fn keep_alive_every<S>(channel: &Channel<S>) -> Duration {
    keep_alive_within(channel.session().limits.idle_timeout_seconds)
}

/// The least limit that there is is a second (section 5): with less a server would close what it has just let in.
fn keep_alive_within(idle_timeout_seconds: u32) -> Duration {
    (Duration::from_secs(idle_timeout_seconds.max(1).into()) / 3).min(KEEP_ALIVE_EVERY)
}

const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_come_in_time_whatever_the_limit() {
        for limit in 1..=86_400 {
            let every = keep_alive_within(limit);
            assert!(every * 2 < Duration::from_secs(limit.into()), "{limit}");
            assert!(every > Duration::ZERO && every <= KEEP_ALIVE_EVERY, "{limit}");
        }
        assert!(keep_alive_within(0) > Duration::ZERO, "or it would do nothing else");
    }
}
