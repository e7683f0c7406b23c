//! Goal: a forward outlives its server: what was cut is reset, what comes waits, and all is as before when it is back.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::scenario::scenarios;
use crate::scenario::tunnel::{expect_reset, local, works_again};
use crate::stage::{
    Done, End, Exchange, Exit, Forward, Hosts, Load, PATIENCE, Port, Process, Server, Site, Stage, Tap,
    Target, Visitor, dial, echoed, read_to_end_of, throughout, until,
};

scenarios![
    server_that_comes_later_is_waited_for,
    restart_under_load_truncates_nothing,
    new_connections_wait_for_the_server,
    wait_is_bounded,
    leases_and_listeners_come_back,
    cut_wire_is_made_up_for,
    name_is_resolved_anew,
    attempts_are_spaced_out,
    killed_client_leaves_nothing_at_the_server,
    nobody_has_to_hear_what_a_forward_says,
    log_that_is_not_read_holds_up_no_tunnel,
    nobody_has_to_hear_what_a_server_says,
    output_that_is_closed_ends_messages_alone,
    nobody_has_to_read_on_what_a_command_prints,
];

fn server_that_comes_later_is_waited_for(stage: &Stage) -> Result<()> {
    let target = Target::exchange(Exchange::SMALL)?;
    let mut site = Site::closed(stage, &["--tcp", &target.address(), "--listen", "*"], &[], &[])?;
    let forward = site.forward(&["-L", &local(&target), "-R", &local(&target)])?;
    forward.logged(&[&site.address()]).context("it does not say that the server is not there")?;
    site.start()?;
    forward.connected()?;
    Exchange::SMALL.ask(forward.dial()?)?;
    Exchange::SMALL.ask(dial(&forward.remote(0)?)?)
}

/// Streams of known length under way when the server is killed: each arrives whole, or is told to be broken.
fn restart_under_load_truncates_nothing(stage: &Stage) -> Result<()> {
    let exchange = Exchange { up: 1_000, down: 3_000_000 };
    let target = Target::exchange(exchange)?;
    let mut site = Site::open(stage, &["--tcp", &target.address()])?;
    let forward = site.forward(&["-L", &local(&target)])?;
    echoless(&forward, exchange)?;
    let before = (site.at_rest()?, forward.at_rest()?);
    let load = Load::start(&forward.local(0)?, exchange);
    for _ in 0..3 {
        load.until_more(8)?;
        site.kill()?;
        site.start()?;
    }
    load.until_more(8)?;
    let Done { whole, broken } = load.finish()?;
    ensure!(whole >= 32 && broken >= 1, "{whole} streams arrived and {broken} were cut: no load");
    target.is_left_alone()?;
    site.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

fn new_connections_wait_for_the_server(stage: &Stage) -> Result<()> {
    let target = Target::echo()?;
    let mut site = Site::open(stage, &["--tcp", &target.address()])?;
    let forward = site.forward(&["-L", &local(&target)])?;
    let mut cut = forward.dial()?;
    echoed(&mut cut, b"before")?;
    site.kill()?;
    ensure!(read_to_end_of(cut)? == (0, End::Reset), "a stream that was cut looks like one that ended");
    let mut waiting = Vec::new();
    for number in 0..10 {
        let mut stream = forward.dial().context("the port is not open any more")?;
        stream.write_all(format!("connection {number}").as_bytes())?;
        waiting.push(stream);
    }
    throughout(Duration::from_secs(1), || {
        for stream in &mut waiting {
            stream.set_nonblocking(true)?;
            match stream.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => bail!("without a server a connection got {other:?}"),
            }
            stream.set_nonblocking(false)?;
        }
        Ok(())
    })?;
    site.start()?;
    for (number, stream) in waiting.iter_mut().enumerate() {
        let mut back = [0; 12];
        stream.read_exact(&mut back).with_context(|| format!("connection {number}"))?;
        ensure!(back == format!("connection {number}").as_bytes(), "another connection's bytes");
    }
    Ok(())
}

fn wait_is_bounded(stage: &Stage) -> Result<()> {
    let target = Target::echo()?;
    let mut site = Site::open(stage, &["--tcp", &target.address()])?;
    let forward = site.forward(&["--wait", "2s", "-L", &local(&target)])?;
    echoed(&mut forward.dial()?, b"before")?;
    site.kill()?;
    for _ in 0..2 {
        let started = Instant::now();
        expect_reset(&forward.local(0)?)?;
        let waited = started.elapsed();
        ensure!(waited > Duration::from_millis(1_500), "it waited {waited:?}");
        ensure!(waited < Duration::from_secs(10), "it waited {waited:?}");
    }
    site.start()?;
    works_again(&forward.local(0)?)
}

fn leases_and_listeners_come_back(stage: &Stage) -> Result<()> {
    let target = Target::exchange(Exchange::SMALL)?;
    let mut site = Site::open(stage, &["--tcp", &target.address(), "--listen", "*"])?;
    let [reverse, proxy] = [Port::hold()?, Port::hold()?];
    let spec = format!("{}:{}", reverse.number(), target.address());
    let forward =
        site.forward(&["-L", &local(&target), "-D", "0", "-R", &spec, "-R", &proxy.number().to_string()])?;
    let [here, dynamic] = [forward.local(0)?, forward.dynamic(0)?];
    forward.remote(1)?;
    for round in 0..3 {
        let ask = |address: &str| -> Result<()> {
            until(PATIENCE, "a way through", || Exchange::SMALL.ask(dial(address)?))
                .with_context(|| format!("{address}, round {round}"))
        };
        ask(&here)?;
        ask(&reverse.address())?;
        for proxy in [&dynamic, &proxy.address()] {
            until(PATIENCE, "a proxy", || {
                let (stream, _) = crate::stage::socks::connect(proxy, "127.0.0.1", target.port())?;
                Exchange::SMALL.ask(stream)
            })
            .with_context(|| format!("proxy {proxy}, round {round}"))?;
        }
        site.kill()?;
        site.start()?;
    }
    let leases = until(PATIENCE, "both leases", || {
        let leases = site.vitals()?.leases;
        ensure!(leases == 2, "{leases} leases");
        Ok(leases)
    })?;
    ensure!(leases == 2);
    Ok(())
}

fn cut_wire_is_made_up_for(stage: &Stage) -> Result<()> {
    let exchange = Exchange { up: 500_000, down: 700_001 };
    let target = Target::exchange(exchange)?;
    let site = Site::open(stage, &["--tcp", &target.address(), "--listen", "*"])?;
    let tap = Tap::forgetful(&site.address())?;
    let port = Port::hold()?;
    let spec = format!("{}:{}", port.number(), target.address());
    let forward = site.forward_through(&tap.address(), &["-L", &local(&target), "-R", &spec])?;
    forward.remote(0)?;
    exchange.ask(forward.dial()?)?;
    let before = (site.at_rest()?, forward.at_rest()?);
    let up = Load::start(&forward.local(0)?, exchange);
    let back = Load::start(&port.address(), exchange);
    for _ in 0..5 {
        up.until_more(5)?;
        back.until_more(5)?;
        tap.cut();
    }
    up.until_more(5)?;
    back.until_more(5)?;
    up.finish()?;
    back.finish()?;
    target.is_left_alone()?;
    site.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

/// The server moves to another address, and its name with it.
fn name_is_resolved_anew(stage: &Stage) -> Result<()> {
    let hosts = Hosts::new(stage)?;
    let target = Target::echo()?;
    let mut site = Site::open(stage, &["--tcp", &target.address()])?;
    let port = site.address().rsplit(':').next().context("no port")?.to_owned();
    let named = format!("moving.test:{port}");
    hosts.write("127.0.0.1 moving.test\n")?;
    let wrapper: Vec<String> = hosts.wrapper().into_iter().map(str::to_owned).collect();
    let arguments = ["-L", &local(&target)];
    let forward = Forward::wrapped(stage, site.alice(), &named, site.key(), &arguments, &wrapper)?;
    echoed(&mut forward.dial()?, b"at the first address")?;
    site.kill()?;
    let moved = format!("127.0.0.2:{port}");
    let server = Server::start(stage, site.home(), &["--listen", &moved])?;
    hosts.write("127.0.0.2 moving.test\n")?;
    works_again(&forward.local(0)?)?;
    drop(server);
    Ok(())
}

/// A server that hangs up at once is not asked without end.
fn attempts_are_spaced_out(stage: &Stage) -> Result<()> {
    let target = Target::echo()?;
    let refusing = Target::serve(|stream| {
        drop(stream);
        Ok(())
    })?;
    let site = Site::open(stage, &["--tcp", &target.address()])?;
    let forwards = (0..2)
        .map(|_| site.forward_through(&refusing.address(), &["-L", &local(&target)]))
        .collect::<Result<Vec<_>>>()?;
    throughout(Duration::from_secs(5), || Ok(()))?;
    let attempts = refusing.accepted();
    ensure!(attempts >= 4, "{attempts} attempts of two clients in five seconds: it gives up");
    ensure!(attempts <= 60, "{attempts} attempts of two clients in five seconds");
    drop(forwards);
    Ok(())
}

fn killed_client_leaves_nothing_at_the_server(stage: &Stage) -> Result<()> {
    let target = Target::echo()?;
    let site = Site::open(stage, &["--tcp", &target.address(), "--listen", "*"])?;
    let before = site.at_rest()?;
    for _ in 0..5 {
        let forward = site.forward(&["-L", &local(&target), "-R", "0"])?;
        forward.remote(0)?;
        let mut streams = (0..10).map(|_| forward.dial()).collect::<Result<Vec<_>>>()?;
        for stream in &mut streams {
            echoed(stream, b"under load")?;
            stream.write_all(&[0; 10_000])?;
        }
        forward.kill()?;
        for stream in streams {
            let ended = read_to_end_of(stream)?;
            ensure!(ended.1 == End::Reset, "{ended:?} instead of a reset");
        }
    }
    target.is_left_alone()?;
    site.expect_again(&before)
}

/// One exchange before the load, so that what a first connection costs is not taken for a leak.
fn echoless(forward: &Forward<'_>, exchange: Exchange) -> Result<()> {
    exchange.ask(forward.dial()?)
}

/// `client forward ... 2>&1 | head -1`, and then the server goes and comes back.
fn nobody_has_to_hear_what_a_forward_says(stage: &Stage) -> Result<()> {
    let target = Target::echo()?;
    let mut site = Site::open(stage, &["--tcp", &target.address()])?;
    let address = site.address();
    let local = local(&target);
    let arguments = ["forward", &address, "--server-key", site.key(), "-L", &local];
    let command = stage.client(site.alice(), &arguments).into_command();
    let (mut process, heard) = Process::start_unheard(command, 1)?;
    let listening = heard[0].split_ascii_whitespace().nth(1).context("no address")?.to_owned();
    works_again(&listening)?;
    site.kill()?;
    site.start()?;
    works_again(&listening)?;
    ensure!(!process.has_ended()?, "it has ended");
    process.signal(rustix::process::Signal::TERM)?;
    process.finish()?.expect(Exit::Done)?;
    Ok(())
}

/// As with `2> >(less)`: the pipe is full, and whoever reads it sleeps.
fn log_that_is_not_read_holds_up_no_tunnel(stage: &Stage) -> Result<()> {
    let target = Target::echo()?;
    let site = Site::closed(stage, &["--tcp", &target.address()], &[], &[])?;
    let address = site.address();
    let serve = stage.server(site.home(), &["-v", "--listen", &address]).into_command();
    let (server, _, server_log) = Process::start_unread(serve, "listening on")?;
    let local = local(&target);
    let arguments = ["-v", "forward", &address, "--server-key", site.key(), "-L", &local];
    let forward = stage.client(site.alice(), &arguments).into_command();
    let (client, said, client_log) = Process::start_unread(forward, "local")?;
    let listening = said.lines().last().and_then(|line| line.split_ascii_whitespace().nth(1));
    let listening = listening.context("no address")?;
    for _ in 0..200 {
        // The server has a line for each.
        drop(std::net::TcpStream::connect(&address)?);
        echoed(&mut dial(listening)?, b"carried")?;
    }
    for (process, mut log) in [(client, client_log), (server, server_log)] {
        process.signal(rustix::process::Signal::TERM)?;
        process.finish_within(Duration::from_secs(10))?.expect(Exit::Done)?;
        let mut read = String::new();
        log.read_to_string(&mut read)?;
        ensure!(read.len() >= 4000, "the log was not full: {read:?}");
    }
    Ok(())
}

/// `server 2>&1 | head -1`: what a stranger has it say changes nothing for whoever is in.
fn nobody_has_to_hear_what_a_server_says(stage: &Stage) -> Result<()> {
    let target = Target::echo()?;
    let site = Site::closed(stage, &["--messages", "--tcp", &target.address()], &[], &[])?;
    let address = site.address();
    let mut server = stage.program("server");
    server.arg("--home").arg(site.home()).args(["-v", "--listen", &address]);
    let (mut process, _) = Process::start_unheard(server, 1)?;
    let forward = site.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"before")?;
    for _ in 0..3 {
        let mut stranger = Visitor::connect(&address)?;
        stranger.send(b"GET / HTTP/1.1\r\n\r\n");
        stranger.closed_within(PATIENCE)?;
    }
    echoed(&mut stream, b"behind")?;
    let send = ["send", &address, "heard", "--server-key", site.key()];
    stage.client(site.alice(), &send).run()?.expect(Exit::Done)?;
    process.stdout.wait_line(PATIENCE, |line| line == "[alice] heard")?;
    ensure!(!process.has_ended()?, "it has ended");
    drop(stream);
    process.signal(rustix::process::Signal::TERM)?;
    process.finish()?.expect(Exit::Done)?;
    Ok(())
}

/// `server | head -1`: the message that nobody takes is not confirmed, and tunnels have nothing to do with it.
fn output_that_is_closed_ends_messages_alone(stage: &Stage) -> Result<()> {
    let target = Target::echo()?;
    let site = Site::closed(stage, &["--messages", "--tcp", &target.address()], &[], &[])?;
    let address = site.address();
    let mut command = stage.program("server");
    command.arg("--home").arg(site.home()).args(["--listen", &address]);
    let (process, output) = Process::start_streamed(command)?;
    let server = Server::from_process(process)?;
    let forward = site.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"before")?;
    drop(output);
    let send = ["send", &address, "into nothing", "--server-key", site.key()];
    for _ in 0..2 {
        stage.client(site.alice(), &send).run()?.expect_failure()?.error_names(&[])?;
    }
    echoed(&mut stream, b"behind")?;
    works_again(&forward.local(0)?)?;
    drop(stream);
    server.stop()?.expect(Exit::Done)?;
    Ok(())
}

/// `server list | head -0`: whoever has read enough is no fault, and nothing is said about it.
fn nobody_has_to_read_on_what_a_command_prints(stage: &Stage) -> Result<()> {
    let site = Site::open(stage, &[])?;
    for command in [&["list"][..], &["fingerprint"], &["status"], &["status", "--json"]] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut server = stage.server(site.home(), command).into_command();
        let output =
            server.stdout(writer).stderr(std::process::Stdio::piped()).spawn()?.wait_with_output()?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{command:?}: {output:?}");
    }
    Ok(())
}
