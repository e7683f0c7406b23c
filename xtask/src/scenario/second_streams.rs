//! Goal: a client that was written from PROTOCOL.md alone takes its streams over at a server of ours with every byte, and takes none
//! over that is not its own.

use std::io;
use std::net::Shutdown;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::harness::{
    DEADLINE, Exchange, Exit, Fixture, Harness, Home, Key, Lines, Outcome, Process, Target, digest,
    digest_of, until, word,
};
use crate::scenario::registration::scenarios;

scenarios![
    stream_loses_no_byte_wherever_it_is_cut,
    each_direction_may_end_first,
    target_that_says_all_before_it_reads_is_not_held_up,
    stream_is_taken_over_by_nobody_else,
    refused_streams_count_for_the_secrets,
    offset_out_of_range_ends_the_stream,
    old_channel_says_nothing_more,
    wrong_open_ends_the_channel,
    wrong_acknowledge_ends_the_stream,
    missing_acknowledge_stops_at_the_window,
];

/// Connections are cut in the middle of every message and of much data.
fn stream_loses_no_byte_wherever_it_is_cut(harness: &Harness) -> Result<()> {
    let exchange = Exchange { up: 3_000_000, down: 2_000_001 };
    for (how, options) in [
        ("reset", &[][..]),
        ("end", &["--eager", "--full-handshakes"]),
        ("leave", &["--every-padding", "--update-every", "7"]),
    ] {
        let target = Target::exchange(exchange)?;
        let client = Client::at_ours(harness, &target)?;
        let outcome = client.run(&target, &[options, &["--cuts", &cuts(how)]].concat(), exchange.up)?;
        let takeovers = takeovers(&outcome.expect(Exit::Done)?, exchange)?;
        ensure!(takeovers >= CUTS / 2, "the stream was taken over {takeovers} times");
        ensure!(target.accepted() == 1, "{} connections to the target", target.accepted());
        target.is_left_alone()?;
    }
    Ok(())
}

/// The target ends its direction before it reads, or reads to the end before it says anything.
fn each_direction_may_end_first(harness: &Harness) -> Result<()> {
    for (up, down, says_first) in HALVES {
        let target = one_after_the_other(up, down, says_first)?;
        let client = Client::at_ours(harness, &target)?;
        let cuts = ["--cuts", "in:1,out:90,in:100000,out:150000,in:0,out:0,in:90,in:179,out:179"];
        let outcome = client.run(&target, &cuts, up)?.expect(Exit::Done)?;
        ensure!(digest(&outcome.stdout) == digest(&Lines::of_length(down).bytes()?), "other bytes came down");
        target.is_left_alone()?;
        ensure!(target.failures().is_empty(), "{:?}", target.failures());
    }
    Ok(())
}

/// What the target's bytes are acknowledged by comes behind data for which it has no room before it has said all.
fn target_that_says_all_before_it_reads_is_not_held_up(harness: &Harness) -> Result<()> {
    let Exchange { up, down } = MUCH_FIRST;
    let target = one_after_the_other(up, down, true)?;
    let client = Client::at_ours(harness, &target)?;
    let mut process = Process::start(client.command(&target, &[])?)?;
    process.feed(Lines::of_length(up))?;
    let outcome = process.finish()?.expect(Exit::Done)?;
    ensure!(
        digest_of(outcome.stdout.as_slice())? == digest_of(Lines::of_length(down))?,
        "other bytes came down"
    );
    target.is_left_alone()?;
    ensure!(target.failures().is_empty(), "{:?}", target.failures());
    Ok(())
}

/// A wrong Resume is answered with Gone and changes nothing: the right one behind it takes the stream over.
fn stream_is_taken_over_by_nobody_else(harness: &Harness) -> Result<()> {
    let target = Target::exchange(EXCHANGE)?;
    let client = Client::at_ours(harness, &target)?;
    for fault in [
        "resume-secret",
        "resume-number",
        "resume-proof",
        "resume-t3",
        "resume-generation",
        "resume-id",
        "resume-identity",
    ] {
        let outcome = client.run(&target, &["--cuts", LATE, "--fault", fault], EXCHANGE.up)?;
        let outcome = outcome.expect(Exit::Done).context(fault)?;
        ensure!(takeovers(&outcome, EXCHANGE)? == 1, "{fault}: {}", outcome.stderr);
        ensure!(outcome.stderr.contains("\ngone\n"), "{fault}: {}", outcome.stderr);
    }
    Ok(())
}

/// The channel's secrets are counted on both sides, by all that were asked for.
fn refused_streams_count_for_the_secrets(harness: &Harness) -> Result<()> {
    let target = Target::exchange(EXCHANGE)?;
    let client = Client::at_ours(harness, &target)?;
    let options = ["--refused-before", "3", "--cuts", LATE];
    let outcome = client.run(&target, &options, EXCHANGE.up)?.expect(Exit::Done)?;
    ensure!(takeovers(&outcome, EXCHANGE)? == 1, "{}", outcome.stderr);
    Ok(())
}

fn offset_out_of_range_ends_the_stream(harness: &Harness) -> Result<()> {
    let target = Target::exchange(UNFINISHED)?;
    let client = Client::at_ours(harness, &target)?;
    for (number, fault) in ["resume-beyond", "resume-back"].into_iter().enumerate() {
        let outcome = client.run(&target, &["--cuts", LATE, "--fault", fault], UNFINISHED.up)?;
        let outcome = outcome.expect(Exit::Integrity).context(fault)?.error_names(&["gone"])?;
        ensure!(outcome.stderr.contains("\ngone\n"), "{fault}: {}", outcome.stderr);
        is_broken(&target, number + 1).context(fault)?;
    }
    Ok(())
}

/// The client keeps old channels open and goes on with them once the stream was taken over: nothing of that arrives, and the server
/// closes them. Of two Resumes at once the higher generation stays.
fn old_channel_says_nothing_more(harness: &Harness) -> Result<()> {
    let target = Target::exchange(EXCHANGE)?;
    let client = Client::at_ours(harness, &target)?;
    let left = "in:100000:leave,in:100000:leave";
    for (cuts, fault) in [(left, "late-data"), (LATE, "resume-race")] {
        let outcome = client.run(&target, &["--cuts", cuts, "--fault", fault], EXCHANGE.up)?;
        let outcome = outcome.expect(Exit::Done).context(fault)?;
        ensure!(takeovers(&outcome, EXCHANGE)? == 2, "{fault}: {}", outcome.stderr);
    }
    target.is_left_alone()
}

fn wrong_open_ends_the_channel(harness: &Harness) -> Result<()> {
    let target = Target::exchange(EXCHANGE)?;
    let client = Client::at_ours(harness, &target)?;
    for fault in
        ["open-window-low", "open-window-high", "open-hold-low", "open-hold-high", "open-pipe", "open-udp"]
    {
        client.run(&target, &["--fault", fault], 0)?.expect(Exit::Integrity).context(fault)?;
    }
    ensure!(target.accepted() == 0, "{} connections to the target", target.accepted());
    // What is acknowledged is a resumable stream.
    let plain = ["--plain", "--fault", "acknowledge-plain"];
    client.run(&target, &plain, EXCHANGE.up)?.expect(Exit::Integrity)?;
    // A Resume that no client says ends its channel, and changes nothing.
    for fault in ["resume-window", "resume-hold"] {
        let outcome = client.run(&target, &["--cuts", LATE, "--fault", fault], EXCHANGE.up)?;
        ensure!(takeovers(&outcome.expect(Exit::Done).context(fault)?, EXCHANGE)? == 2, "{fault}");
    }
    Ok(())
}

fn wrong_acknowledge_ends_the_stream(harness: &Harness) -> Result<()> {
    for fault in ["acknowledge-back", "acknowledge-beyond"] {
        let target = Target::exchange(UNFINISHED)?;
        let client = Client::at_ours(harness, &target)?;
        let outcome = client.run(&target, &["--fault", fault], UNFINISHED.up)?;
        outcome.expect(Exit::Integrity).context(fault)?;
        is_broken(&target, 1).context(fault)?;
    }
    Ok(())
}

/// A side whose window is full says nothing more, and asks.
fn missing_acknowledge_stops_at_the_window(harness: &Harness) -> Result<()> {
    let target = Target::exchange(EXCHANGE)?;
    let client = Client::at_ours(harness, &target)?;
    let process = client.start(&target, &["--fault", "never-acknowledge"], EXCHANGE.up)?;
    process.stderr.wait_line(DEADLINE, |line| line.starts_with("asked "))?;
    process.stdout.wait_len(DEADLINE, 1)?;
    let said = process.stdout.len();
    ensure!(said <= WINDOW, "{said} bytes came down");
    Ok(())
}

/// The second implementation's client with a key of its own, and a server that lets it connect to a target.
struct Client<'a> {
    harness: &'a Harness,
    server: Fixture<'a>,
    mallory: Home,
}

impl<'a> Client<'a> {
    /// The other client that it may be is let in too, and to the same target.
    fn at_ours(harness: &'a Harness, target: &Target) -> Result<Self> {
        // Nothing listens at port 1, to which a stream is refused.
        let rights = ["--tcp", &target.address(), "--tcp", "127.0.0.1:1"];
        let server = Fixture::open(harness, &rights)?;
        server.mallory(&rights)?;
        Ok(Self { harness, server, mallory: harness.home_with(Key::Mallory)? })
    }

    /// Runs the client to its end, with `up` bytes as its input.
    fn run(&self, target: &Target, options: &[&str], up: u64) -> Result<Outcome> {
        self.start(target, options, up)?.finish()
    }

    /// Starts the client with the smallest window.
    fn start(&self, target: &Target, options: &[&str], up: u64) -> Result<Process> {
        let mut command = self.command(target, options)?;
        command.args(["--window", &WINDOW.to_string()]);
        let mut process = Process::start(command)?;
        process.feed(Lines::of_length(up))?;
        Ok(process)
    }

    fn command(&self, target: &Target, options: &[&str]) -> Result<Command> {
        let [key, other] = [self.server.alice().file("client.key"), self.mallory.file("client.key")];
        let mut command = self.harness.peer("sockseal.py")?;
        command.args(["client", &self.server.address(), "tunnel", &target.address()]);
        command.args(["--server-key", self.server.key(), "--client-key", word(&key)?]);
        command.args(["--other-client-key", word(&other)?]).args(options);
        Ok(command)
    }
}

/// Places to cut a client's connections, from the first bytes of a channel on and growing.
fn cuts(how: &str) -> String {
    let cut = |number: usize| {
        // The first cut is behind the first byte of an answer: until there is one, the stream may not stand.
        let way = if number.is_multiple_of(2) { "in" } else { "out" };
        format!("{way}:{}:{how}", 1 + number * number * STRIDE)
    };
    (0..CUTS).map(cut).collect::<Vec<_>>().join(",")
}

/// Waits until connections to the target have broken, so many times in all.
fn is_broken(target: &Target, times: usize) -> Result<()> {
    until(DEADLINE, "the target's connection breaks", || {
        ensure!(target.failures().len() == times, "{:?}", target.failures());
        Ok(())
    })
}

/// Checks that the client has got what the target says, and returns how often it took its stream over.
fn takeovers(outcome: &Outcome, exchange: Exchange) -> Result<usize> {
    let (length, hash) = digest_of(Lines::of_length(exchange.up))?;
    let expected = [Lines::of_length(exchange.down).bytes()?, format!("{length} {hash}\n").into_bytes()];
    ensure!(digest(&outcome.stdout) == digest(&expected.concat()), "other bytes came down");
    let said = outcome.stderr.lines().find_map(|line| line.strip_prefix("takeovers "));
    Ok(said.context("no takeovers")?.trim().parse()?)
}

/// A target that gets `up` bytes and says `down`, one direction after the other: the one that it says first, or the other one.
pub(super) fn one_after_the_other(up: u64, down: u64, says_first: bool) -> Result<Target> {
    Target::serve(move |mut stream| {
        let mut sending = stream.try_clone()?;
        let mut say = || {
            io::copy(&mut Lines::of_length(down), &mut sending)?;
            sending.shutdown(Shutdown::Write)
        };
        if says_first {
            say()?;
        }
        let sent = digest_of(&mut stream).map_err(io::Error::other)?;
        if !says_first {
            say()?;
        }
        let expected = digest_of(Lines::of_length(up)).map_err(io::Error::other)?;
        (sent == expected).then_some(()).ok_or_else(|| io::Error::other("other bytes came up"))
    })
}

/// More than is kept on the way, in both directions, with the usual window.
pub(super) const MUCH_FIRST: Exchange = Exchange { up: 12_000_000, down: 32_000_000 };

/// Bytes up and down of [`one_after_the_other`], and whether the target says its own first.
pub(super) const HALVES: [(u64, u64, bool); 3] =
    [(200_000, 0, true), (200_000, 150_000, true), (0, 200_000, false)];

pub(super) const EXCHANGE: Exchange = Exchange { up: 300_000, down: 300_001 };

/// More than the system takes of a target for a program that does not read: the target is still writing when its stream is lost.
const UNFINISHED: Exchange = Exchange { up: 300_000, down: 20_000_000 };

/// The least that a side may keep.
pub(super) const WINDOW: usize = 65_536;

/// A cut in the middle of the data, with some of it acknowledged where the window is small.
const LATE: &str = "in:150000";

/// Connections that are cut.
const CUTS: usize = 40;

/// Distance between cuts, coprime to the sizes of everything on the wire.
const STRIDE: usize = 89;
