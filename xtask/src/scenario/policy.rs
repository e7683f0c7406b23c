//! Goal: through a proxy, a client reaches exactly the targets that it has a right to, by whatever names it
//! asks for them.

use std::net::{Ipv6Addr, TcpListener, UdpSocket};

use anyhow::{Context as _, Result, ensure};

use crate::harness::socks::{self, Reply};
use crate::harness::{Fixture, Harness, Hosts, Target, echo, echoed};
use crate::scenario::registration::scenarios;

scenarios![only_what_is_allowed_is_reached, any_host_is_no_special_host, names_that_lead_inside_are_refused,];

/// The expected result of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// The request succeeds, and the target answers.
    Reaches,
    /// The proxy answers that the request is not allowed.
    Denied,
    /// The request fails in any way, for a host that does not exist or is not allowed.
    Nowhere,
}

use Outcome::{Denied, Nowhere, Reaches};

fn only_what_is_allowed_is_reached(harness: &Harness) -> Result<()> {
    let [open, by_name, shut] = [Target::echo()?, Target::echo()?, Target::echo()?];
    let range = row("127.0.0.4", 0..4)?;
    let [below, first, last, above] = [0, 1, 2, 3].map(|index| range[index].port());
    let network = column(&["127.0.3.1", "127.0.3.255", "127.0.2.255", "127.0.4.1"])?;
    let network_port = network[0].port();
    let fixture = Fixture::open(
        harness,
        &[
            "--tcp",
            &open.address(),
            "--tcp",
            &format!("localhost:{}", by_name.port()),
            "--tcp",
            &format!("127.0.0.4:{first}-{last}"),
            "--tcp",
            &format!("127.0.3.0/24:{network_port}"),
            "--tcp",
            &format!("*.example.test:{}", shut.port()),
            "--tcp",
            &format!("named.test:{}", shut.port()),
        ],
    )?;
    let forward = fixture.forward(&["-D", "0"])?;
    let proxy = forward.dynamic(0)?;
    let [open_port, name_port, shut_port] = [open.port(), by_name.port(), shut.port()];
    for (host, port, expected) in [
        ("127.0.0.1", open_port, Reaches),
        ("localhost", open_port, Reaches),
        ("::ffff:127.0.0.1", open_port, Reaches),
        ("localhost", name_port, Reaches),
        ("LocalHost", name_port, Reaches),
        ("127.0.0.4", first, Reaches),
        ("127.0.0.4", last, Reaches),
        ("127.0.3.1", network_port, Reaches),
        ("127.0.3.255", network_port, Reaches),
        ("127.0.0.1", shut_port, Denied),
        ("localhost", shut_port, Denied),
        ("::ffff:127.0.0.1", shut_port, Denied),
        ("::1", shut_port, Denied),
        ("127.0.0.4", below, Denied),
        ("127.0.0.4", above, Denied),
        ("127.0.0.5", first, Denied),
        ("127.0.2.255", network_port, Denied),
        ("127.0.4.1", network_port, Denied),
        ("127.0.3.1", open_port, Denied),
        ("0.0.0.0", open_port, Denied),
        ("::", open_port, Denied),
        ("::1", open_port, Denied),
        ("127.0.0.1", 0, Denied),
        ("127.0.0.1", 22, Denied),
        ("127.0.0.1", 65_535, Denied),
        ("example.test", shut_port, Denied),
        ("notexample.test", shut_port, Denied),
        ("named.test.evil.test", shut_port, Denied),
        ("evil-named.test", shut_port, Denied),
        ("named.test", open_port, Denied),
        ("127.0.0.1.example.org", open_port, Denied),
    ] {
        expect(&proxy, host, port, expected)?;
    }
    // The addresses are sent as names, so that the server's resolver converts them.
    for (name, port, expected) in [
        ("127.0.0.1", open_port, Reaches),
        ("127.0.0.1", shut_port, Denied),
        ("127.1", shut_port, Nowhere),
        ("127.1", open_port, Nowhere),
        ("0x7f000001", open_port, Nowhere),
        ("0x7f.1", open_port, Nowhere),
        ("2130706433", open_port, Nowhere),
        ("0177.0.0.1", open_port, Nowhere),
        ("127.0.0.1 ", open_port, Nowhere),
        ("127.0.0.1%lo", open_port, Nowhere),
        ("[127.0.0.1]", open_port, Reaches),
        ("[127.0.0.1]", shut_port, Denied),
        ("[127.1]", open_port, Nowhere),
        ("localhost\0.named.test", name_port, Nowhere),
        ("localhost..", name_port, Nowhere),
        ("..", name_port, Nowhere),
        ("", open_port, Nowhere),
    ] {
        expect_named(&proxy, name, port, expected)?;
    }
    ensure!(shut.accepted() == 0, "a target without a right was reached");
    for (target, expected) in network[2..].iter().chain([&range[0], &range[3]]).map(|target| (target, 0)) {
        ensure!(target.accepted() == expected, "{} was reached", target.address());
    }
    Ok(())
}

/// A rule for any host at a port permits no address that leads to the server itself or to its provider.
fn any_host_is_no_special_host(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let port = target.port();
    let fixture = Fixture::open(harness, &["--tcp", &format!("*:{port}")])?;
    let forward = fixture.forward(&["-D", "0"])?;
    let proxy = forward.dynamic(0)?;
    for host in [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "localhost",
        "LOCALHOST",
    ] {
        expect(&proxy, host, port, Denied)?;
    }
    for name in [
        "127.1",
        "0x7f000001",
        "0x7f.0.0.1",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "127.0.1",
        "0",
        "localhost.",
    ] {
        expect_named(&proxy, name, port, Nowhere)?;
    }
    ensure!(target.accepted() == 0, "the server itself was reached");
    // The rule does not permit the server's other addresses either, and a rule with such an address does.
    let outside = UdpSocket::bind("0.0.0.0:0")?;
    if outside.connect("192.0.2.1:9").is_ok() {
        let address = outside.local_addr()?.ip();
        if let Ok(target) = Target::serve_at(&format!("{address}:{port}"), echo) {
            expect(&proxy, &address.to_string(), port, Denied)?;
            ensure!(target.accepted() == 0, "the server itself was reached by {address}");
            fixture.allow(&["--tcp", &target.address()])?;
            expect(&proxy, &address.to_string(), port, Reaches)?;
            ensure!(target.accepted() == 1, "somebody else answered");
        }
    }
    Ok(())
}

/// Names may be under an attacker's control, so the addresses that they resolve to are checked as well as the names.
fn names_that_lead_inside_are_refused(harness: &Harness) -> Result<()> {
    let hosts = Hosts::new(harness)?;
    let target = Target::echo()?;
    let port = target.port();
    let inside = [
        ("loopback.rebind.test", "127.0.0.1"),
        ("high.rebind.test", "127.9.9.9"),
        ("six.rebind.test", "::1"),
        ("mapped.rebind.test", "::ffff:127.0.0.1"),
        ("metadata.rebind.test", "169.254.169.254"),
        ("provider.rebind.test", "fd00:ec2::254"),
        ("any.rebind.test", "0.0.0.0"),
        ("link.rebind.test", "fe80::1"),
    ];
    let mut entries: String = inside.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
    entries.push_str("127.0.0.1 permitted.rebind.test\n");
    hosts.write(&entries)?;
    let rights = ["--tcp", &format!("*.rebind.test:{port}")];
    let fixture = Fixture::wrapped(harness, &rights, &[], &hosts.wrapper())?;
    let forward = fixture.forward(&["-D", "0"])?;
    let proxy = forward.dynamic(0)?;
    for (name, _) in inside {
        expect(&proxy, name, port, Denied)?;
    }
    ensure!(target.accepted() == 0, "a name led inside");
    // The name is the same, and its address is now permitted by another rule.
    fixture.allow(&["--tcp", &format!("*.rebind.test:{port}"), "--tcp", &target.address()])?;
    expect(&proxy, "permitted.rebind.test", port, Reaches)
}

#[track_caller]
fn expect(proxy: &str, host: &str, port: u16, expected: Outcome) -> Result<()> {
    // A machine without IPv6 cannot reach an IPv6 target even with the right to it.
    if host.parse::<Ipv6Addr>().is_ok() && expected == Reaches && TcpListener::bind("[::1]:0").is_err() {
        return Ok(());
    }
    let (stream, reply) = socks::connect(proxy, host, port)?;
    judge(stream, reply, expected).with_context(|| format!("{host}:{port}"))
}

fn expect_named(proxy: &str, name: &str, port: u16, expected: Outcome) -> Result<()> {
    match socks::connect_by_name(proxy, name, port) {
        Ok((stream, reply)) => judge(stream, reply, expected),
        // A proxy need not answer a request with an invalid name.
        Err(_) if expected == Nowhere => Ok(()),
        Err(error) => Err(error),
    }
    .with_context(|| format!("the name {name:?}, port {port}"))
}

fn judge(mut stream: std::net::TcpStream, reply: Reply, expected: Outcome) -> Result<()> {
    match expected {
        Reaches => {
            ensure!(reply == Reply::Succeeded, "{reply:?}");
            echoed(&mut stream, b"reached")
        }
        Denied => {
            ensure!(reply == Reply::NotAllowed, "{reply:?}");
            Ok(())
        }
        Nowhere => {
            ensure!(reply != Reply::Succeeded, "it was reached");
            Ok(())
        }
    }
}

/// Starts targets at consecutive ports of one address.
fn row(host: &str, indices: std::ops::Range<u16>) -> Result<Vec<Target>> {
    several(|| {
        let first = Target::serve_at(&format!("{host}:0"), echo)?;
        let port = first.port();
        let mut row = vec![first];
        for index in indices.clone().skip(1) {
            let port = port.checked_add(index).context("no port behind the last one")?;
            row.push(Target::serve_at(&format!("{host}:{port}"), echo)?);
        }
        Ok(row)
    })
}

/// Starts targets at the same port of several addresses.
fn column(hosts: &[&str]) -> Result<Vec<Target>> {
    several(|| {
        let first = Target::serve_at(&format!("{}:0", hosts[0]), echo)?;
        let port = first.port();
        let mut column = vec![first];
        for host in &hosts[1..] {
            column.push(Target::serve_at(&format!("{host}:{port}"), echo)?);
        }
        Ok(column)
    })
}

/// Tries again while another program has one of the ports, since each try gets other ports.
fn several(mut listen: impl FnMut() -> Result<Vec<Target>>) -> Result<Vec<Target>> {
    (0..50).find_map(|_| listen().ok()).context("no ports that belong together")
}
