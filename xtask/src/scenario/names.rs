//! Goal: a name stands for all its addresses, and errors about names and addresses say what is wrong.

use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::harness::socks::{self, Reply};
use crate::harness::{
    Exit, Fixture, Forward, Harness, Hosts, Key, Port, Process, Server, Target, address as address_of, dial,
    echo, echoed, word, wrapped,
};
use crate::scenario::registration::scenarios;

scenarios![
    address_that_swallows_packets_is_passed_by,
    servers_and_classic_peers_are_found_behind_addresses_that_swallow_packets,
    classic_listens_at_all_addresses_of_a_name,
    addresses_without_a_right_are_not_even_tried,
    name_is_listened_on_at_all_its_addresses,
    everywhere_is_both_families,
    both_families_are_listened_on_apart,
    why_a_target_is_not_reached_is_said,
    why_the_server_does_not_listen_is_said,
];

/// Packets to a full listener are dropped, as by a firewall. The system itself would wait two minutes for an
/// answer, and the programs once waited ten seconds.
fn address_that_swallows_packets_is_passed_by(harness: &Harness) -> Result<()> {
    let hosts = Hosts::new(harness)?;
    let target = Target::serve_at("127.0.0.5:0", echo)?;
    let port = target.port();
    let _full = swallowing_before(port)?;
    hosts.write(MANY)?;
    let by_name = format!("many.test:{port}");
    let rights = ["--tcp", &by_name, "--tcp", &format!("127.0.0.0/8:{port}"), "--service", "many"];
    let config = format!("[[service]]\nname = \"many\"\ntarget = \"{by_name}\"\n");
    let place = harness.home()?;
    let config = place.write("server.toml", &config)?.display().to_string();
    let fixture = Fixture::wrapped(harness, &rights, &["--config", &config], &hosts.wrapper())?;
    let forward = fixture.forward(&["-L", &format!("0:{by_name}"), "-L", "0:@many"])?;
    forward.connected()?;
    for index in [0, 1, 0] {
        let begun = Instant::now();
        echoed(&mut dial(&forward.local(index)?)?, b"at the fourth address")?;
        let took = begun.elapsed();
        ensure!(took < Duration::from_secs(5), "forward {index} took {took:?}");
    }
    target.is_left_alone()
}

fn servers_and_classic_peers_are_found_behind_addresses_that_swallow_packets(
    harness: &Harness,
) -> Result<()> {
    let hosts = Hosts::new(harness)?;
    hosts.write(MANY)?;
    let wrapper: Vec<String> = hosts.wrapper().into_iter().map(str::to_owned).collect();
    let port = |address: &str| address.rsplit(':').next().and_then(|port| port.parse().ok());

    let home = harness.home_with(Key::Server)?;
    let server = Server::start(harness, &home, &["--listen", "127.0.0.5:0"])?;
    let number = port(server.address()).context("no port")?;
    let _full = swallowing_before(number)?;
    let address = format!("many.test:{number}");
    let send = harness.client(&home, &["send", &address, "found", "--server-key", server.key()?]);
    let begun = Instant::now();
    Process::start(wrapped(&wrapper, send.into_command()))?.finish()?.expect(Exit::Done)?;
    ensure!(begun.elapsed() < Duration::from_secs(5), "the server took {:?}", begun.elapsed());
    server.printed("[anonymous] found")?;

    let key = home.write("shared.key", [7; 16])?;
    let exchange = ["classic", "aes-eax", "--key-file", word(&key)?];
    let listen = [&exchange[..], &["--send", "found", "--listen", "127.0.0.5:0"]].concat();
    let sender = harness.server(&home, &listen).start()?;
    let number = port(&address_of(&sender)?).context("no port")?;
    let _full = swallowing_before(number)?;
    let connect = format!("many.test:{number}");
    let receive = harness.client(&home, &[&exchange[..], &["--receive", "--connect", &connect]].concat());
    let begun = Instant::now();
    let receiver = Process::start(wrapped(&wrapper, receive.into_command()))?.finish()?;
    receiver.expect(Exit::Done)?.expect_stdout(b"found")?;
    ensure!(begun.elapsed() < Duration::from_secs(5), "the classic peer took {:?}", begun.elapsed());
    sender.finish()?.expect(Exit::Done)?;
    Ok(())
}

/// The tutorial's program connects only to 127.0.0.1, whichever address of the name comes first.
fn classic_listens_at_all_addresses_of_a_name(harness: &Harness) -> Result<()> {
    let hosts = Hosts::new(harness)?;
    hosts.write("::1 own.test\n127.0.0.2 own.test\n127.0.0.1 own.test\n")?;
    let home = harness.home()?;
    let key = home.write("shared.key", [7; 16])?;
    let exchange = ["classic", "aes-eax", "--key-file", word(&key)?];
    let wrapper: Vec<String> = hosts.wrapper().into_iter().map(str::to_owned).collect();
    for host in [loopback(), &["127.0.0.2"]].concat() {
        let listen = [&exchange[..], &["--send", "found", "--listen", "own.test:0"]].concat();
        let sender = Process::start(wrapped(&wrapper, harness.server(&home, &listen).into_command()))?;
        let listening = address_of(&sender)?;
        let connect = format!("{host}:{}", listening.rsplit(':').next().context("no port")?);
        let receive = [&exchange[..], &["--receive", "--connect", &connect]].concat();
        let receiver = harness.client(&home, &receive).run()?.expect(Exit::Done).context(connect)?;
        receiver.expect_stdout(b"found")?;
        sender.finish()?.expect(Exit::Done)?;
    }
    Ok(())
}

/// Blocks a port at all addresses of `many.test` but the last one.
fn swallowing_before(port: u16) -> Result<Vec<(TcpListener, TcpStream)>> {
    ["127.0.0.2", "127.0.0.3", "127.0.0.4"].into_iter().map(|host| swallowing(host, port)).collect()
}

const MANY: &str = "127.0.0.2 many.test\n127.0.0.3 many.test\n127.0.0.4 many.test\n127.0.0.5 many.test\n";

/// Returns a listener whose queue is full, and the connection that fills it.
fn swallowing(host: &str, port: u16) -> Result<(TcpListener, TcpStream)> {
    let listener = TcpListener::bind(format!("{host}:{port}"))?;
    rustix::net::listen(&listener, 0)?;
    let filling = TcpStream::connect(listener.local_addr()?)?;
    Ok((listener, filling))
}

fn addresses_without_a_right_are_not_even_tried(harness: &Harness) -> Result<()> {
    let hosts = Hosts::new(harness)?;
    let forbidden = Target::serve_at("127.0.0.2:0", echo)?;
    let port = forbidden.port();
    let permitted = Target::serve_at(&format!("127.0.0.3:{port}"), echo)?;
    hosts.write("127.0.0.2 mixed.test\n127.0.0.3 mixed.test\n")?;
    let by_name = format!("mixed.test:{port}");
    let fixture = Fixture::wrapped(
        harness,
        &["--tcp", &by_name, "--tcp", &permitted.address()],
        &[],
        &hosts.wrapper(),
    )?;
    let forward = fixture.forward(&["-L", &format!("0:{by_name}")])?;
    for _ in 0..3 {
        echoed(&mut forward.dial()?, b"where it may")?;
    }
    ensure!(permitted.accepted() == 3 && forbidden.accepted() == 0, "an address without a right was tried");
    Ok(())
}

/// The server's own listener, `-R` and `-L` each listen at all addresses of the name.
fn name_is_listened_on_at_all_its_addresses(harness: &Harness) -> Result<()> {
    let hosts = Hosts::new(harness)?;
    hosts.write("127.0.0.2 own.test\n127.0.0.3 own.test\n")?;
    let target = Target::echo()?;
    let fixture = Fixture::wrapped(
        harness,
        &["--tcp", &target.address(), "--listen", "*:*"],
        &["--listen", "own.test:0"],
        &hosts.wrapper(),
    )?;
    let [first, second, _] = fixture.server()?.addresses() else {
        anyhow::bail!("it says {:?}", fixture.server()?.addresses());
    };
    let port = first.strip_prefix("127.0.0.2:").context("no port at the first address")?;
    ensure!(*second == format!("127.0.0.3:{port}"), "{second}");
    let wrapper: Vec<String> = hosts.wrapper().into_iter().map(str::to_owned).collect();
    let here = format!("own.test:0:{}", target.address());
    let arguments = ["-L", &here, "-R", &here];
    for address in [first, second] {
        let forward =
            Forward::wrapped(harness, fixture.alice(), address, fixture.key(), &arguments, &wrapper)?;
        let ports = [forward.local(0)?, forward.remote(0)?];
        for port in ports.iter().filter_map(|address| address.rsplit(':').next()) {
            for host in ["127.0.0.2", "127.0.0.3"] {
                echoed(&mut dial(&format!("{host}:{port}"))?, b"at each address")?;
            }
        }
        forward.stop()?;
    }
    Ok(())
}

/// The loopback addresses of this machine, where IPv6 may be off.
fn loopback() -> &'static [&'static str] {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() { &["127.0.0.1", "[::1]"] } else { &["127.0.0.1"] }
}

fn everywhere_is_both_families(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::with_arguments(
        harness,
        &["--tcp", &target.address(), "--listen", "*:*"],
        &["--listen", "*:0"],
    )?;
    let here = format!("*:0:{}", target.address());
    let server_port = fixture.server()?.address().rsplit(':').next().context("no port")?;
    for host in loopback() {
        let through = format!("{host}:{server_port}");
        let forward = fixture.forward_through(&through, &["-L", &here, "-R", &here, "-D", "*:0"])?;
        let proxy = forward.dynamic(0)?;
        let port = proxy.rsplit(':').next().context("no port")?;
        for host in loopback() {
            let (mut stream, reply) = socks::connect(&format!("{host}:{port}"), "127.0.0.1", target.port())?;
            ensure!(reply == Reply::Succeeded, "the proxy at {host} says {reply:?}");
            echoed(&mut stream, b"through the proxy")?;
        }
        for address in [forward.local(0)?, forward.remote(0)?] {
            let port = address.rsplit(':').next().context("no port")?;
            for host in loopback() {
                echoed(&mut dial(&format!("{host}:{port}"))?, b"in either family")?;
            }
        }
        forward.stop()?;
    }
    // The right to listen on all IPv4 addresses does not include those of IPv6.
    fixture.allow(&["--listen", "0.0.0.0:*"])?;
    let outcome = fixture.forward_to_the_end(fixture.alice(), &["-R", &here])?;
    outcome.expect(Exit::Refused)?.hint_names(&["--listen '*:PORT'"])?;
    Ok(())
}

fn both_families_are_listened_on_apart(harness: &Harness) -> Result<()> {
    if loopback().len() < 2 {
        return Ok(());
    }
    let target = Target::echo()?;
    let held = [Port::hold()?, Port::hold()?, Port::hold()?, Port::hold()?];
    let [server, local, remote, reverse] = held.each_ref().map(Port::number);
    let listen = [format!("[::]:{server}"), format!("0.0.0.0:{server}")];
    let fixture = Fixture::with_arguments(
        harness,
        &["--tcp", &target.address(), "--listen", "*:*"],
        &["--listen", &listen[0], "--listen", &listen[1]],
    )?;
    let there = target.address();
    let specs = [
        format!("[::]:{local}:{there}"),
        format!("0.0.0.0:{local}:{there}"),
        format!("0.0.0.0:{remote}:{there}"),
        format!("[::]:{remote}:{there}"),
        format!("[::]:{reverse}:{there}"),
        format!("0.0.0.0:{reverse}:{there}"),
    ];
    for host in loopback() {
        let through = format!("{host}:{server}");
        let arguments: Vec<&str> = ["-L", "-L", "-R", "-R", "-R", "-R"]
            .into_iter()
            .zip(&specs)
            .flat_map(|(o, s)| [o, s.as_str()])
            .collect();
        let forward = fixture.forward_through(&through, &arguments)?;
        forward.remote(3)?;
        for port in [local, remote, reverse] {
            for host in loopback() {
                echoed(&mut dial(&format!("{host}:{port}"))?, b"in its own family")?;
            }
        }
        forward.stop()?;
    }
    Ok(())
}

fn why_a_target_is_not_reached_is_said(harness: &Harness) -> Result<()> {
    let nobody = Port::hold()?;
    let place = harness.home()?;
    place.write("file", "no socket")?;
    let path = |name: &str| place.file(name).display().to_string();
    let (missing, file) = (path("missing"), path("file"));
    let rights =
        ["--tcp", "*:*", "--tcp", "127.0.0.1:*", "--tcp", "[fe80::1]:*", "--unix", &missing, "--unix", &file];
    let fixture = Fixture::open(harness, &rights)?;
    for (target, error, hint, logged) in [
        (nobody.address(), "the target refused the connection", "running", "Connection refused"),
        ("no-such-host.invalid:80".to_owned(), "it finds no address for the name", "name", "lookup"),
        (missing, "there is no socket at the target's path", "path", "No such file or directory"),
        (file, "there is no socket at the target's path", "path", "Socket operation on non-socket"),
        ("[fe80::1]:80".to_owned(), "the target cannot be reached", "[fe80::1%eth0]:PORT", "is link-local"),
    ] {
        let outcome = fixture.forward_to_the_end(fixture.alice(), &["-W", &target])?;
        let outcome = outcome.expect(Exit::Refused).with_context(|| target.clone())?;
        outcome.error_names(&[&target, error])?.hint_names(&[hint])?;
        fixture.server()?.logged(&["stream refused", &target, error, logged])?;
    }
    Ok(())
}

fn why_the_server_does_not_listen_is_said(harness: &Harness) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let number = taken.local_addr()?.port();
    let place = harness.home()?;
    let path = place.file("no/folder.sock").display().to_string();
    let fixture = Fixture::open(harness, &["--listen", "*:*", "--listen", &format!("unix:{path}")])?;
    for (listen, error, hint, logged) in [
        (
            number.to_string(),
            "another client or program listens on that address",
            "another port",
            "already in use",
        ),
        // The address is from a network for documentation (RFC 5737).
        ("203.0.113.77:0".to_owned(), "its machine has no such address", "address", "Cannot assign"),
        ("no-such-host.invalid:0".to_owned(), "it finds no address for the name", "name", "lookup"),
        ("[fe80::1]:0".to_owned(), "its machine has no such address", "address", "is link-local"),
        (path, "its machine has no such address", "folder", "No such file or directory"),
    ] {
        let outcome =
            fixture.forward_to_the_end(fixture.alice(), &["-R", &format!("{listen}:127.0.0.1:9")])?;
        let outcome = outcome.expect(Exit::Refused).with_context(|| listen.clone())?;
        outcome.error_names(&[&listen, error])?.hint_names(&[hint])?;
        fixture.server()?.logged(&["stream refused", &listen, error, logged])?;
    }
    drop(fixture);

    // No port can be denied where the system lets everyone listen on all ports.
    let lowest = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")?;
    if lowest.trim().parse::<u16>()? <= 1 {
        return Ok(());
    }
    let wrapper: &[&str] = if rustix::process::geteuid().is_root() {
        &["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]
    } else {
        &[]
    };
    let fixture = Fixture::wrapped(harness, &["--listen", "*:*"], &[], wrapper)?;
    let outcome = fixture.forward_to_the_end(fixture.alice(), &["-R", "1:127.0.0.1:9"])?;
    let error = "its system does not let it listen there";
    outcome.expect(Exit::Refused)?.error_names(&[error])?.hint_names(&["below 1024"])?;
    fixture.server()?.logged(&["stream refused", error, "Permission denied"])?;
    Ok(())
}
