//! Goal: a server serves more connections than fit its limits one after the other, and recovers from running
//! out of resources.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::harness::{
    DEADLINE, Exit, Fixture, Forward, Harness, Hosts, Key, Port, Process, Program, Resources, Server, Target,
    Tool, Visitor, dial, echoed, local, socks, until, works_again, wrapped,
};
use crate::scenario::registration::scenarios;

scenarios![
    two_thousand_connections_against_a_limit_of_five_hundred,
    descriptors_that_run_out_come_back,
    clients_descriptors_that_run_out_come_back,
    visitors_of_leases_leave_descriptors_for_commands,
    names_without_an_answer_keep_their_own_client_waiting,
    anonymous_clients_leave_channels_to_those_that_are_allowed,
];

/// All connections are made at once, and each is held until its echo has come. The limit is set in the server's file.
fn two_thousand_connections_against_a_limit_of_five_hundred(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::with_config(harness, &["--tcp", &target.address()], "max_channels = 500\n")?;
    let forward = fixture.forward(&["--wait", "55s", "-L", &local(&target)])?;
    let address = forward.local(0)?;
    works_again(&address)?;
    let before = (fixture.at_rest()?, forward.at_rest()?);
    let open = Arc::new(AtomicUsize::new(0));
    let barrier = Arc::new(Barrier::new(CROWD));
    let started = Instant::now();
    let visitors: Vec<_> = (0..CROWD)
        .map(|number| {
            let (address, barrier, open) = (address.clone(), Arc::clone(&barrier), Arc::clone(&open));
            // The threads need little stack, and there are two thousand of them.
            let builder = thread::Builder::new().stack_size(128 * 1024);
            builder.spawn(move || -> Result<()> {
                barrier.wait();
                let mut stream = until(DEADLINE, "the listener's queue", || dial(&address))?;
                open.fetch_add(1, Ordering::SeqCst);
                echoed(&mut stream, format!("number {number}").as_bytes())
                    .with_context(|| format!("connection {number}"))
            })
        })
        .collect::<std::io::Result<_>>()?;
    let mut most = 0;
    while visitors.iter().any(|visitor| !visitor.is_finished()) && started.elapsed() < 2 * DEADLINE {
        most = most.max(fixture.resources()?.channels);
        thread::sleep(Duration::from_millis(100));
    }
    let mut failed = Vec::new();
    for visitor in visitors {
        failed.extend(visitor.join().map_err(|_| anyhow!("a visitor panicked"))?.err());
    }
    if let Some(first) = failed.first() {
        return Err(anyhow!("{} of {CROWD} connections were not served; the first: {first:#}", failed.len()));
    }
    ensure!(most <= 500, "{most} channels at once");
    target.is_left_alone()?;
    fixture.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

/// Connections from outside use up the 64 descriptors of the server until it cannot accept any more. It
/// serves again once they are closed.
fn descriptors_that_run_out_come_back(harness: &Harness) -> Result<()> {
    let prlimit = Tool::PRLIMIT.find()?.display().to_string();
    let target = Target::echo()?;
    let rights = ["--tcp", &target.address(), "--listen", "*"];
    let fixture = Fixture::wrapped(harness, &rights, &[], &[&prlimit, "--nofile=64:64"])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    works_again(&forward.local(0)?)?;
    let before = fixture.at_rest()?;
    for round in 0..2 {
        let visitors: Vec<_> = (0..120).filter_map(|_| Visitor::connect(&fixture.address()).ok()).collect();
        let mut streams = Vec::new();
        for _ in 0..60 {
            let mut stream = forward.dial()?;
            // The server may have refused the connection already.
            stream.write_all(b"anybody there?").ok();
            streams.push(stream);
        }
        ensure!(visitors.len() + streams.len() > 64, "too few to fill it");
        drop(visitors);
        drop(streams);
        works_again(&forward.local(0)?).with_context(|| format!("round {round}"))?;
    }
    target.is_left_alone()?;
    fixture.expect_again(&before)
}

fn clients_descriptors_that_run_out_come_back(harness: &Harness) -> Result<()> {
    let prlimit = Tool::PRLIMIT.find()?.display().to_string();
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let port = Port::hold()?;
    let reverse = format!("{}:{}", port.number(), target.address());
    let wrapper = [prlimit, "--nofile=64:64".to_owned()];
    let arguments = ["-L", &local(&target), "-R", &reverse];
    let forward =
        Forward::wrapped(harness, fixture.alice(), &fixture.address(), fixture.key(), &arguments, &wrapper)?;
    forward.remote(0)?;
    let here = forward.local(0)?;
    works_again(&here)?;
    for round in 0..2 {
        let mut streams = Vec::new();
        for address in [&here, &port.address()] {
            for _ in 0..80 {
                let mut stream = dial(address)?;
                stream.write_all(b"anybody there?").ok();
                streams.push(stream);
            }
        }
        let mut some = [0; 8];
        streams[0].read_exact(&mut some).with_context(|| format!("the first one, round {round}"))?;
        drop(streams);
        works_again(&here).with_context(|| format!("round {round}"))?;
        works_again(&port.address()).with_context(|| format!("reverse, round {round}"))?;
    }
    target.is_left_alone()
}

/// The server opens proxies for a client, and silent visitors make more connections to them than the server
/// has descriptors.
fn visitors_of_leases_leave_descriptors_for_commands(harness: &Harness) -> Result<()> {
    let prlimit = Tool::PRLIMIT.find()?.display().to_string();
    let rights = ["--listen", "*"];
    let fixture = Fixture::wrapped(harness, &rights, &[], &[&prlimit, "--nofile=1024:1024"])?;
    let forward = fixture.forward(&["-R", "0"].repeat(LEASES))?;
    let addresses = (0..LEASES).map(|index| forward.remote(index)).collect::<Result<Vec<_>>>()?;
    let mut visitors = Vec::new();
    for _ in 0..1_200 / LEASES {
        for address in &addresses {
            visitors.push(dial(address)?);
        }
    }
    let resources = fixture.resources()?;
    ensure!(resources.channels >= u64::try_from(LEASES)?, "{} channels", resources.channels);
    let log = fixture.server()?.process.stderr.text();
    ensure!(!log.contains("cannot accept"), "descriptors have run out:\n{log}");
    Ok(())
}

/// One client has 640 channels open to names whose resolver stays silent for the whole scenario. Other
/// clients must be served promptly meanwhile, also with a full handshake, and with a name that has to be
/// resolved.
fn names_without_an_answer_keep_their_own_client_waiting(harness: &Harness) -> Result<()> {
    let hosts = Hosts::before_a_silent_resolver(harness)?;
    hosts.write("127.0.0.1 known.test\n")?;
    let home = harness.home_with(Key::Server)?;
    let [alice, mallory] = [harness.home_with(Key::Alice)?, harness.home_with(Key::Mallory)?].map(Arc::new);
    for (client, name) in [(&alice, "alice"), (&mallory, "mallory")] {
        let key = harness.fingerprint("client", client)?;
        let rights = ["--tcp", "*:*", "--tcp", "known.test:9", "--tcp", "127.0.0.1:9"];
        let words = [&["allow", &key, "--name", name], &rights[..]].concat();
        harness.server(&home, &words).run()?.expect(Exit::Done)?;
    }
    let address = format!("unix:{}", home.file("listener.sock").display());
    let command = harness.server(&home, &["--listen", &address]).into_command();
    let wrapper: Vec<String> = hosts.wrapper().into_iter().map(str::to_owned).collect();
    let server = Server::from_process(Process::start(wrapped(&wrapper, command))?)?;
    let key = server.key()?;
    let forward = Forward::start(harness, &mallory, &address, key, &["-D", "0"])?;
    let proxy = forward.dynamic(0)?;

    let answered = Arc::new(AtomicUsize::new(0));
    for number in 0..SILENT {
        let (proxy, answered) = (proxy.clone(), Arc::clone(&answered));
        let builder = thread::Builder::new().stack_size(128 * 1024);
        builder.spawn(move || {
            until(DEADLINE, "the listener's queue", || dial(&proxy)).ok();
            socks::connect(&proxy, &format!("name-{number}.test"), 9).ok();
            answered.fetch_add(1, Ordering::SeqCst);
        })?;
    }
    let waiting = || -> Result<_> {
        let resources = Resources::of(harness, Program::Server, &home, &server.process)?;
        Ok((usize::try_from(resources.streams)?, answered.load(Ordering::SeqCst)))
    };
    until(DEADLINE, "each name is asked for or refused", || {
        let (waiting, refused) = waiting()?;
        ensure!(waiting + refused >= SILENT, "{waiting} wait, {refused} were refused");
        Ok(())
    })?;
    for _ in 0..3 {
        std::fs::remove_dir_all(alice.file("tickets")).ok();
        let (arguments, begun) = (["ping", &address, "--json", "--server-key", key], Instant::now());
        let report = harness.client(&alice, &arguments).run()?.expect(Exit::Done)?.text();
        let took = [begun.elapsed()];
        ensure!(report.contains("\"rsa\""), "no whole handshake: {report}");
        let (arguments, begun) =
            (["forward", &address, "-W", "known.test:9", "--server-key", key], Instant::now());
        // The refusal shows that the address was found: no program listens there.
        let outcome = harness.client(&alice, &arguments).run()?.expect(Exit::Refused)?;
        outcome.error_names(&["the target refused the connection"])?;
        let took = [took[0], begun.elapsed()];
        ensure!(took.iter().all(|took| *took < PROMPT), "a handshake and a lookup took {took:?}");
    }
    let (waiting, refused) = waiting()?;
    ensure!(waiting > 0, "nobody waits for a name any more, and {refused} were answered");
    Ok(())
}

/// Anonymous clients get at most half of the channels, whatever their addresses and their number.
fn anonymous_clients_leave_channels_to_those_that_are_allowed(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    let key = harness.fingerprint("client", &alice)?;
    harness.server(&home, &["allow", &key, "--name", "alice"]).run()?.expect(Exit::Done)?;
    let config = home.write("server.toml", "max_channels = 8\n")?.display().to_string();
    let server = Server::start(harness, &home, &["--config", &config, "--anyone"])?;
    let nobody = harness.home()?;
    // Each client has begun a message and sends no more of it.
    let arguments = ["send", server.address(), "-", "--server-key", server.key()?];
    let mut anonymous =
        (0..12).map(|_| harness.client(&nobody, &arguments).start()).collect::<Result<Vec<_>>>()?;
    until(DEADLINE, "anonymous clients take all that they may have", || {
        let channels = Resources::of(harness, Program::Server, &home, &server.process)?.channels;
        ensure!(channels == 4, "{channels} channels");
        let mut ended = 0;
        for client in &mut anonymous {
            ended += usize::from(client.has_ended()?);
        }
        ensure!(ended == 8, "{ended} were refused");
        Ok(())
    })?;
    for _ in 0..3 {
        harness.send(&alice, &server, "there is room")?.expect(Exit::Done)?;
    }
    Ok(())
}

/// Longest time for a handshake or a lookup. It took 7 seconds when 640 lookups shared the threads of the handshakes.
const PROMPT: Duration = Duration::from_secs(3);
const SILENT: usize = 640;
const LEASES: usize = 10;
const CROWD: usize = 2_000;
