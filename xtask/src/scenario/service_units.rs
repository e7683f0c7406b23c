//! Goal: the programs are services as systemd has them: they say how they are, and take over sockets; their units are hardened.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::harness::{DEADLINE, Exit, Harness, Key, Port, Process, Server, Tool, printed};
use crate::scenario::registration::scenarios;
use crate::workspace;

scenarios![
    server_tells_systemd_how_it_is,
    socket_of_systemd_is_taken_over,
    socket_that_was_not_passed_is_an_error,
    units_are_valid_and_hardened,
];

/// A socket at which the service manager listens: at a path, and in the abstract namespace.
fn server_tells_systemd_how_it_is(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let path = home.file("notify");
    let name = format!("sockseal-notify-{}", std::process::id());
    let abstract_address = SocketAddr::from_abstract_name(&name)?;
    let managers = [
        (path.display().to_string(), UnixDatagram::bind(&path)?),
        (format!("@{name}"), UnixDatagram::bind_addr(&abstract_address)?),
    ];
    for (name, manager) in managers {
        manager.set_read_timeout(Some(DEADLINE))?;
        let told = || -> Result<String> {
            let mut bytes = [0; 1000];
            let length = manager.recv(&mut bytes).context("nothing is told")?;
            Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
        };
        // What is said of the program being alive comes at any time.
        let expect = |wanted: &str| -> Result<()> {
            loop {
                let said = told()?;
                if said.starts_with(wanted) {
                    return Ok(());
                }
                let is_beside = said.starts_with("WATCHDOG=1") || said.starts_with("STATUS=");
                ensure!(is_beside, "{said:?} in place of {wanted}");
            }
        };
        let mut command = harness.program("server");
        command.arg("--home").arg(&home).args(["--listen", "127.0.0.1:0"]);
        command.env("NOTIFY_SOCKET", &name).env("WATCHDOG_USEC", "400000");
        let server = Server::from_process(Process::start(command)?)?;
        expect("READY=1")?;
        server.process.signal(Signal::HUP)?;
        expect("RELOADING=1\nMONOTONIC_USEC=")?;
        expect("READY=1")?;
        harness.server(&home, &["reload"]).run()?.expect(Exit::Done)?;
        expect("RELOADING=1\nMONOTONIC_USEC=")?;
        expect("READY=1")?;
        expect("WATCHDOG=1")?;
        expect("WATCHDOG=1")?;
        server.process.signal(Signal::TERM)?;
        expect("STOPPING=1")?;
        server.finish()?.expect(Exit::Done)?;
    }
    Ok(())
}

/// systemd's own program listens, and starts the server with the first connection.
fn socket_of_systemd_is_taken_over(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let key = harness.fingerprint("server", &home)?;
    // Nobody can hold this port for the other program, which sets no SO_REUSEADDR.
    let address = Port::hold()?.address();
    let program = harness.program("server");
    let mut command = harness.without_settings(Tool::SOCKET_ACTIVATE.command()?);
    command.args(["--listen", &address, "--fdname=gate"]).arg(program.get_program());
    command.arg("--home").arg(&home).args(["run", "--listen", "systemd:gate"]);
    let process = Process::start(command)?;
    process
        .stderr
        .wait_line(DEADLINE, |line| line.contains("Listening on"))
        .context("systemd-socket-activate")?;
    let client = harness.home()?;
    for text in ["first", "second"] {
        harness.client(&client, &["send", &address, text, "--server-key", &key]).run()?.expect(Exit::Done)?;
    }
    process.stderr.wait_line(DEADLINE, |line| line.contains(&format!("listening on {address}")))?;
    // A reload keeps the socket, and one that names another refuses that and keeps it as well.
    harness.server(&home, &["reload"]).run()?.expect(Exit::Done)?;
    harness.client(&client, &["send", &address, "third", "--server-key", &key]).run()?.expect(Exit::Done)?;
    process.signal(Signal::TERM)?;
    process.finish()?.expect(Exit::Done)?;
    Ok(())
}

fn socket_that_was_not_passed_is_an_error(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let started = harness.server(&home, &["run", "--listen", "systemd:gate"]).run()?;
    started.expect(Exit::Usage)?.error_names(&["systemd:gate", "FileDescriptorName="])?;
    harness.server(&home, &["run", "--listen", "systemd:"]).run()?.expect(Exit::Usage)?;
    // Sockets of another process are none of this one.
    let mut command = harness.program("server");
    command.arg("--home").arg(&home).args(["run", "--listen", "systemd:gate"]);
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "gate").env("LISTEN_PID", "1");
    Process::start(command)?.finish()?.expect(Exit::Usage)?.error_names(&["systemd:gate"])?;
    Ok(())
}

fn units_are_valid_and_hardened(_: &Harness) -> Result<()> {
    let units = workspace::root()?.join("xtask/dist/systemd");
    for name in ["sockseal-server.service", "sockseal-client.service"] {
        let unit = units.join(name);
        // Ten times the level.
        let threshold = format!("--threshold={HIGHEST_EXPOSURE}");
        let mut analyze = Tool::SYSTEMD_ANALYZE.command()?;
        printed(analyze.args(["security", "--offline=yes", "--no-pager", &threshold]).arg(&unit))?;
        expect_fallback(&unit)?;
    }
    Ok(())
}

/// A systemd that does not know a type leaves its line out: the line before it is one that all know.
fn expect_fallback(unit: &Path) -> Result<()> {
    let text = std::fs::read_to_string(unit)?;
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Type=")).collect();
    ensure!(types.first() == Some(&"notify"), "{}: {types:?}", unit.display());
    let mut verify = Tool::SYSTEMD_ANALYZE.command()?;
    let output = verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(unit).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // The programs are not installed here, and systemd 252 does not know notify-reload.
    let is_expected =
        |line: &&str| line.contains("is not executable") || line.contains("service type, ignoring");
    let surprise = said.lines().find(|line| line.contains("sockseal") && !is_expected(line));
    ensure!(surprise.is_none(), "{}: {said}", unit.display());
    Ok(())
}

const HIGHEST_EXPOSURE: u32 = 15;
