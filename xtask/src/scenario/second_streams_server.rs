//! Goal: connections through a client of ours outlive their channels at a server that was written from PROTOCOL.md alone, and the
//! client believes none of its wrong answers.

use std::io::{self, Read as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::harness::{
    DEADLINE, End, Exchange, Forward, Harness, Home, Key, Lines, Process, Server, Target, digest_of, local,
    read_to_end_of, until, word,
};
use crate::scenario::registration::scenarios;
use crate::scenario::second_streams::{EXCHANGE, HALVES, MUCH_FIRST, WINDOW, one_after_the_other};

scenarios![
    connection_loses_no_byte_wherever_the_server_cuts,
    lost_answer_to_an_open_opens_nothing_twice,
    each_direction_may_end_first,
    application_that_says_all_before_it_reads_is_not_held_up,
    streams_of_one_channel_have_secrets_of_their_own,
    closed_channel_takes_nothing_over,
    wrong_answer_to_a_resume_resets_the_connection,
    wrong_acknowledge_resets_the_connection,
    missing_acknowledge_stops_at_the_window,
];

fn connection_loses_no_byte_wherever_the_server_cuts(harness: &Harness) -> Result<()> {
    // A cut in a direction in which nothing travels never falls.
    for (ways, how, exchange) in [
        (&["out", "in"][..], "reset", Exchange { up: 3_000_000, down: 2_000_001 }),
        (&["in"], "end", Exchange { up: 3_000_000, down: 0 }),
        (&["out"], "reset", Exchange { up: 0, down: 3_000_001 }),
    ] {
        let target = Target::exchange(exchange)?;
        let tunnel = Tunnel::start(harness, &["--cuts", &cuts(ways, how)], &target)?;
        exchange.ask(tunnel.forward.dial()?)?;
        let resumed = tunnel.resumed();
        ensure!(resumed >= 10, "the stream was taken over {resumed} times");
        ensure!(target.accepted() == 1, "{} connections to the target", target.accepted());
        target.is_left_alone()?;
    }
    Ok(())
}

/// The first cut is behind so many bytes of the answer.
fn lost_answer_to_an_open_opens_nothing_twice(harness: &Harness) -> Result<()> {
    for cuts in ["out:0", "out:1", "out:0,out:0,out:0:end,in:0,in:50"] {
        let target = Target::exchange(EXCHANGE)?;
        let tunnel = Tunnel::start(harness, &["--cuts", cuts], &target)?;
        EXCHANGE.ask(tunnel.forward.dial()?).context(cuts)?;
        ensure!(target.accepted() == 1, "{cuts}: {} connections to the target", target.accepted());
        target.is_left_alone()?;
    }
    Ok(())
}

/// The target ends its direction before it reads, or reads to the end before it says anything.
fn each_direction_may_end_first(harness: &Harness) -> Result<()> {
    for (up, down, says_first) in HALVES {
        let target = one_after_the_other(up, down, says_first)?;
        let cuts = ["--cuts", "out:90,in:90,out:100000,in:150000,in:0,out:0,out:90,out:179,in:179"];
        let tunnel = Tunnel::start(harness, &cuts, &target)?;
        let mut stream = tunnel.forward.dial()?;
        let mut sending = stream.try_clone()?;
        // Where the target ends first, the application says nothing before it has heard that.
        let heard = if says_first { Some(digest_of(&mut stream)?) } else { None };
        io::copy(&mut Lines::of_length(up), &mut sending)?;
        sending.shutdown(Shutdown::Write)?;
        let heard = heard.map_or_else(|| digest_of(&mut stream), Ok)?;
        ensure!(heard == digest_of(Lines::of_length(down))?, "other bytes came down");
        target.is_left_alone()?;
        ensure!(target.failures().is_empty(), "{:?}", target.failures());
    }
    Ok(())
}

/// What the application's bytes are acknowledged by comes behind data for which it has no room before it has said all.
fn application_that_says_all_before_it_reads_is_not_held_up(harness: &Harness) -> Result<()> {
    let (up, down) = (MUCH_FIRST.down, MUCH_FIRST.up);
    let target = Target::serve(move |mut stream| {
        let mut sending = stream.try_clone()?;
        let sender = thread::spawn(move || {
            io::copy(&mut Lines::of_length(down), &mut sending)?;
            sending.shutdown(Shutdown::Write)
        });
        let got = digest_of(&mut stream).map_err(io::Error::other)?;
        sender.join().map_err(|_| io::Error::other("the sender panicked"))??;
        let expected = digest_of(Lines::of_length(up)).map_err(io::Error::other)?;
        (got == expected).then_some(()).ok_or_else(|| io::Error::other("other bytes came up"))
    })?;
    let tunnel = Tunnel::with(harness, &[], &target)?;
    let mut stream = tunnel.forward.dial()?;
    stream.set_write_timeout(Some(DEADLINE))?;
    io::copy(&mut Lines::of_length(up), &mut stream)?;
    stream.shutdown(Shutdown::Write)?;
    ensure!(digest_of(&mut stream)? == digest_of(Lines::of_length(down))?, "other bytes came down");
    target.is_left_alone()?;
    ensure!(target.failures().is_empty(), "{:?}", target.failures());
    Ok(())
}

/// One channel carries one stream after the other, and is cut in the middle of one of them.
fn streams_of_one_channel_have_secrets_of_their_own(harness: &Harness) -> Result<()> {
    let target = Target::exchange(Exchange::SMALL)?;
    let tunnel = Tunnel::start(harness, &["--cuts", "out:400000,out:400000,in:90000"], &target)?;
    let mut asked = 0;
    // Channels that are cut may be idle for a while.
    while asked < 20 || (tunnel.resumed() == 0 && asked < 400) {
        Exchange::SMALL.ask(tunnel.forward.dial()?)?;
        asked += 1;
    }
    ensure!(tunnel.resumed() > 0, "no stream was taken over");
    ensure!(target.accepted() == asked, "{} connections to the target", target.accepted());
    target.is_left_alone()
}

/// The server closes the channel on which the client says Resume, and has taken nothing over.
fn closed_channel_takes_nothing_over(harness: &Harness) -> Result<()> {
    let target = Target::exchange(EXCHANGE)?;
    let tunnel = Tunnel::start(harness, &["--cuts", "in:200000", "--fault", "close-resume"], &target)?;
    EXCHANGE.ask(tunnel.forward.dial()?)?;
    tunnel.server.logged(&["closed in place of an answer"])?;
    ensure!(tunnel.resumed() == 1, "taken over {} times", tunnel.resumed());
    Ok(())
}

/// The connection never looks like one that has ended.
fn wrong_answer_to_a_resume_resets_the_connection(harness: &Harness) -> Result<()> {
    for fault in [
        "gone",
        "resumed-proof",
        "resumed-t3",
        "resumed-side",
        "resumed-beyond",
        "resumed-back",
        "resumed-more",
        "opened",
        "opened-more",
    ] {
        let target = Target::exchange(LONG)?;
        // The client has sent more than a window, so that some of it was acknowledged.
        let tunnel = Tunnel::start(harness, &["--cuts", "in:200000", "--fault", fault], &target)?;
        is_reset(tunnel.forward.dial()?).context(fault)?;
    }
    Ok(())
}

fn wrong_acknowledge_resets_the_connection(harness: &Harness) -> Result<()> {
    for fault in ["acknowledge-back", "acknowledge-beyond"] {
        let target = Target::exchange(LONG)?;
        let tunnel = Tunnel::start(harness, &["--fault", fault], &target)?;
        is_reset(tunnel.forward.dial()?).context(fault)?;
    }
    Ok(())
}

/// A client whose window is full says nothing more, and asks.
fn missing_acknowledge_stops_at_the_window(harness: &Harness) -> Result<()> {
    let read = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&read);
    let target = Target::serve(move |mut stream| {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => counting.fetch_add(count, Ordering::SeqCst),
            };
        }
    })?;
    let tunnel = Tunnel::start(harness, &["--fault", "never-acknowledge"], &target)?;
    let mut stream = tunnel.forward.dial()?;
    let sender = thread::spawn(move || io::copy(&mut Lines::of_length(EXCHANGE.up), &mut stream));
    tunnel.server.logged(&["asked "])?;
    let said = read.load(Ordering::SeqCst);
    ensure!(said <= WINDOW, "{said} bytes went up");
    until(DEADLINE, "something arrives", || {
        ensure!(read.load(Ordering::SeqCst) > 0);
        Ok(())
    })?;
    tunnel.forward.kill()?;
    sender.join().map_err(|_| anyhow!("the sender panicked"))?.ok();
    ensure!(read.load(Ordering::SeqCst) <= WINDOW, "more than a window went up");
    Ok(())
}

/// The second implementation's server, and a client of ours that forwards a port to a target through it.
struct Tunnel<'a> {
    server: Server,
    forward: Forward<'a>,
}

impl<'a> Tunnel<'a> {
    /// Starts both, with the smallest window.
    fn start(harness: &'a Harness, options: &[&str], target: &Target) -> Result<Self> {
        let window = WINDOW.to_string();
        Self::with(harness, &[&["--window", &window], options].concat(), target)
    }

    fn with(harness: &'a Harness, options: &[&str], target: &Target) -> Result<Self> {
        let home = harness.home_with(Key::Server)?;
        let key = home.file("server.key");
        let mut command = harness.peer("sockseal.py")?;
        command.args(["server", "--tunnels", "--key", word(&key)?]).args(options);
        let server = Server::from_process(Process::start(command)?)?;
        let alice: Arc<Home> = Arc::new(harness.home_with(Key::Alice)?);
        let key = server.key()?.to_owned();
        let forward = Forward::start(harness, &alice, server.address(), &key, &["-L", &local(target)])?;
        Ok(Self { server, forward })
    }

    /// How often a stream was taken over.
    fn resumed(&self) -> usize {
        self.server.process.stderr.text().lines().filter(|line| line.starts_with("resumed ")).count()
    }
}

/// Sends what the target waits for, and checks that the connection is reset before all has come down.
fn is_reset(mut stream: TcpStream) -> Result<()> {
    let mut sending = stream.try_clone()?;
    let sender = thread::spawn(move || io::copy(&mut Lines::of_length(LONG.up), &mut sending));
    let (length, end) = read_to_end_of(&mut stream)?;
    let said = sender.join().map_err(|_| anyhow!("the sender panicked"))?;
    // The system reports a reset only once, to the one who reads or to the one who writes.
    ensure!(end == End::Reset || said.is_err(), "a clean end behind {length} bytes");
    Ok(())
}

/// Places to cut the server's connections, from right behind an Open on and growing. Those of channels that stay idle are of no use.
fn cuts(ways: &[&str], how: &str) -> String {
    let cut = |(number, way)| format!("{way}:{}:{how}", 5 * (number + 1) * STRIDE);
    ways.iter().cycle().enumerate().take(CUTS).map(cut).collect::<Vec<_>>().join(",")
}

/// An exchange that is still under way in both directions where it is cut.
const LONG: Exchange = Exchange { up: 5_000_000, down: 5_000_000 };

/// Connections that are cut.
const CUTS: usize = 120;

/// Distance between cuts, coprime to the sizes of everything on the wire.
const STRIDE: usize = 89;
