//! Goal: common programs work through a tunnel as they do without one.

use std::fs;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::harness::services::{Iperf, Nginx, Postgres, Redis, Sshd};
use crate::harness::{Exit, Fixture, Harness, Lines, Process, Target, Tool, digest, digest_of, printed};
use crate::scenario::registration::scenarios;

scenarios![
    redis_is_benchmarked,
    postgres_is_benchmarked,
    nginx_answers_curl_and_wrk,
    nginx_behind_the_client_answers_curl,
    curl_goes_through_the_proxy,
    ssh_goes_through_standard_streams,
    netcat_goes_through_standard_streams,
    iperf_goes_both_ways_at_once,
];

fn redis_is_benchmarked(harness: &Harness) -> Result<()> {
    let benchmark = Tool::REDIS_BENCHMARK.find()?;
    let redis = Redis::start(harness)?;
    let fixture = Fixture::open(harness, &["--tcp", &redis.address(), "--unix", &redis.socket()])?;
    let forward = fixture.forward(&[
        "-L",
        &format!("0:{}", redis.address()),
        "-L",
        &format!("0:{}", redis.socket()),
    ])?;
    for index in [0, 1] {
        let port = port(&forward.local(index)?)?;
        for pattern in
            [&["-n", "20000", "-P", "16"][..], &["-n", "2000", "-k", "0"], &["-n", "500", "-d", "200000"]]
        {
            let mut command = Command::new(&benchmark);
            command
                .args(["-h", "127.0.0.1", "-p", &port, "-c", "50", "-t", "set,get", "--csv"])
                .args(pattern);
            let report = printed(&mut command).with_context(|| format!("{pattern:?}"))?;
            for test in ["\"SET\"", "\"GET\""] {
                ensure!(report.lines().any(|line| line.starts_with(test)), "no {test}:\n{report}");
            }
        }
    }
    Ok(())
}

fn postgres_is_benchmarked(harness: &Harness) -> Result<()> {
    let pgbench = Tool::PGBENCH.find()?;
    let postgres = Postgres::start()?;
    let config = format!("[[service]]\nname = \"db\"\ntarget = \"{}\"\n", postgres.address());
    let fixture = Fixture::with_config(harness, &["--service", "db"], &config)?;
    let forward = fixture.forward(&["-L", "0:@db"])?;
    let port = port(&forward.local(0)?)?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&pgbench);
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres"]).args(arguments).arg("postgres");
        printed(&mut command)
    };
    run(&["-i", "-q", "-s", "1"])?;
    // The second run makes a connection for each transaction.
    for arguments in [&["-c", "8", "-t", "100"][..], &["-S", "-C", "-c", "4", "-t", "50"]] {
        let report = run(arguments)?;
        let failed = report.lines().find(|line| line.contains("failed transactions"));
        ensure!(failed.is_none_or(|line| line.contains(": 0 ")), "{report}");
        let done =
            arguments[arguments.len() - 3].parse::<u32>()? * arguments[arguments.len() - 1].parse::<u32>()?;
        ensure!(report.contains(&format!("{done}/{done}")), "{report}");
    }
    Ok(())
}

fn nginx_answers_curl_and_wrk(harness: &Harness) -> Result<()> {
    let [curl, wrk] = [Tool::CURL.find()?, Tool::WRK.find()?];
    let nginx = Nginx::start(harness)?;
    let fixture = Fixture::open(harness, &["--tcp", &nginx.address()])?;
    let forward = fixture.forward(&["-L", &format!("0:{}", nginx.address())])?;
    let url = format!("http://{}", forward.local(0)?);
    downloads(&mut Command::new(curl), &url)?;
    // The first run keeps connections alive, and the second one makes a connection for each request.
    for header in ["Connection: keep-alive", "Connection: close"] {
        let mut command = Command::new(&wrk);
        command.args(["-t", "2", "-c", "50", "-d", "3s", "-H", header]).arg(format!("{url}/small"));
        let report = printed(&mut command)?;
        ensure!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{header}:\n{report}");
        let requests = report.lines().find_map(|line| line.trim().split_once(" requests in "));
        let requests: u32 = requests.context("no count of requests")?.0.parse()?;
        ensure!(requests > 100, "{requests} requests in three seconds\n{report}");
    }
    Ok(())
}

fn nginx_behind_the_client_answers_curl(harness: &Harness) -> Result<()> {
    let curl = Tool::CURL.find()?;
    let nginx = Nginx::start(harness)?;
    let fixture = Fixture::open(harness, &["--listen", "*"])?;
    let forward = fixture.forward(&["-R", &format!("0:{}", nginx.address()), "-R", "0"])?;
    downloads(&mut Command::new(&curl), &format!("http://{}", forward.remote(0)?))?;
    let socks = if forward.logged(&["-> socks"])?.contains(&forward.remote(0)?) { 0 } else { 1 };
    let mut command = Command::new(&curl);
    command.args(["--socks5-hostname", &forward.remote(socks)?]);
    downloads(&mut command, &format!("http://{}", nginx.address()))
}

fn curl_goes_through_the_proxy(harness: &Harness) -> Result<()> {
    let curl = Tool::CURL.find()?;
    let nginx = Nginx::start(harness)?;
    let port = port(&nginx.address())?;
    let fixture =
        Fixture::open(harness, &["--tcp", &nginx.address(), "--tcp", &format!("localhost:{port}")])?;
    let forward = fixture.forward(&["-D", "0"])?;
    for host in ["localhost", "127.0.0.1"] {
        let mut command = Command::new(&curl);
        command.args(["--socks5-hostname", &forward.dynamic(0)?]);
        downloads(&mut command, &format!("http://{host}:{port}"))?;
        // The same works with SOCKS4a and with HTTP's CONNECT.
        for options in [&["--socks4a"][..], &["--proxytunnel", "--proxy"]] {
            let mut command = Command::new(&curl);
            command.args(options).arg(forward.dynamic(0)?);
            downloads(&mut command, &format!("http://{host}:{port}"))?;
        }
    }
    // Exit code 97 means that curl could not connect through the proxy.
    let mut command = Command::new(&curl);
    command.args(["-sS", "--socks5-hostname", &forward.dynamic(0)?, "http://127.0.0.1:9/"]);
    let refused = command.output().context("curl")?;
    ensure!(refused.status.code() == Some(97), "curl ends with {}", refused.status);
    Ok(())
}

fn ssh_goes_through_standard_streams(harness: &Harness) -> Result<()> {
    Tool::SSH.find()?;
    let sshd = Sshd::start(harness)?;
    let fixture = Fixture::open(harness, &["--tcp", &sshd.address()])?;
    let words = fixture.proxy_command(&fixture.address())?;
    let mut command = sshd.client(&format!("{words} -W [%h]:%p"))?;
    command.arg("sha256sum");
    let mut ssh = Process::start(command)?;
    ssh.feed(Lines::of_length(LENGTH))?;
    let told = ssh.finish()?.expect(Exit::Done)?.text();
    let (_, expected) = digest_of(Lines::of_length(LENGTH))?;
    ensure!(told.starts_with(&expected), "ssh's other end got {told}");
    let mut command = sshd.client(&format!("{words} -W [%h]:%p"))?;
    command.arg("echo out; echo err >&2; exit 4");
    let outcome = Process::start(command)?.finish()?.expect(Exit::Integrity)?.expect_stdout(b"out\n")?;
    ensure!(outcome.stderr.contains("err"), "{}", outcome.stderr);
    Ok(())
}

fn netcat_goes_through_standard_streams(harness: &Harness) -> Result<()> {
    let nc = Tool::NC.find()?;
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let forward = fixture.forward(&["-L", &format!("0:{}", target.address())])?;
    let mut command = Command::new(nc);
    command.args(["-N", "127.0.0.1", &port(&forward.local(0)?)?]);
    let mut nc = Process::start(command)?;
    nc.feed(Lines::of_length(LENGTH))?;
    let back = nc.finish()?.expect(Exit::Done)?.stdout;
    let (_, expected) = digest_of(Lines::of_length(LENGTH))?;
    ensure!(digest(&back) == expected, "{} bytes came back, and others", back.len());
    Ok(())
}

/// Two instances run, one for each direction: iperf3's own `--bidir` tells its streams apart by the order in
/// which they are accepted, which is not always the order in which they were made.
fn iperf_goes_both_ways_at_once(harness: &Harness) -> Result<()> {
    let iperfs = [Iperf::start()?, Iperf::start()?];
    let [up, down] = iperfs.each_ref().map(Iperf::address);
    let fixture = Fixture::open(harness, &["--tcp", &up, "--tcp", &down])?;
    let forward = fixture.forward(&["-L", &format!("0:{up}"), "-L", &format!("0:{down}")])?;
    let run = |index, way: &[&str]| {
        let port = port(&forward.local(index)?)?;
        let bytes = Iperf::client(&port, &[&["-P", "2", "-t", "3"], way].concat())?;
        ensure!(bytes > 10e6, "{way:?}: {bytes} bytes in three seconds");
        Ok(())
    };
    thread::scope(|scope| {
        let up = scope.spawn(|| run(0, &[]));
        run(1, &["-R"])?;
        up.join().map_err(|_| anyhow!("a thread has panicked"))?
    })
}

/// Downloads both files, the large one several times in parallel, and checks their content.
fn downloads(curl: &mut Command, url: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    curl.args(["-sS", "--fail", "--max-time", "60", "--parallel", "--no-keepalive"]);
    for number in 0..4 {
        curl.arg("-o").arg(folder.path().join(number.to_string())).arg(format!("{url}/large"));
    }
    curl.arg("-o").arg(folder.path().join("small")).arg(format!("{url}/small"));
    printed(curl)?;
    let expected = digest_of(Lines::of_length(Nginx::LARGE))?;
    for number in 0..4 {
        let got = digest_of(fs::File::open(folder.path().join(number.to_string()))?)?;
        ensure!(got == expected, "{} bytes of {}, and others", got.0, expected.0);
    }
    ensure!(fs::read_to_string(folder.path().join("small"))? == "a small page\n", "another small page");
    Ok(())
}

fn port(address: &str) -> Result<String> {
    Ok(address.rsplit(':').next().context("no port")?.to_owned())
}

const LENGTH: u64 = 8 * 1024 * 1024;
