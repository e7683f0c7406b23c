//! Goal: standard input and output go on through `client forward -W` as if nothing had happened, while the client's connection is
//! reset, and never end well where they cannot.

use std::io::{Cursor, Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::harness::services::Sshd;
use crate::harness::{
    Cutter, DEADLINE, Exchange, Exit, Fault, Fixture, Gate, Harness, Lines, Port, Process, Tap, Target, Way,
    digest, until,
};
use crate::scenario::registration::scenarios;

scenarios![
    bytes_arrive_whole,
    half_closed_exchange_goes_on,
    ssh_goes_on_over_its_proxy_command,
    cut_is_a_failure_without_it,
    hold_comes_to_its_end,
    restarted_server_has_no_stream,
    client_that_is_told_to_end_has_nothing_held,
];

/// Each connection carries an eighth of what comes down, at most.
fn bytes_arrive_whole(harness: &Harness) -> Result<()> {
    let exchange = Exchange { up: 8_000_000, down: 16_000_001 };
    let target = Target::exchange(exchange)?;
    let piped = Piped::start(harness, &target, "")?;
    piped.tap.set_fault(Some(Fault::Reset { way: Way::Down, after: 2_000_000 }));
    let mut client = piped.client(harness, &[])?;
    let sent = Lines::of_length(exchange.up).bytes()?;
    client.feed(Cursor::new(sent.clone()))?;
    let mut expected = Lines::of_length(exchange.down).bytes()?;
    expected.extend_from_slice(format!("{} {}\n", exchange.up, digest(&sent)).as_bytes());
    client.finish()?.expect(Exit::Done)?.expect_stdout(&expected)?;
    piped.resumes(7)?;
    ensure!(target.accepted() == 1, "{} connections to the target", target.accepted());
    target.is_left_alone()?;
    ensure!(target.failures().is_empty(), "{:?}", target.failures());
    Ok(())
}

/// The connection is reset between the end of the input and the answer.
fn half_closed_exchange_goes_on(harness: &Harness) -> Result<()> {
    let (asked, gate) = (Gate::default(), Gate::default());
    let (has_asked, held) = (asked.clone(), gate.clone());
    let target = Target::serve(move |mut stream| {
        let mut question = String::new();
        stream.read_to_string(&mut question)?;
        has_asked.open();
        held.wait();
        stream.write_all(format!("answer to {question}").as_bytes())
    })?;
    let piped = Piped::start(harness, &target, "")?;
    let mut client = piped.client(harness, &[])?;
    client.write(b"question")?;
    client.close_input();
    asked.wait();
    for _ in 0..3 {
        let before = piped.resumed()?;
        // A stream that goes on at once does so over a connection that is reset next, and has none for a moment.
        until(DEADLINE, "something to cut", || {
            ensure!(piped.tap.reset() > 0);
            Ok(())
        })?;
        piped.resumes(before + 1)?;
    }
    gate.open();
    client.finish()?.expect(Exit::Done)?.expect_stdout(b"answer to question")?;
    Ok(())
}

fn ssh_goes_on_over_its_proxy_command(harness: &Harness) -> Result<()> {
    let sshd = Sshd::start(harness)?;
    let fixture = Fixture::open(harness, &["--tcp", &sshd.address()])?;
    let tap = Arc::new(Tap::unrecorded(&fixture.address())?);
    let mut ssh = sshd.client(&format!("{} -W [%h]:%p", fixture.proxy_command(&tap.address())?))?;
    ssh.arg("cat");
    let mut ssh = Process::start(ssh)?;
    ssh.write(b"ready\n")?;
    ssh.stdout.wait_line(DEADLINE, |line| line == "ready")?;
    let cutter = Cutter::start(&tap, EVERY);
    let mut number = 0;
    while resumed(&fixture, &sshd.address())? < 3 {
        number += 1;
        ssh.write(format!("line {number}\n").as_bytes())?;
        let last = format!("line {number}");
        ssh.stdout
            .wait_line(DEADLINE, |line| line == last)
            .with_context(|| format!("{last}, behind {} cuts", cutter.cuts()))?;
    }
    ssh.close_input();
    let lines: String = (1..=number).map(|number| format!("line {number}\n")).collect();
    ssh.finish()?.expect(Exit::Done)?.expect_stdout(format!("ready\n{lines}").as_bytes())?;
    Ok(())
}

/// What the other scenarios show is not there with `--no-resume`.
fn cut_is_a_failure_without_it(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let piped = Piped::start(harness, &target, "")?;
    let client = piped.open(harness, &["--no-resume"])?;
    ensure!(piped.tap.reset() > 0, "there was nothing to cut");
    client.finish()?.expect(Exit::Integrity)?.expect_stdout(b"before")?;
    ensure!(piped.resumed()? == 0, "the stream was taken over");
    Ok(())
}

fn hold_comes_to_its_end(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let piped = Piped::start(harness, &target, "resume = { hold = '2s' }\n")?;
    let client = piped.open(harness, &[])?;
    let nowhere = Port::hold()?;
    piped.tap.redirect(&nowhere.address());
    ensure!(piped.tap.reset() > 0, "there was nothing to cut");
    client.finish()?.expect(Exit::Integrity)?.expect_stdout(b"before")?.error_names(&["cut off"])?;
    piped.fixture.server()?.logged(&["stream lost", "its client has not resumed it in time"])?;
    Ok(())
}

/// The server is killed, and another one stands at its address when the client comes back.
fn restarted_server_has_no_stream(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let mut piped = Piped::start(harness, &target, "")?;
    let client = piped.open(harness, &[])?;
    piped.fixture.kill()?;
    piped.fixture.start()?;
    piped.tap.redirect(&piped.fixture.address());
    let outcome = client.finish()?.expect(Exit::Network)?.expect_stdout(b"before")?;
    outcome.error_names(&["the server no longer has the stream"])?;
    Ok(())
}

/// As by ssh, which tells its proxy command to end when it ends itself.
fn client_that_is_told_to_end_has_nothing_held(harness: &Harness) -> Result<()> {
    for options in [&[][..], &["--no-resume"]] {
        let target = Target::echo()?;
        let piped = Piped::start(harness, &target, "")?;
        let mut client = piped.open(harness, options)?;
        client.signal(Signal::HUP)?;
        // Its input is open until then, and has no end of its own.
        client.wait_for(DEADLINE)?;
        let outcome = client.finish()?;
        ensure!(outcome.ended_by_signal(), "{}", outcome.text());
        target.is_left_alone()?;
        let log = piped.fixture.server()?.process.stderr.text();
        ensure!(target.failures().len() == 1, "with {options:?} the target was told of an end:\n{log}");
        piped
            .fixture
            .server()?
            .logged(&["connection ended early", "the other side gave up: it is stopping"])?;
    }
    Ok(())
}

/// A server behind a tap, and the target that `client forward -W` leads to.
struct Piped<'a> {
    fixture: Fixture<'a>,
    tap: Arc<Tap>,
    target: String,
}

impl<'a> Piped<'a> {
    fn start(harness: &'a Harness, target: &Target, config: &str) -> Result<Self> {
        let target = target.address();
        let fixture = Fixture::with_config(harness, &["--tcp", &target], config)?;
        let tap = Arc::new(Tap::unrecorded(&fixture.address())?);
        Ok(Self { fixture, tap, target })
    }

    fn client(&self, harness: &Harness, options: &[&str]) -> Result<Process> {
        let address = self.tap.address();
        let arguments = ["forward", &address, "-W", &self.target, "--server-key", self.fixture.key()];
        harness.client(self.fixture.alice(), &[&arguments, options].concat()).with_hangup().start()
    }

    /// Starts a client whose target echoes, and has a word echoed.
    fn open(&self, harness: &Harness, options: &[&str]) -> Result<Process> {
        let mut client = self.client(harness, options)?;
        client.write(b"before")?;
        client.stdout.wait_len(DEADLINE, 6)?;
        Ok(client)
    }

    /// How often the stream was taken over.
    fn resumed(&self) -> Result<usize> {
        resumed(&self.fixture, &self.target)
    }

    /// Waits until the stream was taken over so many times.
    fn resumes(&self, times: usize) -> Result<()> {
        until(DEADLINE, "the stream is taken over", || {
            let resumed = self.resumed()?;
            ensure!(resumed >= times, "{resumed} times, and not {times}");
            Ok(())
        })
    }
}

/// How often streams to `target` were taken over, as the server's log says it.
fn resumed(fixture: &Fixture<'_>, target: &str) -> Result<usize> {
    let log = fixture.server()?.process.stderr.text();
    Ok(log.lines().filter(|line| line.contains("stream resumed") && line.contains(target)).count())
}

/// Time between two cuts.
const EVERY: Duration = Duration::from_millis(700);
