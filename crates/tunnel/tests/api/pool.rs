//! The pool of warm channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tunnel::pool::{END_DEADLINE, Fault, MAX_WARM};

use super::server::{Connector, Failure, Server};

type Pool = tunnel::pool::Pool<Connector>;

/// A pool that is kept up, with how often the server was found.
struct Kept {
    pool: Arc<Pool>,
    server: Arc<Server>,
    found: Arc<AtomicUsize>,
    keeping: JoinHandle<Result<(), Failure>>,
}

impl Kept {
    fn new() -> Self {
        let (connector, server) = Connector::new(60);
        Self::with(connector, server)
    }

    fn with(connector: Connector, server: Arc<Server>) -> Self {
        let (pool, found) = (Pool::new(connector), Arc::new(AtomicUsize::new(0)));
        let keeping = tokio::spawn({
            let (pool, found) = (Arc::clone(&pool), Arc::clone(&found));
            async move { pool.keep_up(|| _ = found.fetch_add(1, Ordering::Relaxed)).await }
        });
        Self { pool, server, found, keeping }
    }

    fn attempts(&self) -> usize {
        self.server.attempts.load(Ordering::Relaxed)
    }

    fn found(&self) -> usize {
        self.found.load(Ordering::Relaxed)
    }
}

/// Long enough for everything that does not wait for time to pass.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn two_channels_are_warm_before_any_is_asked_for() {
    let kept = Kept::new();
    settle().await;
    assert_eq!((kept.pool.idle(), kept.attempts(), kept.found()), (2, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_warm_channel_costs_no_wait_and_comes_back() {
    let kept = Kept::new();
    settle().await;
    let before = Instant::now();
    let channel = kept.pool.get(within(30)).await.unwrap();
    assert_eq!((before.elapsed(), kept.pool.idle()), (Duration::ZERO, 1));
    settle().await;
    assert_eq!(kept.pool.idle(), 2, "another one was made in its place");
    kept.pool.put(channel);
    assert_eq!((kept.pool.idle(), kept.attempts()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_burst_makes_eight_handshakes_at_once_and_wants_more_channels_for_a_while() {
    let kept = Kept::new();
    settle().await;
    *kept.server.delay.lock().unwrap() = Duration::from_millis(100);
    let burst: Vec<_> = (0..2 * MAX_WARM)
        .map(|_| {
            let pool = Arc::clone(&kept.pool);
            tokio::spawn(async move { pool.get(within(30)).await.unwrap() })
        })
        .collect();
    for asked in burst {
        kept.pool.put(asked.await.unwrap());
    }
    assert_eq!(kept.server.most_under_way.load(Ordering::Relaxed), 8);
    sleep(Duration::from_secs(4)).await;
    assert!((MAX_WARM / 2..=2 * MAX_WARM + 8).contains(&kept.pool.idle()), "{}", kept.pool.idle());
    sleep(Duration::from_secs(120)).await;
    assert_eq!(kept.pool.idle(), 2, "what nobody asks for is let go of");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_gives_no_more_is_asked_seldom_and_what_comes_back_is_used() {
    let kept = Kept::new();
    settle().await;
    *kept.server.always.lock().unwrap() = Some(Fault::TooManyChannels);
    let (first, _second) =
        (kept.pool.get(within(30)).await.unwrap(), kept.pool.get(within(30)).await.unwrap());
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let pool = Arc::clone(&kept.pool);
            tokio::spawn(async move { pool.put(pool.get(within(60)).await.unwrap()) })
        })
        .collect();
    settle().await;
    let before = kept.attempts();
    sleep(Duration::from_secs(30)).await;
    let asked = kept.attempts() - before;
    assert!((5..=60).contains(&asked), "{asked}");
    assert_eq!(kept.found(), 1, "the server was never out of reach");
    kept.pool.put(first);
    for waiting in waiting {
        timeout(Duration::from_millis(1), waiting).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_lost_is_found_again() {
    let kept = Kept::new();
    settle().await;
    *kept.server.always.lock().unwrap() = Some(Fault::Passing);
    kept.server.cut.lock().unwrap().cancel();
    settle().await;
    let pool = Arc::clone(&kept.pool);
    let waiting = tokio::spawn(async move { pool.get(within(120)).await });
    sleep(Duration::from_secs(60)).await;
    assert!(!waiting.is_finished());
    let attempts = kept.attempts();
    assert!((10..=40).contains(&attempts), "{attempts}");
    *kept.server.cut.lock().unwrap() = Default::default();
    *kept.server.always.lock().unwrap() = None;
    let channel = timeout(Duration::from_secs(6), waiting).await.unwrap().unwrap().unwrap();
    kept.pool.put(channel);
    settle().await;
    assert_eq!(kept.found(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_waited_for_until_the_deadline() {
    let kept = Kept::new();
    *kept.server.always.lock().unwrap() = Some(Fault::Passing);
    let before = Instant::now();
    let error = kept.pool.get(within(7)).await.unwrap_err();
    assert_eq!((error.0, before.elapsed()), (Fault::Permanent, Duration::from_secs(7)));
}

#[tokio::test(start_paused = true)]
async fn a_denial_counts_only_before_the_first_contact() {
    let (connector, server) = Connector::new(60);
    *server.always.lock().unwrap() = Some(Fault::Denied { is_final: true });
    let kept = Kept::with(connector, server);
    assert_eq!(kept.keeping.await.unwrap().unwrap_err().0, Fault::Denied { is_final: true });

    let kept = Kept::new();
    settle().await;
    *kept.server.always.lock().unwrap() = Some(Fault::Denied { is_final: true });
    kept.server.cut.lock().unwrap().cancel();
    sleep(Duration::from_secs(60)).await;
    assert!(!kept.keeping.is_finished());
    *kept.server.always.lock().unwrap() = Some(Fault::Permanent);
    kept.pool.get(within(30)).await.unwrap_err();
    assert_eq!(kept.keeping.await.unwrap().unwrap_err().0, Fault::Permanent);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_handshakes_and_closes_what_is_idle() {
    for (delay, expected) in
        [(Duration::from_secs(1), Duration::from_secs(1)), (4 * END_DEADLINE, END_DEADLINE)]
    {
        let mut kept = Kept::new();
        settle().await;
        *kept.server.delay.lock().unwrap() = delay;
        let taken = [kept.pool.get(within(30)).await.unwrap(), kept.pool.get(within(30)).await.unwrap()];
        let asked = tokio::spawn({
            let pool = Arc::clone(&kept.pool);
            async move { pool.get(within(30)).await }
        });
        settle().await;
        for taken in taken {
            kept.pool.put(taken);
        }
        // The handshake goes on although its channel is wanted no longer.
        asked.abort();
        let before = Instant::now();
        kept.pool.end().await;
        let took = before.elapsed();
        assert!(took <= expected && took + Duration::from_millis(5) >= expected, "{took:?}");
        assert!((&mut kept.keeping).await.unwrap().is_ok());
        sleep(2 * delay).await;
        let (attempts, closed) = (kept.attempts(), kept.server.closed_well.load(Ordering::Relaxed));
        assert_eq!((closed, kept.pool.idle()), (attempts, 0), "every channel was closed well");
    }
}

/// A server that closes what has been idle for two seconds, as the library's stream does.
#[tokio::test(start_paused = true)]
async fn a_short_idle_timeout_closes_no_warm_channel() {
    let (connector, server) = Connector::new(2);
    let kept = Kept::with(connector, server);
    sleep(Duration::from_secs(60)).await;
    assert!(kept.server.signs_of_life.load(Ordering::Relaxed) > 60);
    assert_eq!((kept.server.closed_idle.load(Ordering::Relaxed), kept.attempts()), (0, 2));
}
