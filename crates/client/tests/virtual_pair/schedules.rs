//! The tests: random schedules, and those that have found a fault.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::application::{Ending, Script};
use super::counts::Counts;
use super::pair::Homes;
use super::run::{run, run_schedule};
use super::schedule::{Event, Opening, Revocation, Schedule, Step, Through};

#[test]
fn what_is_written_arrives_through_each_kind_of_forward() {
    let script = Script { len: 50_000, ending: Ending::HalfClose, pause: 0 };
    let opening = |through, greets| Opening { through, greets, visitor: script, target: script };
    let kinds = [Through::Local, Through::Remote, Through::Dynamic, Through::RemoteSocks];
    let steps = kinds.iter().flat_map(|kind| [opening(*kind, false), opening(*kind, true)]);
    let steps = steps.map(|opening| Step { pause: 0, event: Event::Open(opening) }).collect();
    let schedule = Schedule {
        is_calm: true,
        max_delay: 5,
        capacity: 10_000,
        steps,
        ends_early: false,
        server_first: false,
    };
    let counts = Counts::default();
    run_schedule(1, &schedule, &Homes::new(), &counts);
    counts.check(&["complete"], 8);
}

/// The claim of an address came behind what a slow target had not read yet, was given up, and reached the server after the
/// next one: the client took that for another program that listens there.
#[test]
fn a_claim_that_arrives_late_does_not_end_its_forward() {
    let script = |len, ending, pause| Script { len, ending, pause };
    let open = |through, greets, visitor, target| Event::Open(Opening { through, greets, visitor, target });
    let (whole, close, reset) = (Ending::HalfClose, Ending::Close, Ending::Reset);
    let steps = [
        (5000, Event::Revoke(Revocation::Listening)),
        (0, Event::Reload { first: false, second: false }),
        (20, open(Through::Dynamic, false, script(140_544, whole, 5), script(44_633, whole, 2000))),
        (1, open(Through::Dynamic, false, script(13_997, whole, 0), script(8683, reset, 5))),
        (5000, open(Through::Dynamic, false, script(1521, whole, 0), script(1046, whole, 2000))),
        (5000, Event::Restore),
        (0, open(Through::Remote, true, script(19_502, close, 0), script(27_687, whole, 0))),
        (20, open(Through::Local, false, script(160_615, close, 0), script(1812, whole, 0))),
    ];
    let schedule = Schedule {
        is_calm: false,
        max_delay: 300,
        capacity: 65_536,
        steps: steps.into_iter().map(|(pause, event)| Step { pause, event }).collect(),
        ends_early: false,
        server_first: false,
    };
    run_schedule(110, &schedule, &Homes::new(), &Counts::default());
}

/// Ten thousand of them, shared by as many threads as there are processors.
#[test]
fn random_schedules_lose_nothing_and_leave_nothing_behind() {
    if std::env::var_os("RUST_LOG").is_some() {
        let cli = <client::cli::Cli as clap::Parser>::parse_from(["client", "keygen"]);
        cli_support::logging::start(&cli.verbosity).unwrap();
    }
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("PAIR_SEED");
    let schedules = number("PAIR_SCHEDULES").unwrap_or(if seed.is_some() { 1 } else { SCHEDULES });
    let (counts, next) = (Counts::default(), AtomicU64::new(0));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    println!("seeds {} and so on, {schedules} schedules", seed.unwrap_or_default());
    let failed = thread::scope(|scope| {
        let work = || {
            let homes = Homes::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= schedules {
                    return;
                }
                let seed = seed.unwrap_or(number);
                let _watched = Watched::begin(seed);
                run(seed, &homes, &counts);
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        // One that has failed says which seed that was; the others go on until theirs are done.
        threads.into_iter().filter_map(|thread| thread.join().err()).next()
    });
    if let Some(failed) = failed {
        std::panic::resume_unwind(failed);
    }
    if schedules >= SCHEDULES {
        counts.check(EVENTS, SCHEDULES / 100);
    }
}

/// Ends the process where a schedule takes for ever in which no time passes: then nothing else can end it.
struct Watched(#[expect(dead_code, reason = "dropping it is what tells the other end")] Sender<()>);

impl Watched {
    fn begin(seed: u64) -> Self {
        let (sender, done) = channel();
        thread::spawn(move || {
            if done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("PAIR_SEED={seed} does not end:\n{:#?}", Schedule::of(seed));
                std::process::abort();
            }
        });
        Self(sender)
    }
}

/// Thousands of times what a schedule takes.
const PATIENCE: Duration = Duration::from_secs(60);
const SCHEDULES: u64 = 10_000;
/// What has to have happened.
const EVENTS: &[&str] = &[
    "opened",
    "complete",
    "calm schedules",
    "half-closes",
    "closes",
    "resets",
    "cuts",
    "black holes",
    "reconnections",
    "revocations with something open",
    "reloads",
    "ends with connections open",
    "through -L",
    "through -R",
    "through -D",
    "through -R with SOCKS",
];
