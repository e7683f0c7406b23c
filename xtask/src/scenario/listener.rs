//! Goal: a server listens at the addresses that it is given, replaces no file of others, and removes its own socket.

use std::process::Command;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::harness::{Exit, Fixture, Harness, Key, Process, Server, Target};
use crate::scenario::registration::scenarios;

scenarios![
    busy_address_makes_no_key,
    every_listener_is_served,
    unix_socket_goes_with_its_server,
    unix_socket_of_a_server_that_was_killed_is_replaced,
    server_without_an_output_takes_no_message,
];

fn every_listener_is_served(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let socket = format!("unix:{}", home.file("listener.sock").display());
    let mut arguments = vec!["--listen", "127.0.0.1:0", "--listen", socket.as_str()];
    // A container without IPv6 still tests the other two addresses.
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        arguments.extend(["--listen", "[::1]:0"]);
    } else {
        eprintln!("no IPv6 loopback here: [::1] is not tried");
    }
    let server = Server::start(harness, &home, &arguments)?;
    ensure!(server.addresses().len() * 2 == arguments.len(), "the banner names {:?}", server.addresses());
    for address in server.addresses() {
        let text = format!("to {address}");
        let arguments = ["send", address, &text, "--server-key", server.key()?];
        harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Done)?;
        server.printed(&format!("[anonymous] {text}"))?;
    }
    Ok(())
}

fn unix_socket_goes_with_its_server(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let path = home.file("listener.sock");
    let socket = format!("unix:{}", path.display());
    for _ in 0..5 {
        let server = Server::start(harness, &home, &["--listen", &socket, "--listen", "127.0.0.1:0"])?;
        ensure!(path.exists(), "there is no socket");
        server.stop()?.expect(Exit::Done)?;
        ensure!(!path.exists(), "the socket is still there");
    }
    Ok(())
}

fn unix_socket_of_a_server_that_was_killed_is_replaced(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let path = home.file("listener.sock");
    let socket = format!("unix:{}", path.display());
    let server = Server::start(harness, &home, &["--listen", &socket])?;
    server.process.signal(Signal::KILL)?;
    drop(server.finish()?);
    ensure!(path.exists(), "a killed server cannot have removed its socket");
    let server = Server::start(harness, &home, &["--listen", &socket])?;
    server.still_serves(harness)?;
    // The server replaces neither a socket that is in use nor a file that is no socket.
    harness
        .server(&home, &["--listen", &socket])
        .run()?
        .expect(Exit::Network)?
        .error_names(&["listener.sock"])?;
    let file = home.write("file.sock", "precious")?;
    let taken = format!("unix:{}", file.display());
    harness.server(&home, &["--listen", &taken]).run()?.expect(Exit::Network)?;
    ensure!(home.read("file.sock")? == "precious", "a file was replaced by a socket");
    server.still_serves(harness)
}

/// Messages would be lost without an output, yet confirmed. Tunnels need no output, and programs that run in
/// the background may be started without one.
fn server_without_an_output_takes_no_message(harness: &Harness) -> Result<()> {
    let echo = Target::echo()?;
    let target = echo.address();
    for nowhere in [">&-", "1<>/dev/null"] {
        let script = format!("exec \"$0\" \"$@\" {nowhere}");
        let wrapper = ["sh", "-c", &script];
        let rights = ["--messages", "--tcp", &target];
        let fixture = Fixture::wrapped(harness, &rights, &[], &wrapper)?;
        let (address, key) = (fixture.address(), ["--server-key", fixture.key()]);
        fixture.server()?.logged(&["no standard output", "messages"])?;
        fixture.server()?.logged(&["try:", "client ping"])?;
        let send = [&["send", &address, "lost"][..], &key].concat();
        let refused = harness.client(fixture.alice(), &send).run()?.expect(Exit::Refused)?;
        refused.error_names(&["does not offer", "output"])?;
        let through = [&["forward", &address, "-W", &target][..], &key].concat();
        let came_back =
            harness.client(fixture.alice(), &through).input(*b"there").run()?.expect(Exit::Done)?;
        came_back.expect_stdout(b"there")?;

        let pipe = harness.program("server");
        let mut outer = Command::new("sh");
        outer.args(["-c", &script]).arg(pipe.get_program()).arg("--home").arg(fixture.home());
        outer.args(["pipe", "--anyone", "--listen", "127.0.0.1:0"]);
        let ended = Process::start(outer)?.finish()?.expect(Exit::Network)?;
        ended.error_names(&["standard output", "> FILE"])?;
    }
    Ok(())
}

fn busy_address_makes_no_key(harness: &Harness) -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let home = harness.home()?;
    let tickets = home.file("ticket-keys");
    let arguments = ["--listen", &address, "--ticket-keys", tickets.to_str().unwrap_or_default()];
    harness.server(&home, &arguments).run()?.expect(Exit::Network)?.error_names(&[&address])?;
    for file in ["server.key", "ticket-keys"] {
        ensure!(!home.file(file).exists(), "{file} was made for a server that never was");
    }
    Ok(())
}
