//! The monitor of the network, with a network and a clock of the tests' own.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, advance, sleep, timeout};
use tunnel::network_monitor::source::{NetworkSource, NetworkState, Path};
use tunnel::network_monitor::suspend_clock::SuspendClock;
use tunnel::network_monitor::{Disturbance, Disturbances, NetworkMonitor};

/// A network and a clock that do what they are told to.
#[derive(Clone, Default)]
struct Machine {
    shared: Arc<Mutex<Shared>>,
    notify: Arc<Notify>,
}

#[derive(Default)]
struct Shared {
    state: NetworkState,
    suspended: Duration,
    /// How often the state was read, and how often the monitor has come to a check without notification.
    reads: usize,
    ticks: usize,
    is_polled: bool,
    /// How often reading the state fails from now on.
    failures: usize,
    /// Whether there is always a notification.
    is_flooded: bool,
}

impl Machine {
    fn monitor(&self) -> NetworkMonitor {
        NetworkMonitor::start_with(self.clone(), self.clone())
    }

    fn with<T>(&self, change: impl FnOnce(&mut Shared) -> T) -> T {
        change(&mut self.shared.lock().unwrap())
    }

    /// Changes the state and notifies it.
    fn change(&self, change: impl FnOnce(&mut NetworkState)) {
        self.with(|shared| change(&mut shared.state));
        self.notify.notify_one();
    }
}

impl NetworkSource for Machine {
    async fn notified(&mut self) {
        if !self.with(|shared| shared.is_flooded) {
            self.notify.notified().await;
        }
    }

    fn is_polled(&self) -> bool {
        self.with(|shared| {
            shared.ticks += 1;
            shared.is_polled
        })
    }

    fn state(&mut self) -> io::Result<NetworkState> {
        self.with(|shared| {
            shared.reads += 1;
            match shared.failures.checked_sub(1) {
                None => Ok(shared.state.clone()),
                Some(left) => {
                    shared.failures = left;
                    Err(io::ErrorKind::Interrupted.into())
                }
            }
        })
    }
}

impl SuspendClock for Machine {
    fn suspended(&self) -> Duration {
        self.with(|shared| shared.suspended)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn add(address: &str) -> impl FnOnce(&mut NetworkState) {
    let address = ip(address);
    move |state| _ = state.addresses.insert(address)
}

fn route(gateway: &str) -> impl FnOnce(&mut NetworkState) {
    let path = Path { interface: Some(2), gateway: Some(ip(gateway)), source: None };
    move |state| state.paths[0] = Some(path)
}

async fn next(disturbances: &mut Disturbances) -> Disturbance {
    timeout(HOUR, disturbances.changed()).await.unwrap()
}

/// Fails where there is a disturbance within an hour.
async fn nothing(disturbances: &mut Disturbances) {
    if let Ok(disturbance) = timeout(HOUR, disturbances.changed()).await {
        panic!("{disturbance:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn address_is_told_within_a_second() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    nothing(&mut disturbances).await;
    for address in ["192.0.2.7", "2001:db8::7"] {
        let began = Instant::now();
        machine.change(add(address));
        assert_eq!(next(&mut disturbances).await, Disturbance::AddressesChanged);
        assert!(began.elapsed() <= SECOND, "{:?}", began.elapsed());
    }
    machine.change(|state| state.addresses.clear());
    assert_eq!(next(&mut disturbances).await, Disturbance::AddressesChanged);
    nothing(&mut disturbances).await;
}

#[tokio::test(start_paused = true)]
async fn another_way_of_packets_is_told_within_a_second() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    for gateway in ["192.0.2.1", "192.0.2.2"] {
        let began = Instant::now();
        machine.change(route(gateway));
        assert_eq!(next(&mut disturbances).await, Disturbance::RoutesChanged);
        assert!(began.elapsed() <= SECOND, "{:?}", began.elapsed());
    }
    machine.change(|state| state.paths[0] = None);
    assert_eq!(next(&mut disturbances).await, Disturbance::RoutesChanged);
    nothing(&mut disturbances).await;
}

#[tokio::test(start_paused = true)]
async fn burst_is_one_disturbance() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    for number in 0..100 {
        machine.change(add(&format!("192.0.2.{number}")));
        machine.change(route("192.0.2.1"));
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(next(&mut disturbances).await, Disturbance::AddressesChanged);
    nothing(&mut disturbances).await;
}

#[tokio::test(start_paused = true)]
async fn notification_without_change_is_no_disturbance() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    machine.change(|_| {});
    nothing(&mut disturbances).await;
    assert_eq!(machine.with(|shared| shared.reads), 2, "it was looked at");
}

/// The machine may be on another network where the same address and router are in use.
#[tokio::test(start_paused = true)]
async fn what_has_come_back_was_gone() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    machine.change(|state| state.removed_addresses += 1);
    assert_eq!(next(&mut disturbances).await, Disturbance::AddressesChanged);
    machine.change(|state| state.removed_default_routes += 1);
    assert_eq!(next(&mut disturbances).await, Disturbance::RoutesChanged);
    nothing(&mut disturbances).await;
}

#[tokio::test(start_paused = true)]
async fn change_right_after_the_start_is_told() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    machine.change(add("192.0.2.7"));
    assert_eq!(next(&mut monitor.disturbances()).await, Disturbance::AddressesChanged);
}

#[tokio::test(start_paused = true)]
async fn suspended_machine_wakes_up() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    for asleep in [SECOND * 2, HOUR * 8] {
        let began = Instant::now();
        machine.with(|shared| shared.suspended += asleep);
        assert_eq!(next(&mut disturbances).await, Disturbance::WokeUp { asleep });
        assert!(began.elapsed() <= SECOND, "{:?}", began.elapsed());
    }
    nothing(&mut disturbances).await;
}

#[tokio::test(start_paused = true)]
async fn stopped_process_wakes_up() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    nothing(&mut disturbances).await;
    for stopped in [SECOND * 3, HOUR] {
        advance(stopped).await;
        match next(&mut disturbances).await {
            Disturbance::WokeUp { asleep } => {
                assert!(asleep <= stopped && asleep + SECOND >= stopped, "{asleep:?} of {stopped:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    nothing(&mut disturbances).await;
}

#[tokio::test(start_paused = true)]
async fn change_during_sleep_is_part_of_waking_up() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    machine.with(|shared| shared.suspended = HOUR);
    machine.change(add("192.0.2.7"));
    assert_eq!(next(&mut disturbances).await, Disturbance::WokeUp { asleep: HOUR });
    nothing(&mut disturbances).await;
    machine.change(add("192.0.2.8"));
    assert_eq!(next(&mut disturbances).await, Disturbance::AddressesChanged);
}

#[tokio::test(start_paused = true)]
async fn polled_network_is_compared_every_second() {
    let machine = Machine::default();
    machine.with(|shared| shared.is_polled = true);
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    let began = Instant::now();
    machine.with(|shared| add("192.0.2.7")(&mut shared.state));
    assert_eq!(next(&mut disturbances).await, Disturbance::AddressesChanged);
    assert!(began.elapsed() <= SECOND, "{:?}", began.elapsed());
    nothing(&mut disturbances).await;
}

#[tokio::test(start_paused = true)]
async fn state_that_cannot_be_read_is_read_again() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    machine.with(|shared| shared.failures = 3);
    let began = Instant::now();
    machine.change(add("192.0.2.7"));
    assert_eq!(next(&mut disturbances).await, Disturbance::AddressesChanged);
    assert!(began.elapsed() <= SECOND * 4, "{:?}", began.elapsed());
    nothing(&mut disturbances).await;
}

#[tokio::test(start_paused = true)]
async fn first_state_is_no_change() {
    let machine = Machine::default();
    machine.with(|shared| {
        shared.failures = 3;
        add("192.0.2.7")(&mut shared.state);
    });
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    nothing(&mut disturbances).await;
    machine.change(add("192.0.2.8"));
    assert_eq!(next(&mut disturbances).await, Disturbance::AddressesChanged);
}

#[tokio::test(start_paused = true)]
async fn quiet_machine_is_looked_at_once_a_second_and_not_read() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    nothing(&mut monitor.disturbances()).await;
    let (reads, ticks) = machine.with(|shared| (shared.reads, shared.ticks));
    assert_eq!(reads, 1);
    assert!((3590..=3600).contains(&ticks), "{ticks}");
}

#[tokio::test(start_paused = true)]
async fn flood_of_notifications_bounds_the_work() {
    let machine = Machine::default();
    machine.with(|shared| shared.is_flooded = true);
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    assert!(timeout(SECOND * 60, disturbances.changed()).await.is_err());
    let reads = machine.with(|shared| shared.reads);
    assert!(reads <= 60 * 6, "{reads}");
    machine.with(|shared| shared.suspended += HOUR);
    assert_eq!(
        next(&mut disturbances).await,
        Disturbance::WokeUp { asleep: HOUR },
        "the clocks are still compared"
    );
}

#[tokio::test(start_paused = true)]
async fn every_listener_learns_of_what_happens_from_its_start() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    let (mut one, mut other) = (monitor.disturbances(), monitor.disturbances());
    machine.change(add("192.0.2.7"));
    assert_eq!(next(&mut one).await, Disturbance::AddressesChanged);
    let (mut late, mut clone) = (monitor.disturbances(), other.clone());
    assert_eq!(next(&mut other).await, Disturbance::AddressesChanged);
    assert_eq!(next(&mut clone).await, Disturbance::AddressesChanged);
    nothing(&mut late).await;
    machine.change(route("192.0.2.1"));
    for disturbances in [&mut one, &mut other, &mut late, &mut clone] {
        assert_eq!(next(disturbances).await, Disturbance::RoutesChanged);
    }
}

#[tokio::test(start_paused = true)]
async fn listener_that_was_busy_learns_of_the_latest() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    machine.change(add("192.0.2.7"));
    sleep(SECOND).await;
    machine.change(route("192.0.2.1"));
    sleep(SECOND).await;
    assert_eq!(next(&mut disturbances).await, Disturbance::RoutesChanged);
    nothing(&mut disturbances).await;
}

#[tokio::test(start_paused = true)]
async fn monitor_that_has_ended_tells_and_does_nothing() {
    let machine = Machine::default();
    let monitor = machine.monitor();
    let mut disturbances = monitor.disturbances();
    sleep(SECOND * 10).await;
    drop(monitor);
    sleep(SECOND).await;
    assert_eq!(Arc::strong_count(&machine.shared), 1, "its task is gone");
    machine.change(add("192.0.2.7"));
    nothing(&mut disturbances).await;
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
