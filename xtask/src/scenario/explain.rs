//! Goal: `server explain` says what the running server then really does, and the command that it proposes changes that.

use std::io::Read as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{
    Exit, Fixture, Harness, Hosts, Key, Outcome, Port, Process, Target, serve_unix, word, wrapped,
};
use crate::scenario::doctor::checks;
use crate::scenario::invites::{invite, join};
use crate::scenario::registration::scenarios;

scenarios![
    what_is_explained_is_what_happens,
    addresses_of_a_name_are_judged_one_by_one,
    limits_and_strangers_are_explained,
    question_that_is_none_is_refused,
];

/// A right, and whether a client that has it, and nothing else, gets what it wants.
struct Case {
    /// In the words of `server explain`.
    wanted: [String; 2],
    /// In those of `client doctor`, which opens the very stream, or asks the server about listening.
    option: &'static str,
    value: String,
    is_allowed: bool,
}

fn what_is_explained_is_what_happens(harness: &Harness) -> Result<()> {
    let [open, by_name, shut] = [Target::echo()?, Target::echo()?, Target::echo()?];
    let folder = harness.home()?;
    let socket = folder.file("db.sock");
    serve_unix(&socket, |mut stream| stream.read_to_end(&mut Vec::new()).map(drop))?;
    let path = word(&socket)?;
    let dir = word(folder.path())?;
    let config = format!(
        "[[service]]\nname = \"db\"\ntarget = \"{}\"\n\
         [[files]]\nname = \"docs\"\ndir = \"{dir}\"\nmode = \"rw\"\n\
         [[files]]\nname = \"public\"\ndir = \"{dir}\"\n",
        open.address()
    );
    let localhost = format!("localhost:{}", by_name.port());
    let [held, other] = [Port::hold()?, Port::hold()?];
    let permitted = held.number().to_string();
    let rights = [
        "--tcp",
        &open.address(),
        "--tcp",
        &localhost,
        "--udp",
        "127.0.0.1:53",
        "--unix",
        path,
        "--service",
        "db",
        "--service",
        "gone",
        "--files",
        "docs:ro",
        "--files",
        "public",
        "--listen",
        &permitted,
    ];
    let fixture = Fixture::with_config(harness, &rights, &config)?;
    let case = |what: &str, target: &str, option, value: String, is_allowed| Case {
        wanted: [what.into(), target.into()],
        option,
        value,
        is_allowed,
    };
    let tcp = |target: &str, is_allowed| case("tcp", target, "-W", target.into(), is_allowed);
    let udp = |target: &str, is_allowed| case("udp", target, "-L", format!("0:{target}/udp"), is_allowed);
    let unix = |target: &str, is_allowed| case("unix", target, "-W", target.into(), is_allowed);
    let service = |name: &str, is_allowed| case("service", name, "-W", format!("@{name}"), is_allowed);
    let files = |name: &str, is_allowed| case("files", name, "--files", name.into(), is_allowed);
    let listen = |address: &str, is_allowed| case("listen", address, "-R", address.into(), is_allowed);
    let shut_by_name = format!("localhost:{}", shut.port());
    for case in [
        tcp(&open.address(), true),
        tcp(&format!("[::ffff:127.0.0.1]:{}", open.port()), true),
        tcp(&localhost, true),
        tcp(&by_name.address(), true),
        tcp(&shut.address(), false),
        tcp(&shut_by_name, false),
        tcp("other.invalid:80", false),
        udp("127.0.0.1:53", true),
        udp("127.0.0.1:54", false),
        unix(path, true),
        unix("/run/other.sock", false),
        service("db", true),
        service("gone", false),
        service("other", false),
        files("docs", true),
        files("docs:ro", true),
        files("docs:rw", false),
        files("public", true),
        files("public:rw", false),
        files("other", false),
        listen(&permitted, true),
        listen(&held.address(), true),
        listen(&other.address(), false),
        listen(&format!("*:{permitted}"), false),
        listen("unix:/run/web.sock", false),
    ] {
        agree(harness, &fixture, &rights, &case)
            .with_context(|| format!("{} with {} {}", case.wanted.join(" "), case.option, case.value))?;
    }
    Ok(())
}

/// Asks both, and where both refuse what the policy could permit, gives the command that is proposed, and asks both again.
fn agree(harness: &Harness, fixture: &Fixture<'_>, rights: &[&str], case: &Case) -> Result<()> {
    let explained = explain(fixture, &case.wanted)?;
    let happened = happens(harness, fixture, case)?;
    let decision = explained["decision"].as_str().context("a decision")?;
    ensure!((decision == "allowed") == happened, "{decision}, and {happened}: {explained}");
    ensure!(happened == case.is_allowed, "it is {happened}: {explained}");
    let rules = explained["rules"].as_array().context("the rules")?;
    ensure!(happened != rules.is_empty() || decision == "not_offered", "by these rules: {explained}");
    let Some(command) = explained["try"].as_str() else {
        ensure!(decision != "refused", "no command is proposed: {explained}");
        return Ok(());
    };
    run_as_shown(harness, command)?;
    let explained = explain(fixture, &case.wanted)?;
    let decision = explained["decision"].as_str();
    ensure!(
        decision == Some("allowed") || decision == Some("not_offered"),
        "still after {command}: {explained}"
    );
    let is_served = case.wanted[0] == "tcp" && !case.wanted[1].contains("invalid");
    ensure!(!is_served || happens(harness, fixture, case)?, "refused after {command}");
    // By the command, which tells the running server.
    fixture.allow(rights)
}

/// The answer of `server explain` about alice.
fn explain(fixture: &Fixture<'_>, wanted: &[String]) -> Result<Value> {
    let config = fixture.home().file("server.toml");
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let arguments = [&["explain", "alice"], &wanted[..], &["--json", "--config", word(&config)?]].concat();
    object(&fixture.command(&arguments)?.expect_any(&[Exit::Done, Exit::Refused])?)
}

fn object(outcome: &Outcome) -> Result<Value> {
    serde_json::from_str(outcome.text().lines().next().unwrap_or_default()).context("the explanation")
}

/// Whether alice gets what she wants of the running server.
fn happens(harness: &Harness, fixture: &Fixture<'_>, case: &Case) -> Result<bool> {
    let address = fixture.address();
    let arguments = ["doctor", &address, "--server-key", fixture.key(), "--json", case.option, &case.value];
    let outcome = harness.client(fixture.alice(), &arguments).run()?;
    let checks = checks(&outcome)?;
    let asked =
        checks.iter().filter(|check| check.name.starts_with('-') && !check.name.ends_with("port here"));
    let mut statuses = asked.map(|check| check.status.as_str()).peekable();
    ensure!(statuses.peek().is_some(), "nothing was asked");
    Ok(statuses.all(|status| status == "ok"))
}

/// Runs a command as it was printed, by a shell.
fn run_as_shown(harness: &Harness, command: &str) -> Result<()> {
    let arguments = command.strip_prefix("server ").context("a command of the server")?;
    let program = harness.program("server");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec \"$0\" {arguments}")).arg(program.get_program());
    Process::start(shell)?.finish()?.expect(Exit::Done)?;
    Ok(())
}

fn addresses_of_a_name_are_judged_one_by_one(harness: &Harness) -> Result<()> {
    let hosts = Hosts::new(harness)?;
    let target = Target::echo()?;
    let port = target.port();
    hosts.write("198.51.100.7 two.rebind.test\n127.0.0.1 two.rebind.test\n127.0.0.1 inside.rebind.test\n")?;
    let fixture =
        Fixture::wrapped(harness, &["--tcp", &format!("*.rebind.test:{port}")], &[], &hosts.wrapper())?;
    let wrapper: Vec<String> = hosts.wrapper().into_iter().map(str::to_owned).collect();
    let explain = |host: &str| -> Result<Value> {
        let arguments = ["explain", "alice", "tcp", &format!("{host}:{port}"), "--json"];
        let command = harness.server(fixture.home(), &arguments).into_command();
        object(&Process::start(wrapped(&wrapper, command))?.finish()?)
    };
    let two = explain("two.rebind.test")?;
    ensure!(two["decision"] == "allowed", "{two}");
    let addresses = two["addresses"].as_array().context("the addresses")?;
    let decision = |address: &str| {
        let found = addresses.iter().find(|found| found["address"] == format!("{address}:{port}"));
        found.and_then(|found| found["decision"].as_str())
    };
    ensure!(decision("198.51.100.7") == Some("allowed") && decision("127.0.0.1") == Some("refused"), "{two}");

    let inside = explain("inside.rebind.test")?;
    ensure!(inside["decision"] == "refused", "{inside}");
    let wanted = format!("inside.rebind.test:{port}");
    fixture.forward_to_the_end(fixture.alice(), &["-W", &wanted])?.expect(Exit::Refused)?;
    let command = inside["try"].as_str().context("a command")?;
    ensure!(command.ends_with(&format!("--add --tcp 127.0.0.1:{port}")), "{command}");
    run_as_shown(harness, command)?;
    let inside = explain("inside.rebind.test")?;
    ensure!(
        inside["decision"] == "allowed" && inside["rules"].as_array().is_some_and(|rules| rules.len() == 2),
        "{inside}"
    );
    fixture.forward_to_the_end(fixture.alice(), &["-W", &wanted])?.expect(Exit::Done)?;
    Ok(())
}

fn limits_and_strangers_are_explained(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let wanted = target.address();
    let fixture = Fixture::open(harness, &["--tcp", &wanted, "--expires", "2020-01-01T00:00:00Z"])?;
    let asks = |words: &[&str], exit| -> Result<Value> {
        object(&fixture.command(&[&["explain"], words, &["--json"]].concat())?.expect(exit)?)
    };
    let refused = |words: &[&str], reason: &str| -> Result<String> {
        let explained = asks(words, Exit::Refused)?;
        ensure!(explained["reason"].as_str().is_some_and(|said| said.contains(reason)), "{explained}");
        Ok(explained["try"].as_str().unwrap_or_default().to_owned())
    };
    let actual = || fixture.forward_to_the_end(fixture.alice(), &["-W", &wanted]);

    let command = refused(&["alice", "tcp", &wanted], "expired")?;
    actual()?.expect(Exit::Refused)?;
    run_as_shown(harness, &command)?;
    let explained = asks(&["alice", "tcp", &wanted], Exit::Done)?;
    ensure!(
        explained["expires"].is_string() && explained["rules"][0] == format!("--tcp {wanted}"),
        "{explained}"
    );
    actual()?.expect(Exit::Done)?;

    fixture.allow(&["--tcp", &wanted, "--from", "10.0.0.0/8"])?;
    asks(&["alice", "tcp", &wanted], Exit::Done)?;
    asks(&["alice", "tcp", &wanted, "--from", "10.1.2.3"], Exit::Done)?;
    refused(&["alice", "tcp", &wanted, "--from", "unix"], "elsewhere")?;
    let command = refused(&["alice", "tcp", &wanted, "--from", "127.0.0.1"], "elsewhere")?;
    actual()?.expect(Exit::Refused)?;
    run_as_shown(harness, &command)?;
    actual()?.expect(Exit::Done)?;

    let mallory = harness.home_with(Key::Mallory)?;
    let key = harness.fingerprint("client", &mallory)?;
    let command = refused(&[&key, "tcp", &wanted], "nobody has allowed it")?;
    let never = asks(&[&key, "messages"], Exit::Refused)?["notes"].to_string();
    ensure!(never.contains("never allowed"), "{never}");
    run_as_shown(harness, &command)?;
    fixture.forward_to_the_end(&mallory, &["-W", &wanted])?.expect(Exit::Done)?;
    asks(&[&key, "messages", "--anyone"], Exit::Refused)?;
    fixture.command(&["revoke", &key])?.expect(Exit::Done)?;
    ensure!(asks(&[&key, "messages", "--anyone"], Exit::Done)?["rules"][0] == "--anyone", "not by --anyone");
    refused(&["anonymous", "messages"], "no key")?;

    let line = invite(harness, fixture.home(), &fixture.address(), &["--name", "guest", "--messages"])?;
    join(harness, &mallory, &line)?.expect(Exit::Done)?;
    asks(&["guest", "messages"], Exit::Done)?;
    fixture.command(&["revoke", "guest"])?.expect(Exit::Done)?;
    let notes = asks(&[&key, "messages"], Exit::Refused)?["notes"].to_string();
    ensure!(notes.contains("by an invite as guest"), "{notes}");
    fixture
        .command(&["explain", "guest", "messages"])?
        .expect(Exit::Identity)?
        .hint_names(&["server list"])?;

    // For a person, too.
    let said = fixture.command(&["explain", "alice", "tcp", "127.0.0.1:1"])?.expect(Exit::Refused)?;
    let said = said.error_names(&["alice"])?.text();
    for part in
        ["alice: tcp 127.0.0.1:1: refused", "no --tcp permits it", "server --home", "--add --tcp 127.0.0.1:1"]
    {
        ensure!(said.contains(part), "it does not say {part}: {said}");
    }
    Ok(())
}

fn question_that_is_none_is_refused(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &[])?;
    for words in [
        &["alice", "tcp"][..],
        &["alice", "tcp", "127.0.0.1"],
        &["alice", "tcp", "unix:/x"],
        &["alice", "unix", "x"],
        &["alice", "service", "a/b"],
        &["alice", "files", "a:b"],
        &["alice", "listen", "x:y:z"],
        &["alice", "listen", "8080:host:80"],
        &["alice", "messages", "x"],
        &["alice", "messages", "--from", "nowhere"],
        &["alice", "mail"],
        &["alice"],
    ] {
        let outcome = fixture.command(&[&["explain"], words].concat())?;
        outcome.expect(Exit::Usage).with_context(|| words.join(" "))?;
    }
    fixture.home().write("clients.toml", "[[client]]\nname = \n")?;
    fixture
        .command(&["explain", "alice", "messages"])?
        .expect(Exit::Usage)?
        .error_names(&["clients.toml"])?;
    Ok(())
}
