//! Goal: common programs go on through `client forward` as if nothing had happened, while its connections are reset.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::Signal;

use crate::harness::services::{Iperf, Nginx, Postgres, Redis, Sshd};
use crate::harness::{
    Cutter, DEADLINE, Exit, Fault, Harness, Lines, Process, Resumable, Target, Tool, Way, digest_of, echoed,
    noise, printed, word,
};
use crate::scenario::registration::scenarios;

scenarios![
    sessions_go_on,
    files_arrive_whole,
    git_clones_whole_repositories,
    iperf_comes_to_its_end,
    programs_break_without_it,
    server_that_stands_still_is_waited_for,
    client_that_stands_still_is_waited_for,
];

/// A shell, a transaction and a subscription are open while all connections are reset again and again.
fn sessions_go_on(harness: &Harness) -> Result<()> {
    let (sshd, postgres, redis) = (Sshd::start(harness)?, Postgres::start()?, Redis::start(harness)?);
    let targets = [sshd.address(), postgres.address(), redis.address()];
    let tunnel = Resumable::start(harness, &targets, &[])?;
    let mut ssh = ssh(&sshd, &tunnel.port(0)?, "cat")?;
    let mut psql = Process::start(psql(&tunnel.port(1)?)?)?;
    let mut redis_cli = Tool::REDIS_CLI.command()?;
    redis_cli.args(["-p", &tunnel.port(2)?, "subscribe", "numbers"]);
    let subscriber = Process::start(redis_cli)?;
    subscriber.stdout.wait_line(DEADLINE, |line| line == "1").context("the subscription")?;
    let mut publisher = BufReader::new(TcpStream::connect(redis.address())?);
    psql.write(b"create table numbers (number int); begin; select pg_backend_pid();\n")?;
    let backend = psql.stdout.wait_line(DEADLINE, |_| true)?;
    ssh.write(b"ready\n")?;
    ssh.stdout.wait_line(DEADLINE, |line| line == "ready")?;

    let last = while_cut(&tunnel, &targets, |number| {
        ssh.write(format!("line {number}\n").as_bytes())?;
        psql.write(format!("insert into numbers values ({number}) returning number;\n").as_bytes())?;
        write!(publisher.get_mut(), "PUBLISH numbers {number}\r\n")?;
        let mut receivers = String::new();
        publisher.read_line(&mut receivers)?;
        ensure!(receivers == ":1\r\n", "redis has reached {receivers:?}");
        Ok(())
    })?;

    psql.write(b"select pg_backend_pid(); commit;\n")?;
    psql.close_input();
    let numbers: String = (1..=last).map(|number| format!("{number}\n")).collect();
    psql.finish()?
        .expect(Exit::Done)?
        .expect_stdout(format!("{backend}\n{numbers}{backend}\n").as_bytes())?;
    let direct = postgres.address();
    let (_, port) = direct.rsplit_once(':').context("no port")?;
    let kept = printed(self::psql(port)?.args(["-c", "select count(*) from numbers"]))?;
    ensure!(kept.trim() == last.to_string(), "{kept} of {last} rows are there");
    ssh.close_input();
    let lines: String = (1..=last).map(|number| format!("line {number}\n")).collect();
    ssh.finish()?.expect(Exit::Done)?.expect_stdout(format!("ready\n{lines}").as_bytes())?;
    subscriber.stdout.wait_line(DEADLINE, |line| line == last.to_string()).context("the last number")?;
    let said = subscriber.stdout.text();
    let heard: Vec<&str> = said.lines().skip(3).collect();
    let expected: Vec<String> =
        (1..=last).flat_map(|number| ["message".into(), "numbers".into(), number.to_string()]).collect();
    ensure!(heard == expected, "the subscriber got {} of {} lines, or others", heard.len(), expected.len());
    Ok(())
}

/// Runs steps, numbered from 1, until streams to each of `targets` were taken over several times. Returns the last number.
fn while_cut(
    tunnel: &Resumable<'_>,
    targets: &[String],
    mut step: impl FnMut(usize) -> Result<()>,
) -> Result<usize> {
    let cutter = Cutter::start(&tunnel.tap, EVERY);
    let deadline = Instant::now() + DEADLINE;
    let mut number = 0;
    loop {
        number += 1;
        step(number).with_context(|| format!("step {number}, behind {} cuts", cutter.cuts()))?;
        thread::sleep(PAUSE);
        let resumed = targets.iter().map(|target| tunnel.resumed(target)).collect::<Result<Vec<_>>>()?;
        if resumed.iter().all(|&times| times >= CUTS) {
            ensure!(
                cutter.cuts() >= CUTS,
                "{} cuts, and streams were taken over {resumed:?} times",
                cutter.cuts()
            );
            return Ok(number);
        }
        ensure!(
            Instant::now() < deadline,
            "{} cuts, and streams were taken over {resumed:?} times",
            cutter.cuts()
        );
    }
}

/// Each connection carries an eighth of a file at most. One goes up, and the others come down, through a port and through a proxy.
fn files_arrive_whole(harness: &Harness) -> Result<()> {
    let (nginx, sshd) = (Nginx::start(harness)?, Sshd::start(harness)?);
    let targets = [nginx.address(), sshd.address()];
    let tunnel = Resumable::start(harness, &targets, &["-D", "0"])?;
    let curl = Tool::CURL.find()?;
    tunnel.set_fault(Fault::Reset { way: Way::Down, after: EIGHTH });
    let here = format!("http://{}/large", tunnel.forward.local(0)?);
    Nginx::download(&mut Command::new(&curl), &here)?;
    tunnel.resumes(&nginx.address(), 8)?;
    let resumed = tunnel.resumed(&nginx.address())?;
    let mut through_proxy = Command::new(&curl);
    through_proxy.args(["--socks5-hostname", &tunnel.forward.dynamic(0)?]);
    Nginx::download(&mut through_proxy, &format!("http://{}/large", nginx.address()))?;
    tunnel.resumes(&nginx.address(), resumed + 8)?;

    tunnel.set_fault(Fault::Reset { way: Way::Up, after: EIGHTH });
    let mut ssh = ssh(&sshd, &tunnel.port(1)?, "sha256sum")?;
    ssh.feed(Lines::of_length(Nginx::LARGE))?;
    let told = ssh.finish()?.expect(Exit::Done)?.text();
    let (_, expected) = digest_of(Lines::of_length(Nginx::LARGE))?;
    ensure!(told.starts_with(&expected), "ssh's other end got {told}");
    tunnel.resumes(&sshd.address(), 8)
}

fn git_clones_whole_repositories(harness: &Harness) -> Result<()> {
    let sshd = Sshd::start(harness)?;
    let tunnel = Resumable::start(harness, &[sshd.address()], &[])?;
    tunnel.set_fault(Fault::Reset { way: Way::Down, after: EIGHTH / 2 });
    let place = harness.home()?;
    let [project, clone] = ["project", "clone"].map(|name| place.file(name));
    let git = |folder, arguments: &[&str]| {
        let mut git = Tool::GIT.command()?;
        // Git must not read the configuration of the person who runs the tests.
        git.env("HOME", place.path()).env("GIT_CONFIG_NOSYSTEM", "1");
        git.env("GIT_SSH_COMMAND", format!("ssh {}", sshd.options().join(" ")));
        printed(git.arg("-C").arg(folder).args(arguments))
    };
    git(place.path(), &["init", "-q", word(&project)?])?;
    fs::write(project.join("noise"), noise(8 * EIGHTH / 2)?)?;
    git(&project, &["add", "noise"])?;
    let author = ["-c", "user.name=alice", "-c", "user.email=alice@example.org"];
    git(&project, &[&author[..], &["commit", "-q", "-m", "First"]].concat())?;
    let user = printed(Tool::ID.command()?.arg("-un"))?;
    let url = format!("ssh://{}@127.0.0.1:{}{}", user.trim(), tunnel.port(0)?, word(&project)?);
    git(place.path(), &["clone", "-q", &url, word(&clone)?])?;
    git(&clone, &["fsck", "--strict"])?;
    let [here, there] = [&clone, &project].map(|folder| git(folder, &["rev-parse", "HEAD"]));
    ensure!(here? == there?, "another commit was cloned");
    let [here, there] = [&clone, &project].map(|folder| fs::read(folder.join("noise")));
    ensure!(here? == there?, "another file was cloned");
    tunnel.resumes(&sshd.address(), 7)
}

/// Two instances run, one for each direction.
fn iperf_comes_to_its_end(harness: &Harness) -> Result<()> {
    let iperfs = [Iperf::start()?, Iperf::start()?];
    let targets = iperfs.each_ref().map(Iperf::address);
    let tunnel = Resumable::start(harness, &targets, &[])?;
    let cutter = Cutter::start(&tunnel.tap, EVERY / 2);
    let run = |index: usize, way: &[&str]| {
        let bytes = Iperf::client(&tunnel.port(index)?, &[&["-t", "5"], way].concat())?;
        ensure!(bytes > 1e6, "{way:?}: {bytes} bytes in five seconds");
        let resumed = tunnel.resumed(&targets[index])?;
        ensure!(resumed >= 2, "{way:?}: {} cuts, and streams were taken over {resumed} times", cutter.cuts());
        Ok(())
    };
    thread::scope(|scope| {
        let up = scope.spawn(|| run(0, &[]));
        run(1, &["-R"])?;
        up.join().map_err(|_| anyhow!("a thread has panicked"))?
    })
}

/// What the other scenarios show is not there with `--no-resume`.
fn programs_break_without_it(harness: &Harness) -> Result<()> {
    let (sshd, postgres, nginx) = (Sshd::start(harness)?, Postgres::start()?, Nginx::start(harness)?);
    let targets = [sshd.address(), postgres.address(), nginx.address()];
    let tunnel = Resumable::start(harness, &targets, &["--no-resume"])?;
    let mut ssh = ssh(&sshd, &tunnel.port(0)?, "cat")?;
    ssh.write(b"before\n")?;
    ssh.stdout.wait_line(DEADLINE, |line| line == "before")?;
    let mut psql = Process::start(psql(&tunnel.port(1)?)?)?;
    psql.write(b"begin; select 'before';\n")?;
    psql.stdout.wait_line(DEADLINE, |line| line == "before")?;
    tunnel.set_fault(Fault::Reset { way: Way::Down, after: EIGHTH });
    // A program that has ended already does not read this any more.
    psql.write(b"select 'behind';\n").ok();
    psql.close_input();
    for (name, program) in [("ssh", ssh), ("psql", psql)] {
        let outcome = program.finish()?;
        ensure!(!outcome.text().contains("behind"), "{name} has outlived its connection");
        ensure!(outcome.expect(Exit::Done).is_err(), "{name} says that all went well");
    }
    let url = format!("http://{}/large", tunnel.forward.local(2)?);
    ensure!(
        Nginx::download(&mut Tool::CURL.command()?, &url).is_err(),
        "the download has outlived its connection"
    );
    for target in targets {
        ensure!(tunnel.resumed(&target)? == 0, "a stream to {target} was taken over");
    }
    Ok(())
}

/// The server is stopped for longer than the client takes it for alive.
fn server_that_stands_still_is_waited_for(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let tunnel = Resumable::start(harness, &[target.address()], &["-v"])?;
    let mut stream = tunnel.forward.dial()?;
    echoed(&mut stream, b"before")?;
    let server = &tunnel.fixture.server()?.process;
    server.pause()?;
    stream.write_all(b"meanwhile")?;
    tunnel.forward.logged(&["the channel of a stream is lost", "taking the stream over"])?;
    server.signal(Signal::CONT)?;
    heard(&mut stream, b"meanwhile")?;
    echoed(&mut stream, b"behind")?;
    tunnel.resumes(&target.address(), 1)?;
    ensure!(target.accepted() == 1, "{} connections to the target", target.accepted());
    Ok(())
}

/// The client is stopped, as by the sleep of its machine, and its connections are lost meanwhile.
fn client_that_stands_still_is_waited_for(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let tunnel = Resumable::start(harness, &[target.address()], &[])?;
    let mut stream = tunnel.forward.dial()?;
    echoed(&mut stream, b"before")?;
    tunnel.forward.process.pause()?;
    stream.write_all(b"meanwhile")?;
    tunnel.tap.reset();
    tunnel.holds(1.0)?;
    tunnel.forward.process.signal(Signal::CONT)?;
    heard(&mut stream, b"meanwhile")?;
    echoed(&mut stream, b"behind")?;
    tunnel.resumes(&target.address(), 1)?;
    ensure!(target.accepted() == 1, "{} connections to the target", target.accepted());
    tunnel.holds(0.0)
}

/// Waits for the echo of a text that was written.
fn heard(stream: &mut TcpStream, text: &[u8]) -> Result<()> {
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).context("no echo")?;
    ensure!(back == text, "the echo is another text");
    Ok(())
}

/// Starts `ssh` to this server, through a port of this machine.
fn ssh(sshd: &Sshd, port: &str, command: &str) -> Result<Process> {
    let user = printed(Tool::ID.command()?.arg("-un"))?;
    let mut ssh = Tool::SSH.command()?;
    ssh.args(sshd.options()).args(["-p", port, "-l", user.trim(), "127.0.0.1", command]);
    Process::start(ssh)
}

/// A `psql` that prints values alone, and ends at the first error.
fn psql(port: &str) -> Result<Command> {
    let mut psql = Tool::PSQL.command()?;
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
    psql.args(["-h", "127.0.0.1", "-p", port, "-U", "postgres", "postgres"]);
    Ok(psql)
}

/// Time between two cuts of all connections.
const EVERY: Duration = Duration::from_millis(1_600);

/// How often streams to each target are taken over.
const CUTS: usize = 5;

/// Time between two steps of all sessions.
const PAUSE: Duration = Duration::from_millis(5);

/// An eighth of nginx's large file.
const EIGHTH: usize = 2 * 1024 * 1024;
