//! Goal: one pasted line lets one client in, with exactly the rights that the invite carries, and is worth nothing then.

use std::fs;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{
    DEADLINE, Exit, Forward, Harness, Home, Key, Outcome, Port, Server, Target, echoed, proxied, until,
};
use crate::scenario::registration::scenarios;

scenarios![
    first_minute_takes_one_line_on_two_fresh_homes,
    line_lets_one_key_in_and_the_other_one_is_refused,
    clients_that_are_known_keep_what_they_have,
    invite_carries_its_rights_and_no_others,
    expired_and_revoked_invites_let_nobody_in,
    strangers_do_not_get_in_by_a_wrong_invite,
    source_that_guesses_is_turned_away,
    line_survives_mail_and_capitals,
    damaged_line_is_told_before_anything_is_sent,
    other_server_than_the_one_of_the_invite_is_a_hard_stop,
    addresses_are_tried_in_turn,
];

/// Makes an invite to `address` and returns its line.
pub(super) fn invite(harness: &Harness, home: &Home, address: &str, options: &[&str]) -> Result<String> {
    let arguments = [&["invite", "--address", address], options].concat();
    let made = harness.server(home, &arguments).run()?.expect(Exit::Done)?.text();
    ensure!(made.starts_with("sockseal-invite-1:") && made.lines().count() == 1, "invite printed {made:?}");
    Ok(made)
}

/// Uses a line.
pub(super) fn join(harness: &Harness, home: &Home, line: &str) -> Result<Outcome> {
    harness.client(home, &["join"]).input(format!("{line}\n")).run()
}

/// The objects that `server COMMAND --json` prints.
pub(super) fn objects(harness: &Harness, home: &Home, command: &str) -> Result<Vec<Value>> {
    let listed = harness.server(home, &[command, "--json"]).run()?.expect(Exit::Done)?.text();
    listed.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

pub(super) fn invites(harness: &Harness, home: &Home) -> Result<Vec<Value>> {
    objects(harness, home, "invites")
}

/// Checks that the server's answer says no more than that the invite was not taken.
fn refused(outcome: Outcome) -> Result<Outcome> {
    outcome
        .expect(Exit::Refused)?
        .error_names(&["wrong, used, revoked or expired"])?
        .hint_names(&["have not used it"])
}

fn first_minute_takes_one_line_on_two_fresh_homes(harness: &Harness) -> Result<()> {
    let (home, share, bob) = (harness.home()?, harness.home()?, Arc::new(harness.home()?));
    let target = Target::echo()?;
    let files = format!("photos={}:rw", share.path().display());
    let server = Server::start(harness, &home, &["--files", &files])?;
    let tcp = target.address();
    let rights = ["--name", "bob", "--messages", "--files", "photos", "--tcp", &tcp];
    let line = invite(harness, &home, server.address(), &rights)?;

    let joined = join(harness, &bob, &line)?.expect(Exit::Done)?.text();
    let key = harness.fingerprint("client", &bob)?;
    let granted = format!("--messages --tcp {tcp} --files photos");
    for said in [server.address(), server.key()?, "bob", &granted] {
        ensure!(joined.contains(said), "join does not say {said}: {joined}");
    }
    server.logged(&["invite taken", "name=\"bob\"", &key, "127.0.0.1"])?;

    // The commands that join has shown work as they stand, but for what they are to move.
    let tried: Vec<&str> =
        joined.lines().filter_map(|line| line.strip_prefix("try:")).map(str::trim).collect();
    let shown = |command: &str| {
        let found = tried.iter().find(|tried| tried.contains(command));
        found.with_context(|| format!("no {command} in {joined}"))
    };
    for command in ["send", "ls", "forward"] {
        ensure!(shown(command)?.contains(&format!("--home {}", bob.path().display())), "{joined}");
    }
    harness.client(&bob, &["send", server.address(), "Hello, World!"]).run()?.expect(Exit::Done)?;
    server.printed("[bob] Hello, World!")?;
    let picture = bob.write("picture", b"a picture")?;
    let picture = picture.to_str().context("a path in UTF-8")?;
    harness.client(&bob, &["put", server.address(), picture, "photos:"]).run()?.expect(Exit::Done)?;
    ensure!(share.read("picture")? == "a picture", "another file has arrived");
    let forward =
        Forward::start(harness, &bob, server.address(), server.key()?, &["-L", &format!("0:{tcp}")])?;
    echoed(&mut forward.dial()?, b"through the tunnel")?;

    // What stays behind is an entry like any other.
    harness.server(&home, &["revoke", "bob"]).run()?.expect(Exit::Done)?;
    harness.client(&bob, &["send", server.address(), "again"]).run()?.expect(Exit::Refused)?;
    refused(join(harness, &bob, &line)?)?;
    Ok(())
}

fn line_lets_one_key_in_and_the_other_one_is_refused(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    let server = Server::start(harness, &home, &[])?;
    let line = invite(harness, &home, server.address(), &["--name", "alice"])?;
    join(harness, &alice, &line)?.expect(Exit::Done)?;
    refused(join(harness, &mallory, &line)?)?;
    // Another person has the line, and its owner gets to know.
    let key = harness.fingerprint("client", &mallory)?;
    let warned = server.logged(&["invite refused", "taken by", &key])?;
    ensure!(warned.contains("WARN"), "{warned}");
    server.logged(&["connection failed", "127.0.0.1"])?;
    let listed = harness.server(&home, &["invites"]).run()?.expect(Exit::Done)?.stderr;
    ensure!(listed.contains("warning: alice: ") && listed.contains(&key), "{listed}");
    let tried = &invites(harness, &home)?[0]["tried"];
    ensure!(tried[0]["key"] == key && tried[0]["count"] == 1, "{tried}");
    ensure!(objects(harness, &home, "list")?.len() == 1, "more than one client is allowed");
    harness.send(&alice, &server, "it is me")?.expect(Exit::Done)?;
    server.printed("[alice] it is me")?;
    harness.send(&mallory, &server, "and me")?.expect(Exit::Refused)?;
    // A client that has used it itself is nobody else, also where it was revoked since.
    harness.server(&home, &["revoke", "alice"]).run()?.expect(Exit::Done)?;
    refused(join(harness, &alice, &line)?)?;
    let own = harness.fingerprint("client", &alice)?;
    server.logged(&["INFO invite refused", &format!("key={own:?}")])?;
    let listed = harness.server(&home, &["invites"]).run()?.expect(Exit::Done)?.stderr;
    ensure!(!listed.contains(&own), "{listed}");
    // Strangers cannot keep the warning out of the log.
    for _ in 0..40 {
        harness.send(&alice, &server, "a stranger by now")?.expect(Exit::Refused)?;
    }
    refused(join(harness, &mallory, &line)?)?;
    until(DEADLINE, "the second warning", || {
        let log = server.process.stderr.text();
        ensure!(log.matches("somebody else has its line").count() == 2, "{log}");
        Ok(())
    })?;
    // Neither the line nor its parts are anywhere.
    let secret = line.trim_start_matches("sockseal-invite-1:");
    for text in [server.process.stderr.text(), home.read("invites.toml")?, home.read("clients.toml")?] {
        ensure!(!text.contains(secret) && !text.contains("verifier") && !text.contains("bind"), "{text}");
    }
    Ok(())
}

fn clients_that_are_known_keep_what_they_have(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?];
    let server = Server::start(harness, &home, &[])?;
    let line = invite(harness, &home, server.address(), &["--name", "alice", "--messages"])?;
    join(harness, &alice, &line)?.expect(Exit::Done)?;
    // The same invite again, as after an answer that was lost.
    let again = join(harness, &alice, &line)?.expect(Exit::Done)?;
    ensure!(again.stderr.contains("has let this client in before"), "{}", again.stderr);

    let key = harness.fingerprint("client", &mallory)?;
    harness.server(&home, &["allow", &key, "--name", "mallory", "--pipe"]).run()?.expect(Exit::Done)?;
    let other = invite(harness, &home, server.address(), &["--name", "bob", "--tcp", "127.0.0.1:1"])?;
    for (client, name, right) in [(&alice, "alice", "--messages"), (&mallory, "mallory", "--pipe")] {
        let known =
            harness.client(client, &["join", "--json"]).input(other.clone()).run()?.expect(Exit::Done)?;
        let said: Value = serde_json::from_str(&known.text())?;
        ensure!(said["outcome"] == "known" && said["name"] == name && said["grant"] == right, "{said}");
    }
    ensure!(
        invites(harness, &home)?.iter().any(|invite| invite["state"] == "pending"),
        "the invite was used"
    );
    Ok(())
}

fn invite_carries_its_rights_and_no_others(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    let server = Server::start(harness, &home, &[])?;
    let options = [
        "--name",
        "alice",
        "--pipe",
        "--from",
        "127.0.0.0/8",
        "--max-channels",
        "3",
        "--client-expires",
        "90d",
    ];
    let line = invite(harness, &home, server.address(), &options)?;
    let pending = &invites(harness, &home)?[0];
    join(harness, &alice, &line)?.expect(Exit::Done)?;
    let client = &objects(harness, &home, "list")?[0];
    for (key, value) in pending["grant"].as_object().context("a grant")? {
        ensure!(client[key] == *value, "{key}: {pending} has become {client}");
    }
    ensure!(client["pipe"] == true && client.get("messages").is_none(), "{client}");
    harness.send(&alice, &server, "may I")?.expect(Exit::Refused)?;
    // Outside of its networks an invite cannot be used, and stays.
    let elsewhere = invite(harness, &home, server.address(), &["--from", "10.0.0.0/8"])?;
    refused(join(harness, &harness.home_with(Key::Mallory)?, &elsewhere)?)?;
    server.logged(&["invite refused", "reason=\"network\""])?;
    ensure!(invites(harness, &home)?[1]["state"] == "pending", "an invite was used from elsewhere");
    Ok(())
}

fn expired_and_revoked_invites_let_nobody_in(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    let server = Server::start(harness, &home, &[])?;
    let expired = invite(harness, &home, server.address(), &["--name", "late", "--expires", "2s"])?;
    let revoked = invite(harness, &home, server.address(), &["--name", "gone"])?;
    let pending = invite(harness, &home, server.address(), &["--name", "by-id"])?;
    harness.server(&home, &["invites", "revoke", "gone"]).run()?.expect(Exit::Done)?;
    let id = invites(harness, &home)?[2]["id"].as_str().context("an id")?.to_owned();
    harness.server(&home, &["invites", "revoke", &id[..10]]).run()?.expect(Exit::Done)?;
    until(DEADLINE, "the invite expires", || {
        ensure!(invites(harness, &home)?[0]["state"] == "expired");
        Ok(())
    })?;
    let texts: Vec<String> = [&expired, &revoked, &pending]
        .into_iter()
        .map(|line| Ok(refused(join(harness, &alice, line)?)?.stderr))
        .collect::<Result<_>>()?;
    for reason in ["expired", "revoked"] {
        server.logged(&["invite refused", &format!("reason=\"{reason}\"")])?;
    }
    // The client is told the same in each case, but for what its own clock says.
    let said = |text: &str| {
        text.lines().filter(|line| !line.starts_with("warning: ")).collect::<Vec<_>>().join("\n")
    };
    ensure!(said(&texts[0]) == said(&texts[1]) && texts[1] == texts[2], "{texts:?}");
    harness
        .server(&home, &["invites", "revoke", "gone"])
        .run()?
        .expect(Exit::Usage)?
        .error_names(&["revoked already"])?;
    harness
        .server(&home, &["invites", "revoke", "nobody"])
        .run()?
        .expect(Exit::Usage)?
        .error_names(&["nobody"])?;
    Ok(())
}

fn strangers_do_not_get_in_by_a_wrong_invite(harness: &Harness) -> Result<()> {
    // Both have the same key, and only one of them has the invite.
    let [home, other] = [harness.home_with(Key::Server)?, harness.home_with(Key::Server)?];
    let server = Server::start(harness, &home, &["--anyone"])?;
    let line = invite(harness, &other, server.address(), &["--name", "alice"])?;
    refused(join(harness, &harness.home_with(Key::Alice)?, &line)?)?;
    server.logged(&["invite refused", "reason=\"unknown\""])?;
    ensure!(!home.file("clients.toml").exists(), "a bad attempt has written to the disk");
    harness.send(&harness.home_with(Key::Alice)?, &server, "as a stranger")?.expect(Exit::Done)?;
    Ok(())
}

/// A wrong invite counts against its source like every proof that fails, and others are served as ever.
fn source_that_guesses_is_turned_away(harness: &Harness) -> Result<()> {
    let [home, other] = [harness.home_with(Key::Server)?, harness.home_with(Key::Server)?];
    let server = Server::start(harness, &home, &["--proxy-from", "127.0.0.1"])?;
    let [bad, good] = [
        proxied(&server, "PROXY TCP4 192.0.2.7 127.0.0.1 4711 5000\r\n")?,
        proxied(&server, "PROXY TCP4 192.0.2.8 127.0.0.1 4711 5000\r\n")?,
    ];
    let unknown = invite(harness, &other, &bad.address(), &["--name", "mallory"])?;
    let mallory = harness.home_with(Key::Mallory)?;
    let mut refusals = 0;
    until(DEADLINE, "the source is turned away", || {
        let outcome = join(harness, &mallory, &unknown)?.expect_any(&[Exit::Refused, Exit::Network])?;
        if outcome.stderr.contains("wrong, used, revoked or expired") {
            refusals += 1;
            anyhow::bail!("refused {refusals} times");
        }
        Ok(())
    })?;
    ensure!((5..=12).contains(&refusals), "turned away after {refusals} refusals");
    server.logged(&["invite refused", "peer=\"192.0.2.7:4711\"", "reason=\"unknown\""])?;
    let line = invite(harness, &home, &good.address(), &["--name", "alice"])?;
    join(harness, &harness.home_with(Key::Alice)?, &line)?.expect(Exit::Done)?;
    Ok(())
}

fn line_survives_mail_and_capitals(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &[])?;
    let ways: [fn(&str) -> String; 5] = [
        |line| folded(line, ""),
        |line| folded(line, "> > "),
        str::to_ascii_uppercase,
        |line| format!("\u{feff}*`{}`*\n\n", line.replace('a', "\u{ad}a\u{200b}")),
        |line| folded(&format!("\"<{}>\"", line.to_ascii_uppercase()), "\t"),
    ];
    for (number, way) in ways.iter().enumerate() {
        let line = invite(harness, &home, server.address(), &["--name", &format!("client{number}")])?;
        let key = harness.home()?;
        harness.client(&key, &["keygen", "--bits", "2048"]).run()?.expect(Exit::Done)?;
        join(harness, &key, &way(&line))?.expect(Exit::Done).with_context(|| format!("way {number}"))?;
    }
    Ok(())
}

/// The line as a mail program wraps it, with `start` before each part.
fn folded(line: &str, start: &str) -> String {
    let parts = (0..line.len()).step_by(60).map(|at| &line[at..line.len().min(at + 60)]);
    parts.map(|part| format!("{start}{part}\r\n")).collect()
}

fn damaged_line_is_told_before_anything_is_sent(harness: &Harness) -> Result<()> {
    let (home, alice) = (harness.home_with(Key::Server)?, harness.home()?);
    // Whatever is sent to this address is a failure of another kind.
    let port = Port::hold()?;
    let line = invite(harness, &home, &port.address(), &[])?;
    // One that is given as an argument is not said again.
    let given = harness.client(&alice, &["join", line.trim()]).run()?.expect(Exit::Usage)?;
    ensure!(given.stderr.contains("paste it") && !given.stderr.contains(&line[18..30]), "{}", given.stderr);
    let (start, end) = line.split_at(60);
    let wrong = if end.starts_with('a') { "b" } else { "a" };
    for (text, said) in [
        (format!("{start}{wrong}{}", &end[1..]), "damaged"),
        (start.to_owned(), "damaged"),
        (format!("{line}a"), "damaged"),
        (line.replacen("sockseal-invite-1:", "sockseal-invite-2:", 1), "newer version"),
        (format!("Here you are: {line}"), "not an invite"),
        ("hello".to_owned(), "not an invite"),
        (String::new(), "no invite"),
        (" \n\n".to_owned(), "no invite"),
        (format!("{line}{}", "a".repeat(3000)), "longer"),
    ] {
        join(harness, &alice, &text)?
            .expect(Exit::Usage)?
            .error_names(&[said])
            .with_context(|| text.clone())?;
    }
    ensure!(!alice.file("client.key").exists(), "a key was made for nothing");
    // An argument would stand in the list of processes.
    harness.client(&alice, &["join", &line]).run()?.expect(Exit::Usage)?;
    Ok(())
}

fn other_server_than_the_one_of_the_invite_is_a_hard_stop(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &[])?;
    let other = Server::start(harness, &harness.home_with(Key::OtherServer)?, &[])?;
    let alice = harness.home_with(Key::Alice)?;
    let misled = invite(harness, &home, other.address(), &["--address", server.address()])?;
    let stopped = join(harness, &alice, &misled)?.expect(Exit::Identity)?;
    stopped.error_names(&[server.key()?, other.key()?])?;
    // Another key is known at the address.
    let trust = ["trust", server.address(), "--server-key", other.key()?];
    harness.client(&alice, &trust).run()?.expect(Exit::Done)?;
    let line = invite(harness, &home, server.address(), &[])?;
    join(harness, &alice, &line)?.expect(Exit::Identity)?.error_names(&[server.key()?, other.key()?])?;
    ensure!(invites(harness, &home)?.iter().all(|invite| invite["state"] == "pending"), "an invite was used");
    harness.client(&alice, &["trust", server.address(), "--forget"]).run()?.expect(Exit::Done)?;
    join(harness, &alice, &line)?.expect(Exit::Done)?;
    Ok(())
}

fn addresses_are_tried_in_turn(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &[])?;
    let alice = harness.home_with(Key::Alice)?;
    let nobody = Port::hold()?;
    let line = invite(harness, &home, &nobody.address(), &["--address", server.address()])?;
    let joined = join(harness, &alice, &line)?.expect(Exit::Done)?.text();
    ensure!(joined.contains(server.address()), "{joined}");
    // The server is known by the address that has answered.
    let known = fs::read_to_string(alice.file("known_servers"))?;
    ensure!(known.contains(server.address()) && !known.contains(&nobody.address()), "{known}");
    harness
        .client(&alice, &["send", server.address(), "hello", "--trust", "strict"])
        .run()?
        .expect(Exit::Done)?;
    let nowhere = invite(harness, &home, &nobody.address(), &[])?;
    join(harness, &harness.home_with(Key::Mallory)?, &nowhere)?
        .expect(Exit::Network)?
        .error_names(&["cannot connect"])?;
    Ok(())
}
