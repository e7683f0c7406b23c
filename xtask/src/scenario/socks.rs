//! Goal: applications reach targets through a local proxy, and the server resolves the targets' names.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::harness::socks::{self, Association, Reply};
use crate::harness::{
    DEADLINE, Datagrams, Exchange, Fixture, Harness, Hosts, Port, Target, dial, echoed, until,
};
use crate::scenario::registration::scenarios;

scenarios![
    connections_by_name_and_by_address,
    names_are_resolved_at_the_server,
    what_went_wrong_is_told,
    clients_of_socks4_and_http_connect,
    what_went_wrong_is_told_to_them_and_not_reset,
    datagrams_go_to_many_targets,
    association_ends_with_its_connection,
    other_words_are_refused,
    client_that_says_nothing_is_closed,
];

fn connections_by_name_and_by_address(harness: &Harness) -> Result<()> {
    let exchange = Exchange { up: 5_000_000, down: 4_000_001 };
    let target = Target::exchange(exchange)?;
    let port = target.port();
    let fixture =
        Fixture::open(harness, &["--tcp", &target.address(), "--tcp", &format!("localhost:{port}")])?;
    let forward = fixture.forward(&["-D", "0"])?;
    let proxy = forward.dynamic(0)?;
    for host in ["127.0.0.1", "localhost", "LOCALHOST"] {
        let (stream, reply) = socks::connect(&proxy, host, port)?;
        ensure!(reply == Reply::Succeeded, "{host}: {reply:?}");
        exchange.ask(stream).with_context(|| host.to_owned())?;
    }
    if TcpListener::bind("[::1]:0").is_ok() {
        let target = Target::serve_at("[::1]:0", move |stream| exchange.answer(stream))?;
        fixture.allow(&["--tcp", &target.address()])?;
        let (stream, reply) = socks::connect(&proxy, "::1", target.port())?;
        ensure!(reply == Reply::Succeeded, "::1: {reply:?}");
        exchange.ask(stream)?;
    }
    Ok(())
}

/// The name is in a hosts file that only the server sees.
fn names_are_resolved_at_the_server(harness: &Harness) -> Result<()> {
    let target = Target::exchange(Exchange::SMALL)?;
    let hosts = Hosts::new(harness)?;
    hosts.write("127.0.0.1 only-at-the-server.test\n")?;
    let rights = ["--tcp", &target.address()];
    let named = format!("only-at-the-server.test:{}", target.port());
    let rights = [&rights[..], &["--tcp", &named]].concat();
    let fixture = Fixture::wrapped(harness, &rights, &[], &hosts.wrapper())?;
    let forward = fixture.forward(&["-D", "0", "-L", &format!("0:{named}")])?;
    let (stream, reply) = socks::connect(&forward.dynamic(0)?, "only-at-the-server.test", target.port())?;
    ensure!(reply == Reply::Succeeded, "{reply:?}");
    Exchange::SMALL.ask(stream)?;
    Exchange::SMALL.ask(forward.dial()?)
}

fn what_went_wrong_is_told(harness: &Harness) -> Result<()> {
    let [nobody, closed] = [Port::hold()?, Port::hold()?];
    let rights = ["--tcp", &nobody.address(), "--tcp", "*.invalid:80"];
    let fixture = Fixture::open(harness, &rights)?;
    let forward = fixture.forward(&["-D", "0"])?;
    let proxy = forward.dynamic(0)?;
    for (host, port, expected) in [
        ("127.0.0.1", nobody.number(), Reply::ConnectionRefused),
        ("127.0.0.1", closed.number(), Reply::NotAllowed),
        ("10.0.0.1", 80, Reply::NotAllowed),
        ("example.org", 443, Reply::NotAllowed),
        ("no-such-host.invalid", 80, Reply::HostUnreachable),
    ] {
        let (mut stream, reply) = socks::connect(&proxy, host, port)?;
        ensure!(reply == expected, "{host}:{port}: {reply:?}, expected {expected:?}");
        ensure!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "{host}:{port}: the proxy goes on");
    }
    for command in [2, 0, 9, 255] {
        let reply = socks::command(&proxy, command, "127.0.0.1", nobody.number())?;
        ensure!(reply == Reply::CommandNotSupported, "command {command}: {reply:?}");
    }
    Ok(())
}

fn clients_of_socks4_and_http_connect(harness: &Harness) -> Result<()> {
    let target = Target::exchange(Exchange::SMALL)?;
    let port = target.port();
    let fixture =
        Fixture::open(harness, &["--tcp", &target.address(), "--tcp", &format!("localhost:{port}")])?;
    let forward = fixture.forward(&["-D", "0"])?;
    let proxy = forward.dynamic(0)?;
    for host in ["127.0.0.1", "localhost", "[127.0.0.1]"] {
        let (stream, code) = socks::connect4(&proxy, host, port)?;
        ensure!(code == 90, "SOCKS4 to {host}: {code}");
        Exchange::SMALL.ask(stream)?;
        let (stream, status) = socks::connect_http(&proxy, &format!("{host}:{port}"))?;
        ensure!(status.starts_with("HTTP/1.1 200 "), "HTTP to {host}: {status}");
        Exchange::SMALL.ask(stream)?;
    }
    let (stream, reply) = socks::connect_by_name(&proxy, "[127.0.0.1]", port)?;
    ensure!(reply == Reply::Succeeded, "SOCKS5 to a name in brackets: {reply:?}");
    Exchange::SMALL.ask(stream)
}

fn what_went_wrong_is_told_to_them_and_not_reset(harness: &Harness) -> Result<()> {
    let [nobody, closed] = [Port::hold()?, Port::hold()?];
    let fixture = Fixture::open(harness, &["--tcp", &nobody.address(), "--tcp", "*.invalid:80"])?;
    let forward = fixture.forward(&["-D", "0"])?;
    let proxy = forward.dynamic(0)?;
    for (target, status) in [
        (nobody.address(), "502 Bad Gateway"),
        (closed.address(), "403 Forbidden"),
        ("no-such-host.invalid:80".to_owned(), "502 Bad Gateway"),
        ("no-port".to_owned(), "400 Bad Request"),
    ] {
        let said = socks::answer_to(&proxy, format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes())?;
        let said = String::from_utf8(said)?;
        ensure!(said.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{target}: {said}");
    }
    let said = socks::answer_to(&proxy, b"GET http://example.org/ HTTP/1.1\r\n\r\n")?;
    ensure!(said.starts_with(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\n"), "{said:02x?}");
    for port in [nobody.number(), closed.number()] {
        let socks4 = [&b"\x04\x01"[..], &port.to_be_bytes(), b"\x7f\0\0\x01\0"].concat();
        let said = socks::answer_to(&proxy, &socks4)?;
        ensure!(said == [0, 91, 0, 0, 0, 0, 0, 0], "SOCKS4: {said:02x?}");
        let socks5 = [&b"\x05\x01\0\x05\x01\0\x01\x7f\0\0\x01"[..], &port.to_be_bytes()].concat();
        let said = socks::answer_to(&proxy, &socks5)?;
        ensure!(said.len() == 12 && said.starts_with(&[5, 0, 5]), "SOCKS5: {said:02x?}");
    }
    Ok(())
}

fn datagrams_go_to_many_targets(harness: &Harness) -> Result<()> {
    let targets = (0..4).map(|_| Datagrams::echo()).collect::<Result<Vec<_>>>()?;
    let closed = Datagrams::echo()?;
    let addresses: Vec<String> = targets.iter().map(Datagrams::address).collect();
    let mut rights: Vec<&str> = addresses.iter().flat_map(|address| ["--udp", address.as_str()]).collect();
    let by_name = format!("localhost:{}", targets[0].port());
    rights.extend(["--udp", &by_name]);
    let fixture = Fixture::open(harness, &rights)?;
    let forward = fixture.forward(&["-D", "0"])?;
    let association = Association::open(&forward.dynamic(0)?)?;
    for (number, target) in targets.iter().enumerate() {
        let text = format!("to target {number}");
        association.send("127.0.0.1", target.port(), text.as_bytes())?;
        ensure!(association.receive()? == text.as_bytes(), "another datagram came back");
        ensure!(target.received() == 1, "target {number} got {}", target.received());
    }
    association.send("localhost", targets[0].port(), b"by name")?;
    ensure!(association.receive()? == b"by name", "another datagram came back");
    // Datagrams without a right and invalid ones are dropped, and the next valid one passes.
    association.send("127.0.0.1", closed.port(), b"no right")?;
    for broken in [
        &b""[..],
        b"\0",
        b"\0\0\0",
        b"\0\0\0\x03\xff",
        b"\0\0\x01\x01\x7f\0\0\x01\0\x50!",
        b"\0\0\0\x07xxxxxx",
    ] {
        association.socket().send(broken)?;
    }
    association.send("127.0.0.1", targets[1].port(), b"after")?;
    ensure!(association.receive()? == b"after", "another datagram came back");
    ensure!(closed.received() == 0, "a datagram reached a target without a right");
    Ok(())
}

fn association_ends_with_its_connection(harness: &Harness) -> Result<()> {
    let target = Datagrams::echo()?;
    let fixture = Fixture::open(harness, &["--udp", &target.address()])?;
    let forward = fixture.forward(&["-D", "0", "--udp-timeout", "600s"])?;
    let proxy = forward.dynamic(0)?;
    let before = (fixture.at_rest()?, forward.at_rest()?);
    for _ in 0..20 {
        let association = Association::open(&proxy)?;
        association.send("127.0.0.1", target.port(), b"here")?;
        ensure!(association.receive()? == b"here", "another datagram came back");
    }
    forward.expect_again(&before.1)?;
    fixture.expect_again(&before.0)
}

fn other_words_are_refused(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-D", "0"])?;
    let proxy = forward.dynamic(0)?;
    let socks4_bind = [&b"\x04\x02"[..], &target.port().to_be_bytes(), b"\x7f\0\0\x01\0"].concat();
    for words in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        &socks4_bind,
        b"\x05\x01\x02",
        b"\x05\0",
        b"\x05\x01\0\x05\x01\0\x03\0\0\x50",
        b"\x05\x01\0\x05\x01\0\x09\x7f\0\0\x01\0\x50",
        b"\x05\x01\0\x05\x01\0\x03\x03\xff\xfe\xfd\0\x50",
    ] {
        let mut stream = dial(&proxy)?;
        stream.write_all(words)?;
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut said = Vec::new();
        // The proxy may end with a reset, since it has not read everything.
        stream.read_to_end(&mut said).ok();
        // A browser gets an answer in words, which is longer.
        ensure!(
            said.len() <= if words[0] == b'G' { 256 } else { 64 },
            "{} bytes in answer to {words:02x?}",
            said.len()
        );
    }
    ensure!(target.accepted() == 0, "a target was reached by other words");
    let (mut stream, reply) = socks::connect(&proxy, "127.0.0.1", target.port())?;
    ensure!(reply == Reply::Succeeded, "{reply:?}");
    echoed(&mut stream, b"still a proxy")
}

/// A byte now and then gives a client no more time than silence does.
fn client_that_says_nothing_is_closed(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &["--tcp", "127.0.0.1:*"])?;
    let forward = fixture.forward(&["-D", "0"])?;
    let proxy = forward.dynamic(0)?;
    let before = forward.at_rest()?;
    let silent: Vec<_> = (0..30).map(|_| dial(&proxy)).collect::<Result<_>>()?;
    let mut slow = dial(&proxy)?;
    slow.set_read_timeout(Some(Duration::from_millis(300)))?;
    slow.write_all(b"\x05\xff")?;
    until(DEADLINE, "a slow client is closed", || {
        let hung_up = slow.write_all(b"\x01").is_err() || matches!(slow.read(&mut [0]), Ok(0));
        ensure!(hung_up, "it is still there");
        Ok(())
    })?;
    for mut stream in silent {
        ensure!(matches!(stream.read(&mut [0]), Ok(0)), "a silent client is still there");
    }
    forward.expect_again(&before)
}
