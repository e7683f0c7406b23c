//! Goal: an invite lets exactly one key in, whoever comes at once, whatever ends the server, and with no room on the disk.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{
    Balancer, DEADLINE, Exit, Fixture, Harness, Home, Key, Outcome, Process, Server, Tool, is_synced, until,
    wrapped,
};
use crate::scenario::invites::{invite, join, objects};
use crate::scenario::registration::scenarios;

scenarios![
    of_fifty_clients_at_once_one_is_let_in,
    server_that_is_killed_loses_no_client_and_lets_no_second_one_in,
    taken_invite_is_completed_by_the_next_start,
    taken_invite_is_completed_by_the_next_change_and_by_its_client,
    answer_comes_behind_what_is_on_the_disk,
    full_disk_leaves_the_invite_pending,
    full_disk_between_both_files_is_made_up_for,
];

/// The clients come to two servers of one home in turn.
fn of_fifty_clients_at_once_one_is_let_in(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let servers = [Server::start(harness, &home, &[])?, Server::start(harness, &home, &[])?];
    let clients: Vec<Home> = (0..50).map(|_| harness.home()).collect::<Result<_>>()?;
    for client in &clients {
        harness.client(client, &["keygen", "--bits", "2048"]).run()?.expect(Exit::Done)?;
    }
    let balancer = Balancer::before(&[servers[0].address(), servers[1].address()])?;
    let line = invite(harness, &home, &balancer.address(), &["--name", "winner"])?;
    let outcomes = thread::scope(|scope| {
        let begun: Vec<_> =
            clients.iter().map(|client| scope.spawn(|| join(harness, client, &line))).collect();
        begun.into_iter().map(|joining| joining.join().map_err(|_| anyhow::anyhow!("a thread"))?).collect()
    });
    let outcomes: Vec<Outcome> = Result::<Vec<Outcome>>::from(outcomes)?;
    let mut winners = Vec::new();
    for (client, outcome) in clients.iter().zip(outcomes) {
        let outcome = outcome.expect_any(&[Exit::Done, Exit::Refused])?;
        if outcome.text().contains("winner") {
            winners.push(harness.fingerprint("client", client)?);
        }
    }
    let listed = objects(harness, &home, "list")?;
    ensure!(winners.len() == 1 && listed.len() == 1, "{winners:?} were let in, and {listed:?} are allowed");
    ensure!(listed[0]["key"] == winners[0], "{winners:?} is not {listed:?}");
    let invites = objects(harness, &home, "invites")?;
    ensure!(invites[0]["state"] == "used" && invites[0]["key"] == winners[0], "{invites:?}");
    ensure!(balancer.accepted() >= 50, "not all came");
    Ok(())
}

/// The server is killed at a later moment of the join each time.
fn server_that_is_killed_loses_no_client_and_lets_no_second_one_in(harness: &Harness) -> Result<()> {
    let mut fixture = Fixture::closed(harness, &[], &[], &[])?;
    let mallory = harness.home_with(Key::Mallory)?;
    let key = harness.fingerprint("client", &mallory)?;
    let alice = harness.fingerprint("client", fixture.alice())?;
    let mut seen = [0, 0, 0];
    for round in 0..ROUNDS {
        fixture.command(&["revoke", "alice"])?;
        fixture.start()?;
        let name = format!("client{round}");
        let line = invite(harness, fixture.home(), &fixture.address(), &["--name", &name])?;
        let mut joining = harness.client(fixture.alice(), &["join"]).start()?;
        joining.write(format!("{line}\n").as_bytes())?;
        joining.close_input();
        thread::sleep(STEP * round);
        fixture.kill()?;
        let was_told = joining.finish()?.expect_any(&[Exit::Done, Exit::Network, Exit::Integrity]);
        let was_told = was_told?.text().contains(&name);
        let state = state(fixture.home(), &name)?;
        seen[["pending", "taken", "used"].iter().position(|known| *known == state).context(state)?] += 1;

        fixture.start()?;
        if was_told {
            // Who was told that it is in is in.
            let send = ["send", &fixture.address(), "it is me"];
            harness.client(fixture.alice(), &send).run()?.expect(Exit::Done)?;
        }
        join(harness, fixture.alice(), &line)?.expect(Exit::Done)?;
        join(harness, &mallory, &line)?.expect(Exit::Refused)?;
        let listed = objects(harness, fixture.home(), "list")?;
        ensure!(listed.iter().filter(|client| client["key"] == alice).count() == 1, "{listed:?}");
        ensure!(listed.iter().all(|client| client["key"] != key), "{listed:?}");
        fixture.command(&["revoke", &name])?.expect(Exit::Done)?;
        fixture.kill()?;
    }
    println!("killed with the invite pending, taken, used: {seen:?}");
    Ok(())
}

/// The files are as a server leaves them that ends between the two.
fn taken_invite_is_completed_by_the_next_start(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    let server = Server::start(harness, &home, &[])?;
    let line = invite(harness, &home, server.address(), &["--name", "alice", "--pipe"])?;
    join(harness, &alice, &line)?.expect(Exit::Done)?;
    let before = home.read("clients.toml")?;
    server.stop()?.expect(Exit::Done)?;
    undo(&home)?;
    ensure!(state(&home, "alice")? == "taken", "the test has not made what it means to");
    let server = Server::start(harness, &home, &[])?;
    server.logged(&["invite taken", "name=\"alice\""])?;
    ensure!(home.read("clients.toml")? == before, "the client has not become what it was");
    ensure!(state(&home, "alice")? == "used", "the invite is not used");
    drop(server);
    // A key that is revoked while its invite is not complete stays revoked.
    undo(&home)?;
    let key = harness.fingerprint("client", &alice)?;
    harness.server(&home, &["revoke", &key]).run()?.expect(Exit::Done)?;
    ensure!(objects(harness, &home, "list")?.is_empty() && state(&home, "alice")? == "used");
    let server = Server::start(harness, &home, &[])?;
    ensure!(objects(harness, &home, "list")?.is_empty(), "a key that was revoked is back");
    harness.send(&alice, &server, "am I")?.expect(Exit::Refused)?;
    Ok(())
}

fn taken_invite_is_completed_by_the_next_change_and_by_its_client(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    let server = Server::start(harness, &home, &[])?;
    let line = invite(harness, &home, server.address(), &["--name", "alice"])?;
    join(harness, &alice, &line)?.expect(Exit::Done)?;
    undo(&home)?;
    let key = harness.fingerprint("client", &mallory)?;
    harness.server(&home, &["allow", &key, "--name", "mallory"]).run()?.expect(Exit::Done)?;
    let listed = objects(harness, &home, "list")?;
    ensure!(listed.iter().any(|client| client["name"] == "alice"), "{listed:?}");
    // A server that goes on after its other process has ended between the two.
    undo(&home)?;
    until(DEADLINE, "the server has read the files that it did not write", || {
        harness.send(&alice, &server, "not yet")?.expect(Exit::Refused)
    })?;
    let again = harness.client(&alice, &["join", "--json"]).input(line).run()?.expect(Exit::Done)?;
    let said: Value = serde_json::from_str(&again.text())?;
    ensure!(said["outcome"] == "enrolled_before" && said["name"] == "alice", "{said}");
    harness.send(&alice, &server, "still me")?.expect(Exit::Done)?;
    Ok(())
}

/// Each step is on the disk before the next one begins, and both before a byte of the answer: what a power failure leaves is
/// what the client was told.
fn answer_comes_behind_what_is_on_the_disk(harness: &Harness) -> Result<()> {
    let (home, place) = (harness.home_with(Key::Server)?, harness.home()?);
    let folder = home.path().display().to_string();
    let trace = place.file("trace").display().to_string();
    let tracer = [
        Tool::STRACE.find()?.display().to_string(),
        "-fyo".to_owned(),
        trace.clone(),
        "-e".to_owned(),
        "trace=/^(fsync|fdatasync|rename|write|send)".to_owned(),
    ];
    let mut command = harness.program("server");
    command.arg("--home").arg(&home).args(["--listen", "127.0.0.1:0"]);
    let server = Server::from_process(Process::start(wrapped(&tracer, command))?)?;
    let line = invite(harness, &home, server.address(), &["--name", "alice"])?;
    join(harness, &harness.home_with(Key::Alice)?, &line)?.expect(Exit::Done)?;
    let pid = objects(harness, &home, "status")?[0]["pid"].as_i64().context("a process id")?;
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a process id")?;
    kill_process(pid, Signal::TERM)?;
    server.finish()?.expect(Exit::Done)?;

    let calls = std::fs::read_to_string(&trace)?;
    let calls: Vec<String> = calls.lines().map(str::to_owned).collect();
    let shown = || calls.join("\n");
    let renamed = |from: usize, name: &str| {
        let is_it = |call: &String| call.contains("rename") && call.contains(&format!("\"{folder}/{name}\""));
        calls[from..]
            .iter()
            .position(is_it)
            .map(|index| from + index)
            .with_context(|| format!("{name}:\n{}", shown()))
    };
    let staged = |index: usize| calls[index].split('"').nth(1).unwrap_or_default();
    let folder_synced = |from: usize| {
        let is_it = |call: &String| is_synced(std::slice::from_ref(call), &folder);
        let begun = calls[from..].iter().position(is_it).map(|index| from + index).with_context(shown)?;
        // A call during which another thread makes one has a second line.
        if !calls[begun].contains("<unfinished") {
            return Ok(begun);
        }
        let thread = calls[begun].split(' ').next().unwrap_or_default();
        let is_end = |call: &String| call.starts_with(thread) && call.contains("sync resumed");
        calls[begun..].iter().position(is_end).map(|index| begun + index).with_context(shown)
    };
    let taken = renamed(0, "invites.toml")?;
    let taken_is_durable = folder_synced(taken)?;
    let enrolled = renamed(taken, "clients.toml")?;
    let enrolled_is_durable = folder_synced(enrolled)?;
    for (index, since) in [(taken, 0), (enrolled, taken)] {
        ensure!(
            is_synced(&calls[since..index], staged(index)),
            "{} was not synced:\n{}",
            staged(index),
            shown()
        );
    }
    ensure!(
        taken_is_durable < enrolled,
        "the key is enrolled before the invite is taken for good:\n{}",
        shown()
    );
    let is_socket = |call: &String| call.contains("<TCP:[") || call.contains("<socket:[");
    let answer = calls[taken..].iter().position(is_socket).map(|index| taken + index).with_context(shown)?;
    ensure!(enrolled_is_durable < answer, "the client is told before it is enrolled for good:\n{}", shown());
    Ok(())
}

fn full_disk_leaves_the_invite_pending(harness: &Harness) -> Result<()> {
    let disk = SmallDisk::with_server(harness)?;
    let line = disk.invite("alice")?;
    let alice = harness.home_with(Key::Alice)?;
    let clients = disk.read("clients.toml")?;
    disk.fill(0)?;
    join(harness, &alice, &line)?.expect_failure()?.hint_names(&["same invite can be tried again"])?;
    disk.server.logged(&["ERROR", "an invite cannot be taken"])?;
    ensure!(disk.state("alice")? == "pending", "the invite is gone");
    ensure!(disk.read("clients.toml")? == clients, "a list of clients has changed");
    // Nor does a command lose anything.
    ensure!(
        disk.command(&["invite", "--address", "127.0.0.1:1", "--name", "bob"])?
            .expect_any(&[Exit::Usage, Exit::Network])
            .is_ok()
    );
    disk.command(&["invites", "revoke", "alice"])?.expect_any(&[Exit::Usage, Exit::Network])?;
    ensure!(disk.state("alice")? == "pending", "a change that could not be written counts");
    disk.make_room()?;
    join(harness, &alice, &line)?.expect(Exit::Done)?;
    ensure!(disk.state("alice")? == "used", "the invite is not used");
    harness.client(&alice, &["send", disk.server.address(), "hello"]).run()?.expect(Exit::Done)?;
    disk.server.printed("[alice] hello")
}

/// There is room for the list of invites, and none for that of the clients, which is long.
fn full_disk_between_both_files_is_made_up_for(harness: &Harness) -> Result<()> {
    let disk = SmallDisk::with_server(harness)?;
    let mut clients = String::new();
    for number in 0..2000 {
        clients.push_str(&format!("[[psk]]\nname = \"laptop-{number}\"\n"));
        clients.push_str("tcp = [\"10.0.0.1:5432\", \"10.0.0.2:5432\"]\n");
    }
    disk.write("clients.toml", &clients)?;
    let line = disk.invite("alice")?;
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    disk.fill(48 * 1024)?;
    join(harness, &alice, &line)?.expect_failure()?;
    disk.server.logged(&["ERROR", "an invite cannot be taken"])?;
    ensure!(disk.state("alice")? == "taken", "{}", disk.state("alice")?);
    ensure!(disk.read("clients.toml")? == clients, "the list of clients has changed");
    join(harness, &mallory, &line)?.expect(Exit::Refused)?;
    join(harness, &alice, &line)?.expect_failure()?;
    // Who is known is not locked out by it: a server starts, and what is undone waits for room.
    drop(disk.start_another()?);
    disk.make_room()?;
    join(harness, &mallory, &line)?.expect(Exit::Refused)?;
    let joined = join(harness, &alice, &line)?.expect(Exit::Done)?;
    ensure!(joined.stderr.contains("has let this client in before"), "{}", joined.stderr);
    ensure!(disk.state("alice")? == "used", "the invite is not used");
    Ok(())
}

/// What the file says of the invite for a name: a command that lists invites would complete one that is taken.
fn state(home: &Home, name: &str) -> Result<String> {
    let text = home.read("invites.toml")?;
    let (_, rest) = text.split_once(&format!("name = {name:?}\n")).context("no such invite")?;
    let (_, rest) = rest.split_once("state = \"").context("no state")?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

fn state_in(invites: &[Value], name: &str) -> Result<String> {
    let found = invites.iter().find(|invite| invite["name"] == name).context("no such invite")?;
    Ok(found["state"].as_str().context("no state")?.to_owned())
}

/// Takes the last steps of a join back: the client is missing in the file, and its invite taken.
fn undo(home: &Home) -> Result<()> {
    let invites = until(DEADLINE, "the invite is used", || {
        let invites = home.read("invites.toml")?;
        ensure!(invites.contains("state = \"used\""), "{invites}");
        Ok(invites)
    })?;
    home.write("invites.toml", invites.replacen("state = \"used\"", "state = \"taken\"", 1))?;
    home.write("clients.toml", "")?;
    Ok(())
}

/// A server whose home is a small file system in memory, in a namespace of its own.
struct SmallDisk<'a> {
    harness: &'a Harness,
    server: Server,
    home: Home,
}

impl<'a> SmallDisk<'a> {
    fn with_server(harness: &'a Harness) -> Result<Self> {
        let (keys, home) = (harness.home_with(Key::Server)?, harness.home()?);
        let mount = "mount -t tmpfs -o size=1m,mode=700 tmpfs \"$0\" && cp -p \"$1/server.key\" \"$0\" && shift && exec \"$@\"";
        let paths = [&home, &keys].map(|home| home.path().display().to_string());
        let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", mount];
        let wrapper: Vec<String> = wrapper.map(str::to_owned).into_iter().chain(paths).collect();
        let mut command = harness.program("server");
        command.arg("--home").arg(&home).args(["--listen", "127.0.0.1:0"]);
        let server = Server::from_process(Process::start(wrapped(&wrapper, command))?)?;
        let disk = Self { harness, server, home };
        disk.write("clients.toml", "")?;
        Ok(disk)
    }

    /// Runs a command of the server's in its namespace.
    fn command(&self, arguments: &[&str]) -> Result<Outcome> {
        self.start(arguments)?.finish()
    }

    /// Starts a second server of the home.
    fn start_another(&self) -> Result<Server> {
        Server::from_process(self.start(&["--listen", "127.0.0.1:0"])?)
    }

    fn start(&self, arguments: &[&str]) -> Result<Process> {
        let mut command = self.harness.program("server");
        command.arg("--home").arg(&self.home).args(arguments);
        let target = self.server.process.id().to_string();
        let enter = ["nsenter", "--preserve-credentials", "--user", "--mount", "--target", &target, "--"];
        Process::start(wrapped(&enter.map(str::to_owned), command))
    }

    fn invite(&self, name: &str) -> Result<String> {
        let arguments = ["invite", "--address", self.server.address(), "--name", name];
        Ok(self.command(&arguments)?.expect(Exit::Done)?.text())
    }

    fn state(&self, name: &str) -> Result<String> {
        let listed = self.command(&["invites", "--json"])?.expect(Exit::Done)?.text();
        let listed: Vec<Value> = listed.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        state_in(&listed, name)
    }

    /// The path of a file as this process sees it.
    fn path(&self, name: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.server.process.id());
        Path::new(&root).join(self.home.path().strip_prefix("/").unwrap_or(self.home.path())).join(name)
    }

    fn read(&self, name: &str) -> Result<String> {
        std::fs::read_to_string(self.path(name)).with_context(|| name.to_owned())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(self.path(name), text)?;
        crate::harness::set_mode(&self.path(name), 0o600)
    }

    /// Fills the disk but for `room` bytes.
    fn fill(&self, room: u64) -> Result<()> {
        let mut filler = std::fs::File::create(self.path("filler"))?;
        while filler.write(&[1; 4096]).is_ok_and(|len| len > 0) {}
        let len = filler.metadata()?.len();
        filler.set_len(len.saturating_sub(room))?;
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.path("filler"))?)
    }
}

/// Rounds in which the server is killed.
const ROUNDS: u32 = 24;
/// By how much later it is killed in each.
const STEP: Duration = Duration::from_millis(4);
