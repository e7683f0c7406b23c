//! Goal: a server listens for a client, which keeps the address exclusively and gets it back at once after an
//! interruption.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::harness::socks::{self, Reply};
use crate::harness::{
    Balancer, DEADLINE, Datagrams, Exchange, Exit, Fixture, Forward, Harness, Port, Server, Tap, Target,
    datagram_echoed, datagrams_to, dial, echoed, expect_reset, local, until, works_again,
};
use crate::scenario::registration::scenarios;

scenarios![
    connections_to_the_server_reach_the_clients_target,
    server_listens_where_it_was_told_and_nowhere_else,
    forwards_are_announced_in_the_order_of_the_command_line,
    unix_socket_at_the_server,
    datagrams_to_the_server_reach_the_clients_target,
    without_a_target_it_is_a_proxy_out_through_the_client,
    client_that_comes_back_takes_its_lease_over,
    one_address_twice_in_one_command_is_refused,
    program_that_loses_its_address_to_another_one_stops,
    program_that_loses_one_address_keeps_its_other_forwards,
    several_servers_behind_one_address_are_told_and_served,
    another_clients_claim_is_refused,
    lease_that_somebody_else_has_for_a_while_is_asked_for_again,
    associations_leave_the_proxy_open_to_others,
    visitors_do_not_wait_for_ever,
    lease_ends_with_its_client,
    listening_needs_a_right,
    target_that_refuses_resets_the_connection,
    parked_channels_grow_with_the_load,
];

fn connections_to_the_server_reach_the_clients_target(harness: &Harness) -> Result<()> {
    let exchange = Exchange { up: 8_000_000, down: 6_000_001 };
    let target = Target::exchange(exchange)?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let forward = fixture.forward(&["-R", &local(&target)])?;
    let address = forward.remote(0)?;
    let before = (fixture.at_rest()?, forward.at_rest()?);
    let talkers: Vec<_> = (0..6)
        .map(|_| {
            let address = address.clone();
            thread::spawn(move || exchange.ask(dial(&address)?))
        })
        .collect();
    for talker in talkers {
        talker.join().map_err(|_| anyhow!("a talker panicked"))??;
    }
    target.is_left_alone()?;
    fixture.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

fn server_listens_where_it_was_told_and_nowhere_else(harness: &Harness) -> Result<()> {
    let target = Target::exchange(Exchange::SMALL)?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let port = Port::hold()?;
    let [told, chosen] = [port.number(), 0].map(|port| format!("{port}:{}", target.address()));
    let forward = fixture.forward(&["-R", &told, "-R", &chosen])?;
    let lines = [forward.remote(0)?, forward.remote(1)?];
    ensure!(lines.contains(&port.address()), "{lines:?} instead of {}", port.address());
    for address in lines {
        let port = address.strip_prefix("127.0.0.1:").context("no bind address means loopback")?;
        ensure!(port.parse::<u16>()? != 0, "the port that was chosen is not printed");
        Exchange::SMALL.ask(dial(&address)?)?;
        // The port is still free at another address of this machine.
        ensure!(TcpListener::bind(format!("127.0.0.2:{port}")).is_ok(), "it listens on all addresses");
    }
    Ok(())
}

fn forwards_are_announced_in_the_order_of_the_command_line(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let forwards: Vec<String> = (1..=12).map(|port| format!("0:127.0.0.1:{port}")).collect();
    let arguments: Vec<&str> = forwards.iter().flat_map(|forward| ["-R", forward.as_str()]).collect();
    let forward = fixture.forward(&arguments)?;
    forward.remote(11)?;
    let said = forward.process.stderr.text();
    let targets: Vec<&str> =
        said.lines().filter_map(|line| line.split_once("-> ")).map(|(_, to)| to).collect();
    let expected: Vec<&str> = forwards.iter().filter_map(|forward| forward.strip_prefix("0:")).collect();
    ensure!(targets == expected, "announced were {targets:?}");
    Ok(())
}

fn unix_socket_at_the_server(harness: &Harness) -> Result<()> {
    let target = Target::exchange(Exchange::SMALL)?;
    let place = harness.home()?;
    let path = place.file("reverse.sock").display().to_string();
    let fixture = Fixture::open(harness, &["--listen", &format!("unix:{path}")])?;
    let forward = fixture.forward(&["-R", &format!("{path}:{}", target.address())])?;
    forward.remote(0)?;
    let connection = UnixStream::connect(&path)?;
    connection.set_read_timeout(Some(DEADLINE))?;
    Exchange::SMALL.ask(connection)?;
    forward.stop()?.expect(Exit::Done)?;
    until(DEADLINE, "the socket goes with its lease", || {
        ensure!(!place.file("reverse.sock").exists(), "the socket is still there");
        Ok(())
    })
}

fn datagrams_to_the_server_reach_the_clients_target(harness: &Harness) -> Result<()> {
    let target = Datagrams::echo()?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let forward = fixture.forward(&["-R", &format!("0:{}/udp", target.address())])?;
    let address = forward.remote(0)?;
    let sockets = (0..5).map(|_| datagrams_to(&address)).collect::<Result<Vec<_>>>()?;
    for round in 0..10 {
        for (number, socket) in sockets.iter().enumerate() {
            datagram_echoed(socket, format!("from {number}, round {round}").as_bytes())?;
        }
    }
    ensure!(target.sources() == 5, "{} flows came out of 5", target.sources());
    Ok(())
}

fn without_a_target_it_is_a_proxy_out_through_the_client(harness: &Harness) -> Result<()> {
    let target = Target::exchange(Exchange::SMALL)?;
    let datagrams = Datagrams::echo()?;
    // The rights at the server do not limit where the client connects to.
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let forward = fixture.forward(&["-R", "0"])?;
    forward.logged(&["remote", "-> socks"])?;
    let proxy = forward.remote(0)?;
    for _ in 0..5 {
        let (stream, reply) = socks::connect(&proxy, "127.0.0.1", target.port())?;
        ensure!(reply == Reply::Succeeded, "{reply:?}");
        Exchange::SMALL.ask(stream)?;
    }
    let (stream, reply) = socks::connect(&proxy, "localhost", target.port())?;
    ensure!(reply == Reply::Succeeded, "by name: {reply:?}");
    Exchange::SMALL.ask(stream)?;
    let (stream, code) = socks::connect4(&proxy, "localhost", target.port())?;
    ensure!(code == 90, "SOCKS4: {code}");
    Exchange::SMALL.ask(stream)?;
    let (stream, status) = socks::connect_http(&proxy, &target.address())?;
    ensure!(status.starts_with("HTTP/1.1 200 "), "{status}");
    Exchange::SMALL.ask(stream)?;
    let nobody = Port::hold()?;
    let (_, reply) = socks::connect(&proxy, "127.0.0.1", nobody.number())?;
    ensure!(reply == Reply::ConnectionRefused, "nobody listens, and the proxy says {reply:?}");
    let said = socks::answer_to(&proxy, format!("CONNECT {} HTTP/1.1\r\n\r\n", nobody.address()).as_bytes())?;
    ensure!(said.starts_with(b"HTTP/1.1 502 "), "nobody listens, and the proxy says {said:02x?}");
    let association = socks::Association::open(&proxy)?;
    association.send("127.0.0.1", datagrams.port(), b"a datagram")?;
    ensure!(association.receive()? == b"a datagram", "another datagram came back");
    Ok(())
}

/// The server has not yet noticed that the first connection is dead when the client connects again.
fn client_that_comes_back_takes_its_lease_over(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let tap = Tap::before(&fixture.address())?;
    let port = Port::hold()?;
    let spec = format!("{}:{}", port.number(), target.address());
    let first = fixture.forward_through(&tap.address(), &["-R", &spec])?;
    first.remote(0)?;
    echoed(&mut dial(&port.address())?, b"the first")?;
    tap.stall();
    let second = fixture.forward(&["-R", &spec])?;
    second.remote(0).context("the lease was not taken over")?;
    works_again(&port.address())?;
    first.kill()?;
    works_again(&port.address())?;
    let leases = fixture.resources()?.leases;
    ensure!(leases == 1, "{leases} leases for one address");
    Ok(())
}

fn one_address_twice_in_one_command_is_refused(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let port = Port::hold()?;
    let [first, second] = [1, 2].map(|target| format!("{}:127.0.0.1:{target}", port.number()));
    let outcome = fixture.forward_to_the_end(fixture.alice(), &["-R", &first, "-R", &second])?;
    outcome.expect(Exit::Usage)?.error_names(&[&second, "another one"])?;
    Ok(())
}

/// The two programs do not take the address from each other repeatedly, and connections that are open go on.
fn program_that_loses_its_address_to_another_one_stops(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let port = Port::hold()?;
    let spec = format!("{}:{}", port.number(), target.address());
    let first = fixture.forward(&["-R", &spec])?;
    first.remote(0)?;
    let mut visitor = dial(&port.address())?;
    echoed(&mut visitor, b"before")?;
    let second = fixture.forward(&["-R", &spec])?;
    second.remote(0)?;
    first.logged(&["another program", "connections that are open"])?;
    echoed(&mut visitor, b"behind")?;
    drop(visitor);
    let outcome = first.finish_within(DEADLINE)?.expect(Exit::Refused)?;
    outcome.error_names(&[&port.address(), "another program"])?;
    works_again(&port.address())?;
    second.stop()?.expect(Exit::Done)?;
    Ok(())
}

fn program_that_loses_one_address_keeps_its_other_forwards(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--listen", "*", "--tcp", &target.address()])?;
    let port = Port::hold()?;
    let spec = format!("{}:{}", port.number(), target.address());
    let first = fixture.forward(&["-R", &spec, "-R", &local(&target), "-L", &local(&target)])?;
    let kept = [first.remote(1)?, first.local(0)?];
    let second = fixture.forward(&["-R", &spec])?;
    second.remote(0)?;
    first.logged(&["the others go on", &port.address()])?;
    kept.iter().try_for_each(|address| works_again(address))?;
    second.stop()?.expect(Exit::Done)?;
    first.stop()?.expect(Exit::Done)?;
    Ok(())
}

/// Half of the channels that the client parks reach the server that does not listen for it. The client
/// connects again, but only a few times.
fn several_servers_behind_one_address_are_told_and_served(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let other = Server::start(harness, fixture.home(), &[])?;
    let balancer = Balancer::before(&[&fixture.address(), other.address()])?;
    let forward = fixture.forward_through(&balancer.address(), &["-R", &local(&target)])?;
    let address = forward.remote(0)?;
    forward.logged(&["several servers", "balance source"])?;
    works_again(&address)?;
    let said = forward.process.stderr.text();
    ensure!(said.matches("several servers").count() == 1, "it says so again and again:\n{said}");
    ensure!(!said.contains("asking again"), "it has given its lease up:\n{said}");
    let accepted = balancer.accepted();
    ensure!(accepted < 24, "the client has connected {accepted} times");
    Ok(())
}

fn another_clients_claim_is_refused(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let mallory = fixture.mallory(&["--listen", "*"])?;
    let port = Port::hold()?;
    let spec = format!("{}:{}", port.number(), target.address());
    let forward = fixture.forward(&["-R", &spec])?;
    forward.remote(0)?;
    let mut stream = dial(&port.address())?;
    echoed(&mut stream, b"alice's")?;
    for _ in 0..3 {
        let claim = fixture.forward_to_the_end(&mallory, &["-R", &spec])?;
        claim.expect(Exit::Refused)?.error_names(&[&port.number().to_string()])?;
    }
    echoed(&mut stream, b"still alice's")?;
    drop(stream);
    forward.stop()?.expect(Exit::Done)?;
    let address = fixture.address();
    let heir = Forward::start(harness, &mallory, &address, fixture.key(), &["-R", &spec])?;
    heir.remote(0).context("an address that its holder has left")?;
    Ok(())
}

fn lease_that_somebody_else_has_for_a_while_is_asked_for_again(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let mut fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let forward = fixture.forward(&["-L", &local(&target), "-R", &local(&target)])?;
    let address = forward.remote(0)?;
    works_again(&address)?;
    fixture.kill()?;
    let squatter = TcpListener::bind(&address)?;
    fixture.start()?;
    works_again(&forward.local(0)?).context("the other forward goes on")?;
    forward.logged(&["the server does not listen", &address])?;
    drop(squatter);
    works_again(&address)
}

fn associations_leave_the_proxy_open_to_others(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let forward = fixture.forward(&["-R", "0"])?;
    let proxy = forward.remote(0)?;
    let mut associations = Vec::new();
    while let Ok(association) = socks::Association::open(&proxy) {
        associations.push(association);
        ensure!(associations.len() < 1_000, "there is no limit");
    }
    let (mut stream, reply) = socks::connect(&proxy, "127.0.0.1", target.port())?;
    ensure!(reply == Reply::Succeeded, "with {} associations: {reply:?}", associations.len());
    echoed(&mut stream, b"there is room")
}

/// The client may have so few channels that none is left to park.
fn visitors_do_not_wait_for_ever(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--listen", "*", "--max-channels", "4"])?;
    let forward = fixture.forward(&["-R", &local(&target)])?;
    let address = forward.remote(0)?;
    let mut visitors = (0..8).map(|_| dial(&address)).collect::<Result<Vec<_>>>()?;
    let mut served = 0;
    for visitor in &mut visitors {
        visitor.write_all(b"anybody there?")?;
    }
    for visitor in &mut visitors {
        // Each visitor expects all its bytes in one read that is repeated after interruptions, so that a
        // suspended machine does not fail the scenario.
        match visitor.read_exact(&mut [0; 14]) {
            Ok(()) => served += 1,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => anyhow::bail!("a visitor still waits: {error}"),
        }
    }
    ensure!((1..8).contains(&served), "{served} of 8 were served by fewer channels");
    // Within half a minute, waiting visitors cause few requests for channels.
    let asked = fixture.server()?.process.stderr.text().matches("turned away").count();
    ensure!(asked < 60, "the client asked {asked} times for a channel that it may not have");
    Ok(())
}

/// What comes in may outlive a client that is killed, for as long as the server holds it.
fn lease_ends_with_its_client(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::with_config(harness, &["--listen", "*"], "resume = { hold = '3s' }\n")?;
    let before = fixture.at_rest()?;
    let port = Port::hold()?;
    let spec = format!("{}:{}", port.number(), target.address());
    for killed in [false, true] {
        let forward = fixture.forward(&["-R", &spec])?;
        forward.remote(0)?;
        echoed(&mut dial(&port.address())?, b"there")?;
        if killed {
            forward.kill()?;
        } else {
            forward.stop()?.expect(Exit::Done)?;
        }
        until(DEADLINE, "nobody listens any more", || {
            TcpListener::bind(port.address()).map(drop).context("the port is still taken")
        })?;
    }
    fixture.expect_again(&before)
}

fn listening_needs_a_right(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let [own, other] = [Port::hold()?, Port::hold()?];
    let place = harness.home()?;
    let path = place.file("no.sock").display().to_string();
    let fixture = Fixture::open(harness, &["--listen", &own.number().to_string(), "--tcp", "127.0.0.1:*"])?;
    for listen in [
        other.number().to_string(),
        "0".to_owned(),
        "22".to_owned(),
        format!("0.0.0.0:{}", own.number()),
        format!("*:{}", own.number()),
        path,
    ] {
        let outcome = fixture
            .forward_to_the_end(fixture.alice(), &["-R", &format!("{listen}:{}", target.address())])?;
        outcome.expect(Exit::Refused).with_context(|| listen.clone())?.error_names(&[])?;
    }
    let forward = fixture.forward(&["-R", &format!("{}:{}", own.number(), target.address())])?;
    forward.remote(0)?;
    echoed(&mut dial(&own.address())?, b"a right is a right")
}

fn target_that_refuses_resets_the_connection(harness: &Harness) -> Result<()> {
    let nobody = Port::hold()?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let forward = fixture.forward(&["-R", &format!("0:{}", nobody.address())])?;
    let address = forward.remote(0)?;
    (0..10).try_for_each(|_| expect_reset(&address))?;
    let target = Target::serve_at(&nobody.address(), crate::harness::echo)?;
    works_again(&address)?;
    target.is_left_alone()
}

/// More connections come at once than a client parks channels in advance, and all of them are served.
fn parked_channels_grow_with_the_load(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let forward = fixture.forward(&["-R", &local(&target)])?;
    let address = forward.remote(0)?;
    let mut streams = Vec::new();
    for _ in 0..60 {
        let mut stream = dial(&address)?;
        echoed(&mut stream, b"one more")?;
        streams.push(stream);
    }
    streams.iter_mut().try_for_each(|stream| echoed(stream, b"and still there"))
}
