//! Goal: what each client has moved is known over restarts, and a quota ends what goes beyond it, in either direction.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{
    DEADLINE, Exit, Fixture, Forward, Harness, Home, Process, Server, Target, local, noise, until, wrapped,
};
use crate::scenario::registration::scenarios;

scenarios![
    account_outlives_the_server,
    server_that_is_killed_loses_the_last_seconds_alone,
    servers_of_one_home_add_up,
    quota_ends_what_is_open_in_either_direction,
    quota_counts_anew_in_the_next_period,
    accounts_that_are_damaged_or_newer_are_an_error,
    full_disk_loses_no_account,
];

/// What `server list -l --json` says of the first client's account.
fn account(harness: &Harness, home: &Home) -> Result<Value> {
    let listed = harness.server(home, &["list", "-l", "--json"]).run()?.expect(Exit::Done)?;
    let line = String::from_utf8(listed.stdout)?;
    let object: Value = serde_json::from_str(line.lines().next().context("no client")?)?;
    Ok(object["account"].clone())
}

/// Waits until the file of accounts says so much.
fn says(harness: &Harness, home: &Home, key: &str, expected: u64) -> Result<Value> {
    until(DEADLINE, key, || {
        let account = account(harness, home)?;
        ensure!(account[key] == expected, "{key} is not {expected} in {account}");
        Ok(account)
    })
}

/// Sends so many bytes through the first forward, and takes them back.
fn exchange(forward: &Forward<'_>, len: usize) -> Result<()> {
    let mut stream = TcpStream::connect(forward.local(0)?)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let bytes = noise(len)?;
    let mut sending = stream.try_clone()?;
    let expected = bytes.clone();
    let sender =
        thread::spawn(move || sending.write_all(&bytes).and_then(|()| sending.shutdown(Shutdown::Write)));
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed)?;
    sender.join().map_err(|_| anyhow::anyhow!("a thread"))??;
    ensure!(echoed == expected, "{} bytes came back of {len}", echoed.len());
    Ok(())
}

fn account_outlives_the_server(harness: &Harness) -> Result<()> {
    let (echo, forbidden) = (Target::echo()?, Target::echo()?);
    let mut fixture = Fixture::open(harness, &["--messages", "--tcp", &echo.address()])?;
    harness.send(fixture.alice(), fixture.server()?, "hello")?.expect(Exit::Done)?;
    let forward = fixture.forward(&["-L", &local(&echo), "-L", &local(&forbidden)])?;
    exchange(&forward, 100_000)?;
    TcpStream::connect(forward.local(1)?)?.read_to_end(&mut Vec::new()).ok();
    forward.stop()?.expect(Exit::Done)?;
    fixture.take_server()?.stop()?.expect(Exit::Done)?;
    let before = account(harness, fixture.home())?;
    ensure!(before["received"] == 100_005 && before["sent"] == 100_000, "{before}");
    ensure!(before["streams"] == 3 && before["refused"] == 1, "{before}");
    ensure!(before["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")), "{before}");
    ensure!(before["last_seen"].is_string() && before["quota"].is_null(), "{before}");
    let text = fixture.command(&["list", "-l"])?.expect(Exit::Done)?.text();
    for words in ["received 97.7 KiB", "3 streams", "1 refused", "from 127.0.0.1:"] {
        ensure!(text.contains(words), "no {words:?} in {text}");
    }
    fixture.start()?;
    harness.send(fixture.alice(), fixture.server()?, "again")?.expect(Exit::Done)?;
    says(harness, fixture.home(), "received", 100_010)?;
    Ok(())
}

fn server_that_is_killed_loses_the_last_seconds_alone(harness: &Harness) -> Result<()> {
    let mut fixture = Fixture::open(harness, &["--messages"])?;
    harness.send(fixture.alice(), fixture.server()?, "hello")?.expect(Exit::Done)?;
    says(harness, fixture.home(), "received", 5)?;
    fixture.kill()?;
    fixture.start()?;
    harness.send(fixture.alice(), fixture.server()?, "again")?.expect(Exit::Done)?;
    says(harness, fixture.home(), "received", 10)?;
    Ok(())
}

fn servers_of_one_home_add_up(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &["--messages", "--quota", "20B/1h"])?;
    let second = Server::start(harness, fixture.home(), &[])?;
    for server in [fixture.server()?, &second] {
        harness.send(fixture.alice(), server, "1234567890")?.expect(Exit::Done)?;
    }
    let account = says(harness, fixture.home(), "received", 20)?;
    ensure!(account["quota"]["used"] == 20, "{account}");
    // Both have learned that nothing is left.
    for server in [fixture.server()?, &second] {
        until(DEADLINE, "the refusal", || {
            let outcome = harness.send(fixture.alice(), server, "x")?;
            outcome.expect(Exit::Refused)?.error_names(&["quota is used up for another 0h 59m"]).map(drop)
        })?;
    }
    // By the file it is the same.
    let explained = fixture.command(&["explain", "alice", "messages"])?.expect(Exit::Refused)?.text();
    ensure!(explained.contains("its quota is used up until"), "{explained}");
    Ok(())
}

fn quota_ends_what_is_open_in_either_direction(harness: &Harness) -> Result<()> {
    // Takes all, and gives without an end.
    let takes = Target::serve(|mut stream| std::io::copy(&mut stream, &mut std::io::sink()).map(drop))?;
    let gives = Target::serve(|mut stream| {
        loop {
            stream.write_all(&[7; 64 * 1024])?;
        }
    })?;
    for target in [&takes, &gives] {
        let rights = ["--messages", "--tcp", &target.address(), "--quota", "4MiB/1h", "--max-rate", "8MiB"];
        let fixture = Fixture::open(harness, &rights)?;
        let forward = fixture.forward(&["-L", &local(target)])?;
        let mut stream = TcpStream::connect(forward.local(0)?)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let begun = Instant::now();
        let mut sending = stream.try_clone()?;
        let is_taking = std::ptr::eq(target, &takes);
        let sender = thread::spawn(move || while is_taking && sending.write_all(&[7; 64 * 1024]).is_ok() {});
        // It ends by a reset, which is an error, or the end of what came.
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
        ensure!(begun.elapsed() < DEADLINE, "the stream went on");
        drop(stream);
        sender.join().map_err(|_| anyhow::anyhow!("a thread"))?;
        fixture.server()?.logged(&["connection ended early", "its quota is used up until"])?;
        forward.logged(&["quota is used up"])?;
        // Nothing new, and the client is told until when.
        let outcome = harness.send(fixture.alice(), fixture.server()?, "more")?.expect(Exit::Refused)?;
        outcome.error_names(&["quota is used up for another"])?.hint_names(&["--quota"])?;
        let words = ["doctor", &fixture.address(), "--server-key", fixture.key(), "-W", &target.address()];
        let doctor = harness.client(fixture.alice(), &words).run()?.expect(Exit::Refused)?.text();
        ensure!(doctor.contains("quota is used up") && doctor.contains("--quota"), "{doctor}");
        let account = until(DEADLINE, "the account", || {
            let account = account(harness, fixture.home())?;
            let used = account["quota"]["used"].as_u64().context("a number")?;
            // A quarter of a second at 8 MiB a second, and what was on its way.
            ensure!(used >= 4 << 20, "{account}");
            Ok(account)
        })?;
        let used = account["quota"]["used"].as_u64().unwrap_or_default();
        ensure!(used < 16 << 20, "{account}");
        // With more of it the client goes on at once.
        fixture
            .command(&[
                "allow",
                "--add",
                &harness.fingerprint("client", fixture.alice())?,
                "--quota",
                "1GiB/1h",
            ])?
            .expect(Exit::Done)?;
        harness.send(fixture.alice(), fixture.server()?, "more")?.expect(Exit::Done)?;
    }
    Ok(())
}

fn quota_counts_anew_in_the_next_period(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &["--messages", "--quota", "5B/8s"])?;
    let send = || harness.send(fixture.alice(), fixture.server()?, "hello");
    send()?.expect(Exit::Done)?;
    send()?.expect(Exit::Refused)?.error_names(&["quota is used up for another 0h 0m"])?;
    until(DEADLINE, "the next period", || send()?.expect(Exit::Done).map(drop))
}

fn accounts_that_are_damaged_or_newer_are_an_error(harness: &Harness) -> Result<()> {
    let fixture = Fixture::closed(harness, &["--messages"], &[], &[])?;
    for (text, words) in
        [("version = 1\n[[account]]\nclient = 7\n", "line 3"), ("version = 2\nnew = true\n", "version 2")]
    {
        let path = fixture.home().write("accounts.toml", text)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        for command in [&["run", "--listen", "127.0.0.1:0"][..], &["check"], &["list", "-l"]] {
            fixture.command(command)?.expect(Exit::Usage)?.error_names(&["accounts.toml", words])?;
        }
        ensure!(std::fs::read_to_string(&path)? == text, "the file was written");
    }
    // One that is damaged while the server runs: nobody knows what is left of a quota.
    std::fs::remove_file(fixture.home().file("accounts.toml"))?;
    let mut fixture = fixture;
    fixture.allow(&["--messages", "--quota", "1GiB/1h"])?;
    fixture.start()?;
    harness.send(fixture.alice(), fixture.server()?, "hello")?.expect(Exit::Done)?;
    says(harness, fixture.home(), "received", 5)?;
    std::fs::write(fixture.home().file("accounts.toml"), "garbage")?;
    until(DEADLINE, "the refusal", || {
        harness.send(fixture.alice(), fixture.server()?, "x")?.expect(Exit::Refused).map(drop)
    })?;
    fixture.server()?.logged(&["the file of accounts cannot be used, and it has a quota"])?;
    ensure!(fixture.home().read("accounts.toml")? == "garbage", "the file was written");
    Ok(())
}

fn full_disk_loses_no_account(harness: &Harness) -> Result<()> {
    let fixture = Fixture::closed(harness, &["--messages"], &[], &[])?;
    // The server's home is a small disk of its own, which the files of the home are copied to.
    let mount =
        "mount -t tmpfs -o size=1m,mode=700 tmpfs \"$1\" && cp -p \"$0\"/*.* \"$1\" && shift && exec \"$@\"";
    let disk = tempfile::tempdir()?;
    let folder = disk.path().to_str().context("a path in UTF-8")?;
    let home = fixture.home().path().to_str().context("a path in UTF-8")?;
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", mount, home, folder];
    let mut command = harness.program("server");
    command.args(["--home", folder, "--listen", "127.0.0.1:0"]);
    let server = Server::from_process(Process::start(wrapped(&wrapper.map(str::to_owned), command))?)?;
    let target = server.process.id().to_string();
    let inside = |script: &str| {
        let mut command = Command::new("nsenter");
        command.args(["--preserve-credentials", "--user", "--mount", "--target", &target, "--"]);
        Process::start({
            command.args(["sh", "-c", script, folder]);
            command
        })?
        .finish()
    };
    inside("dd if=/dev/zero of=\"$0\"/fill bs=4k count=1000 2>/dev/null; true")?.expect(Exit::Done)?;
    harness.send(fixture.alice(), &server, "hello")?.expect(Exit::Done)?;
    server.logged(&["accounts of clients cannot be written", "kept in memory"])?;
    inside("rm \"$0\"/fill")?.expect(Exit::Done)?;
    server.logged(&["accounts of clients are written again"])?;
    let text = inside("cat \"$0\"/accounts.toml")?.expect(Exit::Done)?.text();
    ensure!(text.contains("received = 5\n"), "{text}");
    server.stop()?.expect(Exit::Done)?;
    Ok(())
}
