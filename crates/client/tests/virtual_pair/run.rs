//! A schedule from its beginning to its end, and what has to hold of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tunnel::memory::{Conditions, MemoryNetwork};

use super::application::{Entrance, Script, serve, visit};
use super::counts::Counts;
use super::ledger::Ledger;
use super::pair::{CLIENT_TARGETS, Homes, Pair, SERVER, SERVER_TARGETS};
use super::schedule::{Event, Opening, Schedule, Through};

/// Says which schedule was under way where a thread panics.
struct Blame<'a> {
    seed: u64,
    schedule: &'a Schedule,
}

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("PAIR_SEED={} fails:\n{:#?}", self.seed, self.schedule);
        }
    }
}

/// Does the schedule of a seed.
///
/// # Panics
/// Where something does not hold.
pub(super) fn run(seed: u64, homes: &Homes, counts: &Counts) {
    let schedule = Schedule::of(seed);
    run_schedule(seed, &schedule, homes, counts);
}

/// As [`run`], for a schedule that was written down.
pub(super) fn run_schedule(seed: u64, schedule: &Schedule, homes: &Homes, counts: &Counts) {
    let _blame = Blame { seed, schedule };
    // The jitter of the pauses between attempts.
    fastrand::seed(seed);
    // Without a reactor: what touches a socket of the system panics.
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let conditions =
            Conditions { max_delay: Duration::from_millis(schedule.max_delay), capacity: schedule.capacity };
        Running::start(seed, conditions, schedule, homes).await.run(schedule, counts).await;
    });
}

struct Running<'a> {
    pair: Pair<'a>,
    targets: JoinSet<()>,
    visitors: JoinSet<u64>,
    ledger: Ledger,
    opened: Vec<u64>,
}

impl<'a> Running<'a> {
    async fn start(seed: u64, conditions: Conditions, schedule: &Schedule, homes: &'a Homes) -> Self {
        let pair = Pair::start(seed, conditions, &schedule.needed(), homes).await;
        let ledger = Ledger::default();
        let openings = schedule.steps.iter().filter_map(|step| match &step.event {
            Event::Open(opening) => Some(opening.target),
            _ => None,
        });
        let scripts: Arc<BTreeMap<u64, Script>> = Arc::new((0..).zip(openings).collect());
        let mut targets = JoinSet::new();
        for address in SERVER_TARGETS.into_iter().chain(CLIENT_TARGETS) {
            let listener = pair.network.host(address.ip()).listen(address).unwrap();
            let scripts = Arc::clone(&scripts);
            targets.spawn(serve(
                listener,
                address.port() == 81,
                move |number| scripts[&number],
                ledger.clone(),
            ));
        }
        Self { pair, targets, visitors: JoinSet::new(), ledger, opened: Vec::new() }
    }

    async fn run(mut self, schedule: &Schedule, counts: &Counts) {
        for step in &schedule.steps {
            if step.pause > 0 {
                sleep(Duration::from_millis(step.pause)).await;
            }
            if self.pair.client.has_ended() {
                break;
            }
            self.reap();
            self.happen(&step.event, counts).await;
        }
        let Self { pair, mut targets, mut visitors, ledger, opened } = self;
        pair.network.set_reachable(SERVER[0], true);
        if !schedule.ends_early {
            pair.change_rights(None).await;
            pair.listen_on(&SERVER).await;
            wait_for_all(&mut visitors, &ledger, &opened).await;
        }
        let reconnections = pair.reconnections();
        // A client that nobody lets in any more, by the key that it was given, ends by itself.
        let was_refused = pair.client.has_ended();
        if !schedule.ends_early && !was_refused {
            pair.settle().await;
        }
        let network = pair.network.clone();
        end(pair, schedule, was_refused).await;
        wait_for_all(&mut visitors, &ledger, &opened).await;
        sleep(SETTLED).await;
        let open = network.open_connections();
        assert!(open.is_empty(), "left behind, or waiting for ever: {open:#?}");
        targets.shutdown().await;
        check_nothing_left(&network).await;

        ledger.check();
        let complete = opened.iter().filter(|number| ledger.is_complete(**number)).count();
        if schedule.is_calm {
            let open: Vec<_> = opened.iter().filter(|number| !ledger.is_complete(**number)).collect();
            assert!(
                open.is_empty(),
                "not complete: {:?}",
                open.iter().map(|n| ledger.show(**n)).collect::<Vec<_>>()
            );
            counts.add("calm schedules", 1);
        }
        counts.add("complete", complete);
        counts.add("bytes", ledger.bytes());
        counts.add("reconnections", reconnections);
        counts.add("clients that ended by themselves", usize::from(was_refused));
        counts.add("ends with connections open", usize::from(schedule.ends_early));
        counts.add("schedules", 1);
    }

    /// Takes note of the visitors that are done.
    fn reap(&mut self) {
        while let Some(ended) = self.visitors.try_join_next() {
            ended.unwrap();
        }
    }

    async fn happen(&mut self, event: &Event, counts: &Counts) {
        let is_wire = |address| SERVER.contains(&address);
        let open = self.visitors.len();
        match event {
            Event::Open(opening) => self.open(opening, counts),
            Event::Cut => counts.add("cuts", usize::from(self.pair.network.cut(is_wire))),
            Event::CutAll(away) => {
                self.pair.network.set_reachable(SERVER[0], false);
                while self.pair.network.cut(is_wire) {
                    counts.add("cuts", 1);
                }
                sleep(Duration::from_millis(*away)).await;
                self.pair.network.set_reachable(SERVER[0], true);
            }
            Event::Silence => counts.add("black holes", usize::from(self.pair.network.silence(is_wire))),
            Event::Revoke(lost) => {
                self.pair.change_rights(Some(*lost)).await;
                counts.add("revocations with something open", usize::from(open > 0));
                counts.add("revocations", 1);
            }
            Event::Restore => self.pair.change_rights(None).await,
            Event::Reload { first, second } => {
                let chosen = [*first, *second];
                let addresses: Vec<_> = SERVER.into_iter().zip(chosen).filter(|(_, is)| *is).collect();
                let addresses: Vec<_> = addresses.into_iter().map(|(address, _)| address).collect();
                self.pair.listen_on(&addresses).await;
                counts.add("reloads", 1);
            }
        }
    }

    fn open(&mut self, opening: &Opening, counts: &Counts) {
        let Opening { through, greets, visitor, .. } = opening.clone();
        let number = u64::try_from(self.opened.len()).unwrap();
        self.opened.push(number);
        let forward = Pair::entrance(through, greets);
        let (what, entrance) = match through {
            Through::Local => ("through -L", Entrance::Direct),
            Through::Remote => ("through -R", Entrance::Direct),
            Through::Dynamic => ("through -D", Entrance::Socks(SERVER_TARGETS[usize::from(greets)])),
            Through::RemoteSocks => {
                ("through -R with SOCKS", Entrance::Socks(CLIENT_TARGETS[usize::from(greets)]))
            }
        };
        counts.add(what, 1);
        counts.add("opened", 1);
        for script in [opening.visitor, opening.target] {
            let what = match script.ending {
                super::application::Ending::HalfClose => "half-closes",
                super::application::Ending::Close => "closes",
                super::application::Ending::Reset => "resets",
            };
            counts.add(what, 1);
        }
        let host = self.pair.network.host([10, 0, 0, 30].into());
        let ledger = self.ledger.clone();
        self.visitors.spawn(async move {
            visit(host, forward, entrance, number, greets, visitor, ledger).await;
            number
        });
    }
}

/// Waits until all visitors are done.
///
/// # Panics
/// Where one of them waits for ever.
async fn wait_for_all(visitors: &mut JoinSet<u64>, ledger: &Ledger, opened: &[u64]) {
    let all = async {
        while let Some(ended) = visitors.join_next().await {
            ended.unwrap();
        }
    };
    if timeout(VISIT_DEADLINE, all).await.is_err() {
        let open: Vec<_> = opened.iter().map(|number| ledger.show(*number)).collect();
        panic!("a connection waits for ever: {open:#?}");
    }
}

/// Ends both programs.
async fn end(pair: Pair<'_>, schedule: &Schedule, was_refused: bool) {
    let Pair { server, client, network: _, .. } = pair;
    let server = async {
        let ended = server.end().await.expect("the server does not end");
        let is_expected = match &ended {
            Ok(()) => true,
            // The server may hold a visitor whose channel was lost before the client, which takes no stream over, has answered.
            Err(server::Error::NotDrained { .. }) => schedule.ends_early || schedule.may_hold_a_visitor(),
            Err(_) => false,
        };
        assert!(is_expected, "the server: {ended:?}");
    };
    let client = async {
        let ended = client.end().await.expect("the client does not end");
        let is_expected = match &ended {
            Ok(()) => true,
            Err(client::Error::NotDrained) => schedule.ends_early,
            Err(client::Error::Psk { .. }) => was_refused || schedule.ends_early,
            Err(_) => false,
        };
        assert!(is_expected, "the client: {ended:?}");
    };
    if schedule.server_first {
        server.await;
        client.await;
    } else {
        client.await;
        server.await;
    }
}

/// Checks that both programs are gone.
async fn check_nothing_left(network: &MemoryNetwork) {
    sleep(SETTLED).await;
    let (tasks, listened_on) = (Handle::current().metrics().num_alive_tasks(), network.listened_on());
    assert!(tasks == 0 && listened_on.is_empty(), "left behind: {tasks} tasks, listening on {listened_on:?}");
}

/// The longest that a connection takes once the network is whole, with all pauses of its applications.
const VISIT_DEADLINE: Duration = Duration::from_secs(3600);
/// Longer than what closes a channel takes.
const SETTLED: Duration = Duration::from_secs(120);
