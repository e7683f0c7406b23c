//! Goal: a client has exactly the rights that it was given, from the moment that they are allowed until they
//! are revoked.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::harness::{
    DEADLINE, End, Exchange, Exit, Fixture, Forward, Harness, Key, Port, Server, Target, dial, echoed,
    expect_reset, local, read_to_end_of, serve_unix, throughout, until, works_again,
};
use crate::scenario::registration::scenarios;

scenarios![
    without_a_word_nothing_is_tunneled,
    stranger_tunnels_nothing_even_where_anyone_may,
    rights_change_under_a_running_client,
    revoked_clients_streams_end_at_once,
    rights_expire,
    network_decides,
    messages_and_pipe_are_rights_like_others,
    unix_path_is_exact,
    channels_are_limited,
    mistake_in_the_file_cuts_nobody_off,
    rate_is_limited,
    rate_is_shared_and_kills_nothing,
    rate_changes_under_a_live_stream,
    address_that_is_withdrawn_ends_what_its_name_has_open,
    list_shows_the_rights,
    status_shows_who_has_what_open,
    allow_refuses_what_it_cannot_understand,
];

fn without_a_word_nothing_is_tunneled(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &[])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    expect_reset(&forward.local(0)?)?;
    fixture.forward_to_the_end(fixture.alice(), &["-W", &target.address()])?.expect(Exit::Refused)?;
    fixture.forward_to_the_end(fixture.alice(), &["-R", &local(&target)])?.expect(Exit::Refused)?;
    fixture.forward_to_the_end(fixture.alice(), &["-R", "0"])?.expect(Exit::Refused)?;
    ensure!(target.accepted() == 0, "the target was reached");
    Ok(())
}

fn stranger_tunnels_nothing_even_where_anyone_may(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &["--anyone"])?;
    for home in [harness.home()?, harness.home_with(Key::Mallory)?] {
        let arguments = ["forward", server.address(), "-W", &target.address(), "--server-key", server.key()?];
        harness.client(&home, &arguments).run()?.expect(Exit::Refused)?.error_names(&[])?;
        let arguments = ["forward", server.address(), "-R", "0", "--server-key", server.key()?];
        harness.client(&home, &arguments).run()?.expect(Exit::Refused)?.error_names(&[])?;
    }
    ensure!(target.accepted() == 0, "the target was reached");
    server.still_serves(harness)
}

fn rights_change_under_a_running_client(harness: &Harness) -> Result<()> {
    let [first, second] = [Target::echo()?, Target::echo()?];
    let fixture = Fixture::open(harness, &["--tcp", &first.address()])?;
    let forward = fixture.forward(&["-L", &local(&first), "-L", &local(&second)])?;
    let [to_first, to_second] = [forward.local(0)?, forward.local(1)?];
    for _ in 0..3 {
        works_again(&to_first)?;
        expect_reset(&to_second)?;
        fixture.allow(&["--tcp", &second.address()])?;
        works_again(&to_second)?;
        expect_reset(&to_first)?;
        fixture.allow(&["--tcp", &first.address()])?;
    }
    Ok(())
}

fn revoked_clients_streams_end_at_once(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let mallory = fixture.mallory(&["--tcp", &target.address()])?;
    let port = Port::hold()?;
    let reverse = format!("{}:{}", port.number(), target.address());
    let forward = fixture.forward(&["-L", &local(&target), "-R", &reverse])?;
    forward.remote(0)?;
    let other =
        Forward::start(harness, &mallory, &fixture.address(), fixture.key(), &["-L", &local(&target)])?;
    let mut streams = vec![dial(&port.address())?];
    for _ in 0..5 {
        streams.push(forward.dial()?);
    }
    let mut neighbor = other.dial()?;
    for stream in streams.iter_mut().chain([&mut neighbor]) {
        echoed(stream, b"before")?;
    }
    let revoked = Instant::now();
    fixture.command(&["revoke", "alice"])?.expect(Exit::Done)?;
    for stream in streams {
        let ended = read_to_end_of(stream)?;
        ensure!(ended == (0, End::Reset), "{ended:?} instead of a reset");
    }
    ensure!(revoked.elapsed() < AT_ONCE, "it took {:?}", revoked.elapsed());
    echoed(&mut neighbor, b"nobody revoked this one")?;
    until(DEADLINE, "the revoked client's lease ends", || {
        TcpListener::bind(port.address()).map(drop).context("somebody listens")
    })?;
    drop(neighbor);
    target.is_left_alone()?;
    fixture.forward_to_the_end(fixture.alice(), &["-W", &target.address()])?.expect(Exit::Refused)?;
    Ok(())
}

fn rights_expire(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--expires", "3s"])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    echoed(&mut forward.dial()?, b"in time")?;
    let address = forward.local(0)?;
    until(DEADLINE, "rights expire", || expect_reset(&address))?;
    fixture.forward_to_the_end(fixture.alice(), &["-W", &target.address()])?.expect(Exit::Refused)?;
    let listed = fixture.command(&["list"])?.expect(Exit::Done)?.text();
    ensure!(listed.contains("expired"), "list does not say so: {listed}");
    fixture.allow(&["--tcp", &target.address(), "--expires", "90d"])?;
    drop(forward);
    let forward = fixture.forward(&["-L", &local(&target)])?;
    works_again(&forward.local(0)?)
}

fn network_decides(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let to = target.address();
    let fixture = Fixture::open(harness, &["--tcp", &to, "--from", "10.0.0.0/8", "--from", "2001:db8::/32"])?;
    let refused = fixture.forward_to_the_end(fixture.alice(), &["-L", &local(&target)])?;
    refused.expect(Exit::Refused)?.error_names(&[])?;
    fixture.allow(&["--tcp", &to, "--from", "10.0.0.0/8", "--from", "127.0.0.0/8"])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    echoed(&mut forward.dial()?, b"from the right network")
}

fn messages_and_pipe_are_rights_like_others(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let send = |text: &str| {
        let address = fixture.address();
        harness.client(fixture.alice(), &["send", &address, text, "--server-key", fixture.key()]).run()
    };
    send("no right")?.expect(Exit::Refused)?.error_names(&[])?;
    fixture.allow(&["--tcp", &target.address(), "--messages"])?;
    send("a right")?.expect(Exit::Done)?;
    fixture.server()?.printed("[alice] a right")?;
    fixture.allow(&["--pipe"])?;
    send("a right to something else")?.expect(Exit::Refused)?;
    let printed = fixture.server()?.process.stdout.text();
    ensure!(!printed.contains("no right") && !printed.contains("something else"), "{printed}");
    Ok(())
}

fn unix_path_is_exact(harness: &Harness) -> Result<()> {
    let place = harness.home()?;
    let [open, shut] = ["open.sock", "shut.sock"].map(|name| place.file(name).display().to_string());
    for name in ["open.sock", "shut.sock"] {
        serve_unix(&place.file(name), |stream| Exchange::SMALL.answer(stream))?;
    }
    let fixture = Fixture::open(harness, &["--unix", &open])?;
    let folder = place.path().display().to_string();
    let around = format!("0:{folder}/../{}/shut.sock", folder.rsplit('/').next().unwrap_or_default());
    let forward = fixture.forward(&[
        "-L",
        &format!("0:{open}"),
        "-L",
        &format!("0:{shut}"),
        "-L",
        &format!("0:{open}2"),
    ])?;
    Exchange::SMALL.ask(forward.dial()?)?;
    expect_reset(&forward.local(1)?)?;
    expect_reset(&forward.local(2)?)?;
    let outcome = fixture.forward_to_the_end(fixture.alice(), &["-W", &around["0:".len()..]])?;
    outcome.expect_any(&[Exit::Refused, Exit::Usage])?;
    Ok(())
}

/// Connections beyond the limit wait until others end, and are served then.
fn channels_are_limited(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--max-channels", "3"])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut served = Vec::new();
    for _ in 0..3 {
        let mut stream = forward.dial()?;
        echoed(&mut stream, b"within the limit")?;
        served.push(stream);
    }
    let mut waiting = forward.dial()?;
    waiting.write_all(b"one too many")?;
    throughout(Duration::from_secs(2), || {
        let channels = fixture.resources()?.channels;
        ensure!(channels <= 3, "{channels} channels");
        ensure!(target.accepted() == 3, "{} connections were served", target.accepted());
        Ok(())
    })?;
    served.clear();
    let mut back = [0; 12];
    std::io::Read::read_exact(&mut waiting, &mut back).context("the one that waited")?;
    ensure!(&back == b"one too many", "another echo");
    Ok(())
}

/// The wait is longer than the server's interval for checking the file.
fn mistake_in_the_file_cuts_nobody_off(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"before")?;
    let path = fixture.home().file("clients.toml");
    let good = std::fs::read(&path)?;
    std::fs::write(&path, "[[client]\n")?;
    throughout(Duration::from_secs(12), || echoed(&mut stream, b"in spite of it"))?;
    std::fs::write(&path, good)?;
    fixture.allow(&["--messages"])?;
    ensure!(read_to_end_of(stream)?.1 == End::Reset, "a right that was withdrawn then is still there");
    Ok(())
}

fn rate_is_limited(harness: &Harness) -> Result<()> {
    let exchange = Exchange { up: 1024 * 1024, down: 1024 * 1024 };
    let target = Target::exchange(exchange)?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--max-rate", "1MiB"])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let address = forward.local(0)?;
    let started = Instant::now();
    // The rate applies to the client as a whole, and not to each of its connections.
    let talkers: Vec<_> = (0..4)
        .map(|_| {
            let address = address.clone();
            thread::spawn(move || exchange.ask(dial(&address)?))
        })
        .collect();
    for talker in talkers {
        talker.join().map_err(|_| anyhow!("a talker panicked"))??;
    }
    let elapsed = started.elapsed();
    // Four mebibytes pass in each direction, and a second's worth may pass at once.
    ensure!(elapsed > Duration::from_millis(2_500), "8 MiB in {elapsed:?} at 1 MiB a second");
    ensure!(elapsed < Duration::from_secs(25), "8 MiB took {elapsed:?} at 1 MiB a second");
    Ok(())
}

/// There are far more streams than the rate is enough for, and all of them live longer than the time-out for silence.
fn rate_is_shared_and_kills_nothing(harness: &Harness) -> Result<()> {
    let target = Target::serve(|mut stream| {
        std::io::copy(&mut std::io::repeat(b'.'), &mut stream)?;
        Ok(())
    })?;
    let echo = Target::echo()?;
    let rights = ["--tcp", &target.address(), "--tcp", &echo.address(), "--max-rate", "100KiB"];
    let fixture = Fixture::open(harness, &rights)?;
    let forward = fixture.forward(&["-L", &local(&target), "-L", &local(&echo)])?;
    let address = forward.local(0)?;
    let streams = (0..8).map(|_| dial(&address)).collect::<Result<Vec<_>>>()?;
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            thread::spawn(move || -> Result<u64> {
                let (started, mut got) = (Instant::now(), 0);
                let mut buffer = [0; 16 * 1024];
                while started.elapsed() < Duration::from_secs(36) {
                    got += u64::try_from(stream.read(&mut buffer).context("a slow stream was cut")?)?;
                }
                Ok(got)
            })
        })
        .collect();
    let got = readers
        .into_iter()
        .map(|reader| reader.join().map_err(|_| anyhow!("a reader panicked"))?)
        .collect::<Result<Vec<_>>>()?;
    let (least, most) = (got.iter().min().context("none")?, got.iter().max().context("none")?);
    ensure!(*least > 150_000 && *most < 4 * *least, "the rate was not shared: {got:?}");
    Ok(())
}

fn rate_changes_under_a_live_stream(harness: &Harness) -> Result<()> {
    let target = Target::serve(|mut stream| {
        std::io::copy(&mut std::io::repeat(b'.'), &mut stream)?;
        Ok(())
    })?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    let mut buffer = vec![0; 64 * 1024];
    let mut read_for = |time: Duration| -> Result<u64> {
        let (started, mut got) = (Instant::now(), 0);
        while started.elapsed() < time {
            got += u64::try_from(stream.read(&mut buffer)?)?;
        }
        Ok(got)
    };
    read_for(Duration::from_secs(1))?;
    fixture.allow(&["--tcp", &target.address(), "--max-rate", "1MiB"])?;
    // Bytes that were under way already still arrive.
    read_for(Duration::from_secs(8))?;
    let slow = read_for(Duration::from_secs(4))?;
    ensure!(slow < 8 * 1024 * 1024, "{slow} bytes in 4 s at 1 MiB a second");
    fixture.allow(&["--tcp", &target.address()])?;
    read_for(Duration::from_secs(2))?;
    let fast = read_for(Duration::from_secs(2))?;
    ensure!(fast > 4 * slow, "{fast} bytes without a limit, {slow} with one");
    Ok(())
}

fn address_that_is_withdrawn_ends_what_its_name_has_open(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let by_name = format!("localhost:{}", target.port());
    let fixture = Fixture::open(harness, &["--tcp", "*:*", "--tcp", &by_name])?;
    let forward = fixture.forward(&["-L", &format!("0:{by_name}")])?;
    let mut stream = forward.dial()?;
    echoed(&mut stream, b"by name")?;
    fixture.allow(&["--tcp", "*:*"])?;
    ensure!(read_to_end_of(stream)?.1 == End::Reset, "the name still leads to this machine");
    expect_reset(&forward.local(0)?)
}

fn list_shows_the_rights(harness: &Harness) -> Result<()> {
    let rights = [
        "--tcp",
        "127.0.0.1:80-90",
        "--tcp",
        "*.example.org:443",
        "--udp",
        "[::1]:53",
        "--unix",
        "/run/x.sock",
        "--service",
        "db",
        "--listen",
        "8080",
        "--messages",
        "--from",
        "10.0.0.0/8",
        "--max-channels",
        "7",
    ];
    let fixture = Fixture::open(harness, &rights)?;
    let listed = fixture.command(&["list"])?.expect(Exit::Done)?.text();
    let line = listed.lines().find(|line| line.starts_with("alice\t")).context("no line on alice")?;
    for word in rights {
        ensure!(line.contains(word), "list does not show {word}: {line}");
    }
    Ok(())
}

fn status_shows_who_has_what_open(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut streams = [forward.dial()?, forward.dial()?];
    for stream in &mut streams {
        echoed(stream, b"twelve bytes")?;
    }
    let status = fixture.command(&["status", "--json"])?.expect(Exit::Done)?.text();
    let status: serde_json::Value = serde_json::from_str(&status)?;
    let open = &status["open"][0];
    ensure!(open["client"] == "alice" && open["streams"] == 2 && open["bytes"] == 48, "{status}");
    ensure!(open["target"].as_str().is_some_and(|text| text.contains(&target.address())), "{status}");
    let text = fixture.command(&["status"])?.expect(Exit::Done)?.text();
    let line = text.lines().find(|line| line.starts_with("open")).context("no line")?;
    ensure!(
        line.contains("alice") && line.contains(&target.address()) && line.contains("48 bytes"),
        "{line}"
    );
    drop(streams);
    until(DEADLINE, "nothing is open", || {
        let text = fixture.command(&["status"])?.expect(Exit::Done)?.text();
        ensure!(!text.lines().any(|line| line.starts_with("open")), "{text}");
        Ok(())
    })
}

fn allow_refuses_what_it_cannot_understand(harness: &Harness) -> Result<()> {
    let fixture = Fixture::open(harness, &[])?;
    let key = harness.fingerprint("client", fixture.alice())?;
    for (option, value) in [
        ("--tcp", "127.0.0.1"),
        ("--tcp", "127.0.0.1:"),
        ("--tcp", ":80"),
        ("--tcp", "127.0.0.1:65536"),
        ("--tcp", "127.0.0.1:90-80"),
        ("--tcp", "127.0.0.1/33:80"),
        ("--tcp", "[::1:80"),
        ("--udp", "127.0.0.1:x"),
        ("--unix", "relative/path"),
        ("--unix", "/a/../b"),
        ("--service", "no spaces"),
        ("--listen", "99999"),
        ("--expires", "soon"),
        ("--from", "10.0.0.0/40"),
        ("--max-channels", "-1"),
        ("--max-rate", "fast"),
    ] {
        let words = ["allow", &key, "--name", "alice", &format!("{option}={value}")];
        let outcome = fixture.command(&words)?.expect(Exit::Usage);
        outcome
            .and_then(|outcome| outcome.error_names(&[option]))
            .with_context(|| format!("{option} {value}"))?;
    }
    Ok(())
}

/// Longest time for an immediate effect, far shorter than any deadline that would end a stream by itself.
const AT_ONCE: Duration = Duration::from_secs(5);
