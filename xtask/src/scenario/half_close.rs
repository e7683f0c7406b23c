//! Goal: the directions of a tunnel end independently, neither delays the other, and a reset stays a reset.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{
    DEADLINE, End, Fixture, Gate, Harness, Lines, Port, Recording, Target, dial, digest_of, echoed, local,
    read_to_end_of, reset, throughout, until,
};
use crate::scenario::registration::scenarios;

scenarios![
    answer_may_come_long_after_the_question_has_ended,
    question_may_go_on_long_after_the_answer_has_ended,
    slow_reader_grows_nobodys_memory,
    slow_reader_at_the_target_grows_nobodys_memory,
    reset_of_the_application_stays_a_reset,
    reset_of_the_target_stays_a_reset,
    end_of_both_sides_is_the_end,
    target_that_hangs_can_be_left,
];

/// The wait is longer than the deadline for signs of life, and than any timer for half-closed streams.
fn answer_may_come_long_after_the_question_has_ended(harness: &Harness) -> Result<()> {
    let gate = Gate::default();
    let held = gate.clone();
    let target = Target::serve(move |mut stream| {
        let mut question = String::new();
        stream.read_to_string(&mut question)?;
        held.wait();
        stream.write_all(format!("answer to {question}").as_bytes())
    })?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let forward = fixture.forward(&["-L", &local(&target), "-R", &local(&target)])?;
    let mut streams = [forward.dial()?, dial(&forward.remote(0)?)?];
    for stream in &mut streams {
        stream.write_all(b"question")?;
        stream.shutdown(Shutdown::Write)?;
    }
    until(DEADLINE, "both reach the target", || {
        ensure!(target.open() == 2, "{} of 2 streams are there", target.open());
        Ok(())
    })?;
    throughout(LONG, || {
        ensure!(target.open() == 2, "{} of 2 streams are left", target.open());
        Ok(())
    })?;
    gate.open();
    for mut stream in streams {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("the answer")?;
        ensure!(answer == "answer to question", "{answer:?}");
    }
    Ok(())
}

fn question_may_go_on_long_after_the_answer_has_ended(harness: &Harness) -> Result<()> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let target = Target::serve(move |mut stream| {
        stream.write_all(b"all I have to say")?;
        stream.shutdown(Shutdown::Write)?;
        let mut question = String::new();
        stream.read_to_string(&mut question)?;
        sender.send(question).map_err(std::io::Error::other)
    })?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    let mut stream = forward.dial()?;
    ensure!(read_to_end_of(&stream)? == (17, End::Clean), "the answer did not end");
    stream.write_all(b"first ")?;
    throughout(Duration::from_secs(4), || {
        ensure!(target.open() == 1, "the stream is gone");
        Ok(())
    })?;
    stream.write_all(b"second")?;
    stream.shutdown(Shutdown::Write)?;
    let question = receiver.recv_timeout(DEADLINE)?;
    ensure!(question == "first second", "{question:?} arrived");
    Ok(())
}

/// The target offers a gibibyte to an application that first reads nothing, and then slowly. The bytes have
/// to wait at the target.
fn slow_reader_grows_nobodys_memory(harness: &Harness) -> Result<()> {
    let target = Target::serve(|mut stream| {
        std::io::copy(&mut Lines::of_length(OFFERED), &mut stream)?;
        stream.shutdown(Shutdown::Write)
    })?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    forward.connected()?;
    let before = [fixture.at_rest()?.memory, forward.at_rest()?.memory];
    let streams = (0..3).map(|_| forward.dial()).collect::<Result<Vec<_>>>()?;
    until(DEADLINE, "the streams stand", || {
        ensure!(target.accepted() == 3);
        Ok(())
    })?;
    throughout(Duration::from_secs(4), || grown_little(&fixture, &forward, before))?;
    for mut stream in streams {
        let mut some = vec![0; 5_000_000];
        stream.read_exact(&mut some).context("the bytes that were held back")?;
        ensure!(some == Lines::of_length(5_000_000).bytes()?, "other bytes");
        grown_little(&fixture, &forward, before)?;
    }
    target.is_left_alone()
}

fn slow_reader_at_the_target_grows_nobodys_memory(harness: &Harness) -> Result<()> {
    let gate = Gate::default();
    let held = gate.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    let target = Target::serve(move |stream| {
        held.wait();
        let got = digest_of(stream).map_err(std::io::Error::other)?;
        sender.send(got).map_err(std::io::Error::other)
    })?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    forward.connected()?;
    let before = [fixture.at_rest()?.memory, forward.at_rest()?.memory];
    let stream = forward.dial()?;
    let mut sending = stream.try_clone()?;
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        std::io::copy(&mut Lines::of_length(OFFERED / 8), &mut sending)?;
        sending.shutdown(Shutdown::Write)
    });
    throughout(Duration::from_secs(4), || {
        ensure!(!sender.is_finished(), "somebody takes what the target does not");
        grown_little(&fixture, &forward, before)
    })?;
    gate.open();
    let got = receiver.recv_timeout(DEADLINE)?;
    ensure!(got == digest_of(Lines::of_length(OFFERED / 8))?, "{} bytes arrived, and others", got.0);
    grown_little(&fixture, &forward, before)
}

fn grown_little(
    fixture: &Fixture<'_>,
    forward: &crate::harness::Forward<'_>,
    before: [u64; 2],
) -> Result<()> {
    let now = [fixture.server()?.process.memory()?, forward.process.memory()?];
    for (before, now) in before.into_iter().zip(now) {
        ensure!(now < before + GROWTH, "memory grew from {before} to {now} KiB");
    }
    Ok(())
}

fn reset_of_the_application_stays_a_reset(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let forward = fixture.forward(&["-L", &local(&target), "-R", &local(&target)])?;
    let ways: [String; 2] = [forward.local(0)?, forward.remote(0)?];
    let before = (fixture.at_rest()?, forward.at_rest()?);
    for round in 1..=5 {
        for address in &ways {
            let mut stream = dial(address)?;
            echoed(&mut stream, b"here")?;
            reset(stream)?;
        }
        until(DEADLINE, "resets arrive", || {
            let failures = target.failures();
            ensure!(failures.len() == 2 * round, "{} of {} resets: {failures:?}", failures.len(), 2 * round);
            Ok(())
        })?;
    }
    ensure!(target.failures().iter().all(|failure| failure.contains("reset")), "{:?}", target.failures());
    fixture.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

fn reset_of_the_target_stays_a_reset(harness: &Harness) -> Result<()> {
    let target = Target::resetting(10_000)?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--listen", "*"])?;
    let forward = fixture.forward(&["-L", &local(&target), "-R", &local(&target)])?;
    let ways = [forward.local(0)?, forward.remote(0)?];
    let before = (fixture.at_rest()?, forward.at_rest()?);
    for _ in 0..5 {
        for address in &ways {
            let mut stream = dial(address)?;
            let mut said = vec![0; 10_000];
            stream.read_exact(&mut said)?;
            stream.write_all(b"!")?;
            let ended = read_to_end_of(stream)?;
            ensure!(ended == (0, End::Reset), "{ended:?} instead of a reset");
        }
    }
    fixture.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

fn end_of_both_sides_is_the_end(harness: &Harness) -> Result<()> {
    let target = Target::echo()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    for text in [&b""[..], b"!", &[b'.'; 16_384], &[b'.'; 16_385]] {
        let mut stream = forward.dial()?;
        let answer = Recording::of(stream.try_clone()?);
        stream.write_all(text)?;
        stream.shutdown(Shutdown::Write)?;
        let answer = answer.wait_end(DEADLINE)?;
        ensure!(answer == text, "{} bytes for {}", answer.len(), text.len());
    }
    target.is_left_alone()?;
    ensure!(target.failures().is_empty(), "{:?}", target.failures());
    Ok(())
}

/// The target accepts, and then neither reads nor writes. When the application resets its connections, all
/// resources are released.
fn target_that_hangs_can_be_left(harness: &Harness) -> Result<()> {
    let gate = Gate::default();
    let target = Target::hanging(&gate)?;
    let nobody = Port::hold()?;
    let fixture = Fixture::open(harness, &["--tcp", &target.address(), "--tcp", &nobody.address()])?;
    let forward = fixture.forward(&["-L", &local(&target)])?;
    forward.connected()?;
    let before = (fixture.at_rest()?, forward.at_rest()?);
    let mut streams = (0..20).map(|_| forward.dial()).collect::<Result<Vec<TcpStream>>>()?;
    for stream in &mut streams {
        stream.write_all(b"anybody there?")?;
    }
    until(DEADLINE, "all are accepted", || {
        ensure!(target.open() == 20, "{}", target.open());
        Ok(())
    })?;
    streams.into_iter().try_for_each(reset)?;
    fixture.expect_again(&before.0)?;
    forward.expect_again(&before.1)?;
    gate.open();
    target.is_left_alone()
}

const LONG: Duration = Duration::from_secs(35);
const OFFERED: u64 = 1024 * 1024 * 1024;

/// Allowed growth in KiB: the buffers of a few streams.
const GROWTH: u64 = 16 * 1024;
