//! Goal: what goes into a local port or socket comes out at the target, byte for byte, and what cannot is told at once.

use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use crate::scenario::scenarios;
use crate::stage::{
    End, Exchange, Exit, Forward, Key, PATIENCE, PHRASE, Process, Site, Stage, Tap, Target, Way, dial,
    digest, echo, echoed, end_behind, read_to_end_of, serve_unix, until,
};

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

fn both_ways_at_once_byte_for_byte(stage: &Stage) -> Result<()> {
    let exchange = Exchange { up: 32 * 1024 * 1024, down: 24 * 1024 * 1024 + 7 };
    let target = Target::exchange(exchange)?;
    let site = Site::open(stage, &["--tcp", &target.address()])?;
    let tap = Tap::before(&site.address())?;
    let forward = site.forward_through(&tap.address(), &["-L", &local(&target)])?;
    exchange.ask(forward.dial()?)?;
    for way in [Way::Up, Way::Down] {
        let crossed = tap.bytes(way);
        ensure!(crossed.len() > 24 * 1024 * 1024, "{way:?}: the bytes did not cross the tap");
        ensure!(memchr::memmem::find(&crossed, PHRASE).is_none(), "{way:?}: plaintext on the wire");
    }
    target.is_left_alone()
}

fn single_bytes_are_not_held_back(stage: &Stage) -> Result<()> {
    let target = Target::echo()?;
    let site = Site::open(stage, &["--tcp", &target.address()])?;
    let forward = site.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    (0..200).try_for_each(|_| echoed(&mut stream, b"?"))
}

fn many_connections_keep_their_bytes_apart(stage: &Stage) -> Result<()> {
    let target = Target::echo()?;
    let site = Site::open(stage, &["--tcp", &target.address()])?;
    let forward = site.forward(&["-L", &local(&target)])?;
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

fn every_forward_leads_to_its_own_target(stage: &Stage) -> Result<()> {
    let sizes = [10_000, 20_000, 30_000].map(|down| Exchange { up: 1_000, down });
    let targets = sizes.map(Target::exchange).into_iter().collect::<Result<Vec<_>>>()?;
    let [first, second, third] = [0, 1, 2].map(|index| targets[index].address());
    let site = Site::open(stage, &["--tcp", &first, "--tcp", &second, "--tcp", &third])?;
    let specs: Vec<String> = targets.iter().map(local).collect();
    let forward = site.forward(&["-L", &specs[0], "-L", &specs[1], "-L", &specs[2]])?;
    for (index, exchange) in sizes.into_iter().enumerate() {
        let address = forward.local(index)?;
        ensure!(address.starts_with("127.0.0.1:"), "a port was asked for, and {address} listens");
        exchange.ask(dial(&address)?).with_context(|| format!("forward {index}"))?;
    }
    Ok(())
}

fn unix_sockets_stand_on_either_side(stage: &Stage) -> Result<()> {
    let place = stage.home()?;
    let [there, here] = ["there.sock", "here.sock"].map(|name| place.file(name).display().to_string());
    serve_unix(&place.file("there.sock"), |stream| Exchange::SMALL.answer(stream))?;
    let target = Target::exchange(Exchange::SMALL)?;
    let site = Site::open(stage, &["--unix", &there, "--tcp", &target.address()])?;
    let from_unix = format!("{here}:{}", target.address());
    let forward = site.forward(&["-L", &format!("0:{there}"), "-L", &from_unix])?;
    Exchange::SMALL.ask(forward.dial()?).context("from TCP to a unix socket")?;
    let plug = || -> Result<UnixStream> {
        let plug = UnixStream::connect(&here)?;
        plug.set_read_timeout(Some(PATIENCE))?;
        Ok(plug)
    };
    Exchange::SMALL.ask(plug()?).context("from a unix socket to TCP")?;
    forward.stop()?.expect(Exit::Done)?;
    ensure!(!place.file("here.sock").exists(), "the socket outlived its client");

    let forward = site.forward(&["-L", &format!("unix:{here}:unix:{there}")])?;
    Exchange::SMALL.ask(plug()?).context("from a unix socket to a unix socket")?;
    drop(forward);
    Ok(())
}

fn named_service_hides_its_address(stage: &Stage) -> Result<()> {
    let target = Target::exchange(Exchange::SMALL)?;
    let config = format!("[[service]]\nname = \"db\"\ntarget = \"{}\"\n", target.address());
    let site = Site::with_config(stage, &["--service", "db"], &config)?;
    let forward = site.forward(&["-v", "-L", "0:@db", "-L", "0:@other", "-L", &local(&target)])?;
    Exchange::SMALL.ask(forward.dial()?)?;
    for closed in [1, 2] {
        expect_reset(&forward.local(closed)?).context("a right to a service is a right to nothing else")?;
    }
    ensure!(target.accepted() == 1, "a service's right opened its address");
    drop(forward);

    let forward = site.forward(&["-v", "-L", "0:@db"])?;
    Exchange::SMALL.ask(forward.dial()?)?;
    let said = forward.process.stderr.text();
    ensure!(!said.contains(&target.port().to_string()), "the client knows where the service is:\n{said}");
    Ok(())
}

/// `-W`, as ssh's ProxyCommand: both ways, each with an end of its own.
fn standard_streams_reach_a_target(stage: &Stage) -> Result<()> {
    let exchange = Exchange { up: 3_000_000, down: 2_000_001 };
    let target = Target::exchange(exchange)?;
    let site = Site::open(stage, &["--tcp", &target.address()])?;
    let address = site.address();
    let arguments = ["forward", &address, "-W", &target.address(), "--server-key", site.key()];
    let sent = crate::stage::Lines::of_length(exchange.up).bytes()?;
    let outcome = stage.client(site.alice(), &arguments).input(sent.clone()).run()?.expect(Exit::Done)?;
    let mut expected = crate::stage::Lines::of_length(exchange.down).bytes()?;
    expected.extend_from_slice(format!("{} {}\n", exchange.up, digest(&sent)).as_bytes());
    outcome.expect_stdout(&expected)?;

    // A conversation, in which neither side waits for an end.
    let target = Target::echo()?;
    site.allow(&["--tcp", &target.address()])?;
    let arguments = ["forward", &address, "-W", &target.address(), "--server-key", site.key()];
    let mut client = stage.client(site.alice(), &arguments).start()?;
    for turn in 1..=10 {
        client.write(b"?")?;
        client.stdout.wait_len(PATIENCE, turn)?;
    }
    client.finish()?.expect(Exit::Done)?.expect_stdout(&[b'?'; 10])?;
    Ok(())
}

fn standard_streams_end_with_what_went_wrong(stage: &Stage) -> Result<()> {
    let target = Target::resetting(100)?;
    let nobody = crate::stage::Port::hold()?;
    let site = Site::open(stage, &["--tcp", &target.address(), "--tcp", &nobody.address()])?;
    let denied = site.forward_to_the_end(site.alice(), &["-W", "127.0.0.1:9"])?;
    denied.expect(Exit::Refused)?.error_names(&["127.0.0.1:9"])?;
    let refused = site.forward_to_the_end(site.alice(), &["-W", &nobody.address()])?;
    refused.expect_failure()?.error_names(&[&nobody.address()])?;
    let address = site.address();
    let arguments = ["forward", &address, "-W", &target.address(), "--server-key", site.key()];
    let mut client = stage.client(site.alice(), &arguments).start()?;
    client.stdout.wait_len(PATIENCE, 100)?;
    client.write(b"!")?;
    client.finish()?.expect_failure().context("a reset is no end")?;
    Ok(())
}

/// The forward goes on, for the target may come back.
fn refused_target_resets_its_connection_alone(stage: &Stage) -> Result<()> {
    let nobody = crate::stage::Port::hold()?;
    let target = Target::echo()?;
    let site = Site::open(stage, &["--tcp", &target.address(), "--tcp", &nobody.address()])?;
    let denied = Target::echo()?;
    let forward = site.forward(&[
        "-L",
        &local(&target),
        "-L",
        &format!("0:{}", nobody.address()),
        "-L",
        &local(&denied),
        "-L",
        "0:no-such-host.invalid:80",
    ])?;
    let before = (site.at_rest()?, forward.at_rest()?);
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
    site.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

fn port_that_is_taken_ends_the_client(stage: &Stage) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let holder = TcpListener::bind(taken)?;
    let site = Site::open(stage, &["--tcp", "127.0.0.1:*"])?;
    let spec = format!("{}:127.0.0.1:80", taken.port());
    let outcome = site.forward_to_the_end(site.alice(), &["-L", &spec])?;
    outcome.expect(Exit::Network)?.error_names(&[&taken.to_string()])?;
    drop(holder);
    let path = stage.home()?;
    let file = path.write("precious", "data")?.display().to_string();
    let outcome = site.forward_to_the_end(site.alice(), &["-L", &format!("{file}:127.0.0.1:80")])?;
    outcome.expect(Exit::Network)?.error_names(&["precious"])?;
    ensure!(path.read("precious")? == "data", "a file was replaced by a socket");
    Ok(())
}

fn wrong_key_ends_the_client(stage: &Stage) -> Result<()> {
    let site = Site::open(stage, &["--tcp", "127.0.0.1:*"])?;
    let other = stage.fingerprint("server", &stage.home_with(Key::OtherServer)?)?;
    let address = site.address();
    let arguments = ["forward", &address, "-L", "0:127.0.0.1:80", "--server-key", &other];
    stage.client(site.alice(), &arguments).run()?.expect(Exit::Identity)?.error_names(&[])?;
    Ok(())
}

fn denied_client_ends(stage: &Stage) -> Result<()> {
    let site = Site::open(stage, &["--tcp", "127.0.0.1:*"])?;
    let stranger = stage.home_with(Key::Mallory)?;
    let outcome = site.forward_to_the_end(&stranger, &["-L", "0:127.0.0.1:80"])?;
    outcome.expect(Exit::Refused)?.error_names(&[])?;
    Ok(())
}

fn file_names_the_forwards(stage: &Stage) -> Result<()> {
    let [first, second] = [Exchange { up: 1, down: 1_000 }, Exchange { up: 1, down: 2_000 }];
    let targets = [Target::exchange(first)?, Target::exchange(second)?];
    let sites = [
        Site::open(stage, &["--tcp", &targets[0].address()])?,
        Site::open(stage, &["--tcp", &targets[1].address(), "--listen", "*"])?,
    ];
    let own = Target::exchange(first)?;
    let config = format!(
        "[[forward]]\nserver = \"{}\"\nserver_key = \"{}\"\nlocal = [\"0:{}\"]\n\n\
         [[forward]]\nserver = \"{}\"\nserver_key = \"{}\"\nlocal = [\"0:{}\"]\nremote = [\"0:{}\"]\ndynamic = [\"0\"]\n",
        sites[0].address(),
        sites[0].key(),
        targets[0].address(),
        sites[1].address(),
        sites[1].key(),
        targets[1].address(),
        own.address(),
    );
    let file = sites[0].alice().write("client.toml", config)?.display().to_string();
    let process = stage.client(sites[0].alice(), &["forward", "--config", &file]).start()?;
    let forward = Forward::from_process(stage, sites[0].alice(), process, &["-L", "-L", "-D"])?;
    for (target, exchange) in [(&targets[0], first), (&targets[1], second)] {
        let line = forward.logged(&["local", &target.address()])?;
        let address = line.split_whitespace().nth(1).context("no address")?;
        exchange.ask(dial(address)?)?;
    }
    first.ask(dial(&forward.remote(0)?)?)?;
    forward.stop()?.expect(Exit::Done)?;

    let broken = sites[0].alice().write("broken.toml", "[[forward]]\nserver = 7\n")?.display().to_string();
    let outcome = stage.client(sites[0].alice(), &["forward", "--config", &broken]).run()?;
    outcome.expect(Exit::Usage)?.error_names(&["broken.toml", "2"])?;
    // What a file says and what the command line says are not mixed in silence.
    let outcome = stage.client(sites[0].alice(), &["forward", "--config", &file, "-L", "0:@db"]).run()?;
    outcome.expect(Exit::Usage)?.error_names(&["--config", "--local"])?;
    Ok(())
}

fn programs_can_read_what_is_said(stage: &Stage) -> Result<()> {
    let target = Target::echo()?;
    let site = Site::open(stage, &["--tcp", &target.address(), "--listen", "*"])?;
    let address = site.address();
    let mut arguments = vec!["forward", &address, "--json", "--server-key", site.key()];
    let spec = local(&target);
    arguments.extend(["-L", spec.as_str(), "-D", "0", "-R", spec.as_str()]);
    let client = stage.client(site.alice(), &arguments).start()?;
    let local = event(&client, &[("event", "listening"), ("kind", "local")])?;
    ensure!(local["target"] == target.address(), "{local}");
    let mut stream = dial(local["address"].as_str().context("no address")?)?;
    echoed(&mut stream, b"through")?;
    event(&client, &[("event", "listening"), ("kind", "dynamic")])?;
    event(&client, &[("event", "listening"), ("kind", "remote"), ("target", &target.address())])?;
    event(&client, &[("event", "connected"), ("server", &address)])?;
    Ok(())
}

/// The first line of standard output that is an object with these fields.
fn event(client: &Process, fields: &[(&str, &str)]) -> Result<Value> {
    let matches = |line: &str| {
        serde_json::from_str::<Value>(line)
            .is_ok_and(|object| fields.iter().all(|&(name, value)| object[name] == value))
    };
    let line =
        client.stdout.wait_line(PATIENCE, matches).with_context(|| format!("an event with {fields:?}"))?;
    Ok(serde_json::from_str(&line)?)
}

/// `0:HOST:PORT`: a port that the system picks, to this target.
pub(super) fn local(target: &Target) -> String {
    format!("0:{}", target.address())
}

/// A connection there is broken, and does not look like one that has ended.
pub(super) fn expect_reset(address: &str) -> Result<()> {
    let ended = end_behind(dial(address)?, b"anybody there?")?;
    ensure!(ended == (0, End::Reset), "{ended:?} instead of a reset");
    Ok(())
}

/// Waits until a connection goes through again.
pub(super) fn works_again(address: &str) -> Result<()> {
    until(PATIENCE, "a connection goes through", || echoed(&mut dial(address)?, b"again"))
}
