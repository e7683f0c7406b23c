//! Goal: both programs serve their status by HTTP where they are told to, to this machine alone, and nothing that comes there
//! disturbs them.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    DEADLINE, Exit, Fixture, Harness, Server, StatusPage, Target, echoed, exchange, local, request, until,
    works_again,
};
use crate::scenario::registration::scenarios;

scenarios![
    status_says_what_the_command_says,
    draining_server_is_not_ready,
    strange_requests_are_answered,
    slow_clients_hold_nothing_up,
    only_this_machine_reaches_it_unless_told,
    unix_socket_serves_it_too,
    client_tells_of_its_server,
];

fn status_says_what_the_command_says(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::with_arguments(harness, &["--tcp", &target.address(), "--listen", "*"], STATUS)?;
    let page = StatusPage::of(&fixture.server()?.process)?;
    let forward = fixture.forward(&["-L", &local(&target), "-R", &local(&target)])?;
    let leased = forward.remote(0)?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"hello")?;
    let status = until(DEADLINE, "the stream in the status", || {
        let status = page.status()?;
        ensure!(status["open"][0]["bytes"] == 10, "{status}");
        Ok(status)
    })?;
    for (member, expected) in [
        ("schema", json!(1)),
        ("program", json!("server")),
        ("draining", json!(false)),
        ("leases", json!(1)),
        ("open_left_out", json!(0)),
        ("clients_left_out", json!(0)),
    ] {
        ensure!(status[member] == expected, "{member}: {status}");
    }
    ensure!(
        status["open"][0]["client"] == "alice" && status["open"][0]["target"] == target.address(),
        "{status}"
    );
    let alice = &status["clients"][0];
    let key = harness.fingerprint("client", fixture.alice())?;
    ensure!(alice["name"] == "alice" && alice["identity"] == key, "{status}");
    ensure!(alice["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")), "{status}");
    ensure!(alice["streams"].as_u64() >= Some(1) && alice["channels"].as_u64() >= Some(2), "{status}");
    ensure!(status["leased"][0]["address"] == leased, "{status}");
    ensure!(status["listening"][0] == fixture.address(), "{status}");
    ensure!(status["identity"]["fingerprint"] == fixture.key(), "{status}");
    ensure!(status["identity"]["mode"] == "rsa" && status["identity"]["suite"] == "0x0001", "{status}");
    let traffic = &status["traffic"];
    ensure!(traffic["received"].as_u64() >= Some(5) && traffic["sent"].as_u64() >= Some(5), "{status}");
    ensure!(traffic["received_per_second"].is_u64(), "{status}");
    ensure!(status["invites"]["open"] == 0, "{status}");
    let holds = |name: &str| {
        let all = status["protection"].as_array().into_iter().flatten();
        all.clone().any(|protection| protection["name"] == name && protection["holds"] == true)
    };
    ensure!(holds("no core dumps") && holds("memory closed to debuggers"), "{status}");

    let command = fixture.command(&["status", "--json"])?.expect(Exit::Done)?.text();
    let command: Value = serde_json::from_str(command.trim())?;
    let members = |value: &Value| -> Vec<String> {
        value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    ensure!(members(&command) == members(&status), "{command}\n{status}");

    // What is refused is counted by its reason.
    let closed = Target::echo()?;
    let other = fixture.forward(&["-L", &local(&closed)])?;
    other.dial()?.write_all(b"no")?;
    until(DEADLINE, "the refusal in the status", || {
        let status = page.status()?;
        let mut refused = status["refused"].as_array().into_iter().flatten();
        ensure!(
            refused.any(|entry| entry["what"] == "stream" && entry["reason"] == "not_allowed"),
            "{status}"
        );
        Ok(())
    })?;
    let history = page.get("/history.json")?;
    ensure!(history.contains("\"interval_seconds\":1,\"received\":["), "{history}");
    for (path, start) in
        [("/", "<!doctype html>"), ("/healthz", "ok"), ("/readyz", "ready"), ("/metrics", "# HELP ")]
    {
        let answer = page.get(path)?;
        ensure!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains(&format!("\r\n\r\n{start}")),
            "{answer}"
        );
    }
    Ok(())
}

fn draining_server_is_not_ready(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let mut fixture = Fixture::with_arguments(harness, &["--tcp", &target.address()], STATUS)?;
    let page = StatusPage::of(&fixture.server()?.process)?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"before")?;
    let server = fixture.take_server()?;
    server.process.signal(Signal::TERM)?;
    until(DEADLINE, "a server that is not ready", || {
        let answer = page.get("/readyz")?;
        ensure!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\ndraining\n"), "{answer}");
        Ok(())
    })?;
    ensure!(page.get("/healthz")?.starts_with("HTTP/1.1 200 "));
    until(DEADLINE, "a status of the end", || {
        let status = page.status()?;
        ensure!(status["draining"] == true && status["streams"] == 1, "{status}");
        Ok(())
    })?;
    echoed(&mut stream, b"while it drains")?;
    drop(stream);
    server.finish()?.expect(Exit::Done)?;
    ensure!(TcpStream::connect(page.address()).is_err(), "the page outlived its server");
    Ok(())
}

fn strange_requests_are_answered(harness: &Harness) -> Result<()> {
    let fixture = Fixture::with_arguments(harness, &[], STATUS)?;
    let page = StatusPage::of(&fixture.server()?.process)?;
    let rebound = format!("Host: evil.example:{}", page.address().rsplit(':').next().unwrap_or_default());
    let head =
        |line: &str, headers: &str| format!("{line} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
    for (request, status) in [
        (head("GET /status.json", &rebound), "421"),
        (head("GET /metrics", "Host: 127.0.0.1.evil.example"), "421"),
        (head("GET /status.json", "X: no host"), "400"),
        (head("GET /status.json", "Host: localhost\r\nHost: localhost"), "400"),
        (head("GET /status.json", "Host: 127.0.0.1:1"), "200"),
        ("GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n".into(), "200"),
        ("GET /healthz HTTP/1.0\r\n\r\n".into(), "400"),
        (head("POST /status.json", "Host: localhost\r\nContent-Length: 0"), "405"),
        (head("OPTIONS /", "Host: localhost\r\nOrigin: http://evil.example"), "405"),
        (head("GET /status.json?x", "Host: localhost"), "200"),
        (head("GET /nothing", "Host: localhost"), "404"),
        (head("GET /..%2fserver.key", "Host: localhost"), "404"),
        (head("GET /", &format!("Host: localhost\r\nCookie: {}", "x".repeat(100_000))), "431"),
        (head("GET /", &format!("Host: localhost\r\n{}X: x", "X: x\r\n".repeat(1000))), "431"),
        ("\0\r\n\r\n".into(), "400"),
    ] {
        let answer = page.ask(&request)?;
        ensure!(
            answer.starts_with(&format!("HTTP/1.1 {status} "))
                || answer.starts_with(&format!("HTTP/1.0 {status} ")),
            "{request:.200}: {answer}"
        );
        ensure!(!answer.to_ascii_lowercase().contains("access-control-"), "{answer}");
    }
    let refused = page.ask(&head("POST /", "Host: localhost"))?;
    ensure!(refused.to_ascii_lowercase().contains("allow: get, head\r\n"), "{refused}");

    let many = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100) + &request("/readyz");
    let answers = page.ask(&many)?;
    ensure!(
        answers.matches("\r\n\r\nok\n").count() == 100 && answers.ends_with("\r\n\r\nready\n"),
        "{answers}"
    );
    let mut stream = TcpStream::connect(page.address())?;
    stream.set_nodelay(true)?;
    let request = request("/readyz");
    let (first, last) = request.split_at(20);
    stream.write_all(first.as_bytes())?;
    thread::sleep(Duration::from_millis(50));
    ensure!(exchange(stream, last)?.ends_with("\r\n\r\nready\n"));
    Ok(())
}

/// A thousand connections send a byte now and then. Some of them hold places, the others are told that there is none, and the
/// tunnel knows nothing of it.
fn slow_clients_hold_nothing_up(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::with_arguments(harness, &["--tcp", &target.address()], STATUS)?;
    let process = &fixture.server()?.process;
    let page = StatusPage::of(process)?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let address = forward.local(0)?;
    works_again(&address)?;
    let before = process.memory()?;
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..1000 {
        let stream = TcpStream::connect(page.address()).context("a slow client")?;
        stream.set_nonblocking(true)?;
        slow.push(stream);
    }
    for byte in *b"GET " {
        for mut stream in &slow {
            stream.write_all(&[byte]).ok();
        }
        works_again(&address).context("the tunnel beside slow clients")?;
        thread::sleep(Duration::from_millis(500));
    }
    let more = process.memory()?.saturating_sub(before);
    ensure!(more < 16 * 1024, "a thousand slow clients cost {more} KiB");
    until(DEADLINE, "the page in spite of slow clients", || {
        let answer = page.get("/healthz")?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Ok(())
    })?;
    drop(slow);
    Ok(())
}

fn only_this_machine_reaches_it_unless_told(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    for exposed in ["0.0.0.0:0", "[::]:0", "*:0"] {
        let outcome = harness.server(&home, &["--listen", "127.0.0.1:0", "--status", exposed]).run()?;
        outcome
            .expect(Exit::Usage)?
            .error_names(&["other machines reach"])?
            .hint_names(&["--status-anywhere"])?;
    }
    let config = home.write("exposed.toml", "listen = ['127.0.0.1:0']\nstatus = '0.0.0.0:0'\n")?;
    let config = config.to_str().context("a path in UTF-8")?;
    for words in [&["--config", config][..], &["check", "--config", config]] {
        harness.server(&home, words).run()?.expect(Exit::Usage)?.hint_names(&["--status-anywhere"])?;
    }
    let told = ["--status", "0.0.0.0:0", "--status-anywhere", "--status-host", "status.example.org"];
    let server = Server::start(harness, &home, &told)?;
    let page = StatusPage::of(&server.process)?;
    for (host, status) in
        [("198.51.100.7", "200"), ("status.example.org:8080", "200"), ("evil.example", "421")]
    {
        let port = page.address().rsplit(':').next().unwrap_or_default();
        let stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
        let answer = exchange(stream, &request("/status.json").replace("localhost", host))?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
    server.stop()?.expect(Exit::Done)?;
    Ok(())
}

fn unix_socket_serves_it_too(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let path = home.file("status.sock");
    let server = Server::start(harness, &home, &["--status", &format!("unix:{}", path.display())])?;
    StatusPage::of(&server.process)?;
    let stream = UnixStream::connect(&path)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let answer = exchange(stream, &request("/status.json"))?;
    ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"program\":\"server\""), "{answer}");
    server.stop()?.expect(Exit::Done)?;
    ensure!(!path.exists(), "the socket outlived its server");
    Ok(())
}

fn client_tells_of_its_server(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let mut fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target), "-D", "0", "--status", "127.0.0.1:0"])?;
    let page = StatusPage::of(&forward.process)?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"hello")?;
    let is = |connected: bool, reconnects: u64| {
        until(DEADLINE, "the state of the server", || {
            let status = page.status()?;
            let server = &status["servers"][0];
            ensure!(server["is_connected"] == connected && server["reconnects"] == reconnects, "{status}");
            Ok(status)
        })
    };
    let status = is(true, 0)?;
    ensure!(status["schema"] == 1 && status["program"] == "client" && status["streams"] == 1, "{status}");
    ensure!(status["servers"][0]["address"] == fixture.address(), "{status}");
    let [first, second] = [&status["forwards"][0], &status["forwards"][1]];
    ensure!(first["kind"] == "local" && first["target"] == target.address(), "{status}");
    ensure!(second["kind"] == "dynamic" && second["target"].is_null(), "{status}");
    ensure!(page.get("/readyz")?.starts_with("HTTP/1.1 200 ") && page.get("/metrics")?.contains("# HELP "));
    fixture.kill()?;
    is(false, 0)?;
    fixture.start()?;
    is(true, 1)?;
    forward.stop()?.expect(Exit::Done)?;
    Ok(())
}

/// The system picks the port.
pub(super) const STATUS: &[&str] = &["--status", "127.0.0.1:0"];
