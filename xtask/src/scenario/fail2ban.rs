//! Goal: the log line that the README's fail2ban pattern finds is written for attackers and for nobody else,
//! and not for a good client whose connections end early.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::harness::{
    DEADLINE, Exit, Fixture, Forward, Harness, Home, Key, Process, Server, Tap, Target, Tool, Visitor, dial,
    echoed, local, printed, proxied, reset, shared_key, word,
};
use crate::scenario::registration::scenarios;
use crate::workspace;

scenarios![
    connections_that_end_early_are_told_with_client_and_target,
    standard_output_that_is_closed_is_not_the_servers_fault,
    pattern_in_the_readme_finds_attackers_and_nobody_else,
];

fn connections_that_end_early_are_told_with_client_and_target(harness: &Harness) -> Result<()> {
    let curl = Tool::CURL.find()?;
    let [pages, database, killed, idle] = [endless_page()?, talkative()?, Target::echo()?, Target::echo()?];
    let fixture = Fixture::open(harness, &["--tcp", "127.0.0.1:*", "--listen", "*"])?;
    let forward = fixture.forward(&["-L", &local(&pages), "-L", &local(&database)])?;

    // curl's output is closed early, as in `curl | head -c 10`.
    let url = format!("http://{}/", forward.local(0)?);
    let mut command = Command::new("sh");
    command.args(["-c", "\"$0\" --silent --max-time 20 \"$1\" | head -c 10"]).arg(curl).arg(url);
    ensure!(printed(&mut command)?.len() == 10, "no ten bytes of a page");
    told(&fixture, &forward, &pages)?;

    // psql closes its connection right after its last message over TLS, so the server's answer to that
    // message cannot be delivered.
    let mut psql = dial(&forward.local(1)?)?;
    echoed(&mut psql, b"query")?;
    psql.write_all(b"terminate")?;
    drop(psql);
    told(&fixture, &forward, &database)?;

    // A program crashes in the middle of a connection.
    let mut program = dial(&forward.local(1)?)?;
    echoed(&mut program, b"query")?;
    reset(program)?;
    early_ends(fixture.server()?, &database, 2)?;

    // The client itself is killed.
    let second = fixture.forward(&["-L", &local(&killed)])?;
    // No handshake may be under way, since it would fail for good reason.
    second.has_idle(2)?;
    let mut stream = second.dial()?;
    echoed(&mut stream, b"here")?;
    second.kill()?;
    early_ends(fixture.server()?, &killed, 1)?;

    // A balancer in between resets connections that have been idle for too long.
    let tap = Tap::before(&fixture.address())?;
    let spec = format!("0:{}", idle.address());
    // What could be taken over would not be told of as lost.
    let third =
        fixture.forward_through(&tap.address(), &["-L", &local(&idle), "-R", &spec, "--no-resume"])?;
    third.has_idle(2)?;
    let mut stream = third.dial()?;
    echoed(&mut stream, b"here")?;
    let mut visitor = dial(&third.remote(0)?)?;
    echoed(&mut visitor, b"here")?;
    tap.cut();
    early_ends(fixture.server()?, &idle, 1)?;
    fixture.server()?.logged(&[
        "INFO connection ended early",
        "client=\"alice\"",
        "listening on 127.0.0.1:",
    ])?;
    third.logged(&["the channel with", &tap.address()])?;

    let log = fixture.server()?.process.stderr.text();
    ensure!(!log.contains("connection failed"), "good clients get the line for fail2ban:\n{log}");
    ensure!(!log.contains(" WARN ") && !log.contains(" ERROR "), "good clients are warned of:\n{log}");
    Ok(())
}

/// Checks that the server's log names the client of the ended connection, and that the client does not blame
/// its connection to the server.
fn told(fixture: &Fixture<'_>, forward: &Forward<'_>, target: &Target) -> Result<()> {
    early_ends(fixture.server()?, target, 1)?;
    let line = forward.logged(&[&format!("the connection to {} ended early", target.address())])?;
    ensure!(line.contains(" INFO "), "an early end is more than information: {line}");
    let log = forward.process.stderr.text();
    let blamed = log.lines().find(|line| line.contains("the channel with") || line.contains("the pipe to"));
    ensure!(blamed.is_none(), "the client takes it for a connection to the server:\n{log}");
    Ok(())
}

/// Waits until the server has logged the early end of this many connections of `alice` to `target`.
fn early_ends(server: &Server, target: &Target, times: usize) -> Result<()> {
    let target = format!("target=\"{}\"", target.address());
    let names = [" INFO connection ended early ", " client=\"alice\" ", &target];
    let mut seen = 0;
    let line = server.process.stderr.wait_line(DEADLINE, |line| {
        seen += usize::from(names.iter().all(|name| line.contains(name)));
        seen == times
    });
    line.map(drop).with_context(|| format!("line {times} with {names:?}"))
}

/// Standard output is closed early, as `head` does it.
fn standard_output_that_is_closed_is_not_the_servers_fault(harness: &Harness) -> Result<()> {
    let pages = endless_page()?;
    let fixture = Fixture::open(harness, &["--tcp", "127.0.0.1:*"])?;
    let (address, target) = (fixture.address(), pages.address());
    let arguments = ["forward", &address, "--server-key", fixture.key(), "-W", &target];
    let command = harness.client(fixture.alice(), &arguments).into_command();
    let (mut client, mut output) = Process::start_streamed(command)?;
    client.write(b"GET / HTTP/1.0\r\n\r\n")?;
    output.read_exact(&mut [0; 10])?;
    drop(output);
    let outcome = client.finish()?.expect(Exit::Network)?.error_names(&["output"])?;
    ensure!(!outcome.stderr.contains("the channel with"), "the server is blamed:\n{}", outcome.stderr);
    early_ends(fixture.server()?, &pages, 1)?;
    let log = fixture.server()?.process.stderr.text();
    ensure!(!log.contains("connection failed"), "a good client gets the line for fail2ban:\n{log}");
    Ok(())
}

/// Each client connects through a proxy of its own, so that each has an address of its own.
fn pattern_in_the_readme_finds_attackers_and_nobody_else(harness: &Harness) -> Result<()> {
    let tool = Tool::FAIL2BAN_REGEX.find()?;
    let home = harness.home_with(Key::Server)?;
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    let target = talkative()?;
    let laptop = shared_key(harness, &home, "laptop")?;
    let key = harness.fingerprint("client", &alice)?;
    let allow = ["allow", &key, "--name", "alice", "--messages", "--tcp", &target.address()];
    harness.server(&home, &allow).run()?.expect(Exit::Done)?;
    let server = Server::start(harness, &home, &["--proxy-from", "127.0.0.1"])?;
    let server_key = server.key()?;

    let said: [(&str, &[u8]); 4] = [
        ("PROXY TCP4 192.0.2.1 203.0.113.1 4711 443\r\n", b"GET / HTTP/1.1\r\n\r\n"),
        ("PROXY TCP4 192.0.2.2 203.0.113.1 4711 443\r\n", b"SKS\x01\x03\x00\x00\x04\xff\xff\xff\xff"),
        ("PROXY TCP4 192.0.2.3 203.0.113.1 4711 443\r\n", b"SKS\x01\x03\x00"),
        ("PROXY TCP6 2001:db8::4 2001:db8::1 4711 443\r\n", b"SKS\x01\x09\x00\x00\x00"),
    ];
    for (header, bytes) in said {
        let mut visitor = Visitor::connect(server.address())?;
        visitor.send(&[header.as_bytes(), bytes].concat());
        visitor.close_write();
        visitor.closed_within(DEADLINE)?;
    }
    // These three clients are one that is not allowed, an anonymous one, and one with a pre-shared key that
    // the server does not have.
    let [denied, nobody, unknown] = [
        proxied(&server, "PROXY TCP4 192.0.2.5 203.0.113.1 4711 443\r\n")?,
        proxied(&server, "PROXY TCP4 192.0.2.6 203.0.113.1 4711 443\r\n")?,
        proxied(&server, "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n")?,
    ];
    let send = |home: &Home, proxy: &Target, trust: [&str; 2]| {
        harness.client(home, &["send", &proxy.address(), "let me in", trust[0], trust[1]]).run()
    };
    send(&mallory, &denied, ["--server-key", server_key])?.expect(Exit::Refused)?;
    send(&harness.home()?, &nobody, ["--server-key", server_key])?.expect(Exit::Refused)?;
    send(&alice, &unknown, ["--psk", word(&laptop)?])?.expect_failure()?;

    // The good clients are a health check, a first contact that is not confirmed, requests for unreachable
    // targets whose names look like the log line, and connections that end early.
    let mut check = Visitor::connect(server.address())?;
    check.send(b"PROXY TCP4 198.51.100.1 203.0.113.1 4711 443\r\n");
    check.close_write();
    check.closed_within(DEADLINE)?;
    let good = proxied(&server, "PROXY TCP4 198.51.100.2 203.0.113.1 4711 443\r\n")?;
    let address = good.address();
    harness
        .client(&harness.home()?, &["send", &address, "hello"])
        .detached()
        .run()?
        .expect(Exit::Identity)?;
    for target in ["127.0.0.1:1", "unix:/a  WARN connection failed peer=\"203.0.113.9:1\""] {
        let arguments = ["forward", &address, "-W", target, "--server-key", server_key];
        harness
            .client(&alice, &arguments)
            .run()?
            .expect(Exit::Refused)
            .with_context(|| format!("{target:?}"))?;
    }
    let alice = Arc::new(alice);
    // The server does not wait for a client that is killed, as it would for one whose streams can be taken over.
    let arguments = ["-L", &local(&target), "--no-resume"];
    let forward = Forward::start(harness, &alice, &address, server_key, &arguments)?;
    let mut program = forward.dial()?;
    echoed(&mut program, b"query")?;
    reset(program)?;
    early_ends(&server, &target, 1)?;
    let mut program = forward.dial()?;
    echoed(&mut program, b"query")?;
    forward.kill()?;
    early_ends(&server, &target, 2)?;
    server.process.signal(Signal::TERM)?;
    let log = server.finish()?.expect(Exit::Done)?.stderr;

    let in_journal: String =
        log.lines().map(|line| format!("Oct 18 03:26:06 gate server[4711]: {line}\n")).collect();
    let pattern = readme_pattern()?;
    for (name, log) in [("plain.log", &log), ("journal.log", &in_journal)] {
        let path = home.write(name, log)?;
        let mut command = Command::new(&tool);
        command.args(["--out", "ip"]).arg(path).arg(&pattern);
        let found = printed(&mut command)?;
        let mut found: Vec<&str> = found.split_whitespace().collect();
        found.sort_unstable();
        let expected =
            ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.5", "192.0.2.6", "2001:db8::4", "2001:db8::7"];
        ensure!(found == expected, "{name}: it finds {found:?}, and should find {expected:?} in\n{log}");
    }
    Ok(())
}

/// The pattern as the README has it.
fn readme_pattern() -> Result<String> {
    let readme = std::fs::read_to_string(workspace::root()?.join("README.md"))?;
    let behind = readme.split_once("`failregex = ").context("README has no pattern for fail2ban")?.1;
    Ok(behind.split_once('`').context("the pattern has no end")?.0.to_owned())
}

/// Starts a target that answers each request with an endless page.
fn endless_page() -> Result<Target> {
    Target::serve(|mut stream| {
        let asked = stream.read(&mut [0; 1024])?;
        if asked > 0 {
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n")?;
            while stream.write_all(&[b'.'; 16 * 1024]).is_ok() {}
        }
        Ok(())
    })
}

/// Starts an echo that keeps sending after the other side has ended.
fn talkative() -> Result<Target> {
    Target::serve(|mut stream| {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..count])?;
        }
        while stream.write_all(&[b'.'; 16 * 1024]).is_ok() {}
        stream.shutdown(Shutdown::Both)
    })
}
