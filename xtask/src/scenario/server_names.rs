//! Goal: a server goes by a name, which stands for its key and all its addresses. An address that is dead or in the wrong network
//! ends nothing, and one that is somebody else's is not mistaken for the server's.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{
    DEADLINE, Exit, Fixture, Forward, Harness, Home, Hosts, Key, Outcome, Port, Process, Server, Tap, Target,
    dial, echoed, set_mode, until, word, wrapped,
};
use crate::scenario::invites::{invite, invites};
use crate::scenario::registration::scenarios;

scenarios![
    name_stands_wherever_an_address_does,
    pipe_goes_by_a_name,
    join_gives_the_server_a_name,
    name_that_is_taken_costs_no_invite,
    invite_is_used_past_addresses_that_do_not_answer,
    addresses_that_do_not_answer_are_passed_by,
    every_address_of_a_host_is_asked,
    forward_goes_on_at_another_address,
    other_key_at_one_address_is_a_hard_stop,
    changed_key_is_a_hard_stop_by_name_too,
    what_is_no_name_is_told,
    damaged_list_of_names_is_told_and_kept,
    names_written_at_once_are_all_kept,
];

/// Makes a server known under a name.
fn named(harness: &Harness, home: &Home, name: &str, addresses: &[&str], key: &str) -> Result<()> {
    let arguments = [&["trust"], addresses, &["--server-key", key, "--name", name]].concat();
    harness.client(home, &arguments).run()?.expect(Exit::Done)?;
    Ok(())
}

fn listed(harness: &Harness, home: &Home) -> Result<Vec<Value>> {
    let listed = harness.client(home, &["trust", "--list", "--json"]).run()?.expect(Exit::Done)?.text();
    listed.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// A listener whose queue is full, to which nothing gets through, and the connection that fills it.
fn swallowing(address: &str) -> Result<(TcpListener, TcpStream)> {
    let listener = TcpListener::bind(address)?;
    rustix::net::listen(&listener, 0)?;
    let filling = TcpStream::connect(listener.local_addr()?)?;
    Ok((listener, filling))
}

/// A listener of which nobody takes a connection: those that wait stand, and nobody answers.
fn silent(address: &str) -> Result<TcpListener> {
    Ok(TcpListener::bind(address)?)
}

/// Checks that what was done did not wait for a time-out.
fn soon(begun: Instant, what: &str) -> Result<()> {
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(5), "{what} took {took:?}");
    Ok(())
}

fn name_stands_wherever_an_address_does(harness: &Harness) -> Result<()> {
    let (share, target) = (harness.home()?, Target::echo()?);
    let files = format!("data={}:rw", share.path().display());
    let rights = ["--messages", "--files", "data:rw", "--tcp", &target.address()];
    let fixture = Fixture::with_arguments(harness, &rights, &["run", "--files", &files])?;
    let alice = fixture.alice();
    named(harness, alice, "gate", &[&fixture.address()], fixture.key())?;
    let run = |arguments: &[&str]| harness.client(alice, arguments).run()?.expect(Exit::Done);

    run(&["send", "gate", "hello by name"])?;
    fixture.server()?.printed("[alice] hello by name")?;
    let here = harness.home()?;
    let file = here.write("here", b"a file")?;
    run(&["put", "gate", word(&file)?, "data:"])?;
    ensure!(run(&["ls", "gate", "data:"])?.text().contains("here"), "ls does not list the file");
    run(&["get", "gate", "data:here", word(&here.file("back"))?])?;
    ensure!(here.read("back")? == "a file", "another file came back");
    let ping: Value = serde_json::from_str(&run(&["ping", "gate", "-c", "1", "--json"])?.text())?;
    ensure!(ping["server"] == "gate" && ping["address"] == fixture.address(), "{ping}");
    ensure!(ping["server_key"] == fixture.key(), "{ping}");
    ensure!(run(&["ping", "gate"])?.text().starts_with("server      gate\n"), "ping does not say the name");

    let target = target.address();
    let arguments = ["forward", "gate", "-L", &format!("0:{target}")];
    let process = harness.client(alice, &arguments).start()?;
    let forward = Forward::from_process(harness, alice, process, &arguments)?;
    forward.logged(&["connected", "gate"])?;
    echoed(&mut forward.dial()?, b"through gate")?;
    forward.stop()?.expect(Exit::Done)?;
    let config = format!("[[forward]]\nserver = \"gate\"\nlocal = [\"0:{target}\"]\n");
    let config = alice.write("client.toml", config)?;
    run(&["check", "--config", word(&config)?])?;
    let process = harness.client(alice, &["forward", "--config", word(&config)?]).start()?;
    let forward = Forward::from_process(harness, alice, process, &["-L"])?;
    echoed(&mut forward.dial()?, b"through gate again")?;
    forward.stop()?.expect(Exit::Done)?;
    let through = harness.client(alice, &["forward", "gate", "-W", &target]).input("through -W");
    through.run()?.expect(Exit::Done)?.expect_stdout(b"through -W")?;

    // Where nobody is called so the configuration is wrong, which is found before anything works.
    let config = alice.write("client.toml", "[[forward]]\nserver = \"gata\"\nlocal = [\"0:@db\"]\n")?;
    for command in ["check", "forward"] {
        let outcome = harness.client(alice, &[command, "--config", word(&config)?]).run()?;
        outcome.expect(Exit::Usage)?.error_names(&["no server is called gata", "known: gate"])?;
    }

    ensure!(run(&["trust", "--names"])?.text() == "gate", "the names are others");
    let line = format!("gate\t{}\t{}", fixture.key(), fixture.address());
    ensure!(run(&["trust", "--list"])?.text() == line, "the list is another");
    run(&["trust", "gate", "--name", "Tu\u{308}r"])?;
    run(&["send", "Tür", "by another name"])?;
    run(&["trust", "Tür", "--forget"])?;
    ensure!(run(&["trust", "--list"])?.text().is_empty(), "something is still known");
    let forgotten = harness.client(alice, &["send", "Tür", "hello"]).run()?.expect(Exit::Usage)?;
    forgotten
        .error_names(&["no server is called Tür", "no server has a name yet"])?
        .hint_names(&["--name Tür"])?;
    let strict = ["send", &fixture.address(), "hello", "--trust", "strict"];
    harness.client(alice, &strict).run()?.expect(Exit::Identity)?;
    Ok(())
}

fn pipe_goes_by_a_name(harness: &Harness) -> Result<()> {
    let mut server = Server::start(harness, &harness.home_with(Key::Server)?, &["pipe", "--anyone"])?;
    server.process.close_input();
    let home = harness.home()?;
    // The one in front is asked, but a pipe can be had once: nothing may be opened there.
    let listener = silent("127.0.0.2:0")?;
    let silent = listener.local_addr()?.to_string();
    named(harness, &home, "gate", &[&silent, server.address()], server.key()?)?;
    harness.client(&home, &["pipe", "gate"]).input("through the pipe").run()?.expect(Exit::Done)?;
    server.finish()?.expect(Exit::Done)?.expect_stdout(b"through the pipe")?;
    Ok(())
}

fn join_gives_the_server_a_name(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &[])?;
    let alice = harness.home()?;
    let port = server.address().rsplit(':').next().context("no port")?;
    let by_name = format!("localhost:{port}");
    let line =
        invite(harness, &home, &by_name, &["--address", server.address(), "--name", "a", "--messages"])?;
    let joined = harness.client(&alice, &["join"]).input(line).run()?.expect(Exit::Done)?.text();
    ensure!(joined.lines().any(|line| line == format!("server      localhost ({by_name})")), "{joined}");
    ensure!(joined.contains("send localhost \"Hello"), "{joined}");
    harness.client(&alice, &["send", "localhost", "hello"]).run()?.expect(Exit::Done)?;
    server.printed("[a] hello")?;
    // A client that joins again keeps the name, unless another one is wanted as well.
    let line = invite(harness, &home, server.address(), &["--name", "b"])?;
    let again = harness.client(&alice, &["join"]).input(line.clone()).run()?.expect(Exit::Done)?.text();
    ensure!(again.contains("server      localhost ("), "{again}");
    let chosen = ["join", "--name", "gate", "--json"];
    let chosen = harness.client(&alice, &chosen).input(line).run()?.expect(Exit::Done)?.text();
    let chosen: Value = serde_json::from_str(&chosen)?;
    ensure!(chosen["server"] == "gate" && chosen["address"] == server.address(), "{chosen}");
    let names: Vec<_> = listed(harness, &alice)?.iter().map(|server| server["name"].clone()).collect();
    ensure!(names == ["localhost", "gate"], "{names:?}");
    // Of an address that has no name in it, none is made.
    let bob = harness.home()?;
    let line = invite(harness, &home, server.address(), &["--name", "bob"])?;
    named(
        harness,
        &bob,
        "server",
        &["192.0.2.1:1"],
        &harness.fingerprint("server", &harness.home_with(Key::OtherServer)?)?,
    )?;
    let joined = harness.client(&bob, &["join"]).input(line).run()?.expect(Exit::Done)?.text();
    ensure!(joined.contains("server      server-2 ("), "{joined}");
    Ok(())
}

fn name_that_is_taken_costs_no_invite(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &[])?;
    let other = harness.fingerprint("server", &harness.home_with(Key::OtherServer)?)?;
    let alice = harness.home_with(Key::Alice)?;
    named(harness, &alice, "gate", &["192.0.2.1:1"], &other)?;
    let line = invite(harness, &home, server.address(), &[])?;
    let taken = harness.client(&alice, &["join", "--name", "gate"]).input(line.clone()).run()?;
    taken.expect(Exit::Identity)?.error_names(&["gate is the name of another server", &other])?;
    let bad = harness.client(&alice, &["join", "--name", "a/b"]).input(line.clone()).run()?;
    bad.expect(Exit::Usage)?;
    ensure!(invites(harness, &home)?[0]["state"] == "pending", "the invite was used");
    let door = harness.client(&alice, &["join", "--name", "door"]).input(line).run()?;
    door.expect(Exit::Done)?;
    Ok(())
}

fn invite_is_used_past_addresses_that_do_not_answer(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &[])?;
    let full = swallowing("127.0.0.2:0")?;
    let nobody = Port::hold()?;
    let full = full.0.local_addr()?.to_string();
    let addresses = ["--address", &nobody.address(), "--address", server.address()];
    let line = invite(harness, &home, &full, &addresses)?;
    let alice = harness.home_with(Key::Alice)?;
    let begun = Instant::now();
    harness.client(&alice, &["join", "--name", "gate"]).input(line).run()?.expect(Exit::Done)?;
    soon(begun, "join")?;
    let gate = &listed(harness, &alice)?[0];
    let addresses = [server.address(), &full, &nobody.address()];
    ensure!(gate["addresses"].as_array().context("no list")? == &addresses, "{gate}");
    ensure!(invites(harness, &home)?.len() == 1, "there are more invites");
    Ok(())
}

fn addresses_that_do_not_answer_are_passed_by(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let home = harness.home()?;
    let full = swallowing("127.0.0.2:0")?;
    let silent = silent("127.0.0.3:0")?;
    let web = Target::serve_at("127.0.0.4:0", |mut socket| {
        use std::io::Write as _;
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
        Ok(())
    })?;
    let nobody = Port::hold()?;
    let [full, silent] = [full.0.local_addr()?.to_string(), silent.local_addr()?.to_string()];
    let addresses =
        [&full, &silent, &web.address(), &nobody.address(), "nosuch.invalid:5000", server.address()];
    named(harness, &home, "gate", &addresses, server.key()?)?;
    for text in ["first", "second"] {
        let begun = Instant::now();
        harness.client(&home, &["send", "gate", text]).run()?.expect(Exit::Done)?;
        soon(begun, text)?;
        server.printed(&format!("[anonymous] {text}"))?;
    }
    // Where none answers, each says why, and the one that says the most decides.
    named(harness, &home, "nowhere", &[&nobody.address(), &web.address()], server.key()?)?;
    let outcome = harness.client(&home, &["send", "nowhere", "hello"]).run()?.expect(Exit::Network)?;
    let of_web = format!("{} (nowhere)", web.address());
    let of_nobody = format!("{} (nowhere)", nobody.address());
    let names = ["cannot reach nowhere at any of its addresses", &of_web, &of_nobody, "refused"];
    outcome.error_names(&names)?.hint_names(&["right port"])?;
    Ok(())
}

/// A connection that stands may lead to nobody, which once cost ten seconds and then everything.
fn every_address_of_a_host_is_asked(harness: &Harness) -> Result<()> {
    let hosts = Hosts::new(harness)?;
    hosts.write("127.0.0.2 many.test\n127.0.0.3 many.test\n127.0.0.5 many.test\n")?;
    let wrapper: Vec<String> = hosts.wrapper().into_iter().map(str::to_owned).collect();
    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &["--listen", "127.0.0.5:0"])?;
    let port = server.address().rsplit(':').next().context("no port")?.to_owned();
    let _full = swallowing(&format!("127.0.0.2:{port}"))?;
    let _silent = silent(&format!("127.0.0.3:{port}"))?;
    let by_name = format!("many.test:{port}");
    let alice = harness.home()?;
    // The first one asks for the key, too.
    for trust in ["accept-new", "strict"] {
        let send = harness.client(&alice, &["send", &by_name, trust, "--trust", trust]);
        let begun = Instant::now();
        Process::start(wrapped(&wrapper, send.into_command()))?.finish()?.expect(Exit::Done)?;
        soon(begun, trust)?;
        server.printed(&format!("[anonymous] {trust}"))?;
    }
    Ok(())
}

fn forward_goes_on_at_another_address(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let alice = fixture.alice();
    let first = Tap::before(&fixture.address())?;
    let second = Tap::before(&fixture.address())?;
    named(harness, alice, "gate", &[&first.address(), &second.address()], fixture.key())?;
    let arguments = ["forward", "gate", "-L", &format!("0:{}", target.address())];
    let process = harness.client(alice, &arguments).start()?;
    let forward = Forward::from_process(harness, alice, process, &arguments)?;
    forward.logged(&["connected"])?;
    echoed(&mut forward.dial()?, b"by the first address")?;
    ensure!(first.count() > 0 && second.count() == 0, "the first address was not the first");
    // Connections to it stand from now on, and nobody answers.
    let silent = silent("127.0.0.1:0")?;
    first.redirect(&silent.local_addr()?.to_string());
    first.cut();
    let begun = Instant::now();
    let local = forward.local(0)?;
    until(DEADLINE, "another address is used", || echoed(&mut dial(&local)?, b"by the second address"))?;
    soon(begun, "another address")?;
    ensure!(second.count() > 0, "the second address was not used");
    Ok(())
}

fn other_key_at_one_address_is_a_hard_stop(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let other = Server::start(harness, &harness.home_with(Key::OtherServer)?, &[])?;
    let home = harness.home()?;
    named(harness, &home, "gate", &[other.address(), server.address()], server.key()?)?;
    let stopped = |arguments: &[&str]| -> Result<Outcome> {
        let outcome = harness.client(&home, arguments).run()?.expect(Exit::Identity)?;
        outcome.error_names(&["gate", other.address(), server.key()?, other.key()?])
    };
    for arguments in [&["send", "gate", "for the server"][..], &["ping", "gate"]] {
        stopped(arguments)?.hint_names(&["client trust gate --server-key"])?;
    }
    ensure!(!other.process.stdout.text().contains("for the server"), "it was sent to another server");
    // The same where the other one is known at its address already.
    harness
        .client(&home, &["trust", other.address(), "--server-key", other.key()?])
        .run()?
        .expect(Exit::Done)?;
    stopped(&["send", "gate", "for the server"])?;
    // Without the address all is well.
    let forget = harness.client(&home, &["trust", other.address(), "--forget"]).run()?.expect(Exit::Done)?;
    ensure!(forget.stderr.contains("gate has one address less"), "{}", forget.stderr);
    harness.client(&home, &["send", "gate", "for the server"]).run()?.expect(Exit::Done)?;
    server.printed("[anonymous] for the server")?;
    Ok(())
}

fn changed_key_is_a_hard_stop_by_name_too(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let other = Server::start(harness, &harness.home_with(Key::OtherServer)?, &[])?;
    let tap = Tap::before(server.address())?;
    let home = harness.home()?;
    named(harness, &home, "gate", &[&tap.address()], server.key()?)?;
    harness.client(&home, &["send", "gate", "first"]).run()?.expect(Exit::Done)?;
    let files = [home.read("known_servers")?, home.read("servers.toml")?];
    tap.redirect(other.address());
    for trust in ["ask", "accept-new", "strict"] {
        let arguments = ["send", "gate", "not for the other", "--trust", trust];
        let outcome = harness.client(&home, &arguments).run()?.expect(Exit::Identity)?;
        outcome.error_names(&[server.key()?, other.key()?, "gate"])?;
    }
    let given = ["send", "gate", "not for the other", "--server-key", other.key()?];
    harness.client(&home, &given).run()?.expect(Exit::Identity)?.error_names(&["gate"])?;
    ensure!(!other.process.stdout.text().contains("not for the other"), "it was sent all the same");
    ensure!(files == [home.read("known_servers")?, home.read("servers.toml")?], "a key was replaced");
    // As the hint says, where the owner says so.
    harness.client(&home, &["trust", "gate", "--server-key", other.key()?]).run()?.expect(Exit::Done)?;
    harness.client(&home, &["send", "gate", "for the other"]).run()?.expect(Exit::Done)?;
    other.printed("[anonymous] for the other")?;
    Ok(())
}

fn what_is_no_name_is_told(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let key = harness.fingerprint("server", &harness.home_with(Key::Server)?)?;
    let long = "a".repeat(65);
    let bad = [
        "",
        "a b",
        "a/b",
        "../known_servers",
        "a:1",
        ".a",
        "@a",
        "127.0.0.1",
        "a\u{202e}b",
        "a\u{1b}[2J",
        "a\nb",
        &long,
    ];
    for name in bad {
        let trust = ["trust", "127.0.0.1:5000", "--server-key", &key, "--name", name];
        harness.client(&home, &trust).run()?.expect(Exit::Usage)?;
        // The one with a port is an address.
        for command in [&["send", name, "hello"][..], &["ping", name]].into_iter().filter(|_| name != "a:1") {
            harness.client(&home, command).run()?.expect(Exit::Usage)?;
        }
    }
    ensure!(!home.file("servers.toml").exists(), "a name was given");
    for (words, said) in [
        (&["trust", "127.0.0.1:5000", "--name", "gate"][..], "--server-key"),
        (&["trust", "127.0.0.1:5000"], "--server-key"),
        (&["trust", "gate", "--server-key", &key], "no server is called gate"),
        (&["trust", "gate", "127.0.0.1:5000", "--server-key", &key], "alone"),
        (&["trust", "gate"], "--forget"),
    ] {
        harness.client(&home, words).run()?.expect(Exit::Usage)?.error_names(&[said])?;
    }
    harness
        .client(&home, &["send", "localhost", "hello"])
        .run()?
        .expect(Exit::Usage)?
        .hint_names(&["localhost:5000"])?;
    Ok(())
}

fn damaged_list_of_names_is_told_and_kept(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &[])?;
    let alice = harness.home_with(Key::Alice)?;
    named(harness, &alice, "gate", &[server.address()], server.key()?)?;
    let good = alice.read("servers.toml")?;
    let line = invite(harness, &home, server.address(), &[])?;
    for (damaged, names) in [
        (good.replace("addresses", "adresses"), ["line 6", "adresses"]),
        (good.replace("version = 1", "version = 2\nfuture = 1"), ["line 1", "newer version"]),
        (format!("{good}\n{}", good.replace("version = 1\n", "")), ["line 9", "gate is there twice"]),
        (good[..good.len() - 3].to_owned(), ["line 6", "servers.toml"]),
    ] {
        alice.write("servers.toml", &damaged)?;
        for command in [
            &["send", "gate", "hello"][..],
            &["trust", "--list"],
            &["trust", "--names"],
            &["trust", server.address(), "--server-key", server.key()?, "--name", "door"],
            &["trust", "gate", "--forget"],
            &["check"],
            &["join"],
        ] {
            let outcome = harness.client(&alice, command).input(line.clone()).run()?.expect(Exit::Usage)?;
            outcome.error_names(&["servers.toml"])?.error_names(&names)?;
        }
        ensure!(alice.read("servers.toml")? == damaged, "a file that was not understood is overwritten");
    }
    ensure!(invites(harness, &home)?[0]["state"] == "pending", "the invite was used");
    // One that other users can change decides nothing.
    alice.write("servers.toml", &good)?;
    set_mode(&alice.file("servers.toml"), 0o666)?;
    let outcome = harness.client(&alice, &["send", "gate", "hello"]).run()?.expect(Exit::Usage)?;
    outcome.error_names(&["servers.toml", "open to other users"])?;
    Ok(())
}

fn names_written_at_once_are_all_kept(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let key = harness.fingerprint("server", &harness.home_with(Key::Server)?)?;
    let names: Vec<String> = (0..12).map(|number| format!("server-{number}")).collect();
    let start = |(number, name): (usize, &String)| {
        let address = format!("192.0.2.{number}:5000");
        harness.client(&home, &["trust", &address, "--server-key", &key, "--name", name]).start()
    };
    let started: Vec<Process> = names.iter().enumerate().map(start).collect::<Result<_>>()?;
    for process in started {
        process.finish()?.expect(Exit::Done)?;
    }
    let kept = harness.client(&home, &["trust", "--names"]).run()?.expect(Exit::Done)?.text();
    let mut kept: Vec<&str> = kept.lines().collect();
    kept.sort_by_key(|name| names.iter().position(|known| known == name));
    ensure!(kept == names, "kept: {kept:?}");
    ensure!(home.read("known_servers")?.lines().count() == names.len(), "an address is missing");
    Ok(())
}
