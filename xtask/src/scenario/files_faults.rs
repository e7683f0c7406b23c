//! Goal: whatever ends a transfer at whatever moment, nothing partial stands under a final name, and the same command
//! finishes it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::harness::{
    DEADLINE, Exit, Fault, Fixture, Harness, Home, Process, Tap, Way, make_file, noise, nothing_partial,
    same_trees, until,
};
use crate::scenario::registration::scenarios;

scenarios![
    client_killed_at_any_moment_of_a_put,
    server_killed_at_any_moment_of_a_put,
    client_killed_at_any_moment_of_a_get,
    server_killed_at_any_moment_of_a_get,
    connection_cut_at_any_byte_of_a_put,
    connection_cut_at_any_byte_of_a_get,
    changed_byte_on_the_wire_changes_no_file,
    transfer_whose_connection_hangs_is_taken_over,
    full_disk_is_told_and_once_there_is_room_the_same_command_finishes,
    round_trips_are_not_paid_for_each_file,
    tree_of_20_000_files_takes_little_memory,
];

/// The command that moves the files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Put,
    Get,
}

/// A server with shares for a tree and for where it goes to.
struct Transfer<'a> {
    fixture: Fixture<'a>,
    harness: &'a Harness,
    source: Home,
    goal: Home,
    command: Command,
}

impl<'a> Transfer<'a> {
    /// Some big files, many small ones, and an empty directory.
    fn of_a_tree(harness: &'a Harness, command: Command) -> Result<Self> {
        let source = harness.home()?;
        let tree = source.file("tree");
        fs::create_dir_all(tree.join("empty"))?;
        make_file(&tree.join("big"), 9 * 1024 * 1024 + 17)?;
        make_file(&tree.join("deep/er/big"), 3 * 1024 * 1024)?;
        for number in 0..40 {
            make_file(&tree.join(format!("small {}/file {number}", number % 4)), 50 * number)?;
        }
        Self::of(harness, command, source)
    }

    fn of(harness: &'a Harness, command: Command, source: Home) -> Result<Self> {
        let goal = harness.home()?;
        let share = |name: &str, home: &Home, mode: &str| format!("{name}={}:{mode}", home.path().display());
        let arguments = ["--files", &share("source", &source, "ro"), "--files", &share("goal", &goal, "rw")];
        let fixture = Fixture::with_arguments(harness, &RIGHTS, &arguments)?;
        Ok(Self { fixture, harness, source, goal, command })
    }

    fn start(&self) -> Result<Process> {
        self.start_through(&self.fixture.address())
    }

    fn start_through(&self, address: &str) -> Result<Process> {
        let (tree, goal) = (self.source.file("tree"), format!("{}/", self.goal.path().display()));
        let paths = match self.command {
            Command::Put => [tree.to_str().context("a path in UTF-8")?, "goal:"],
            Command::Get => ["source:tree", &goal],
        };
        let command = match self.command {
            Command::Put => "put",
            Command::Get => "get",
        };
        let arguments = [&[command, address, "--server-key", self.fixture.key()][..], &paths].concat();
        self.harness.client(self.fixture.alice(), &arguments).start()
    }

    fn whole(&self) -> (PathBuf, PathBuf) {
        (self.source.file("tree"), self.goal.file("tree"))
    }

    /// Checks that all that has arrived is whole.
    fn nothing_is_partial(&self) -> Result<()> {
        nothing_partial(self.source.path(), self.goal.path())
    }

    /// Runs the same command again, checks that all has arrived, and removes it.
    fn finish(&self) -> Result<()> {
        self.start()?.finish()?.expect(Exit::Done)?;
        let (source, goal) = self.whole();
        ensure!(same_trees(&source, &goal)?, "the trees differ");
        let left: Vec<_> = fs::read_dir(self.goal.path())?.collect::<Result<_, _>>()?;
        ensure!(left.len() == 1, "more than the tree is there: {left:?}");
        Ok(fs::remove_dir_all(goal)?)
    }

    /// How long the whole transfer takes.
    fn time(&self) -> Result<Duration> {
        let begun = Instant::now();
        self.finish()?;
        Ok(begun.elapsed())
    }

    /// Ends a transfer so many times at a random moment by what `kill` does to the running client.
    fn again_and_again(
        &mut self,
        times: usize,
        kill: impl Fn(&mut Self, &Process) -> Result<()>,
    ) -> Result<()> {
        let time = self.time()?;
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for turn in 0..times {
            let moment = time.mul_f64(random.f64() * 1.1);
            let context = || format!("seed {seed}, turn {turn}, ended after {moment:?} of {time:?}");
            let client = self.start()?;
            thread::sleep(moment);
            kill(self, &client).with_context(context)?;
            drop(client);
            self.nothing_is_partial().with_context(context)?;
            // One that is ended twice is more than two that are ended once.
            if turn % 3 != 0 {
                self.finish().with_context(context)?;
            }
        }
        self.finish()
    }
}

fn client_killed_at_any_moment_of_a_put(harness: &Harness) -> Result<()> {
    Transfer::of_a_tree(harness, Command::Put)?.again_and_again(100, |_, client| client.signal(Signal::KILL))
}

fn client_killed_at_any_moment_of_a_get(harness: &Harness) -> Result<()> {
    Transfer::of_a_tree(harness, Command::Get)?.again_and_again(100, |_, client| client.signal(Signal::KILL))
}

fn server_killed_at_any_moment_of_a_put(harness: &Harness) -> Result<()> {
    Transfer::of_a_tree(harness, Command::Put)?.again_and_again(60, kill_server)
}

fn server_killed_at_any_moment_of_a_get(harness: &Harness) -> Result<()> {
    Transfer::of_a_tree(harness, Command::Get)?.again_and_again(40, kill_server)
}

fn kill_server(transfer: &mut Transfer<'_>, _: &Process) -> Result<()> {
    transfer.fixture.kill()?;
    transfer.fixture.start()
}

fn connection_cut_at_any_byte_of_a_put(harness: &Harness) -> Result<()> {
    cut_at_any_byte(harness, Command::Put, Way::Up)
}

fn connection_cut_at_any_byte_of_a_get(harness: &Harness) -> Result<()> {
    cut_at_any_byte(harness, Command::Get, Way::Down)
}

fn cut_at_any_byte(harness: &Harness, command: Command, way: Way) -> Result<()> {
    let transfer = Transfer::of_a_tree(harness, command)?;
    let tap = Tap::unrecorded(&transfer.fixture.address())?;
    transfer.start_through(&tap.address())?.finish()?.expect(Exit::Done)?;
    let all = tap.last()?.passed(way);
    transfer.finish()?;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for turn in 0..30 {
        let after = random.usize(1000..all);
        let context = || format!("seed {seed}, turn {turn}, cut after {after} of {all} bytes");
        tap.set_fault(Some(Fault::Cut { way, after }));
        let outcome = transfer.start_through(&tap.address())?.finish().with_context(context)?;
        // The last bytes are those of the end, behind everything that counts.
        outcome.expect_any(&[Exit::Network, Exit::Integrity, Exit::Done]).with_context(context)?;
        transfer.nothing_is_partial().with_context(context)?;
        transfer.finish().with_context(context)?;
    }
    Ok(())
}

fn changed_byte_on_the_wire_changes_no_file(harness: &Harness) -> Result<()> {
    for (command, way) in [(Command::Put, Way::Up), (Command::Get, Way::Down)] {
        let transfer = Transfer::of_a_tree(harness, command)?;
        let tap = Tap::with_fault(&transfer.fixture.address(), Fault::Flip { way, at: 4 * 1024 * 1024 })?;
        transfer.start_through(&tap.address())?.finish()?.expect_failure()?;
        transfer.nothing_is_partial()?;
        transfer.finish()?;
    }
    Ok(())
}

/// The server notices by itself only after 30 seconds.
fn transfer_whose_connection_hangs_is_taken_over(harness: &Harness) -> Result<()> {
    let transfer = Transfer::of_a_tree(harness, Command::Put)?;
    let fault = Fault::Stall { way: Way::Up, after: 4 * 1024 * 1024 };
    let tap = Tap::with_fault(&transfer.fixture.address(), fault)?;
    let hanging = transfer.start_through(&tap.address())?;
    until(DEADLINE, "half of it", || {
        ensure!(tap.count() > 0 && tap.last()?.passed(Way::Up) >= 4 * 1024 * 1024, "less has passed");
        Ok(())
    })?;
    let begun = Instant::now();
    transfer.finish()?;
    let taken = begun.elapsed();
    ensure!(taken < Duration::from_secs(20), "it took {taken:?}");
    tap.flow();
    hanging.finish()?.expect_failure()?;
    Ok(())
}

/// The share is a small file system in memory, in a namespace of the server's own.
fn full_disk_is_told_and_once_there_is_room_the_same_command_finishes(harness: &Harness) -> Result<()> {
    let (source, goal) = (harness.home()?, harness.home()?);
    let file = source.file("big");
    make_file(&file, 6 * 1024 * 1024)?;
    let path = goal.path().to_str().context("a path in UTF-8")?;
    let mount = "mount -t tmpfs -o size=8m tmpfs \"$0\" && exec \"$@\"";
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", mount, path];
    let share = format!("goal={path}:rw");
    let fixture = Fixture::wrapped(harness, &RIGHTS, &["--files", &share], &wrapper)?;
    let inside = format!("/proc/{}/root{path}", fixture.server()?.process.id());
    let filler = PathBuf::from(&inside).join("filler");
    make_file(&filler, 4 * 1024 * 1024)?;

    let put = |source: &str, goal: &str| {
        let arguments = ["put", &fixture.address(), "--server-key", fixture.key(), source, goal];
        harness.client(fixture.alice(), &arguments)
    };
    let big = file.to_str().context("a path in UTF-8")?;
    let full = |outcome: crate::harness::Outcome| -> Result<()> {
        let outcome = outcome.expect(Exit::Refused)?;
        ensure!(outcome.stderr.contains("disk is full"), "{}", outcome.stderr);
        Ok(())
    };
    let free = || -> Result<u64> {
        let status = rustix::fs::statvfs(&inside)?;
        Ok(status.f_bavail * status.f_frsize)
    };
    let before = free()?;
    let refused = put(big, "goal:").run()?;
    ensure!(!refused.stderr.contains("moved"), "it has moved in vain: {}", refused.stderr);
    full(refused)?;
    ensure!(free()? == before, "something of what does not fit is there");
    // A stream's size is not known beforehand, so the disk is full in the middle of it.
    full(put("-", "goal:stream").input(fs::read(&file)?).run()?)?;
    ensure!(!PathBuf::from(&inside).join("big").exists(), "a partial file stands under its name");
    ensure!(!PathBuf::from(&inside).join("stream").exists(), "a partial file stands under its name");

    // What has holes has a size that says little, and arrives where what it holds does fit.
    let sparse = source.file("sparse");
    fs::write(&sparse, noise(256 * 1024)?)?;
    File::options().append(true).open(&sparse)?.set_len(256 * 1024 * 1024)?;
    put(sparse.to_str().context("a path in UTF-8")?, "goal:").run()?.expect(Exit::Done)?;
    let arrived = PathBuf::from(&inside).join("sparse");
    ensure!(fs::metadata(&arrived)?.blocks() * 512 < 512 * 1024, "the holes are filled");
    ensure!(same_trees(&sparse, &arrived)?, "other bytes have arrived");
    fs::remove_file(&arrived)?;

    fs::remove_file(&filler)?;
    put(big, "goal:").run()?.expect(Exit::Done)?;
    ensure!(same_trees(&file, &PathBuf::from(&inside).join("big"))?, "other bytes have arrived");
    Ok(())
}

/// A round trip for each file would take 40 seconds.
fn round_trips_are_not_paid_for_each_file(harness: &Harness) -> Result<()> {
    for command in [Command::Put, Command::Get] {
        let source = harness.home()?;
        for number in 0..400 {
            make_file(&source.file(&format!("tree/{}/file {number}", number % 7)), 1024)?;
        }
        let transfer = Transfer::of(harness, command, source)?;
        let tap = Tap::with_fault(&transfer.fixture.address(), Fault::Delay(Duration::from_millis(50)))?;
        let begun = Instant::now();
        transfer.start_through(&tap.address())?.finish()?.expect(Exit::Done)?;
        let taken = begun.elapsed();
        ensure!(taken < Duration::from_secs(10), "400 files took {taken:?}");
        transfer.finish()?;
    }
    Ok(())
}

fn tree_of_20_000_files_takes_little_memory(harness: &Harness) -> Result<()> {
    for command in [Command::Put, Command::Get] {
        let source = harness.home()?;
        for number in 0..20_000 {
            let folder = if number < 15_000 { "one" } else { "other" };
            let path = source.file(&format!("tree/{folder}/a name of usual length {number:06}"));
            if number % 15_000 == 0 {
                fs::create_dir_all(path.parent().context("a folder")?)?;
            }
            fs::write(path, number.to_string())?;
        }
        let transfer = Transfer::of(harness, command, source)?;
        let mut client = transfer.start()?;
        let mut most = 0;
        while !client.has_ended()? {
            // It is gone between the two questions at the end.
            most = client.peak_memory().unwrap_or(0).max(most);
            thread::sleep(Duration::from_millis(1));
        }
        client.finish()?.expect(Exit::Done)?;
        let server = transfer.fixture.server()?.process.peak_memory()?;
        ensure!(most < 32 * 1024 && server < 32 * 1024, "client {most} KiB, server {server} KiB");
        let (source, goal) = transfer.whole();
        ensure!(same_trees(&source, &goal)?, "the trees differ");
    }
    Ok(())
}

const RIGHTS: [&str; 4] = ["--files", "source", "--files", "goal"];
