//! Goal: the audit log has who was let in and who was not, and who has changed what clients may do, and nothing of that is lost:
//! not while no server runs, not by a rotation, and not silently on a disk that is full.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    DEADLINE, Exit, Fixture, Harness, Key, Process, Schema, Server, Visitor, make_file, proxied, until, word,
    wrapped,
};
use crate::scenario::registration::scenarios;

scenarios![
    all_that_happens_is_noted_as_documented,
    commands_note_while_no_server_runs,
    commands_note_what_they_have_done_and_cannot_say,
    server_that_cannot_start_leaves_it_on,
    file_that_was_moved_away_is_opened_anew,
    file_that_was_moved_away_is_left_in_spite_of_a_bad_configuration,
    full_disk_is_said_once_and_what_is_missing_is_counted,
    file_that_cannot_be_opened_is_an_error_and_gives_no_rights,
];

const SCHEMA: &str = "crates/server/audit.schema.json";
const DOCUMENT: &str = "crates/server/AUDIT.md";

fn all_that_happens_is_noted_as_documented(harness: &Harness) -> Result<()> {
    let (home, bob) = (harness.home_with(Key::Server)?, harness.home()?);
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    let audit = home.file("audit.jsonl");
    let config =
        format!("audit = 'audit.jsonl'\nproxy_from = ['127.0.0.1']\nlisten = ['{}']\n", "127.0.0.1:0");
    let path = home.write("server.toml", &config)?;
    let server = Server::start(harness, &home, &["--config", word(&path)?])?;
    let command = |arguments: &[&str]| harness.server(&home, arguments).run()?.expect(Exit::Done);
    let key = harness.fingerprint("client", &alice)?;
    command(&["allow", &key, "--name", "alice", "--messages", "--pipe"])?;
    command(&["allow", &key, "--messages", "--tcp", "127.0.0.1:9"])?;
    command(&["keygen", "--psk", "laptop"])?;
    let invite = |name: &str| -> Result<String> {
        Ok(command(&["invite", "--address", server.address(), "--name", name])?.text())
    };
    let gate = proxied(&server, "PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n")?;
    invite("bob")?;
    command(&["invites", "revoke", "bob"])?;

    let refused = ["send", &gate.address(), "let me in", "--server-key", server.key()?];
    harness.client(&mallory, &refused).run()?.expect(Exit::Refused)?;
    harness.client(&harness.home()?, &refused).run()?.expect(Exit::Refused)?;
    harness.client(&alice, &refused).run()?.expect(Exit::Done)?;
    let hostile = "/a\"}} {\"schema\":1,\"event\":\"revoked\",\"client\":\"x\"}";
    let forward = ["forward", &gate.address(), "-W", hostile, "--server-key", server.key()?];
    harness.client(&alice, &forward).run()?.expect(Exit::Refused)?;
    // More than 300 in ten seconds, also where these begin anew in the middle.
    for number in 0..700 {
        let mut visitor = Visitor::connect(server.address())?;
        // From a network of its own each, so that none is turned away.
        let header = format!("PROXY TCP4 10.{}.{}.7 203.0.113.1 4711 443\r\n", number / 200, number % 200);
        visitor.send(&[header.as_bytes(), b"GET / HTTP/1.1\r\n\r\n"].concat());
        visitor.close_write();
        visitor.closed_within(DEADLINE)?;
    }
    command(&["reload"])?;
    home.write("server.toml", "listen = []")?;
    harness.server(&home, &["reload"]).run()?.expect(Exit::Usage)?;
    home.write("server.toml", &config)?;
    command(&["revoke", "alice"])?;
    invite("carol")?;
    command(&["keygen", "--bits", "2048", "--force"])?;
    until(DEADLINE, "the server goes by what the commands have changed", || {
        noted(&audit, "rights_noticed").map(drop)
    })?;
    server.process.signal(Signal::TERM)?;
    server.finish()?.expect(Exit::Done)?;

    // A second server, reached without a proxy, for the invites.
    let server = Server::start(harness, &home, &["--audit", word(&audit)?])?;
    let line = harness.server(&home, &["invite", "--address", server.address(), "--name", "bob"]).run()?;
    let line = line.expect(Exit::Done)?.text();
    harness.client(&bob, &["join"]).input(line.clone()).run()?.expect(Exit::Done)?;
    harness.client(&mallory, &["join"]).input(line.clone()).run()?.expect(Exit::Refused)?;
    server.process.signal(Signal::TERM)?;
    server.finish()?.expect(Exit::Done)?;

    let text = fs::read_to_string(&audit)?;
    let schema = Schema::of(SCHEMA)?;
    schema.check(&text)?;
    let secret = line.trim().rsplit(':').next().context("an invite")?;
    ensure!(!text.contains(secret) && !text.contains("let me in"), "a secret or a message is in\n{text}");
    ensure!(fs::metadata(&audit)?.permissions().mode() & 0o777 == 0o600, "others can read it");
    let events = events(&audit)?;
    let seen: BTreeSet<String> =
        events.iter().filter_map(|event| Some(event["event"].as_str()?.to_owned())).collect();
    ensure!(seen == schema.titles()?, "seen {seen:?}, documented {:?}", schema.titles()?);
    let target = events.iter().find(|event| event["event"] == "stream_refused").context("no refusal")?;
    ensure!(target["target"].as_str().is_some_and(|target| target.contains(hostile)), "{target}");
    let stranger = |event: &&Value| event["event"] == "refused" && event["identity"] == "anonymous";
    events.iter().find(stranger).context("a client without a key is refused, and not noted")?;
    numbered(&events)?;

    let examples = schema.examples(DOCUMENT)?;
    schema.check(&examples)?;
    let shown: BTreeSet<String> = examples
        .lines()
        .map(|line| Ok(serde_json::from_str::<Value>(line)?["event"].as_str().unwrap_or_default().to_owned()))
        .collect::<Result<_>>()?;
    ensure!(shown == schema.titles()?, "the examples are {shown:?}");
    Ok(())
}

fn commands_note_while_no_server_runs(harness: &Harness) -> Result<()> {
    let (home, alice) = (harness.home_with(Key::Server)?, harness.home_with(Key::Alice)?);
    let audit = home.file("audit.jsonl");
    let start = |options: &[&str]| -> Result<()> {
        let server = Server::start(harness, &home, options)?;
        server.process.signal(Signal::TERM)?;
        server.finish()?.expect(Exit::Done)?;
        Ok(())
    };
    start(&["--audit", word(&audit)?])?;
    let key = harness.fingerprint("client", &alice)?;
    let command = |arguments: &[&str]| harness.server(&home, arguments).run()?.expect(Exit::Done);
    command(&["allow", &key, "--name", "alice"])?;
    command(&["revoke", "alice"])?;
    let allowed = noted(&audit, "allowed")?;
    ensure!(allowed["identity"] == *key && allowed["client"] == "alice", "{allowed}");
    let revoked = noted(&audit, "revoked")?;
    ensure!(revoked["process"] != allowed["process"] && revoked["pid"] != allowed["pid"], "{revoked}");
    ensure!(revoked["uid"] == rustix::process::getuid().as_raw(), "{revoked}");
    let len = events(&audit)?.len();
    ensure!(len == 4, "{len} events of two runs and two commands");

    // Without the option that ends.
    start(&[])?;
    command(&["allow", &key, "--name", "alice"])?;
    ensure!(events(&audit)?.len() == len, "it goes on");
    Ok(())
}

/// The thread that writes the file may not have begun by the time at which the command fails.
fn commands_note_what_they_have_done_and_cannot_say(harness: &Harness) -> Result<()> {
    let (home, alice) = (harness.home_with(Key::Server)?, harness.home_with(Key::Alice)?);
    let audit = home.file("audit.jsonl");
    home.write("audit-log", format!("{}\n", word(&audit)?))?;
    let key = harness.fingerprint("client", &alice)?;
    let to_full_disk = ["sh", "-c", "exec \"$0\" \"$@\" > /dev/full"].map(str::to_owned);
    for number in 1..=20 {
        let port = format!("127.0.0.1:{number}");
        let mut command = harness.program("server");
        command.arg("--home").arg(&home).args(["allow", &key, "--name", "alice", "--tcp", &port, "--json"]);
        Process::start(wrapped(&to_full_disk, command))?.finish()?.expect(Exit::Network)?;
        let noted = events(&audit)?.len();
        ensure!(noted == number, "{noted} of {number} changes are noted");
    }
    Ok(())
}

fn server_that_cannot_start_leaves_it_on(harness: &Harness) -> Result<()> {
    let (home, alice) = (harness.home_with(Key::Server)?, harness.home_with(Key::Alice)?);
    let audit = home.file("audit.jsonl");
    let server = Server::start(harness, &home, &["--audit", word(&audit)?])?;
    harness.server(&home, &["--listen", server.address()]).run()?.expect(Exit::Network)?;
    let key = harness.fingerprint("client", &alice)?;
    harness.server(&home, &["allow", &key, "--name", "alice"]).run()?.expect(Exit::Done)?;
    noted(&audit, "allowed").map(drop)
}

fn file_that_was_moved_away_is_opened_anew(harness: &Harness) -> Result<()> {
    let folder = harness.home()?;
    let (audit, moved) = (folder.file("audit.jsonl"), folder.file("audit.jsonl.1"));
    let fixture = Fixture::with_arguments(harness, &["--messages"], &["--audit", word(&audit)?])?;
    let server = fixture.server()?;
    harness.send(fixture.alice(), server, "one")?.expect(Exit::Done)?;
    until(DEADLINE, "the first one is in", || noted(&audit, "admitted").map(drop))?;
    fs::rename(&audit, &moved)?;
    server.process.signal(Signal::HUP)?;
    until(DEADLINE, "the file is opened anew", || noted(&audit, "reloaded").map(drop))?;
    harness.send(fixture.alice(), server, "two")?.expect(Exit::Done)?;
    until(DEADLINE, "the second one is in", || noted(&audit, "admitted").map(drop))?;
    let all = [events(&moved)?, events(&audit)?].concat();
    numbered(&all)?;
    let admitted = |events: &[Value]| events.iter().filter(|event| event["event"] == "admitted").count();
    ensure!(admitted(&events(&moved)?) == 1 && admitted(&all) == 2, "they are {all:?}");

    // A file that cannot be opened leaves the one in use that is there.
    fs::rename(&audit, &moved)?;
    fs::create_dir(&audit)?;
    fixture.command(&["reload"])?.expect(Exit::Usage)?;
    harness.send(fixture.alice(), server, "three")?.expect(Exit::Done)?;
    until(DEADLINE, "the third one is in", || {
        ensure!(admitted(&events(&moved)?) == 2, "not yet");
        Ok(())
    })
}

fn file_that_was_moved_away_is_left_in_spite_of_a_bad_configuration(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let audit = home.file("audit.jsonl");
    let path = home.write("server.toml", "audit = 'audit.jsonl'\nlisten = ['127.0.0.1:0']\n")?;
    let server = Server::start(harness, &home, &["--config", word(&path)?])?;
    until(DEADLINE, "the server is noted", || noted(&audit, "started").map(drop))?;
    home.write("server.toml", "no such key = 1")?;
    fs::rename(&audit, home.file("audit.jsonl.1"))?;
    server.process.signal(Signal::HUP)?;
    until(DEADLINE, "the file is opened anew", || noted(&audit, "reload_failed").map(drop))
}

/// The file is on a small file system in memory, in a namespace of the server's own.
fn full_disk_is_said_once_and_what_is_missing_is_counted(harness: &Harness) -> Result<()> {
    let folder = harness.home()?;
    let mount = "mount -t tmpfs -o size=64k,mode=700 tmpfs \"$0\" && exec \"$@\"";
    let path = word(folder.path())?;
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", mount, path];
    let file = format!("{path}/audit.jsonl");
    let fixture = Fixture::wrapped(harness, &["--messages"], &["--audit", &file], &wrapper)?;
    let server = fixture.server()?;
    let inside = format!("/proc/{}/root{path}", server.process.id());
    let (audit, filler) = (Path::new(&inside).join("audit.jsonl"), Path::new(&inside).join("filler"));
    harness.send(fixture.alice(), server, "before")?.expect(Exit::Done)?;
    until(DEADLINE, "the first one is in", || noted(&audit, "admitted").map(drop))?;
    // All but what is left of the last page of the file, which the next lines fill.
    make_file(&filler, 60 * 1024)?;
    let len = fs::metadata(&audit)?.len();
    for number in 0..30 {
        harness.send(fixture.alice(), server, &format!("message {number}"))?.expect(Exit::Done)?;
    }
    server.logged(&["ERROR", "the audit log cannot be written"])?;
    ensure!(fs::metadata(&audit)?.len() >= len, "something of it is gone");
    fs::remove_file(&filler)?;
    harness.send(fixture.alice(), server, "after")?.expect(Exit::Done)?;
    server.logged(&["INFO", "the audit log is written again"])?;
    let all = events(&audit)?;
    numbered(&all)?;
    let missing = all.iter().filter_map(|event| event["missing"].as_u64()).sum::<u64>();
    let admitted = all.iter().filter(|event| event["event"] == "admitted").count();
    ensure!(missing > 0, "nothing is missing in {all:?}");
    ensure!(u64::try_from(admitted)? + missing == 32, "{admitted} are there and {missing} missing");
    let log = server.process.stderr.text();
    let said = log.lines().filter(|line| line.contains("the audit log cannot be written")).count();
    ensure!(said == 1, "it is said {said} times:\n{log}");
    Ok(())
}

fn file_that_cannot_be_opened_is_an_error_and_gives_no_rights(harness: &Harness) -> Result<()> {
    let (home, alice) = (harness.home_with(Key::Server)?, harness.home_with(Key::Alice)?);
    let audit = home.file("logs/audit.jsonl");
    let refused = harness.server(&home, &["--listen", "127.0.0.1:0", "--audit", word(&audit)?]).run()?;
    refused.expect(Exit::Usage)?.error_names(&["audit log", word(&audit)?])?;
    fs::create_dir(home.file("logs"))?;
    let server = Server::start(harness, &home, &["--audit", word(&audit)?])?;
    let key = harness.fingerprint("client", &alice)?;
    let run = |arguments: &[&str]| harness.server(&home, arguments).run();
    run(&["allow", &key, "--name", "alice"])?.expect(Exit::Done)?;
    run(&["invite", "--address", server.address(), "--name", "bob"])?.expect(Exit::Done)?;

    fs::rename(home.file("logs"), home.file("gone"))?;
    let clients = home.read("clients.toml")?;
    for grant in [
        &["allow", &key, "--tcp", "127.0.0.1:1"][..],
        &["invite", "--address", server.address(), "--name", "carol"],
        &["keygen", "--psk", "laptop"],
    ] {
        run(grant)?.expect(Exit::Usage)?.error_names(&["cannot open the audit log"])?;
    }
    ensure!(home.read("clients.toml")? == clients, "rights were given that are not noted");
    // What takes rights away is done, and says that it is not noted.
    run(&["invites", "revoke", "bob"])?.expect(Exit::Usage)?.error_names(&["it is done, and not noted"])?;
    run(&["revoke", "alice"])?.expect(Exit::Usage)?.error_names(&["it is done, and not noted"])?;
    ensure!(!home.read("clients.toml")?.contains(&key), "alice is still there");
    // The running server goes by it, and notes so in the file that it has open.
    until(DEADLINE, "the server has noted it", || {
        let noticed = noted(&home.file("gone/audit.jsonl"), "rights_noticed")?;
        ensure!(noticed["removed"] == serde_json::json!(["alice"]), "{noticed}");
        Ok(())
    })
}

fn events(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// The last event of a kind.
fn noted(path: &Path, kind: &str) -> Result<Value> {
    let found = events(path)?.into_iter().rfind(|event| event["event"] == kind);
    found.with_context(|| format!("no event {kind}"))
}

/// Checks that no process lacks a number but for what it says is missing.
fn numbered(events: &[Value]) -> Result<()> {
    let processes: BTreeSet<&str> = events.iter().filter_map(|event| event["process"].as_str()).collect();
    for process in processes {
        let mut last = 0;
        for event in events.iter().filter(|event| event["process"] == process) {
            let seq = event["seq"].as_u64().context("a number")?;
            let missing = event["missing"].as_u64().unwrap_or(0);
            ensure!(seq == last + missing + 1, "{seq} comes after {last}, and {missing} are missing");
            last = seq;
        }
    }
    Ok(())
}
