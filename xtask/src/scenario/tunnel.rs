//! Goal: bytes sent to a local port or socket arrive unchanged at the target, and failures are reported at once.

use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use crate::harness::{
    DEADLINE, End, Exchange, Exit, Fixture, Forward, Harness, Key, PHRASE, Process, Tap, Target, Way, dial,
    digest, echo, echoed, expect_reset, local, read_to_end_of, serve_unix,
};
use crate::scenario::registration::scenarios;

scenarios![
    both_ways_at_once_byte_for_byte,
    single_bytes_are_not_held_back,
    many_connections_keep_their_bytes_apart,
    every_forward_leads_to_its_own_target,
    unix_sockets_stand_on_either_side,
    named_service_hides_its_address,
    standard_streams_reach_a_target,
    standard_streams_end_with_what_went_wrong,
    refused_target_resets_its_connection_alone,
    port_that_is_taken_ends_the_client,
    wrong_key_ends_the_client,
    denied_client_ends,
    file_names_the_forwards,
    programs_can_read_what_is_said,
];

fn both_ways_at_once_byte_for_byte(harness: &Harness) -> Result<()> {
    let exchange = Exchange { up: 32 * 1024 * 1024, down: 24 * 1024 * 1024 + 7 };
    let target = Target::exchange(exchange)?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let tap = Tap::before(&fixture.address())?;
    let forward = fixture.forward_through(&tap.address(), &["-L", &local(&target)])?;
    exchange.ask(forward.dial()?)?;
    for way in [Way::Up, Way::Down] {
        let crossed = tap.bytes(way);
        ensure!(crossed.len() > 24 * 1024 * 1024, "{way:?}: the bytes did not cross the tap");
        ensure!(memchr::memmem::find(&crossed, PHRASE).is_none(), "{way:?}: plaintext on the wire");
    }
    target.is_left_alone()
}

fn single_bytes_are_not_held_back(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    (0..200).try_for_each(|_| echoed(&mut stream, b"?"))
}

fn many_connections_keep_their_bytes_apart(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let address = forward.local(0)?;
    let talkers: Vec<_> = (0..40)
        .map(|number| {
            let address = address.clone();
            thread::spawn(move || -> Result<()> {
                let mut stream = dial(&address)?;
                for turn in 0..50 {
                    echoed(&mut stream, format!("connection {number}, turn {turn}").repeat(20).as_bytes())?;
                }
                stream.shutdown(Shutdown::Write)?;
                ensure!(read_to_end_of(stream)? == (0, End::Clean), "no clean end");
                Ok(())
            })
        })
        .collect();
    for talker in talkers {
        talker.join().map_err(|_| anyhow!("a talker panicked"))??;
    }
    target.is_left_alone()?;
    ensure!(target.accepted() == 40, "{} connections came out of 40", target.accepted());
    Ok(())
}

fn every_forward_leads_to_its_own_target(harness: &Harness) -> Result<()> {
    let sizes = [10_000, 20_000, 30_000].map(|down| Exchange { up: 1_000, down });
    let targets = sizes.map(Target::exchange).into_iter().collect::<Result<Vec<_>>>()?;
    let [first, second, third] = [0, 1, 2].map(|index| targets[index].address());
    let fixture = Fixture::open(harness, &["--tcp", &first, "--tcp", &second, "--tcp", &third])?;
    let specs: Vec<String> = targets.iter().map(local).collect();
    let forward = fixture.forward(&["-L", &specs[0], "-L", &specs[1], "-L", &specs[2]])?;
    for (index, exchange) in sizes.into_iter().enumerate() {
        let address = forward.local(index)?;
        ensure!(address.starts_with("127.0.0.1:"), "a port was asked for, and {address} listens");
        exchange.ask(dial(&address)?).with_context(|| format!("forward {index}"))?;
    }
    Ok(())
}

fn unix_sockets_stand_on_either_side(harness: &Harness) -> Result<()> {
    let place = harness.home()?;
    let [there, here] = ["there.sock", "here.sock"].map(|name| place.file(name).display().to_string());
    serve_unix(&place.file("there.sock"), |stream| Exchange::SMALL.answer(stream))?;
    let target = Target::exchange(Exchange::SMALL)?;
    let fixture = Fixture::open(harness, &["--unix", &there, "--tcp", &target.address()])?;
    let from_unix = format!("{here}:{}", target.address());
    let forward = fixture.forward(&["-L", &format!("0:{there}"), "-L", &from_unix])?;
    Exchange::SMALL.ask(forward.dial()?).context("from TCP to a unix socket")?;
    let connection = || -> Result<UnixStream> {
        let connection = UnixStream::connect(&here)?;
        connection.set_read_timeout(Some(DEADLINE))?;
        Ok(connection)
    };
    Exchange::SMALL.ask(connection()?).context("from a unix socket to TCP")?;
    forward.stop()?.expect(Exit::Done)?;
    ensure!(!place.file("here.sock").exists(), "the socket outlived its client");

    let forward = fixture.forward(&["-L", &format!("unix:{here}:unix:{there}")])?;
    Exchange::SMALL.ask(connection()?).context("from a unix socket to a unix socket")?;
    drop(forward);
    Ok(())
}

fn named_service_hides_its_address(harness: &Harness) -> Result<()> {
    let target = Target::exchange(Exchange::SMALL)?;
    let config = format!("[[service]]\nname = \"db\"\ntarget = \"{}\"\n", target.address());
    let fixture = Fixture::with_config(harness, &["--service", "db"], &config)?;
    let forward = fixture.forward(&["-v", "-L", "0:@db", "-L", "0:@other", "-L", &local(&target)])?;
    Exchange::SMALL.ask(forward.dial()?)?;
    for closed in [1, 2] {
        expect_reset(&forward.local(closed)?).context("a right to a service is a right to nothing else")?;
    }
    ensure!(target.accepted() == 1, "a service's right opened its address");
    drop(forward);

    let forward = fixture.forward(&["-v", "-L", "0:@db"])?;
    Exchange::SMALL.ask(forward.dial()?)?;
    let said = forward.process.stderr.text();
    ensure!(!said.contains(&target.port().to_string()), "the client knows where the service is:\n{said}");
    Ok(())
}

/// With `-W`, as in ssh's ProxyCommand, both directions work and end independently.
fn standard_streams_reach_a_target(harness: &Harness) -> Result<()> {
    let exchange = Exchange { up: 3_000_000, down: 2_000_001 };
    let target = Target::exchange(exchange)?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let address = fixture.address();
    let arguments = ["forward", &address, "-W", &target.address(), "--server-key", fixture.key()];
    let sent = crate::harness::Lines::of_length(exchange.up).bytes()?;
    let outcome =
        harness.client(fixture.alice(), &arguments).input(sent.clone()).run()?.expect(Exit::Done)?;
    let mut expected = crate::harness::Lines::of_length(exchange.down).bytes()?;
    expected.extend_from_slice(format!("{} {}\n", exchange.up, digest(&sent)).as_bytes());
    outcome.expect_stdout(&expected)?;

    // In this conversation neither side waits for an end.
    let target = Target::echo()?;
    fixture.allow(&["--tcp", &target.address()])?;
    let arguments = ["forward", &address, "-W", &target.address(), "--server-key", fixture.key()];
    let mut client = harness.client(fixture.alice(), &arguments).start()?;
    for turn in 1..=10 {
        client.write(b"?")?;
        client.stdout.wait_len(DEADLINE, turn)?;
    }
    client.finish()?.expect(Exit::Done)?.expect_stdout(&[b'?'; 10])?;
    Ok(())
}

fn standard_streams_end_with_what_went_wrong(harness: &Harness) -> Result<()> {
    let target = Target::resetting(100)?;
    let nobody = crate::harness::Port::hold()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--tcp", &nobody.address()])?;
    let denied = fixture.forward_to_the_end(fixture.alice(), &["-W", "127.0.0.1:9"])?;
    denied.expect(Exit::Refused)?.error_names(&["127.0.0.1:9"])?;
    let refused = fixture.forward_to_the_end(fixture.alice(), &["-W", &nobody.address()])?;
    refused.expect_failure()?.error_names(&[&nobody.address()])?;
    let address = fixture.address();
    let arguments = ["forward", &address, "-W", &target.address(), "--server-key", fixture.key()];
    let mut client = harness.client(fixture.alice(), &arguments).start()?;
    client.stdout.wait_len(DEADLINE, 100)?;
    client.write(b"!")?;
    client.finish()?.expect_failure().context("a reset is no end")?;
    Ok(())
}

/// The forward goes on, since the target may become reachable again.
fn refused_target_resets_its_connection_alone(harness: &Harness) -> Result<()> {
    let nobody = crate::harness::Port::hold()?;
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--tcp", &nobody.address()])?;
    let denied = Target::echo()?;
    let forward = fixture.forward(&[
        "-L",
        &local(&target),
        "-L",
        &format!("0:{}", nobody.address()),
        "-L",
        &local(&denied),
        "-L",
        "0:no-such-host.invalid:80",
    ])?;
    let before = (fixture.at_rest()?, forward.at_rest()?);
    let mut stream = forward.dial()?;
    for round in 0..10 {
        for closed in [1, 2, 3] {
            expect_reset(&forward.local(closed)?)
                .with_context(|| format!("forward {closed}, round {round}"))?;
        }
        echoed(&mut stream, b"the neighbor goes on")?;
    }
    ensure!(denied.accepted() == 0, "a target without a right was reached");
    let late = Target::serve_at(&nobody.address(), echo)?;
    let mut second = dial(&forward.local(1)?)?;
    echoed(&mut second, b"now it is there")?;
    drop((stream, second, late));
    fixture.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

fn port_that_is_taken_ends_the_client(harness: &Harness) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let holder = TcpListener::bind(taken)?;
    let fixture = Fixture::open(harness, &["--tcp", "127.0.0.1:*"])?;
    let spec = format!("{}:127.0.0.1:80", taken.port());
    let outcome = fixture.forward_to_the_end(fixture.alice(), &["-L", &spec])?;
    outcome.expect(Exit::Network)?.error_names(&[&taken.to_string()])?;
    drop(holder);
    let path = harness.home()?;
    let file = path.write("precious", "data")?.display().to_string();
    let outcome = fixture.forward_to_the_end(fixture.alice(), &["-L", &format!("{file}:127.0.0.1:80")])?;
    outcome.expect(Exit::Network)?.error_names(&["precious"])?;
    ensure!(path.read("precious")? == "data", "a file was replaced by a socket");
    Ok(())
}

fn wrong_key_ends_the_client(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &["--tcp", "127.0.0.1:*"])?;
    let other = harness.fingerprint("server", &harness.home_with(Key::OtherServer)?)?;
    let address = fixture.address();
    let arguments = ["forward", &address, "-L", "0:127.0.0.1:80", "--server-key", &other];
    harness.client(fixture.alice(), &arguments).run()?.expect(Exit::Identity)?.error_names(&[])?;
    Ok(())
}

fn denied_client_ends(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &["--tcp", "127.0.0.1:*"])?;
    let stranger = harness.home_with(Key::Mallory)?;
    let outcome = fixture.forward_to_the_end(&stranger, &["-L", "0:127.0.0.1:80"])?;
    outcome.expect(Exit::Refused)?.error_names(&[])?;
    Ok(())
}

fn file_names_the_forwards(harness: &Harness) -> Result<()> {
    let [first, second] = [Exchange { up: 1, down: 1_000 }, Exchange { up: 1, down: 2_000 }];
    let targets = [Target::exchange(first)?, Target::exchange(second)?];
    let fixtures = [
        Fixture::open(harness, &["--tcp", &targets[0].address()])?,
        Fixture::open(harness, &["--tcp", &targets[1].address(), "--listen", "*"])?,
    ];
    let own = Target::exchange(first)?;
    let config = format!(
        "[[forward]]\nserver = \"{}\"\nserver_key = \"{}\"\nlocal = [\"0:{}\"]\n\n\
         [[forward]]\nserver = \"{}\"\nserver_key = \"{}\"\nlocal = [\"0:{}\"]\nremote = [\"0:{}\"]\ndynamic = [\"0\"]\n",
        fixtures[0].address(),
        fixtures[0].key(),
        targets[0].address(),
        fixtures[1].address(),
        fixtures[1].key(),
        targets[1].address(),
        own.address(),
    );
    let file = fixtures[0].alice().write("client.toml", config)?.display().to_string();
    let process = harness.client(fixtures[0].alice(), &["forward", "--config", &file]).start()?;
    let forward = Forward::from_process(harness, fixtures[0].alice(), process, &["-L", "-L", "-D"])?;
    for (target, exchange) in [(&targets[0], first), (&targets[1], second)] {
        let line = forward.logged(&["local", &target.address()])?;
        let address = line.split_whitespace().nth(1).context("no address")?;
        exchange.ask(dial(address)?)?;
    }
    first.ask(dial(&forward.remote(0)?)?)?;
    forward.stop()?.expect(Exit::Done)?;

    let broken = fixtures[0].alice().write("broken.toml", "[[forward]]\nserver = 7\n")?.display().to_string();
    let outcome = harness.client(fixtures[0].alice(), &["forward", "--config", &broken]).run()?;
    outcome.expect(Exit::Usage)?.error_names(&["broken.toml", "2"])?;
    // Forwards from the file and from the command line must not be combined silently.
    let outcome =
        harness.client(fixtures[0].alice(), &["forward", "--config", &file, "-L", "0:@db"]).run()?;
    outcome.expect(Exit::Usage)?.error_names(&["--config", "--local"])?;
    Ok(())
}

fn programs_can_read_what_is_said(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let address = fixture.address();
    let mut arguments = vec!["forward", &address, "--json", "--server-key", fixture.key()];
    let spec = local(&target);
    arguments.extend(["-L", spec.as_str(), "-D", "0", "-R", spec.as_str()]);
    let client = harness.client(fixture.alice(), &arguments).start()?;
    let local = event(&client, &[("event", "listening"), ("kind", "local")])?;
    ensure!(local["target"] == target.address(), "{local}");
    let mut stream = dial(local["address"].as_str().context("no address")?)?;
    echoed(&mut stream, b"through")?;
    event(&client, &[("event", "listening"), ("kind", "dynamic")])?;
    event(&client, &[("event", "listening"), ("kind", "remote"), ("target", &target.address())])?;
    event(&client, &[("event", "connected"), ("server", &address)])?;
    Ok(())
}

/// Returns the first line of standard output that is an object with these fields.
fn event(client: &Process, fields: &[(&str, &str)]) -> Result<Value> {
    let matches = |line: &str| {
        serde_json::from_str::<Value>(line)
            .is_ok_and(|object| fields.iter().all(|&(name, value)| object[name] == value))
    };
    let line =
        client.stdout.wait_line(DEADLINE, matches).with_context(|| format!("an event with {fields:?}"))?;
    Ok(serde_json::from_str(&line)?)
}
