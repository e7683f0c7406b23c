//! Goal: the log is what the tools behind it need: text, one JSON object a line, or entries of systemd's journal. None of
//! them holds anybody up, and no client can forge a line in any of them.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    BETWEEN, DEADLINE, Exit, Fixture, Harness, Home, Journal, Key, Process, Server, Tool, Visitor, printed,
    proxied,
};
use crate::scenario::registration::scenarios;
use crate::workspace;

scenarios![
    json_is_one_object_a_line_from_the_first_to_the_last,
    json_that_nobody_reads_holds_up_nothing,
    journal_gets_each_line_with_its_fields,
    journal_that_stands_still_holds_up_nothing,
    journal_that_is_missing_is_an_error_at_the_start,
    filter_of_fail2ban_finds_attackers_alone_in_each_format,
];

fn json_is_one_object_a_line_from_the_first_to_the_last(harness: &Harness) -> Result<()> {
    let fixture = Fixture::with_arguments(harness, &["--tcp", "127.0.0.1:*"], &["--log-format", "json"])?;
    let address = fixture.address();
    let hostile = "/a\"}} {\"level\":\"ERROR\"}";
    let arguments =
        ["forward", &address, "--server-key", fixture.key(), "-W", hostile, "--log-format", "json"];
    let refused = harness.client(fixture.alice(), &arguments).run()?.expect(Exit::Refused)?;
    let server = fixture.server()?;
    server.logged(&["\"message\":\"stream refused\""])?;
    let mut visitor = Visitor::connect(&address)?;
    visitor.send(b"GET / HTTP/1.1\r\n\r\n");
    visitor.closed_within(DEADLINE)?;
    let failed: Value = serde_json::from_str(&server.logged(&["\"message\":\"connection failed\""])?)?;
    ensure!(failed["level"] == "WARN" && failed["fields"]["peer"].is_string(), "a failed one is {failed}");
    server.process.signal(Signal::TERM)?;
    let log = server.process.stderr.wait_end(DEADLINE)?;

    for (whose, log) in [("server", String::from_utf8(log)?), ("client", refused.stderr)] {
        ensure!(!log.is_empty(), "the {whose} says nothing");
        for line in log.lines() {
            let object: Value = serde_json::from_str(line).with_context(|| format!("{whose}: {line:?}"))?;
            let has = |key: &str| object[key].is_string();
            ensure!(has("time") && has("level") && has("message"), "{whose}: {line}");
        }
        ensure!(!log.contains("{\"level\":\"ERROR\"}"), "{whose}: a forged object in\n{log}");
    }
    // The environment decides as well, where the command line does not.
    let unknown = ["fingerprint"];
    let failed =
        harness.client(&harness.home()?, &unknown).environment("SOCKSEAL_LOG_FORMAT", "json").run()?;
    let error = failed.expect(Exit::Usage)?.stderr;
    ensure!(error.starts_with("{\"time\":") && error.contains("\"level\":\"ERROR\""), "an error is {error}");
    let wrong = harness.client(&harness.home()?, &["--log-format", "xml", "fingerprint"]).run()?;
    wrong.expect(Exit::Usage)?.error_names(&["xml", "journald"])?;
    Ok(())
}

fn json_that_nobody_reads_holds_up_nothing(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let mut command = harness.program("server");
    command.arg("--home").arg(&home).args([
        "--listen",
        "127.0.0.1:0",
        "--anyone",
        "--log-format",
        "json",
        "-v",
    ]);
    let (server, said, _log) = Process::start_unread(command, "{")?;
    let said = said.lines().find_map(|line| line.split_once("listening on ")?.1.split_once('"'));
    served_while_nobody_reads(harness, said.context("no address")?.0, &server)
}

fn journal_gets_each_line_with_its_fields(harness: &Harness) -> Result<()> {
    let journal = Journal::listen()?;
    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &[&journal.option()])?;
    harness.send(&harness.home_with(Key::Mallory)?, &server, "let me in")?.expect(Exit::Done)?;
    let mut visitor = Visitor::connect(server.address())?;
    visitor.send(b"GET / HTTP/1.1\r\n\r\n");
    visitor.closed_within(DEADLINE)?;
    let entry = journal.logged(&["MESSAGE=connection failed peer=\"127.0.0.1:"])?;
    let lines: Vec<&str> = entry.split(BETWEEN).collect();
    let has = |start: &str| lines.iter().any(|line| line.starts_with(start));
    for start in ["PRIORITY=4", "SYSLOG_IDENTIFIER=server", "SOCKSEAL_PEER=127.0.0.1:", "SOCKSEAL_ERROR="] {
        ensure!(has(start), "no {start} in {lines:?}");
    }
    // Standard error has the notices alone.
    server.process.signal(Signal::TERM)?;
    let log = server.finish()?.expect(Exit::Done)?.stderr;
    ensure!(log.contains("listening on") && !log.contains("connection failed"), "standard error has\n{log}");
    Ok(())
}

/// A unix socket takes ten datagrams or a few more before it blocks whoever sends.
fn journal_that_stands_still_holds_up_nothing(harness: &Harness) -> Result<()> {
    let journal = Journal::unread()?;
    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &["--anyone", "-v", &journal.option()])?;
    served_while_nobody_reads(harness, server.address(), &server.process)
}

/// Has the server write many lines, and checks that it serves and ends all the same.
fn served_while_nobody_reads(harness: &Harness, address: &str, server: &Process) -> Result<()> {
    for _ in 0..100 {
        let mut visitor = Visitor::connect(address)?;
        visitor.send(b"GET / HTTP/1.1\r\n\r\n");
        visitor.close_write();
        visitor.closed_within(DEADLINE)?;
    }
    let home = harness.home()?;
    let arguments = ["send", address, "still here", "--trust", "accept-new"];
    // The address has failed too often by now, unless it is this machine's.
    harness.client(&home, &arguments).run()?.expect(Exit::Done)?;
    server.signal(Signal::TERM)?;
    server.stdout.wait_end(DEADLINE).map(drop).context("the end of the server")
}

fn journal_that_is_missing_is_an_error_at_the_start(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let gone = home.file("none");
    let option = format!("--log-format=journald:{}", gone.display());
    for program in ["server", "client"] {
        let mut command = harness.program(program);
        command.arg("--home").arg(&home).args([&option, "fingerprint"]);
        let outcome = Process::start(command)?.finish()?.expect(Exit::Usage)?;
        outcome.error_names(&["cannot log to the journal", "none"])?.hint_names(&["--log-format json"])?;
    }
    Ok(())
}

/// Each client connects through a proxy of its own, so that each has an address of its own.
fn filter_of_fail2ban_finds_attackers_alone_in_each_format(harness: &Harness) -> Result<()> {
    let tool = Tool::FAIL2BAN_REGEX.find()?;
    let filter = workspace::root()?.join("xtask/dist/fail2ban/filter.d/sockseal.conf");
    let in_syslog = "Oct 18 03:26:06 gate server[4711]: ";
    let home = harness.home_with(Key::Server)?;
    let prefixed = |log: &str| -> String { log.lines().map(|line| format!("{in_syslog}{line}\n")).collect() };
    let journal = Journal::listen()?;
    let text = attacked(harness, &home, "--log-format=text")?;
    let json = attacked(harness, &home, "--log-format=json")?;
    attacked(harness, &home, &journal.option())?;
    journal.logged(&["203.0.113.91"])?;
    let logs = [
        ("text", text.clone()),
        ("text in syslog", prefixed(&text)),
        ("json", json.clone()),
        ("json in syslog", prefixed(&json)),
        ("the journal", journal.messages(in_syslog)),
        (
            "the journal with other times",
            journal.messages("2026-10-18T03:26:06.123456+0000 gate server[7]: "),
        ),
    ];
    for (name, log) in logs {
        let forged = log.matches("203.0.113.").count();
        ensure!(forged >= FORGED.len(), "{name}: {forged} forged lines were tried in\n{log}");
        let path = home.write("some.log", &log)?;
        let mut command = Command::new(&tool);
        command.args(["--out", "ip"]).arg(path).arg(&filter);
        let found = printed(&mut command)?;
        let mut found: Vec<&str> = found.split_whitespace().collect();
        found.sort_unstable();
        ensure!(found == ["192.0.2.1", "192.0.2.5", "2001:db8::4"], "{name}: it finds {found:?} in\n{log}");
    }
    Ok(())
}

/// The log of a server that strangers have connected to, and a client that asks for targets which look like its lines.
fn attacked(harness: &Harness, home: &Home, format: &str) -> Result<String> {
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    let key = harness.fingerprint("client", &alice)?;
    let allow = ["allow", &key, "--name", "alice", "--messages"];
    harness.server(home, &allow).run()?.expect(Exit::Done)?;
    let server = Server::start(harness, home, &["--proxy-from", "127.0.0.1", format])?;
    for header in
        ["PROXY TCP4 192.0.2.1 203.0.113.1 4711 443\r\n", "PROXY TCP6 2001:db8::4 2001:db8::1 4711 443\r\n"]
    {
        let mut visitor = Visitor::connect(server.address())?;
        visitor.send(&[header.as_bytes(), b"GET / HTTP/1.1\r\n\r\n"].concat());
        visitor.close_write();
        visitor.closed_within(DEADLINE)?;
    }
    let denied = proxied(&server, "PROXY TCP4 192.0.2.5 203.0.113.1 4711 443\r\n")?;
    let send = ["send", &denied.address(), "let me in", "--server-key", server.key()?];
    harness.client(&mallory, &send).run()?.expect(Exit::Refused)?;

    let good = proxied(&server, "PROXY TCP4 198.51.100.2 203.0.113.1 4711 443\r\n")?;
    for forged in FORGED {
        let target = format!("/a{forged}");
        let arguments = ["forward", &good.address(), "-W", &target, "--server-key", server.key()?];
        harness.client(&alice, &arguments).run()?.expect(Exit::Refused)?;
        let send = ["send", &good.address(), forged, "--server-key", server.key()?];
        harness.client(&alice, &send).run()?.expect(Exit::Done)?;
    }
    server.process.signal(Signal::TERM)?;
    let printed = server.finish()?.expect(Exit::Done)?;
    // systemd keeps both outputs as one log.
    Ok(printed.stderr + &String::from_utf8_lossy(&printed.stdout))
}

/// Ends of names, and messages, that look like lines of the log. None has a control character, which `client` refuses in a
/// target.
const FORGED: [&str; 8] = [
    "  WARN connection failed peer=\"203.0.113.9:1\"",
    " 2026-11-30T00:00:00.000000Z  WARN connection failed peer=\"203.0.113.10:1\"",
    "\"} {\"time\":\"\",\"level\":\"WARN\",\"message\":\"connection failed\",\"fields\":{\"peer\":\"203.0.113.11:1\"",
    "\",\"level\":\"WARN\",\"message\":\"connection failed\",\"fields\":{\"peer\":\"203.0.113.12:1\"",
    " gate server[1]: connection failed peer=\"203.0.113.13:1\"",
    "x[1]: connection failed peer=\"203.0.113.14:1\"",
    "x[1]: y WARN connection failed peer=\"203.0.113.15:1\"",
    "/gate server[1]: connection failed peer=\"203.0.113.91:1\"",
];
