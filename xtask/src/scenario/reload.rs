//! Goal: a changed configuration file takes effect without disturbing open streams, and an invalid one changes nothing.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::harness::{DEADLINE, Exit, Fixture, Harness, Target, echoed, expect_reset, until, works_again};
use crate::scenario::registration::scenarios;

scenarios![
    changed_file_takes_effect_and_live_streams_go_on,
    hangup_reloads_as_well,
    bad_file_changes_nothing,
    check_finds_what_is_wrong,
    client_checks_its_file_as_the_server_does,
    reload_without_a_server_says_so,
];

fn changed_file_takes_effect_and_live_streams_go_on(harness: &Harness) -> Result<()> {
    let [first, second] = [Target::echo()?, Target::echo()?];
    let rights = ["--service", "one", "--service", "two"];
    let fixture = Fixture::with_config(harness, &rights, &service("one", &first))?;
    let forward = fixture.forward(&["-L", "0:@one", "-L", "0:@two"])?;
    let [one, two] = [forward.local(0)?, forward.local(1)?];
    let mut live = forward.dial()?;
    echoed(&mut live, b"before")?;
    expect_reset(&two)?;
    let channels = fixture.resources()?.channels;

    fixture.home().write("server.toml", service("two", &second))?;
    expect_reset(&two).context("a file that nobody has told it to read")?;
    fixture.command(&["reload"])?.expect(Exit::Done)?;
    works_again(&two)?;
    expect_reset(&one)?;
    echoed(&mut live, b"its service is gone, and it goes on")?;

    // The service keeps its name and gets another target, which the next stream reaches.
    fixture.home().write("server.toml", service("two", &first))?;
    let accepted = first.accepted();
    fixture.command(&["reload"])?.expect(Exit::Done)?;
    works_again(&two)?;
    ensure!(first.accepted() > accepted, "the old target was asked");
    echoed(&mut live, b"and on")?;
    ensure!(fixture.resources()?.channels >= channels, "channels went with the reload");
    Ok(())
}

fn hangup_reloads_as_well(harness: &Harness) -> Result<()> {
    let [first, second] = [Target::echo()?, Target::echo()?];
    let fixture = Fixture::with_config(harness, &["--service", "one"], &service("one", &first))?;
    let forward = fixture.forward(&["-L", "0:@one"])?;
    let mut live = forward.dial()?;
    echoed(&mut live, b"before")?;
    fixture.home().write("server.toml", service("one", &second))?;
    fixture.server()?.process.signal(Signal::HUP)?;
    let address = forward.local(0)?;
    until(DEADLINE, "the file takes effect", || {
        works_again(&address)?;
        ensure!(second.accepted() > 0, "the old target is asked");
        Ok(())
    })?;
    echoed(&mut live, b"after")
}

/// Each mistake is in a file whose other half is valid, and no part of the file takes effect.
fn bad_file_changes_nothing(harness: &Harness) -> Result<()> {
    let [first, second] = [Target::echo()?, Target::echo()?];
    let good = service("one", &first);
    let fixture = Fixture::with_config(harness, &["--service", "one", "--service", "two"], &good)?;
    let forward = fixture.forward(&["-L", "0:@one", "-L", "0:@two"])?;
    let [one, two] = [forward.local(0)?, forward.local(1)?];
    let mut live = forward.dial()?;
    echoed(&mut live, b"before")?;
    for (bad, line) in [
        ("colour = \"blue\"\n", "5"),
        ("[[service]]\nname = \"no spaces\"\ntarget = \"127.0.0.1:1\"\n", "6"),
        ("[[service]]\nname = \"three\"\ntarget = \"127.0.0.1:0\"\n", "7"),
        ("[[service]]\nname = \"two\"\ntarget = \"127.0.0.1:1\"\n", "two"),
        ("[[service]]\nname = \"three\"\n", "target"),
        ("[[service]\n", "5"),
        ("grace = \"soon\"\n", "5"),
    ] {
        let text = if bad.starts_with("[[") {
            format!("{}\n{bad}", service("two", &second))
        } else {
            // A key at the top level has to come before the file's tables.
            format!("\n\n\n\n{bad}{}", service("two", &second))
        };
        fixture.home().write("server.toml", text)?;
        let outcome = fixture.command(&["reload"])?;
        outcome
            .expect(Exit::Usage)
            .and_then(|outcome| outcome.error_names(&["server.toml", line]))
            .with_context(|| bad.to_owned())?;
        let said =
            || Ok::<_, anyhow::Error>(fixture.server()?.process.stderr.text().matches("server.toml").count());
        let before = said()?;
        fixture.server()?.process.signal(Signal::HUP)?;
        until(DEADLINE, "a bad file is told in the log", || {
            ensure!(said()? > before, "{before} lines name the file");
            Ok(())
        })?;
        works_again(&one)?;
        expect_reset(&two).with_context(|| format!("half a file was taken: {bad}"))?;
        echoed(&mut live, b"as before")?;
    }
    fixture.home().write("server.toml", good)?;
    fixture.command(&["reload"])?.expect(Exit::Done)?;
    works_again(&one)
}

fn check_finds_what_is_wrong(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::with_config(harness, &[], &service("one", &target))?;
    let path = fixture.home().file("server.toml").display().to_string();
    let good = fixture.command(&["check", "--config", &path])?.expect(Exit::Done)?.text();
    ensure!(good.ends_with(" 1 service"), "check printed {good:?}");
    fixture.home().write("server.toml", "listen = [\"127.0.0.1:5000\"]\nlissten = 3\n")?;
    let outcome = fixture.command(&["check", "--config", &path])?;
    outcome.expect(Exit::Usage)?.error_names(&["server.toml", "2", "lissten"])?;
    fixture
        .command(&["check", "--config", "/nowhere/server.toml"])?
        .expect(Exit::Usage)?
        .error_names(&["/nowhere/server.toml"])?;
    Ok(())
}

fn client_checks_its_file_as_the_server_does(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let write = |text: &str| home.write("client.toml", text);
    let good = "[[forward]]\nserver = 'gate.example.org:5000'\nlocal = ['5432:@db']\n";
    let path = write(good)?.display().to_string();
    let check = || harness.client(&home, &["check", "--config", &path]).run();
    let said = check()?.expect(Exit::Done)?.text();
    ensure!(said.ends_with(": good, forwards for 1 server"), "check printed {said:?}");
    write(&format!("{good}locall = 3\n"))?;
    check()?.expect(Exit::Usage)?.error_names(&["client.toml", "4", "locall"])?;
    write(&format!("{good}psk = 'laptop.psk'\n"))?;
    check()?.expect_any(&[Exit::Identity, Exit::Usage])?.error_names(&["laptop.psk"])?;
    harness
        .client(&home, &["check", "--config", "/nowhere/client.toml"])
        .run()?
        .expect(Exit::Usage)?
        .error_names(&["/nowhere/client.toml"])?;
    Ok(())
}

fn reload_without_a_server_says_so(harness: &Harness) -> Result<()> {
    let fixture = Fixture::closed(harness, &[], &[], &[])?;
    fixture.command(&["reload"])?.expect_failure()?.error_names(&[])?;
    // A server that was killed leaves its socket's file behind.
    let mut fixture = Fixture::open(harness, &[])?;
    fixture.command(&["reload"])?.expect(Exit::Done)?;
    fixture.kill()?;
    let asked = thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| fixture.command(&["reload"])));
        both.map(|one| one.join().map_err(|_| anyhow::anyhow!("a command panicked")))
    });
    for outcome in asked {
        outcome??.expect_failure()?.error_names(&[])?;
    }
    Ok(())
}

fn service(name: &str, target: &Target) -> String {
    format!("[[service]]\nname = \"{name}\"\ntarget = \"{}\"\n", target.address())
}
