//! Goal: a target that asks for it learns who is connected, in version 2 of the PROXY protocol, and clients
//! cannot forge it.

use std::io::{Read as _, Write as _};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context as _, Result, ensure};

use crate::harness::{
    DEADLINE, Exit, Fixture, Harness, Key, Port, Server, Target, Visitor, echoed, local, proxied,
};
use crate::scenario::registration::scenarios;

scenarios![
    rule_with_a_header_is_carried_out,
    client_has_no_say_in_the_header,
    service_decides_on_its_header,
    without_a_rule_there_is_none,
    connection_without_a_header_ends_with_the_right_to_it,
    visitor_is_told_to_the_target_of_a_remote_forward,
    source_is_what_a_trusted_proxy_says,
];

/// The header is sent by whichever name the client asks for the target, and whatever other rule permits it.
fn rule_with_a_header_is_carried_out(harness: &Harness) -> Result<()> {
    let (target, seen) = noting()?;
    let told = format!("{},proxy", target.address());
    let fixture = Fixture::open(harness, &["--tcp", "127.0.0.1:*", "--tcp", &told, "--tcp", "localhost:*"])?;
    let by_name = format!("0:localhost:{}", target.port());
    let forward = fixture.forward(&["-L", &local(&target), "-L", &by_name])?;
    let key = harness.fingerprint("client", fixture.alice())?;
    for index in [0, 1] {
        let mut stream = crate::harness::dial(&forward.local(index)?)?;
        stream.write_all(FORGED)?;
        let header = Header::read(&seen.recv_timeout(DEADLINE)?)?;
        ensure!(header.source.starts_with("127.0.0.1:"), "the source is {}", header.source);
        // The header's destination is the address at which the server accepted the client's connection, as
        // with any proxy. The target knows its own address.
        ensure!(header.destination == fixture.address(), "the destination is {}", header.destination);
        ensure!(header.client.as_deref() == Some(&key), "the key id is {:?}, not {key}", header.client);
        ensure!(header.rest == FORGED, "what the client said is not behind the header as it was");
    }
    Ok(())
}

/// A plain right permits only plain connections: a header that a client could switch on would vouch for that client.
fn client_has_no_say_in_the_header(harness: &Harness) -> Result<()> {
    let (target, seen) = noting()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let (local, port) = (local(&target), Port::hold()?.number().to_string());
    for (option, spec) in [("-L", local.as_str()), ("-D", "0"), ("-R", &port), ("-W", &target.address())] {
        let outcome = fixture.forward_to_the_end(fixture.alice(), &["--proxy-protocol", option, spec])?;
        outcome.expect(Exit::Usage)?.error_names(&[option, "PROXY"])?.hint_names(&[",proxy"])?;
    }
    let forward = fixture.forward(&["-L", &local])?;
    forward.dial()?.write_all(b"hello")?;
    ensure!(seen.recv_timeout(DEADLINE)? == b"hello", "a target was reached before, or with a header");
    Ok(())
}

/// The server decides: a client can neither switch a header off, nor switch it on for a target that would
/// misunderstand it.
fn service_decides_on_its_header(harness: &Harness) -> Result<()> {
    let (with, with_seen) = noting()?;
    let (without, without_seen) = noting()?;
    let config = format!(
        "[[service]]\nname = \"with\"\ntarget = \"{}\"\nproxy_protocol = true\n\n\
         [[service]]\nname = \"without\"\ntarget = \"{}\"\n",
        with.address(),
        without.address()
    );
    let fixture = Fixture::with_config(harness, &["--service", "with", "--service", "without"], &config)?;
    let forward = fixture.forward(&["-L", "0:@with", "-L", "0:@without"])?;
    let mut stream = forward.dial()?;
    stream.write_all(b"hello")?;
    let header = Header::read(&with_seen.recv_timeout(DEADLINE)?)?;
    let key = harness.fingerprint("client", fixture.alice())?;
    ensure!(header.client == Some(key), "{:?}", header.client);
    ensure!(header.rest == b"hello", "the client's words are {:?}", header.rest);
    let mut stream = crate::harness::dial(&forward.local(1)?)?;
    stream.write_all(b"hello")?;
    ensure!(without_seen.recv_timeout(DEADLINE)? == b"hello", "a header that nobody asked for");

    // The headers of two clients differ.
    let mallory = fixture.mallory(&["--service", "with"])?;
    let key = harness.fingerprint("client", &harness.home_with(Key::Mallory)?)?;
    let address = fixture.address();
    let arguments = ["forward", &address, "-W", "@with", "--server-key", fixture.key()];
    let mut client = harness.client(&mallory, &arguments).start()?;
    client.write(b"hello")?;
    let header = Header::read(&with_seen.recv_timeout(DEADLINE)?)?;
    ensure!(header.client.as_deref() == Some(&key), "{:?} instead of {key}", header.client);
    Ok(())
}

fn without_a_rule_there_is_none(harness: &Harness) -> Result<()> {
    let (target, seen) = noting()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    stream.write_all(b"hello")?;
    ensure!(seen.recv_timeout(DEADLINE)? == b"hello", "a header that nobody asked for");
    Ok(())
}

/// Once the rule with a header exists, no bytes of a client may pass for a header at the target.
fn connection_without_a_header_ends_with_the_right_to_it(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let told = format!("{},proxy", target.address());
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"plain")?;
    fixture.allow(&["--tcp", &target.address(), "--tcp", &told])?;
    ensure!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "it goes on without a header");
    let mut stream = forward.dial()?;
    stream.write_all(b"hello")?;
    let mut echo = [0; 12];
    stream.read_exact(&mut echo)?;
    ensure!(echo == SIGNATURE, "no header: {echo:02x?}");
    // A connection with a header is permitted by either right.
    fixture.allow(&["--tcp", &target.address()])?;
    let mut rest =
        vec![0; 16 + 12 + 3 + harness.fingerprint("client", fixture.alice())?.len() + 5 - echo.len()];
    stream.read_exact(&mut rest)?;
    echoed(&mut stream, b"still there")
}

/// The source from the header is used in the log, for limits and for `from`. Connections without a header are refused.
fn source_is_what_a_trusted_proxy_says(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let alice = harness.home_with(Key::Alice)?;
    let key = harness.fingerprint("client", &alice)?;
    let allow = ["allow", &key, "--name", "alice", "--from", "198.51.100.0/24"];
    harness.server(&home, &allow).run()?.expect(Exit::Done)?;
    let server = Server::start(harness, &home, &["--proxy-from", "127.0.0.0/8"])?;

    let near = proxied(&server, "PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\r\n")?;
    let far = proxied(&server, "PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n")?;
    let send = |address: &str| {
        harness.client(&alice, &["send", address, "through a proxy", "--server-key", server.key()?]).run()
    };
    send(&near.address())?.expect(Exit::Done)?;
    server.printed("[alice] through a proxy")?;
    send(&far.address())?.expect(Exit::Refused)?;
    server.logged(&["connection failed", "peer=\"192.0.2.7:4711\""])?;
    send(server.address())?.expect_failure()?;
    server.logged(&["connection of a proxy turned away", "no header"])?;

    // Of two clients behind the proxy, only the one that fails is refused.
    let failing = proxied(&server, "PROXY TCP4 198.51.100.9 203.0.113.1 4711 443\r\n")?;
    for _ in 0..20 {
        let mut visitor = Visitor::connect(&failing.address())?;
        visitor.send(b"GET / HTTP/1.1\r\n\r\n");
        visitor.closed_within(DEADLINE)?;
    }
    send(&failing.address())?.expect_failure()?;
    send(&near.address())?.expect(Exit::Done)?;

    // Failures do not count against the proxy itself, which is not refused with the client that fails.
    for _ in 0..20 {
        let mut visitor = Visitor::connect(server.address())?;
        visitor.send(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\nGET / HTTP/1.1\r\n\r\n");
        visitor.closed_within(DEADLINE)?;
    }
    send(&near.address())?.expect(Exit::Done)?;
    Ok(())
}

/// The target learns the address that its visitor connected to, and not the one at which the client reached the target.
fn visitor_is_told_to_the_target_of_a_remote_forward(harness: &Harness) -> Result<()> {
    let (target, seen) = noting()?;
    let fixture = Fixture::open(harness, &["--listen", "0.0.0.0:*"])?;
    let spec = format!("0.0.0.0:0:{}", target.address());
    let forward = fixture.forward(&["--proxy-protocol", "-R", &spec])?;
    let address = forward.remote(0)?;
    let port = address.strip_prefix("0.0.0.0:").context("not listening on all addresses")?;
    let reached = format!("127.0.0.2:{port}");
    let mut visitor = crate::harness::dial(&reached)?;
    visitor.write_all(FORGED)?;
    let header = Header::read(&seen.recv_timeout(DEADLINE)?)?;
    ensure!(header.source == visitor.local_addr()?.to_string(), "the source is {}", header.source);
    ensure!(header.destination == reached, "the destination is {}", header.destination);
    ensure!(header.client.is_none(), "a visitor has no key, and this one has {:?}", header.client);
    ensure!(header.rest == FORGED, "what the visitor said is not behind the header as it was");
    Ok(())
}

/// Starts a target that reports the bytes of each connection up to the word `hello`.
fn noting() -> Result<(Target, Receiver<Vec<u8>>)> {
    let (sender, receiver) = channel();
    let target = Target::serve(move |mut stream| {
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        while !said.ends_with(b"hello") {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            said.extend_from_slice(&buffer[..count]);
        }
        sender.send(said).map_err(std::io::Error::other)?;
        // The connection is held until the client closes it, so that it is not reset early.
        stream.read(&mut buffer).map(drop)
    })?;
    Ok((target, receiver))
}

/// A header of version 2, parsed as in section 2.2 of its specification.
struct Header {
    source: String,
    destination: String,
    client: Option<String>,
    rest: Vec<u8>,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self> {
        let fixed = bytes.get(..16).context("fewer bytes than a header")?;
        ensure!(fixed.starts_with(SIGNATURE), "no signature: {fixed:02x?}");
        ensure!(fixed[12] == 0x21, "not version 2, PROXY: {:02x}", fixed[12]);
        ensure!(fixed[13] == 0x11, "not TCP over IPv4: {:02x}", fixed[13]);
        let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
        let body = bytes.get(16..16 + length).context("a header that is cut off")?;
        let addresses = body.get(..12).context("no addresses")?;
        let address = |from: usize, port: usize| {
            let octets = addresses[from..from + 4].iter().map(u8::to_string).collect::<Vec<_>>().join(".");
            format!("{octets}:{}", u16::from_be_bytes([addresses[port], addresses[port + 1]]))
        };
        let mut values = &body[12..];
        let mut client = None;
        while let [kind, high, low, rest @ ..] = values {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let value = rest.get(..length).context("a value that is cut off")?;
            if *kind == KEY_ID {
                client = Some(String::from_utf8(value.to_vec())?);
            }
            values = &rest[length..];
        }
        Ok(Self {
            source: address(0, 8),
            destination: address(4, 10),
            client,
            rest: bytes[16 + length..].to_vec(),
        })
    }
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const KEY_ID: u8 = 0xe0;

/// A header of version 1 with a false address, as a client would send that wants to pass for another one.
const FORGED: &[u8] = b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nhello";
