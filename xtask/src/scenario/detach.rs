//! Goal: a script starts forwards that are known to work when it goes on, and that go on without it.

use std::fs;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, getpgid, getsid, kill_process, test_kill_process};
use serde_json::Value;

use crate::harness::{DEADLINE, Exit, Fixture, Harness, Target, dial, echoed, local, until, word};
use crate::scenario::registration::scenarios;

scenarios![
    forwards_go_on_once_all_listen_and_end_in_order,
    text_says_where_it_listens_and_how_to_end_it,
    two_forwards_by_one_server_go_on_too,
    what_cannot_listen_is_an_error_and_nothing_stays,
];

/// A process in the background, which is ended with the scenario.
struct Background(Pid);

impl Background {
    fn of(pid: &Value) -> Result<Self> {
        let pid = pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        Ok(Self(pid.context("no process id")?))
    }

    /// Ends it in order, and waits for that.
    fn end(&self) -> Result<()> {
        kill_process(self.0, Signal::TERM)?;
        until(DEADLINE, "the process ends", || {
            ensure!(self.is_gone(), "it is there");
            Ok(())
        })
    }

    /// A process that was not waited for, since its parent in this container waits for nobody, counts as gone.
    fn is_gone(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.as_raw_nonzero()));
        test_kill_process(self.0).is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !self.is_gone() {
            kill_process(self.0, Signal::KILL).ok();
        }
    }
}

fn forwards_go_on_once_all_listen_and_end_in_order(harness: &Harness) -> Result<()> {
    let echo = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", "127.0.0.1:*", "--listen", "*"])?;
    let (at, there) = (fixture.address(), format!("0:{}", echo.address()));
    let arguments = [
        "forward",
        &at,
        "--server-key",
        fixture.key(),
        "--detach",
        "--json",
        "-L",
        &local(&echo),
        "-R",
        &there,
    ];
    let alice = Arc::clone(fixture.alice());
    let outcome = harness.client(&alice, &arguments).run()?.expect(Exit::Done)?;
    let events: Vec<Value> = outcome.text().lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let last = events.last().context("no event")?;
    ensure!(last["event"] == "detached", "{last}");
    let background = Background::of(&last["pid"])?;
    let log = last["log"].as_str().context("no log")?.to_owned();

    // Both take connections, and nothing ties the process to what has started it.
    let listening: Vec<&str> = events
        .iter()
        .filter(|event| event["event"] == "listening")
        .filter_map(|event| event["address"].as_str())
        .collect();
    ensure!(listening.len() == 2, "{events:?}");
    for address in &listening {
        echoed(&mut dial(address)?, b"in the background")?;
    }
    ensure!(
        getsid(Some(background.0))? == background.0 && getpgid(Some(background.0))? == background.0,
        "it has no session of its own"
    );
    for (number, target) in [(0, "/dev/null"), (1, "/dev/null"), (2, log.as_str())] {
        let led = fs::read_link(format!("/proc/{}/fd/{number}", background.0.as_raw_nonzero()))?;
        ensure!(led.as_os_str() == target, "{number} leads to {}", led.display());
    }
    let status = harness.client(&alice, &["status", "--json"]).run()?.expect(Exit::Done)?.text();
    let status: Value = serde_json::from_str(&status)?;
    ensure!(status["pid"] == last["pid"] && status["leases"] == 1, "{status}");

    // What is open comes to its end before the process does.
    let mut open = dial(listening[0])?;
    echoed(&mut open, b"open")?;
    kill_process(background.0, Signal::TERM)?;
    until(DEADLINE, "nothing new is taken", || {
        ensure!(dial(listening[0]).is_err(), "it is");
        Ok(())
    })?;
    echoed(&mut open, b"still open")?;
    drop(open);
    until(DEADLINE, "the process ends", || {
        ensure!(background.is_gone(), "it is there");
        Ok(())
    })?;
    harness.client(&alice, &["status"]).run()?.expect(Exit::Network)?;
    Ok(())
}

fn two_forwards_by_one_server_go_on_too(harness: &Harness) -> Result<()> {
    let echo = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", "127.0.0.1:*"])?;
    let (server, key, forward) = (fixture.address(), fixture.key(), local(&echo));
    let table = format!("[[forward]]\nserver = '{server}'\nserver_key = '{key}'\nlocal = ['{forward}']\n");
    let alice = Arc::clone(fixture.alice());
    let path = alice.write("two.toml", table.repeat(2))?;
    let arguments = ["forward", "--config", word(&path)?, "--detach", "--json"];
    let outcome = harness.client(&alice, &arguments).run()?.expect(Exit::Done)?;
    let text = outcome.text();
    let last: Value = serde_json::from_str(text.lines().last().context("no event")?)?;
    Background::of(&last["pid"])?.end()
}

fn text_says_where_it_listens_and_how_to_end_it(harness: &Harness) -> Result<()> {
    let echo = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", "127.0.0.1:*"])?;
    let at = fixture.address();
    let arguments = ["forward", &at, "--server-key", fixture.key(), "--detach", "-L", &local(&echo)];
    let text = harness.client(fixture.alice(), &arguments).run()?.expect(Exit::Done)?.text();
    let address = text.lines().find_map(|line| line.strip_prefix("local")?.split_whitespace().next());
    let pid = text.lines().find_map(|line| line.strip_prefix("detached as process ")?.split_once(':'));
    let background = Background::of(&pid.context("no process id")?.0.parse::<u32>()?.into())?;
    echoed(&mut dial(address.context("no address")?)?, b"hello")?;
    background.end()
}

fn what_cannot_listen_is_an_error_and_nothing_stays(harness: &Harness) -> Result<()> {
    let echo = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", "127.0.0.1:*"])?;
    let at = fixture.address();
    let taken = format!("{}:{}", echo.address(), echo.address());
    let there = format!("0:{}", echo.address());
    for (forward, exit, code) in
        [(["-L", &*taken], Exit::Network, "listen"), (["-R", &there], Exit::Refused, "listening")]
    {
        let arguments =
            [&["forward", &at, "--server-key", fixture.key(), "--detach", "--json"], &forward[..]].concat();
        let outcome = harness.client(fixture.alice(), &arguments).run()?.expect(exit)?;
        let text = outcome.text();
        let last: Value = serde_json::from_str(text.lines().last().context("nothing is printed")?)?;
        ensure!(last["event"] == "error" && last["code"] == code, "{forward:?}: {text}");
        harness.client(fixture.alice(), &["status"]).run()?.expect(Exit::Network)?;
    }
    // A server that nobody has vouched for, and nobody to ask.
    let arguments = ["forward", &at, "--detach", "-L", &local(&echo)];
    harness.client(&harness.home()?, &arguments).detached().run()?.expect(Exit::Identity)?;
    let stdio = ["forward", &at, "--detach", "-W", &echo.address()];
    harness.client(fixture.alice(), &stdio).run()?.expect(Exit::Usage)?;
    Ok(())
}
