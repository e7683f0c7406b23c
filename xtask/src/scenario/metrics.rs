//! Goal: the metrics say exactly what has happened, never by whom, in forms that Prometheus and its tools take.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{
    DEADLINE, Exit, Exposition, Fixture, Harness, Port, Process, Target, Tool, fetch, local, until,
};
use crate::scenario::registration::scenarios;
use crate::workspace;

scenarios![
    values_are_those_of_what_has_happened,
    strangers_add_no_series,
    promtool_finds_nothing_to_say,
    prometheus_scrapes_a_server_and_a_client,
    dashboard_asks_for_what_there_is,
];

const STATUS: [&str; 2] = ["--status", "127.0.0.1:0"];

/// The address at which a program serves its status, as it has said at its start.
fn status_address(process: &Process) -> Result<String> {
    let line = process.stderr.wait_line(DEADLINE, |line| line.trim_start().starts_with("status "))?;
    let (_, url) = line.split_once("http://").with_context(|| format!("no address in {line:?}"))?;
    Ok(url.trim().trim_end_matches('/').to_owned())
}

fn server_status(fixture: &Fixture<'_>) -> Result<String> {
    status_address(&fixture.server()?.process)
}

/// A fixture whose server takes connections of a proxy at a unix socket too, which name any address as their source.
fn behind_proxy<'a>(harness: &'a Harness, rights: &[&str]) -> Result<(Fixture<'a>, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let socket = format!("unix:{}", folder.path().join("proxy").display());
    let mut arguments = STATUS.to_vec();
    arguments.extend(["--proxy-from", "unix", "--listen", &socket]);
    Ok((Fixture::with_arguments(harness, rights, &arguments)?, folder))
}

/// Sends garbage to the server in the name of `source`, and waits until it hangs up.
fn garbage(folder: &tempfile::TempDir, source: &str) -> Result<()> {
    let mut stream = UnixStream::connect(folder.path().join("proxy"))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    // The server may have hung up before all of it.
    write!(stream, "PROXY TCP4 {source} 192.0.2.1 4711 5000\r\nGET / HTTP/1.1\r\n\r\n").ok();
    stream.read_to_end(&mut Vec::new()).ok();
    Ok(())
}

fn values_are_those_of_what_has_happened(harness: &Harness) -> Result<()> {
    let (echo, forbidden) = (Target::echo()?, Target::echo()?);
    let (fixture, folder) = behind_proxy(harness, &["--messages", "--tcp", &echo.address()])?;
    let status = server_status(&fixture)?;
    let before = Exposition::of(&status)?;
    ensure!(before.families() >= 25, "{} families", before.families());
    for text in ["one", "two", "three"] {
        let arguments = ["send", &fixture.address(), text, "--server-key", fixture.key()];
        harness.client(fixture.alice(), &arguments).run()?.expect(Exit::Done)?;
    }
    // 100,000 bytes to a target, and back.
    let forward = fixture.forward(&["-L", &local(&echo), "-L", &local(&forbidden), STATUS[0], STATUS[1]])?;
    let client_status = status_address(&forward.process)?;
    let mut stream = TcpStream::connect(forward.local(0)?)?;
    stream.write_all(&[7; 100_000])?;
    stream.shutdown(Shutdown::Write)?;
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed)?;
    ensure!(echoed.len() == 100_000, "{} bytes came back", echoed.len());
    let mut refused = TcpStream::connect(forward.local(1)?)?;
    refused.read_to_end(&mut Vec::new()).ok();
    // Eight failures are too many, and the ninth connection gets no answer.
    // The server counts a failure once it has hung up.
    for failures in 1..=8 {
        garbage(&folder, "192.0.2.7")?;
        until(DEADLINE, "a failure", || {
            let counted =
                [("sockseal_connections_failed_total{reason=\"not_authentic\"}", f64::from(failures))];
            Exposition::of(&status)?.expect(&counted)
        })?;
    }
    garbage(&folder, "192.0.2.7")?;
    let counted = until(DEADLINE, "the values", || {
        let page = Exposition::of(&status)?;
        page.expect(&[
            ("sockseal_streams_begun_total{kind=\"message\"}", 3.0),
            ("sockseal_streams_ended_total{kind=\"message\",outcome=\"completed\"}", 3.0),
            ("sockseal_stream_received_bytes_total{kind=\"message\"}", 11.0),
            ("sockseal_streams_ended_total{kind=\"tcp\",outcome=\"completed\"}", 1.0),
            ("sockseal_streams_ended_total{kind=\"tcp\",outcome=\"refused\"}", 1.0),
            ("sockseal_streams_refused_total{reason=\"not_allowed\"}", 1.0),
            ("sockseal_streams_refused_total{reason=\"busy\"}", 0.0),
            ("sockseal_streams_open{kind=\"tcp\"}", 0.0),
            ("sockseal_stream_received_bytes_total{kind=\"tcp\"}", 100_000.0),
            ("sockseal_stream_sent_bytes_total{kind=\"tcp\"}", 100_000.0),
            ("sockseal_dial_duration_seconds_count", 1.0),
            ("sockseal_connections_failed_total{reason=\"not_authentic\"}", 8.0),
            ("sockseal_connections_turned_away_total{reason=\"banned\"}", 1.0),
            ("sockseal_penalties_total", 8.0),
            ("sockseal_bans_total", 1.0),
            ("sockseal_sources_banned", 1.0),
            ("sockseal_clients_allowed", 1.0),
        ])?;
        Ok(page)
    })?;
    let modes = ["rsa", "ticket", "psk", "invite"];
    let handshakes = |page: &Exposition, mode: &str| {
        page.value(&format!("sockseal_handshake_duration_seconds_count{{mode=\"{mode}\"}}"))
    };
    let let_in: f64 = modes.iter().map(|mode| handshakes(&counted, mode)).sum::<Result<f64>>()?;
    ensure!(handshakes(&counted, "rsa")? >= 1.0 && let_in >= 4.0, "{let_in} handshakes");
    let issued = counted.value("sockseal_tickets_issued_total")?;
    ensure!((issued - let_in).abs() < 0.001, "{issued} tickets for {let_in} handshakes");
    // The client says the same from its side.
    until(DEADLINE, "the client's values", || {
        Exposition::of(&client_status)?.expect(&[
            ("sockseal_streams_ended_total{kind=\"tcp\",outcome=\"completed\"}", 1.0),
            ("sockseal_streams_ended_total{kind=\"tcp\",outcome=\"refused\"}", 1.0),
            ("sockseal_streams_refused_total{reason=\"not_allowed\"}", 1.0),
            ("sockseal_stream_received_bytes_total", 100_000.0),
            ("sockseal_stream_sent_bytes_total", 100_000.0),
            ("sockseal_servers_up", 1.0),
            ("sockseal_server_reached_total", 1.0),
        ])
    })
}

fn strangers_add_no_series(harness: &Harness) -> Result<()> {
    let (fixture, folder) = behind_proxy(harness, &["--messages"])?;
    let status = server_status(&fixture)?;
    let before = Exposition::of(&status)?;
    for number in 0..1000 {
        garbage(&folder, &format!("198.51.{}.{}", number / 250, number % 250))?;
    }
    // The server counts a connection once it has hung up.
    until(DEADLINE, "all are counted", || {
        let after = Exposition::of(&status)?;
        ensure!(before.names() == after.names(), "strangers have added series");
        after.expect(&[("sockseal_connections_failed_total{reason=\"not_authentic\"}", 1000.0)])
    })
}

fn promtool_finds_nothing_to_say(harness: &Harness) -> Result<()> {
    let promtool = Tool::PROMTOOL.find()?;
    let echo = Target::echo()?;
    let mut arguments = STATUS.to_vec();
    arguments.push("--json");
    let fixture = Fixture::with_arguments(harness, &["--tcp", &echo.address()], &arguments)?;
    let forward = fixture.forward(&["-L", &local(&echo), STATUS[0], STATUS[1]])?;
    for address in [server_status(&fixture)?, status_address(&forward.process)?] {
        let (head, page) = fetch(&address, "/metrics", "text/plain;version=0.0.4")?;
        ensure!(head.contains("text/plain; version=0.0.4; charset=utf-8"), "{head}");
        Exposition::parse(&page)?;
        let mut checking = Command::new(&promtool);
        checking
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut checking = checking.spawn()?;
        checking.stdin.take().context("an input")?.write_all(page.as_bytes())?;
        let checked = checking.wait_with_output()?;
        let said =
            String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
        ensure!(checked.status.success() && said.trim().is_empty(), "{}: {said}", checked.status);
        // promtool reads no OpenMetrics; Prometheus does, in the scenario with it.
        let (head, page) = fetch(&address, "/metrics", "application/openmetrics-text;version=1.0.0")?;
        ensure!(head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
        ensure!(page.ends_with("# EOF\n"), "no end in\n{page}");
        Exposition::parse(&page)?;
    }
    Ok(())
}

fn prometheus_scrapes_a_server_and_a_client(harness: &Harness) -> Result<()> {
    let prometheus = Tool::PROMETHEUS.find()?;
    let echo = Target::echo()?;
    let fixture = Fixture::with_arguments(harness, &["--messages", "--tcp", &echo.address()], &STATUS)?;
    let forward = fixture.forward(&["-L", &local(&echo), STATUS[0], STATUS[1]])?;
    let (server, client) = (server_status(&fixture)?, status_address(&forward.process)?);
    harness.send(fixture.alice(), fixture.server()?, "hello")?.expect(Exit::Done)?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("prometheus.yml");
    let jobs = [("server", &server), ("client", &client)];
    let jobs: String = jobs
        .iter()
        .map(|(job, address)| {
            format!("  - job_name: {job}\n    static_configs:\n      - targets: ['{address}']\n")
        })
        .collect();
    std::fs::write(&config, format!("global:\n  scrape_interval: 1s\nscrape_configs:\n{jobs}"))?;
    let port = Port::hold()?;
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={}", port.address()));
    let _prometheus = Process::start(command)?;
    let query = |query: &str| -> Result<Value> {
        let (_, body) = fetch(&port.address(), &format!("/api/v1/query?query={query}"), "application/json")?;
        Ok(serde_json::from_str(&body)?)
    };
    for (text, expected) in [
        ("up%7Bjob=%22server%22%7D", "1"),
        ("up%7Bjob=%22client%22%7D", "1"),
        (
            "sockseal_streams_ended_total%7Bjob=%22server%22,kind=%22message%22,outcome=%22completed%22%7D",
            "1",
        ),
        ("count(count(%7Bjob=%22server%22,__name__=~%22sockseal_.%2B%22%7D)by(__name__))%3E25", ""),
        ("sockseal_servers_up", "1"),
    ] {
        until(DEADLINE, text, || {
            let answer = query(text)?;
            let value = answer["data"]["result"][0]["value"][1].as_str().context("no value yet")?;
            ensure!(expected.is_empty() || value == expected, "{value}");
            Ok(())
        })?;
    }
    // It has asked for OpenMetrics, and had nothing to complain of.
    let (_, targets) = fetch(&port.address(), "/api/v1/targets", "application/json")?;
    let targets: Value = serde_json::from_str(&targets)?;
    let active = targets["data"]["activeTargets"].as_array().context("targets")?;
    ensure!(active.len() == 2 && active.iter().all(|target| target["lastError"] == ""), "{targets}");
    Ok(())
}

fn dashboard_asks_for_what_there_is(harness: &Harness) -> Result<()> {
    let dashboard = std::fs::read_to_string(workspace::root()?.join("xtask/dist/grafana/sockseal.json"))?;
    let dashboard: Value = serde_json::from_str(&dashboard).context("the dashboard is no JSON")?;
    let mut expressions = Vec::new();
    collect("expr", &dashboard, &mut expressions);
    ensure!(expressions.len() > 10, "{} queries", expressions.len());
    let fixture = Fixture::with_arguments(harness, &["--messages"], &STATUS)?;
    let page = Exposition::of(&server_status(&fixture)?)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for expression in &expressions {
        let words: BTreeSet<&str> = expression
            .split(|c| !is_name(c))
            .filter(|word| word.starts_with("sockseal_") || word.starts_with("process_"))
            .collect();
        ensure!(!words.is_empty(), "a query without a metric: {expression}");
        for word in words {
            ensure!(page.has(word), "the dashboard asks for {word}, which the server does not have");
        }
    }
    Ok(())
}

/// The texts of all keys of this name.
fn collect<'v>(key: &str, value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(key).and_then(Value::as_str));
            object.values().for_each(|value| collect(key, value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(key, value, found)),
        _ => {}
    }
}
