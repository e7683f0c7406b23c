//! Goal: a server serves the clients that it allows and no others, as soon as the list of clients has changed.

use anyhow::{Context as _, Result, ensure};

use crate::harness::{DEADLINE, Exit, Harness, Key, Process, Server, Target, disk_calls, is_synced, until};
use crate::scenario::registration::scenarios;

scenarios![
    allowed_client_is_known_by_name,
    others_are_denied_and_understand_it,
    allow_takes_effect_on_a_running_server,
    revoke_takes_effect_on_a_running_server,
    anyone_may_when_the_server_says_so,
    pipe_is_closed_to_strangers,
    whoever_loses_the_pipe_loses_it_at_once,
    revoked_client_reads_why_whatever_it_has_open,
    line_in_the_log_lets_the_refused_client_in,
    single_rights_are_added_and_what_is_taken_is_said,
    allow_refuses_what_is_no_fingerprint,
    keygen_keeps_a_key_that_is_there,
    change_of_rights_is_on_the_disk_when_its_command_ends,
];

fn allowed_client_is_known_by_name(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home()?;
    let made = harness.client(&alice, &["keygen", "--bits", "2048"]).run()?.expect(Exit::Done)?.text();
    ensure!(made.contains("SHA256:"), "keygen printed {made:?}");
    let key = harness.fingerprint("client", &alice)?;
    ensure!(made.contains(&key), "two fingerprints for one key");

    harness.server(&home, &["allow", &key, "--name", "alice"]).run()?.expect(Exit::Done)?;
    let listed = harness.server(&home, &["list"]).run()?.expect(Exit::Done)?.text();
    ensure!(listed.contains("alice") && listed.contains(&key), "list prints {listed:?}");

    let server = Server::start(harness, &home, &[])?;
    harness.send(&alice, &server, "it is me")?.expect(Exit::Done)?;
    server.printed("[alice] it is me")
}

fn others_are_denied_and_understand_it(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    let key = harness.fingerprint("client", &alice)?;
    harness.server(&home, &["allow", &key, "--name", "alice"]).run()?.expect(Exit::Done)?;
    let server = Server::start(harness, &home, &[])?;
    for stranger in [harness.home_with(Key::Mallory)?, harness.home()?] {
        harness.send(&stranger, &server, "let me in")?.expect(Exit::Refused)?.error_names(&[])?;
        server.logged(&["connection failed", "127.0.0.1"])?;
    }
    harness.send(&alice, &server, "still me")?.expect(Exit::Done)?;
    server.printed("[alice] still me")?;
    ensure!(!server.process.stdout.text().contains("let me in"), "a stranger's message was printed");
    Ok(())
}

fn allow_takes_effect_on_a_running_server(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &[])?;
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    // As long as no client is allowed, everyone may send messages over loopback.
    harness.send(&mallory, &server, "before")?.expect(Exit::Done)?;
    let key = harness.fingerprint("client", &alice)?;
    harness.server(&home, &["allow", &key, "--name", "alice"]).run()?.expect(Exit::Done)?;
    harness.send(&alice, &server, "after")?.expect(Exit::Done)?;
    server.printed("[alice] after")?;
    harness.send(&mallory, &server, "after")?.expect(Exit::Refused)?;
    Ok(())
}

fn revoke_takes_effect_on_a_running_server(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    for (client, name) in [(&alice, "alice"), (&mallory, "mallory")] {
        let key = harness.fingerprint("client", client)?;
        harness.server(&home, &["allow", &key, "--name", name]).run()?.expect(Exit::Done)?;
    }
    let server = Server::start(harness, &home, &[])?;
    harness.send(&mallory, &server, "while I can")?.expect(Exit::Done)?;
    harness.server(&home, &["revoke", "mallory"]).run()?.expect(Exit::Done)?;
    harness.send(&mallory, &server, "once more")?.expect(Exit::Refused)?;
    harness.send(&alice, &server, "by name")?.expect(Exit::Done)?;

    let key = harness.fingerprint("client", &alice)?;
    harness.server(&home, &["revoke", &key]).run()?.expect(Exit::Done)?;
    harness.send(&alice, &server, "by fingerprint")?.expect(Exit::Refused)?;
    // A server whose last client was revoked is not open to everyone again.
    harness.send(&harness.home()?, &server, "and me")?.expect(Exit::Refused)?;
    harness.server(&home, &["revoke", "nobody"]).run()?.expect(Exit::Usage)?.error_names(&["nobody"])?;
    Ok(())
}

fn anyone_may_when_the_server_says_so(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    let key = harness.fingerprint("client", &alice)?;
    harness.server(&home, &["allow", &key, "--name", "alice"]).run()?.expect(Exit::Done)?;
    let server = Server::start(harness, &home, &["--anyone"])?;
    harness.send(&alice, &server, "one")?.expect(Exit::Done)?;
    server.printed("[alice] one")?;
    harness.send(&harness.home()?, &server, "two")?.expect(Exit::Done)?;
    server.printed("[anonymous] two")?;
    harness.send(&mallory, &server, "three")?.expect(Exit::Done)?;
    server.printed(&format!("[{}] three", harness.fingerprint("client", &mallory)?))
}

/// An anonymous client on loopback may send messages, but not use the pipe. The pipe keeps waiting for the
/// client that is allowed to use it.
fn pipe_is_closed_to_strangers(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    let key = harness.fingerprint("client", &alice)?;
    harness.server(&home, &["allow", &key, "--name", "alice"]).run()?.expect(Exit::Done)?;
    let mut server = Server::start(harness, &home, &["pipe"])?;
    server.process.close_input();
    let arguments = ["pipe", server.address(), "--server-key", server.key()?];
    let outcome = harness.client(&harness.home()?, &arguments).input("mine").run()?;
    outcome.expect(Exit::Refused)?;
    harness.client(&alice, &arguments).input("hers").run()?.expect(Exit::Done)?;
    server.finish()?.expect(Exit::Done)?.expect_stdout(b"hers")?;
    Ok(())
}

/// Both programs report the reason, and no later data passes. One case has the server's input at its end, so
/// that the server cannot find out by writing.
fn whoever_loses_the_pipe_loses_it_at_once(harness: &Harness) -> Result<()> {
    for (way, server_still_talks) in [("revoke", true), ("revoke", false), ("expire", true)] {
        let home = harness.home_with(Key::Server)?;
        let alice = harness.home_with(Key::Alice)?;
        let key = harness.fingerprint("client", &alice)?;
        let mut rights = vec!["allow", &key, "--name", "alice", "--pipe"];
        if way == "expire" {
            rights.extend(["--expires", "3s"]);
        }
        let mut server = Server::start(harness, &home, &["pipe"])?;
        harness.server(&home, &rights).run()?.expect(Exit::Done)?;
        let arguments = ["pipe", server.address(), "--server-key", server.key()?];
        let mut client = harness.client(&alice, &arguments).start()?;
        client.write(b"up\n")?;
        server.process.write(b"down\n")?;
        server.process.stdout.wait_len(DEADLINE, b"up\n".len())?;
        client.stdout.wait_len(DEADLINE, b"down\n".len())?;
        if !server_still_talks {
            server.process.close_input();
        }
        if way == "revoke" {
            harness.server(&home, &["revoke", "alice"]).run()?.expect(Exit::Done)?;
        }
        // Neither input has ended, so the loss of the right is what ends both programs.
        client.wait_for(DEADLINE)?;
        server.process.wait_for(DEADLINE)?;
        let outcome = client.finish()?.expect(Exit::Refused)?.error_names(&["lost the right"])?;
        outcome.hint_names(&["server list"])?.expect_stdout(b"down\n")?;
        let outcome = server.finish()?.expect(Exit::Refused)?.error_names(&["lost the right"])?;
        outcome.expect_stdout(b"up\n")?;
    }
    Ok(())
}

/// The client has a message open whose end is still to come, and a tunnel between standard input and output.
fn revoked_client_reads_why_whatever_it_has_open(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    let key = harness.fingerprint("client", &alice)?;
    let target = Target::echo()?;
    let to = target.address();
    let rights = ["allow", &key, "--name", "alice", "--messages", "--tcp", &to];
    harness.server(&home, &rights).run()?.expect(Exit::Done)?;
    let server = Server::start(harness, &home, &[])?;
    let trust = ["--server-key", server.key()?];
    let message = [&["send", server.address(), "-"], &trust[..]].concat();
    let tunnel = [&["forward", server.address(), "-W", &to], &trust[..]].concat();
    let mut clients = [harness.client(&alice, &message).start()?, harness.client(&alice, &tunnel).start()?];
    for client in &mut clients {
        client.write(b"the beginning")?;
    }
    until(DEADLINE, "both are open", || {
        let status = harness.server(&home, &["status", "--json"]).run()?.expect(Exit::Done)?.text();
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let open = status["open"].as_array().context("nothing is open")?;
        ensure!(open.len() == 2 && open.iter().all(|open| open["bytes"] != 0), "{status}");
        Ok(())
    })?;
    harness.server(&home, &["revoke", "alice"]).run()?.expect(Exit::Done)?;
    for mut client in clients {
        client.wait_for(DEADLINE)?;
        let outcome = client.finish()?.expect(Exit::Refused)?;
        outcome.error_names(&["lost the right"])?.hint_names(&["server list"])?;
    }
    ensure!(!server.process.stdout.text().contains("beginning"), "half a message was printed");
    Ok(())
}

fn line_in_the_log_lets_the_refused_client_in(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    let key = harness.fingerprint("client", &alice)?;
    harness.server(&home, &["allow", &key, "--name", "алиса"]).run()?.expect(Exit::Done)?;
    let server = Server::start(harness, &home, &[])?;
    harness.send(&mallory, &server, "let me in")?.expect(Exit::Refused)?;
    let key = harness.fingerprint("client", &mallory)?;
    server.logged(&["client refused", "127.0.0.1", &key, "nobody has allowed it"])?;
    let log = server.process.stderr.text();
    let line = log.lines().find(|line| line.contains("client refused")).context("no line")?;
    let (_, command) = line.split_once("allow=\"server ").context("no command in the line")?;
    let words: Vec<&str> = command.trim_end().trim_end_matches('"').split(' ').collect();
    let mut pasted = harness.program("server");
    pasted.args(&words);
    Process::start(pasted)?.finish()?.expect(Exit::Done)?;
    harness.send(&mallory, &server, "thank you")?.expect(Exit::Done)?;
    server.printed(&format!("[{}] thank you", words.last().context("an empty command")?))?;
    harness.send(&alice, &server, "по имени")?.expect(Exit::Done)?;
    server.printed("[алиса] по имени")
}

fn single_rights_are_added_and_what_is_taken_is_said(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let key = harness.fingerprint("client", &harness.home_with(Key::Alice)?)?;
    let allow = |options: &[&str]| {
        let words = [&["allow", &key], options].concat();
        harness.server(&home, &words).run()?.expect(Exit::Done)
    };
    let said = allow(&["--name", "alice", "--tcp", "127.0.0.1:80", "--service", "db"])?.stderr;
    ensure!(
        said.contains("--service db") && !said.contains("no longer"),
        "no doubt about the service: {said}"
    );
    let said = allow(&["--add", "--messages"])?.stderr;
    ensure!(!said.contains("no longer"), "{said}");
    let said = allow(&["--remove", "--service", "db"])?.stderr;
    ensure!(said.contains("alice may no longer: --service db\n"), "{said}");
    let said = allow(&["--tcp", "127.0.0.1:81"])?.stderr;
    ensure!(said.contains("alice may no longer: --messages --tcp 127.0.0.1:80\n"), "{said}");
    let listed = harness.server(&home, &["list", "--json"]).run()?.expect(Exit::Done)?.text();
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    ensure!(listed["name"] == "alice" && listed["tcp"] == serde_json::json!(["127.0.0.1:81"]), "{listed}");
    let words = ["allow", &key, "--remove", "--messages"];
    harness.server(&home, &words).run()?.expect(Exit::Usage)?.error_names(&["--messages"])?;
    let checked = harness.server(&home, &["check"]).run()?.expect(Exit::Done)?.stderr;
    ensure!(!checked.contains("warning"), "{checked}");
    allow(&["--add", "--service", "db"])?;
    let checked = harness.server(&home, &["check"]).run()?.expect(Exit::Done)?.stderr;
    ensure!(checked.contains("warning: alice: --service db"), "{checked}");
    Ok(())
}

fn allow_refuses_what_is_no_fingerprint(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    for key in ["alice", "SHA256:abc", ""] {
        harness.server(&home, &["allow", key, "--name", "alice"]).run()?.expect(Exit::Usage)?;
    }
    Ok(())
}

fn keygen_keeps_a_key_that_is_there(harness: &Harness) -> Result<()> {
    for (program, key) in [("server", Key::Server), ("client", Key::Alice)] {
        let home = harness.home_with(key)?;
        let before = harness.fingerprint(program, &home)?;
        let run = |arguments: &[&str]| match program {
            "server" => harness.server(&home, arguments).run(),
            _ => harness.client(&home, arguments).run(),
        };
        run(&["keygen", "--bits", "2048"])?
            .expect(Exit::Usage)?
            .error_names(&[".key"])?
            .hint_names(&["--force"])?;
        ensure!(harness.fingerprint(program, &home)? == before, "{program} keygen replaced a key");
        run(&["keygen", "--bits", "2048", "--force"])?.expect(Exit::Done)?;
        ensure!(harness.fingerprint(program, &home)? != before, "{program} keygen --force kept the key");
    }
    Ok(())
}

/// The new content is written to a file of its own, which is then renamed. A power cut would bring the old
/// content back unless first the file and then the folder were synced.
fn change_of_rights_is_on_the_disk_when_its_command_ends(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let folder = home.path().display().to_string();
    let list = format!("{folder}/clients.toml");
    let key = harness.fingerprint("client", &harness.home_with(Key::Alice)?)?;
    for words in
        [&["allow", &key, "--name", "alice"][..], &["allow", &key, "--messages"], &["revoke", "alice"]]
    {
        let calls = disk_calls(harness, harness.server(&home, words).into_command())?;
        let mut renamed = Vec::new();
        for (index, call) in calls.iter().enumerate().filter(|(_, call)| call.starts_with("rename")) {
            let mut paths = call.split('"').skip(1).step_by(2);
            let (from, to) = paths.next().zip(paths.next()).with_context(|| call.clone())?;
            let shown = || format!("{words:?}:\n{}", calls.join("\n"));
            ensure!(is_synced(&calls[..index], from), "{to} is not on the disk, {}", shown());
            ensure!(is_synced(&calls[index..], &folder), "the name of {to} is not on the disk, {}", shown());
            renamed.push(to);
        }
        ensure!(
            renamed.contains(&list.as_str()),
            "{words:?} has not written the list of clients: {renamed:?}"
        );
    }
    Ok(())
}
