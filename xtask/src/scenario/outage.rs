//! Goal: a forward survives an outage of its server: open streams are reset, new ones wait, and all works
//! again afterwards.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::pipe::fcntl_getpipe_size;

use crate::harness::{
    DEADLINE, Done, End, Exchange, Exit, Fixture, Forward, Harness, Hosts, Load, Port, Process, Server, Tap,
    Target, Visitor, dial, echoed, expect_reset, local, read_to_end_of, throughout, until, works_again,
};
use crate::scenario::registration::scenarios;

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

fn server_that_comes_later_is_waited_for(harness: &Harness) -> Result<()> {
    let target = Target::exchange(Exchange::SMALL)?;
    let mut fixture = Fixture::closed(harness, &["--tcp", &target.address(), "--listen", "*"], &[], &[])?;
    let forward = fixture.forward(&["-L", &local(&target), "-R", &local(&target)])?;
    forward.logged(&[&fixture.address()]).context("it does not say that the server is not there")?;
    fixture.start()?;
    forward.connected()?;
    Exchange::SMALL.ask(forward.dial()?)?;
    Exchange::SMALL.ask(dial(&forward.remote(0)?)?)
}

/// The server is killed while streams of known length are open. Each of them arrives whole or is reset.
fn restart_under_load_truncates_nothing(harness: &Harness) -> Result<()> {
    let exchange = Exchange { up: 1_000, down: 3_000_000 };
    let target = Target::exchange(exchange)?;
    let mut fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    echoless(&forward, exchange)?;
    let before = (fixture.at_rest()?, forward.at_rest()?);
    let load = Load::start(&forward.local(0)?, exchange);
    for _ in 0..3 {
        load.until_more(8)?;
        fixture.kill()?;
        fixture.start()?;
    }
    load.until_more(8)?;
    let Done { whole, broken } = load.finish()?;
    ensure!(whole >= 32 && broken >= 1, "{whole} streams arrived and {broken} were cut: no load");
    target.is_left_alone()?;
    fixture.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

fn new_connections_wait_for_the_server(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let mut fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut cut = forward.dial()?;
    echoed(&mut cut, b"before")?;
    fixture.kill()?;
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
    fixture.start()?;
    // A server that was started anew knows nothing of the stream.
    ensure!(read_to_end_of(cut)? == (0, End::Reset), "a stream that was cut looks like one that ended");
    for (number, stream) in waiting.iter_mut().enumerate() {
        let mut back = [0; 12];
        stream.read_exact(&mut back).with_context(|| format!("connection {number}"))?;
        ensure!(back == format!("connection {number}").as_bytes(), "another connection's bytes");
    }
    Ok(())
}

fn wait_is_bounded(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let mut fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["--wait", "2s", "-L", &local(&target)])?;
    echoed(&mut forward.dial()?, b"before")?;
    fixture.kill()?;
    for _ in 0..2 {
        let started = Instant::now();
        expect_reset(&forward.local(0)?)?;
        let waited = started.elapsed();
        ensure!(waited > Duration::from_millis(1_500), "it waited {waited:?}");
        ensure!(waited < Duration::from_secs(10), "it waited {waited:?}");
    }
    fixture.start()?;
    works_again(&forward.local(0)?)
}

fn leases_and_listeners_come_back(harness: &Harness) -> Result<()> {
    let target = Target::exchange(Exchange::SMALL)?;
    let mut fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let [reverse, proxy] = [Port::hold()?, Port::hold()?];
    let spec = format!("{}:{}", reverse.number(), target.address());
    let forward = fixture.forward(&[
        "-L",
        &local(&target),
        "-D",
        "0",
        "-R",
        &spec,
        "-R",
        &proxy.number().to_string(),
    ])?;
    let [here, dynamic] = [forward.local(0)?, forward.dynamic(0)?];
    forward.remote(1)?;
    for round in 0..3 {
        let ask = |address: &str| -> Result<()> {
            until(DEADLINE, "a way through", || Exchange::SMALL.ask(dial(address)?))
                .with_context(|| format!("{address}, round {round}"))
        };
        ask(&here)?;
        ask(&reverse.address())?;
        for proxy in [&dynamic, &proxy.address()] {
            until(DEADLINE, "a proxy", || {
                let (stream, _) = crate::harness::socks::connect(proxy, "127.0.0.1", target.port())?;
                Exchange::SMALL.ask(stream)
            })
            .with_context(|| format!("proxy {proxy}, round {round}"))?;
        }
        fixture.kill()?;
        fixture.start()?;
    }
    let leases = until(DEADLINE, "both leases", || {
        let leases = fixture.resources()?.leases;
        ensure!(leases == 2, "{leases} leases");
        Ok(leases)
    })?;
    ensure!(leases == 2);
    Ok(())
}

fn cut_wire_is_made_up_for(harness: &Harness) -> Result<()> {
    let exchange = Exchange { up: 500_000, down: 700_001 };
    let target = Target::exchange(exchange)?;
    let fixture = Fixture::with_config(harness, &["--tcp", &target.address(), "--listen", "*"], HOLD)?;
    let tap = Tap::unrecorded(&fixture.address())?;
    let port = Port::hold()?;
    let spec = format!("{}:{}", port.number(), target.address());
    let forward = fixture.forward_through(&tap.address(), &["-L", &local(&target), "-R", &spec])?;
    forward.remote(0)?;
    exchange.ask(forward.dial()?)?;
    let before = (fixture.at_rest()?, forward.at_rest()?);
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
    fixture.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

/// The server moves to another address, and its name follows.
fn name_is_resolved_anew(harness: &Harness) -> Result<()> {
    let hosts = Hosts::new(harness)?;
    let target = Target::echo()?;
    let mut fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let port = fixture.address().rsplit(':').next().context("no port")?.to_owned();
    let named = format!("moving.test:{port}");
    hosts.write("127.0.0.1 moving.test\n")?;
    let wrapper: Vec<String> = hosts.wrapper().into_iter().map(str::to_owned).collect();
    let arguments = ["-L", &local(&target)];
    let forward = Forward::wrapped(harness, fixture.alice(), &named, fixture.key(), &arguments, &wrapper)?;
    echoed(&mut forward.dial()?, b"at the first address")?;
    fixture.kill()?;
    let moved = format!("127.0.0.2:{port}");
    let server = Server::start(harness, fixture.home(), &["--listen", &moved])?;
    hosts.write("127.0.0.2 moving.test\n")?;
    works_again(&forward.local(0)?)?;
    drop(server);
    Ok(())
}

/// A server that closes connections at once is asked again only after a pause.
fn attempts_are_spaced_out(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let refusing = Target::serve(|stream| {
        drop(stream);
        Ok(())
    })?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forwards = (0..2)
        .map(|_| fixture.forward_through(&refusing.address(), &["-L", &local(&target)]))
        .collect::<Result<Vec<_>>>()?;
    throughout(Duration::from_secs(5), || Ok(()))?;
    let attempts = refusing.accepted();
    ensure!(attempts >= 4, "{attempts} attempts of two clients in five seconds: it gives up");
    ensure!(attempts <= 60, "{attempts} attempts of two clients in five seconds");
    drop(forwards);
    Ok(())
}

fn killed_client_leaves_nothing_at_the_server(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::with_config(harness, &["--tcp", &target.address(), "--listen", "*"], HOLD)?;
    let before = fixture.at_rest()?;
    for _ in 0..5 {
        let forward = fixture.forward(&["-L", &local(&target), "-R", "0"])?;
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
    fixture.expect_again(&before)
}

/// The server lets go of what nobody comes back for after this long.
const HOLD: &str = "resume = { hold = '3s' }\n";

/// Runs one exchange before the load, so that the costs of a first connection do not look like a leak.
fn echoless(forward: &Forward<'_>, exchange: Exchange) -> Result<()> {
    exchange.ask(forward.dial()?)
}

/// The command is `client forward ... 2>&1 | head -1`, and the server is restarted after that.
fn nobody_has_to_hear_what_a_forward_says(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let mut fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let address = fixture.address();
    let local = local(&target);
    let arguments = ["forward", &address, "--server-key", fixture.key(), "-L", &local];
    let command = harness.client(fixture.alice(), &arguments).into_command();
    let (mut process, heard) = Process::start_then_close_stderr(command, 1)?;
    let listening = heard[0].split_ascii_whitespace().nth(1).context("no address")?.to_owned();
    works_again(&listening)?;
    fixture.kill()?;
    fixture.start()?;
    works_again(&listening)?;
    ensure!(!process.has_ended()?, "it has ended");
    process.signal(rustix::process::Signal::TERM)?;
    process.finish()?.expect(Exit::Done)?;
    Ok(())
}

/// The pipe is full and its reader sleeps, as with `2> >(less)`.
fn log_that_is_not_read_holds_up_no_tunnel(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::closed(harness, &["--tcp", &target.address()], &[], &[])?;
    let address = fixture.address();
    let serve = harness.server(fixture.home(), &["-v", "--listen", &address]).into_command();
    let (server, _, server_log) = Process::start_unread(serve, "listening on")?;
    let local = local(&target);
    let arguments = ["-v", "forward", &address, "--server-key", fixture.key(), "-L", &local];
    let forward = harness.client(fixture.alice(), &arguments).into_command();
    let (client, said, client_log) = Process::start_unread(forward, "local")?;
    let listening = said.lines().rfind(|line| line.starts_with("local"));
    let listening = listening.and_then(|line| line.split_ascii_whitespace().nth(1)).context("no address")?;
    for _ in 0..200 {
        // The server logs each of these connections.
        drop(std::net::TcpStream::connect(&address)?);
        echoed(&mut dial(listening)?, b"carried")?;
    }
    for (process, mut log) in [(client, client_log), (server, server_log)] {
        process.signal(rustix::process::Signal::TERM)?;
        process.finish_within(Duration::from_secs(10))?.expect(Exit::Done)?;
        let mut read = String::new();
        log.read_to_string(&mut read)?;
        // A line is written whole or not at all, so that the log is full once none of its lines has room.
        let longest = read.split_inclusive('\n').map(str::len).max().unwrap_or(0);
        let room = fcntl_getpipe_size(&log)? - read.len();
        ensure!(room < longest, "room for {room} bytes was left in the log: {read:?}");
    }
    Ok(())
}

/// The command is `server 2>&1 | head -1`: log lines about unknown peers must not disturb clients.
fn nobody_has_to_hear_what_a_server_says(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::closed(harness, &["--messages", "--tcp", &target.address()], &[], &[])?;
    let address = fixture.address();
    let mut server = harness.program("server");
    server.arg("--home").arg(fixture.home()).args(["-v", "--listen", &address]);
    let (mut process, _) = Process::start_then_close_stderr(server, 1)?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"before")?;
    for _ in 0..3 {
        let mut stranger = Visitor::connect(&address)?;
        stranger.send(b"GET / HTTP/1.1\r\n\r\n");
        stranger.closed_within(DEADLINE)?;
    }
    echoed(&mut stream, b"behind")?;
    let send = ["send", &address, "heard", "--server-key", fixture.key()];
    harness.client(fixture.alice(), &send).run()?.expect(Exit::Done)?;
    process.stdout.wait_line(DEADLINE, |line| line == "[alice] heard")?;
    ensure!(!process.has_ended()?, "it has ended");
    drop(stream);
    process.signal(rustix::process::Signal::TERM)?;
    process.finish()?.expect(Exit::Done)?;
    Ok(())
}

/// The command is `server | head -1`: a message that cannot be printed is not confirmed, and tunnels go on.
fn output_that_is_closed_ends_messages_alone(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::closed(harness, &["--messages", "--tcp", &target.address()], &[], &[])?;
    let address = fixture.address();
    let mut command = harness.program("server");
    command.arg("--home").arg(fixture.home()).args(["--listen", &address]);
    let (process, output) = Process::start_streamed(command)?;
    let server = Server::from_process(process)?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"before")?;
    drop(output);
    let send = ["send", &address, "into nothing", "--server-key", fixture.key()];
    for _ in 0..2 {
        harness.client(fixture.alice(), &send).run()?.expect_failure()?.error_names(&[])?;
    }
    echoed(&mut stream, b"behind")?;
    works_again(&forward.local(0)?)?;
    drop(stream);
    server.stop()?.expect(Exit::Done)?;
    Ok(())
}

/// The command is `server list | head -0`: a closed output is no error, and nothing is reported.
fn nobody_has_to_read_on_what_a_command_prints(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &[])?;
    for command in [&["list"][..], &["fingerprint"], &["status"], &["status", "--json"]] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut server = harness.server(fixture.home(), command).into_command();
        let output =
            server.stdout(writer).stderr(std::process::Stdio::piped()).spawn()?.wait_with_output()?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{command:?}: {output:?}");
    }
    Ok(())
}
