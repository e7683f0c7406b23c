//! Goal: a program can use every command of both programs by what it prints with `--json`: one form, one place for errors, and a
//! schema that all of it goes by.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    DEADLINE, Exit, Fixture, Harness, Home, Outcome, Process, Schema, Server, Target, address, local,
    printed, until, word,
};
use crate::scenario::registration::scenarios;

scenarios![
    every_command_prints_what_the_schema_says,
    errors_are_objects_wherever_they_come_from,
    data_on_standard_output_stays_data_alone,
];

const SCHEMA: &str = "crates/cli-support/json.schema.json";
const DOCUMENT: &str = "crates/cli-support/JSON.md";

/// What commands have printed.
#[derive(Default)]
struct Printed {
    commands: BTreeSet<String>,
    lines: String,
}

impl Printed {
    /// Notes what `PROGRAM COMMAND --json` has printed where its objects go.
    fn add(&mut self, program: &str, command: &str, text: &str) -> Result<Vec<Value>> {
        self.commands.insert(format!("{program} {command}"));
        // A line of the log is no object of a command.
        let is_object = |line: &&str| !line.starts_with("{\"time\":");
        let objects: Vec<&str> = text.lines().filter(is_object).collect();
        ensure!(!objects.is_empty(), "{program} {command} prints nothing: {text:?}");
        objects
            .into_iter()
            .map(|line| {
                self.lines.push_str(line);
                self.lines.push('\n');
                serde_json::from_str(line).with_context(|| format!("{program} {command}: {line}"))
            })
            .collect()
    }
}

fn every_command_prints_what_the_schema_says(harness: &Harness) -> Result<()> {
    let mut all = Printed::default();
    let [share, here, joining] = [harness.home()?, harness.home()?, harness.home()?];
    let echo = Target::echo()?;
    let files = format!("data={}:rw", share.path().display());
    let config = here.write("server.toml", "")?;
    let rights = ["--messages", "--pipe", "--files", "data:rw", "--tcp", "127.0.0.1:*", "--listen", "*"];
    let fixture = Fixture::with_arguments(harness, &rights, &["run", "--json", "--files", &files])?;
    let server = fixture.server()?;
    let (at, key) = (fixture.address(), fixture.key());
    let run = |program: &str, home: &Home, words: &[&str], input: &str| -> Result<Outcome> {
        let words = [words, &["--json"]].concat();
        let run =
            if program == "server" { harness.server(home, &words) } else { harness.client(home, &words) };
        run.input(input).run()?.expect(Exit::Done)
    };
    let home = fixture.home();
    let alice = fixture.alice();
    let fingerprint = harness.fingerprint("client", alice)?;

    for words in [
        &["fingerprint"][..],
        &["keygen", "--psk", "laptop"],
        &["keygen", "--psk", "phone", "--out", word(&here.file("phone.psk"))?],
        &["allow", &fingerprint, "--add", "--pipe"],
        &["list"],
        &["explain", "alice", "tcp", "127.0.0.1:5432"],
        &["status"],
        &["reload"],
        &["invites"],
        &["invites", "revoke", "carol"],
        &["revoke", "laptop"],
    ] {
        if words == ["invites"] {
            for name in ["bob", "carol"] {
                let invite = run("server", home, &["invite", "--address", &at, "--name", name], "")?.text();
                let invite = all.add("server", "invite", &invite)?;
                if name == "bob" {
                    let line = invite[0]["line"].as_str().context("no line")?;
                    let joined = run("client", &joining, &["join"], line)?.text();
                    ensure!(all.add("client", "join", &joined)?[0]["name"] == "bob", "{joined}");
                }
            }
        }
        all.add("server", words[0], &run("server", home, words, "")?.text())?;
    }
    all.add("server", "check", &run("server", home, &["check", "--config", word(&config)?], "")?.text())?;
    let fresh = harness.home()?;
    all.add("server", "keygen", &run("server", &fresh, &["keygen", "--bits", "2048"], "")?.text())?;
    all.add("client", "keygen", &run("client", &fresh, &["keygen", "--bits", "2048"], "")?.text())?;
    all.add("client", "check", &run("client", &fresh, &["check"], "")?.text())?;
    all.add("client", "fingerprint", &run("client", alice, &["fingerprint"], "")?.text())?;
    for words in [
        &["trust", &at, "--server-key", key, "--name", "gate"][..],
        &["trust", "--list"],
        &["trust", "gate", "--forget"],
    ] {
        all.add("client", "trust", &run("client", &fresh, words, "")?.text())?;
    }

    let words = ["doctor", &at, "--server-key", key];
    all.add("client", "doctor", &run("client", alice, &words, "")?.text())?;
    let file = word(&here.write("file", "content")?)?.to_owned();
    let pinned = ["--server-key", key];
    let client = |words: &[&str], input: &str| -> Result<Outcome> {
        run("client", alice, &[&words[..1], &[&*at], &words[1..], &pinned].concat(), input)
    };
    all.add("client", "send", &client(&["send", "hello"], "")?.text())?;
    all.add("client", "ping", &client(&["ping"], "")?.text())?;
    all.add("client", "doctor", &client(&["doctor", "--files", "data:rw"], "")?.text())?;
    all.add("client", "put", &client(&["put", &file, "data:"], "")?.text())?;
    all.add("client", "put", &client(&["put", "-", "data:second"], "more")?.text())?;
    let into = format!("{}/", word(here.path())?);
    all.add("client", "get", &client(&["get", "data:second", &into], "")?.text())?;
    all.add("client", "ls", &client(&["ls"], "")?.text())?;
    all.add("client", "ls", &client(&["ls", "data:"], "")?.text())?;
    let arguments = ["forward", &at, "-L", &local(&echo), "-R", &format!("0:{}", echo.address()), "--json"];
    let mut forward = harness.client(alice, &[&arguments, &pinned[..]].concat()).start()?;
    until(DEADLINE, "the forward listens", || {
        let text = forward.stdout.text();
        ensure!(text.contains("connected") && text.matches("listening").count() == 2, "{text}");
        Ok(())
    })?;
    until(DEADLINE, "a warm and a parked channel", || {
        let status: Value = serde_json::from_str(&run("client", alice, &["status"], "")?.text())?;
        ensure!(status["idle_channels"].as_u64() >= Some(2), "{status}");
        Ok(())
    })?;
    all.add("client", "status", &run("client", alice, &["status"], "")?.text())?;
    forward.signal(Signal::TERM)?;
    forward.close_input();
    all.add("client", "forward", &forward.finish()?.expect(Exit::Done)?.text())?;
    let stdio = client(&["forward", "-W", &echo.address()], "echo")?.expect_stdout(b"echo")?;
    all.add("client", "forward", &stdio.stderr)?;

    let mut pipes = Server::start(harness, home, &["pipe", "--json"])?;
    pipes.process.close_input();
    let words = [&["pipe", pipes.address()][..], &pinned, &["--json"]].concat();
    all.add("client", "pipe", &harness.client(alice, &words).run()?.expect(Exit::Done)?.stderr)?;
    all.add("server", "pipe", &pipes.finish()?.expect(Exit::Done)?.stderr)?;
    all.add("server", "run", &server.process.stdout.text())?;

    let aes = word(&here.write("aes.key", [7; 16])?)?.to_owned();
    let classic = ["classic", "aes-eax", "--key-file", &aes, "--json"];
    let listen = [&classic[..], &["--listen", "127.0.0.1:0", "--receive"]].concat();
    let receiver: Process = harness.server(home, &listen).start()?;
    let receiving = address(&receiver)?;
    let send = [&classic[..], &["--connect", &receiving, "--send", "Hello"]].concat();
    all.add("client", "classic", &harness.client(alice, &send).run()?.expect(Exit::Done)?.text())?;
    let received = receiver.finish()?.expect(Exit::Done)?.text();
    ensure!(all.add("server", "classic", &received)?[0]["text"] == "Hello", "{received}");

    let schema = Schema::of(SCHEMA)?;
    schema.check(&all.lines)?;
    schema.check(&schema.examples(DOCUMENT)?)?;
    for program in ["server", "client"] {
        for command in commands(harness, program)? {
            let name = format!("{program} {command}");
            ensure!(all.commands.contains(&name), "nothing was looked at of {name}");
        }
    }
    Ok(())
}

/// The commands that the help of a program lists.
fn commands(harness: &Harness, program: &str) -> Result<Vec<String>> {
    let mut help: Command = harness.program(program);
    help.arg("--help");
    let help = printed(&mut help)?;
    let listed = help.split_once("Commands:\n").context("no commands")?.1;
    let words = listed.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
        let word = line.strip_prefix("  ")?.split(' ').next()?;
        (!word.is_empty() && word != "help").then(|| word.to_owned())
    });
    Ok(words.collect())
}

fn errors_are_objects_wherever_they_come_from(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let mut all = Printed::default();
    for (words, exit, code) in [
        (&["fingerprint"][..], Exit::Usage, "file"),
        (&["send", "127.0.0.1:1", "hello"], Exit::Network, "connect"),
        (&["status"], Exit::Network, "not_running"),
        (&["sned"], Exit::Usage, "usage"),
        (&["send", "127.0.0.1", "hello"], Exit::Usage, "usage"),
        (&["send", "gate", "hello"], Exit::Usage, "unknown_name"),
        (&["--log-format", "xml", "status"], Exit::Usage, "usage"),
    ] {
        let outcome = harness.client(&home, &[words, &["--json"]].concat()).run()?.expect(exit)?;
        let objects = all.add("client", words[0], &outcome.text())?;
        let error = objects.last().context("no object")?;
        ensure!(error["event"] == "error" && error["code"] == code, "{words:?}: {error}");
        ensure!(error["exit"] == u8::try_from(exit.code())?, "{words:?}: {error}");
        ensure!(error["message"].as_str().is_some_and(|text| !text.contains("error:")), "{words:?}: {error}");
        // A person that looks on reads the same.
        ensure!(outcome.stderr.contains("error: "), "{words:?}: {}", outcome.stderr);
    }
    let hinted = harness.client(&home, &["fingerprint", "--json"]).run()?.expect(Exit::Usage)?.text();
    ensure!(
        serde_json::from_str::<Value>(&hinted)?["hint"].as_str().is_some_and(|hint| hint.contains("keygen")),
        "{hinted}"
    );
    let unknown = harness.server(&home, &["revoke", "nobody", "--json"]).run()?.expect(Exit::Usage)?.text();
    ensure!(all.add("server", "revoke", &unknown)?[0]["code"] == "unknown_client", "{unknown}");
    Schema::of(SCHEMA)?.check(&all.lines)
}

fn data_on_standard_output_stays_data_alone(harness: &Harness) -> Result<()> {
    let share = harness.home()?;
    share.write("file", "content\n")?;
    let files = format!("data={}", share.path().display());
    let fixture = Fixture::with_arguments(harness, &["--files", "data"], &["run", "--files", &files])?;
    let (at, key) = (fixture.address(), fixture.key());
    let mut all = Printed::default();
    let get = |path: &str| {
        harness.client(fixture.alice(), &["get", &at, path, "-", "--server-key", key, "--json"]).run()
    };
    let got = get("data:file")?.expect(Exit::Done)?.expect_stdout(b"content\n")?;
    let events = all.add("client", "get", &got.stderr)?;
    ensure!(events.last().is_some_and(|last| last["event"] == "summary"), "{}", got.stderr);
    let missing = get("data:missing")?.expect_failure()?.expect_stdout(b"")?;
    let events = all.add("client", "get", &missing.stderr)?;
    ensure!(events.last().is_some_and(|last| last["event"] == "error"), "{}", missing.stderr);
    let refused = ["pipe", &at, "--server-key", key, "--json"];
    let refused =
        harness.client(fixture.alice(), &refused).run()?.expect(Exit::Refused)?.expect_stdout(b"")?;
    all.add("client", "pipe", &refused.stderr)?;
    let wrong = harness
        .client(fixture.alice(), &["pipe", "--json"])
        .run()?
        .expect(Exit::Usage)?
        .expect_stdout(b"")?;
    ensure!(all.add("client", "pipe", &wrong.stderr)?[0]["code"] == "usage", "{}", wrong.stderr);
    for outcome in [got, missing, refused, wrong] {
        for line in outcome.stderr.lines() {
            serde_json::from_str::<Value>(line).with_context(|| format!("no object: {line:?}"))?;
        }
    }
    Schema::of(SCHEMA)?.check(&all.lines)
}
