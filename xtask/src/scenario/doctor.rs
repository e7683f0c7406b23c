//! Goal: `client doctor` tells apart why something does not work, says what to do, changes nothing, and shows no secret.

use std::net::TcpListener;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{
    Exit, Fixture, FullQueue, Harness, Home, Hosts, Impostor, Key, Outcome, Port, Process, Server, Target,
    Then, Tool, local, printed, shared_key, word, works_again, wrapped,
};
use crate::scenario::clock::Clock;
use crate::scenario::registration::scenarios;

scenarios![
    all_that_is_well_is_said_to_be,
    name_port_and_filter_are_told_apart,
    somebody_else_is_recognized_by_the_protocol,
    key_of_the_server_is_compared_and_never_trusted,
    clock_that_is_off_is_measured,
    client_that_is_not_let_in_is_told_why,
    revoked_pre_shared_key_is_said_to_be,
    targets_are_told_apart,
    target_that_the_server_cannot_reach_is_told_from_one_that_is_slow,
    port_that_is_taken_is_not_taken_over,
    shares_are_looked_at,
];

/// What a check has come to.
pub(super) struct Check {
    pub(super) name: String,
    pub(super) status: String,
    pub(super) text: String,
    pub(super) hint: String,
}

/// The checks in the output of `doctor --json`, behind which an error may stand.
pub(super) fn checks(outcome: &Outcome) -> Result<Vec<Check>> {
    let text = outcome.text();
    let report: Value =
        serde_json::from_str(text.lines().next().unwrap_or_default()).context("the report")?;
    let field = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().context("the checks")?.iter().map(|check| Check {
        name: field(check, "check"),
        status: field(check, "status"),
        text: field(check, "text"),
        hint: field(check, "try"),
    });
    Ok(checks.collect())
}

/// Checks that one check, and none before it, has failed, and that its text and hint contain these.
fn failed(outcome: Outcome, exit: Exit, name: &str, text: &[&str], hint: &[&str]) -> Result<Vec<Check>> {
    let outcome = outcome.expect(exit)?;
    let checks = checks(&outcome)?;
    let first = checks.iter().find(|check| check.status == "failed").context("nothing has failed")?;
    ensure!(first.name.contains(name), "{name} did not fail, but {}: {}", first.name, first.text);
    for part in text {
        ensure!(first.text.contains(part), "{name} does not say {part}: {}", first.text);
    }
    for part in hint {
        ensure!(first.hint.contains(part), "{name} does not hint at {part}: {}", first.hint);
    }
    Ok(checks)
}

fn doctor(harness: &Harness, home: &Home, address: &str, options: &[&str]) -> Result<Outcome> {
    harness.client(home, &[&["doctor", address, "--json"], options].concat()).run()
}

/// Runs the doctor as `home` at the fixture's server, whose key is known.
fn at(harness: &Harness, fixture: &Fixture<'_>, home: &Home, options: &[&str]) -> Result<Outcome> {
    let options = [&["--server-key", fixture.key()], options].concat();
    doctor(harness, home, &fixture.address(), &options)
}

fn all_that_is_well_is_said_to_be(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*", "--expires", "90d"])?;
    let there = format!("0:{}", target.address());
    let options = ["-L", &local(&target), "-R", &there, "-D", "0", "-W", &target.address()];
    let outcome = at(harness, &fixture, fixture.alice(), &options)?.expect(Exit::Done)?;
    let found = checks(&outcome)?;
    for check in &found {
        ensure!(check.status == "ok", "{} is {}: {}", check.name, check.status, check.text);
    }
    let names = ["key", "connection", "protocol", "server key", "admission", "clock"];
    for (check, name) in found.iter().zip(names) {
        ensure!(check.name == name, "{} in place of {name}", check.name);
    }
    ensure!(found[4].text.contains("as alice, until 20"), "{}", found[4].text);
    ensure!(found.len() == names.len() + 6, "{} checks", found.len());
    // For a person, too.
    let arguments = ["doctor", &fixture.address(), "--server-key", fixture.key()];
    let said = harness.client(fixture.alice(), &arguments).run()?.expect(Exit::Done)?.text();
    ensure!(said.lines().all(|line| line.starts_with("ok       ")), "{said}");
    ensure!(!fixture.alice().file("known_servers").exists(), "a server was remembered");
    Ok(())
}

fn name_port_and_filter_are_told_apart(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let outcome = doctor(harness, &home, "nosuch.invalid:5000", &[])?;
    let rest = failed(outcome, Exit::Network, "name", &["nosuch.invalid", "does not resolve"], &["spelled"])?;
    ensure!(rest.iter().skip(2).all(|check| check.status == "skipped"), "checks were made of nobody");

    let port = Port::hold()?;
    let outcome = doctor(harness, &home, &port.address(), &[])?;
    failed(outcome, Exit::Network, "connection", &["refuses", &port.address()], &["running"])?;

    let outcome = doctor(harness, &home, "unix:/nosuch/socket", &[])?;
    failed(outcome, Exit::Network, "connection", &["/nosuch/socket"], &["path"])?;

    let hosts = Hosts::before_a_silent_resolver(harness)?;
    let wrapper: Vec<String> = hosts.wrapper().into_iter().map(str::to_owned).collect();
    let command = harness.client(&home, &["doctor", "192.0.2.53:5000", "--json"]).into_command();
    let outcome = Process::start(wrapped(&wrapper, command))?.finish()?;
    failed(outcome, Exit::TimedOut, "connection", &["filtered"], &["firewall"])?;
    Ok(())
}

fn somebody_else_is_recognized_by_the_protocol(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    for (said, then, exit, text) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], Then::StaySilent, Exit::Network, "speaks ssh"),
        (b"220 mail.example.org ESMTP\r\n", Then::StaySilent, Exit::Network, "SMTP"),
        (b"\x1b[31mred\x07\r\nred red red red", Then::Close, Exit::Network, "not known here"),
        (b"SKS\x07\x02\x00\x00\x00", Then::Close, Exit::Network, "version 7"),
        (b"SKS\x01\x02\x00\xff\xff", Then::Close, Exit::Integrity, "breaks the protocol"),
        (b"", Then::Close, Exit::Network, "closes it without a word"),
        (b"", Then::StaySilent, Exit::TimedOut, "says nothing"),
    ] {
        let impostor = Impostor::start(said.to_vec(), then)?;
        let outcome = doctor(harness, &home, &impostor.address(), &[])?;
        ensure!(!outcome.text().contains("red"), "what a peer has said is shown: {}", outcome.text());
        failed(outcome, exit, "protocol", &[text], &[])?;
    }

    let mut http = Command::new("python3");
    http.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]).current_dir(home.path());
    let http = Process::start(http)?;
    let line = http.stdout.wait_line(crate::harness::DEADLINE, |line| line.contains("Serving HTTP"))?;
    let port = line.split("port ").nth(1).and_then(|rest| rest.split(' ').next()).context("its port")?;
    let outcome = doctor(harness, &home, &format!("127.0.0.1:{port}"), &[])?;
    failed(outcome, Exit::Network, "protocol", &["speaks HTTP"], &["port"])?;

    let [key, certificate] = [home.file("tls.key"), home.file("tls.crt")];
    let mut request = Tool::OPENSSL.command()?;
    request.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", word(&key)?]);
    printed(request.args(["-out", word(&certificate)?]))?;
    let port = Port::hold()?;
    let mut tls = Tool::OPENSSL.command()?;
    tls.args(["s_server", "-accept", &port.address(), "-key", word(&key)?, "-cert", word(&certificate)?]);
    let tls = Process::start(tls)?;
    tls.stdout.wait_line(crate::harness::DEADLINE, |line| line.contains("ACCEPT"))?;
    let outcome = doctor(harness, &home, &port.address(), &[])?;
    failed(outcome, Exit::Network, "protocol", &["speaks TLS"], &["port"])?;
    Ok(())
}

fn key_of_the_server_is_compared_and_never_trusted(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &[])?;
    let other = harness.fingerprint("server", &harness.home_with(Key::OtherServer)?)?;
    let alice = fixture.alice();
    let seen = fixture.key();
    let outcome = doctor(harness, alice, &fixture.address(), &[])?;
    let rest = failed(outcome, Exit::Identity, "server key", &[seen], &["client trust", seen])?;
    ensure!(rest.iter().any(|check| check.name == "admission" && check.status == "skipped"), "it went on");
    ensure!(!alice.file("known_servers").exists(), "a server was remembered");
    let taken = doctor(harness, alice, &fixture.address(), &["--trust", "accept-new"])?.expect(Exit::Done)?;
    ensure!(taken.text().contains("not remembered") && !alice.file("known_servers").exists(), "remembered");

    let outcome = doctor(harness, alice, &fixture.address(), &["--server-key", &other])?;
    failed(outcome, Exit::Identity, "server key", &[seen, &other], &["client trust"])?;
    harness
        .client(alice, &["trust", &fixture.address(), "--server-key", &other])
        .run()?
        .expect(Exit::Done)?;
    let outcome = doctor(harness, alice, &fixture.address(), &[])?;
    failed(outcome, Exit::Identity, "server key", &[seen, &other], &["client trust"])?;
    Ok(())
}

fn clock_that_is_off_is_measured(harness: &Harness) -> Result<()> {
    let clock = Clock::new(harness)?;
    let fixture = Fixture::open(harness, &[])?;
    for (offset, text) in
        [("+400d", "400 days ahead of"), ("-3h", "3 hours behind"), ("-9m", "9 minutes behind")]
    {
        clock.set(offset)?;
        let arguments = ["doctor", &fixture.address(), "--json", "--server-key", fixture.key()];
        let command = harness.client(fixture.alice(), &arguments).into_command();
        let outcome = Process::start(wrapped(&clock.wrapper(), command))?.finish()?;
        failed(outcome, Exit::Usage, "clock", &[text], &["timedatectl"]).context(offset)?;
    }
    Ok(())
}

/// A key that is not on the list is told the same, whatever its past. The rest it can only know who has a key on the list.
fn client_that_is_not_let_in_is_told_why(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &["--expires", "2020-01-01T00:00:00Z"])?;
    let alice = fixture.alice();
    let key = harness.fingerprint("client", alice)?;
    let found = failed(
        at(harness, &fixture, alice, &[])?,
        Exit::Refused,
        "admission",
        &["have expired", "2020-01-01T00:00:00Z"],
        &["server allow", &key, "--add --expires"],
    )?;
    ensure!(
        found.iter().any(|check| check.name == "clock" && check.status == "ok"),
        "no clock was looked at"
    );

    fixture.allow(&["--from", "10.0.0.0/8"])?;
    let outcome = at(harness, &fixture, alice, &[])?;
    ensure!(!outcome.text().contains("10.0.0.0"), "the networks of the rule are shown");
    failed(outcome, Exit::Refused, "admission", &["127.0.0.1"], &["--add --from 127.0.0.1", &key])?;

    fixture.command(&["revoke", "alice"])?.expect(Exit::Done)?;
    let revoked = at(harness, &fixture, alice, &["-W", "127.0.0.1:9"])?;
    let revoked = failed(
        revoked,
        Exit::Refused,
        "admission",
        &["never allowed", "revoked"],
        &["server explain", &key],
    )?;
    ensure!(revoked.last().is_some_and(|check| check.status == "skipped"), "a target was looked at");
    let stranger = harness.home_with(Key::Mallory)?;
    let unknown = failed(at(harness, &fixture, &stranger, &[])?, Exit::Refused, "admission", &[], &[])?;
    ensure!(revoked[4].text == unknown[4].text, "a stranger is told apart from who was revoked");

    let nobody = harness.home()?;
    let outcome = at(harness, &fixture, &nobody, &[])?;
    failed(outcome, Exit::Refused, "admission", &["this one has none"], &["client keygen", "server allow"])?;
    Ok(())
}

fn revoked_pre_shared_key_is_said_to_be(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let [laptop, phone] = [shared_key(harness, &home, "laptop")?, shared_key(harness, &home, "phone")?];
    let server = Server::start(harness, &home, &["--psk", word(&laptop)?])?;
    let client = harness.home()?;
    let run = |options: &[&str]| doctor(harness, &client, server.address(), options);
    let found = checks(&run(&["--psk", word(&laptop)?])?.expect(Exit::Done)?)?;
    ensure!(found.iter().all(|check| check.status == "ok"), "something is not well");
    failed(run(&[])?, Exit::Identity, "server key", &["pre-shared key only"], &["--psk"])?;
    // A client that is well, or has asked alone, is not taken for an attacker.
    let log = server.process.stderr.text();
    ensure!(!log.contains("connection failed"), "{log}");
    failed(run(&["--psk", word(&phone)?])?, Exit::Identity, "admission", &["does not have"], &["owner"])?;
    harness.server(&home, &["revoke", "laptop"]).run()?.expect(Exit::Done)?;
    failed(
        run(&["--psk", word(&laptop)?])?,
        Exit::Refused,
        "admission",
        &["revoked"],
        &["server keygen --psk"],
    )?;
    Ok(())
}

fn targets_are_told_apart(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let closed = Port::hold()?;
    let rights =
        ["--tcp", "localhost:*", "--tcp", "nosuch.invalid:80", "--service", "db", "--unix", "/nosuch"];
    let fixture = Fixture::open(harness, &rights)?;
    let alice = fixture.alice();
    let key = harness.fingerprint("client", alice)?;
    let there = format!("localhost:{}", closed.number());
    let forbidden = format!("192.0.2.1:{}", target.port());
    for (wanted, text, hint) in [
        (forbidden.as_str(), "may not use", format!("server allow {key} --add --tcp {forbidden}")),
        ("other.invalid:80", "where the name leads", format!("server explain {key} tcp other.invalid:80")),
        (&there, "is down", "running".into()),
        ("nosuch.invalid:80", "does not resolve at the server", "spelled".into()),
        ("@db", "no service", "[[service]]".into()),
        ("@other", "may not use", format!("server allow {key} --add --service other")),
        ("/nosuch", "no socket", "path".into()),
    ] {
        let outcome = at(harness, &fixture, alice, &["-W", wanted])?;
        failed(outcome, Exit::Refused, "-W", &[text], &[&hint]).with_context(|| wanted.to_owned())?;
    }
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let spec = format!("{}:localhost:{}", taken.local_addr()?.port(), target.port());
    let found =
        failed(at(harness, &fixture, alice, &["-L", &spec])?, Exit::Network, "port here", &[], &["forward"])?;
    ensure!(found.last().is_some_and(|check| check.status == "ok"), "the target was not looked at");
    let spec = format!("0:{}", closed.address());
    fixture.allow(&["--listen", "*"])?;
    failed(
        at(harness, &fixture, alice, &["-R", &spec])?,
        Exit::Network,
        "target here",
        &["refuses"],
        &["running"],
    )?;
    Ok(())
}

/// The listen queue of a target is full, so that the system of the target does not answer.
fn target_that_the_server_cannot_reach_is_told_from_one_that_is_slow(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &["--tcp", "127.0.0.1:*"])?;
    let full = FullQueue::new()?;
    let outcome = at(harness, &fixture, fixture.alice(), &["-W", &full.address()])?;
    let found = checks(&outcome)?;
    let last = found.last().context("no check")?;
    ensure!(
        last.status == "failed" && last.text.contains("does not answer"),
        "{}: {}",
        last.status,
        last.text
    );
    outcome.expect_any(&[Exit::Refused, Exit::TimedOut])?;

    let slow = FullQueue::new()?;
    let address = slow.address();
    let emptied = thread::spawn(move || slow.empty_late());
    let outcome = at(harness, &fixture, fixture.alice(), &["-W", &address])?.expect(Exit::Done)?;
    let last = checks(&outcome)?.pop().context("no check")?;
    ensure!(last.text.contains("slow") && last.hint.contains("overloaded"), "{}", last.text);
    emptied.join().ok().context("the target")??;
    Ok(())
}

fn port_that_is_taken_is_not_taken_over(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let mallory = fixture.mallory(&["--listen", "*"])?;
    let port = Port::hold()?;
    let spec = format!("{}:{}", port.number(), target.address());
    let forward = fixture.forward(&["-R", &spec])?;
    works_again(&forward.remote(0)?)?;
    let found = checks(&at(harness, &fixture, fixture.alice(), &["-R", &spec])?.expect(Exit::Done)?)?;
    let own = found.iter().find(|check| check.name.contains("port there")).context("no check of the port")?;
    ensure!(
        own.text.contains("for this client already") && own.hint.contains("take it over"),
        "{}",
        own.text
    );
    let other_kind = format!("{}", port.number());
    let outcome = at(harness, &fixture, fixture.alice(), &["-R", &other_kind])?;
    failed(outcome, Exit::Refused, "port there", &["by this client itself"], &["client status"])?;
    let outcome = at(harness, &fixture, &mallory, &["-R", &spec])?;
    failed(
        outcome,
        Exit::Refused,
        "port there",
        &["by another client or another program"],
        &["another port"],
    )?;
    let program = TcpListener::bind("127.0.0.1:0")?;
    let taken = format!("{}:{}", program.local_addr()?.port(), target.address());
    let outcome = at(harness, &fixture, fixture.alice(), &["-R", &taken])?;
    failed(outcome, Exit::Refused, "port there", &["another program"], &["another port"])?;
    works_again(&forward.remote(0)?).context("the forward was disturbed")?;

    fixture.allow(&["--listen", "8080"])?;
    let key = harness.fingerprint("client", fixture.alice())?;
    let outcome = at(harness, &fixture, fixture.alice(), &["-R", &taken])?;
    let rule = format!("server allow {key} --add --listen 127.0.0.1:{}", program.local_addr()?.port());
    failed(outcome, Exit::Refused, "port there", &["may not have the server listen"], &[&rule])?;
    Ok(())
}

fn shares_are_looked_at(harness: &Harness) -> Result<()> {
    let folder = harness.home()?;
    let config = format!("[[files]]\nname = \"docs\"\ndir = \"{}\"\nmode = \"rw\"\n", word(folder.path())?);
    let fixture = Fixture::with_config(harness, &["--files", "docs:ro", "--files", "gone"], &config)?;
    let alice = fixture.alice();
    let key = harness.fingerprint("client", alice)?;
    at(harness, &fixture, alice, &["--files", "docs"])?.expect(Exit::Done)?;
    let outcome = at(harness, &fixture, alice, &["--files", "docs:rw"])?;
    let rule = format!("server allow {key} --add --files docs:drop");
    failed(outcome, Exit::Refused, "--files docs:rw, add", &["may not do that"], &[&rule])?;
    failed(
        at(harness, &fixture, alice, &["--files", "gone"])?,
        Exit::Refused,
        "--files gone",
        &["no share"],
        &["client ls"],
    )?;
    fixture.allow(&["--files", "docs"])?;
    at(harness, &fixture, alice, &["--files", "docs:rw"])?.expect(Exit::Done)?;
    harness.client(alice, &["doctor", "x:1", "--files", "a/b"]).run()?.expect(Exit::Usage)?;
    Ok(())
}
