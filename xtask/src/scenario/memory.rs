//! Goal: an idle channel takes up little memory at the server, whatever was transferred over it before.

use anyhow::{Context as _, Result, ensure};

use crate::harness::{DEADLINE, Harness, Home, Process, Program, Resources, Server, shared_key, until, word};
use crate::scenario::registration::scenarios;

scenarios![
    idle_channels_hold_no_buffers,
    unasked_pongs_leave_nothing,
    unfinished_messages_share_their_clients_memory
];

/// Without this rule a batch's buffer of 133 or 266 KiB would remain, or a list of its records.
fn idle_channels_hold_no_buffers(harness: &Harness) -> Result<()> {
    let mut crowd = Crowd::open(harness, 300)?;
    for burst in ["pings", "padded-pings"] {
        crowd.each(burst)?;
        crowd.has_grown_at_most(300 * RECORD, burst)?;
    }
    crowd.each("half-a-record")?;
    // Only the half record that has arrived may remain in memory.
    crowd.has_grown_at_most(300 * (RECORD + RECORD / 2), "half a record")
}

/// Unasked Pongs violate the protocol, so the server ends the connection. Without that, each burst left 180 KB behind.
fn unasked_pongs_leave_nothing(harness: &Harness) -> Result<()> {
    let mut crowd = Crowd::open(harness, 300)?;
    crowd.each("pongs")?;
    crowd.server.logged(&["connection ended early", "client=\"laptop\""])?;
    until(DEADLINE, "the connections have ended", || {
        let channels = crowd.resources()?.channels;
        ensure!(channels == 0, "{channels} channels");
        Ok(())
    })?;
    crowd.has_grown_at_most(300 * RECORD, "pongs")
}

/// Each of 250 messages of 272 KiB lacks its last byte. The server keeps 1 MiB of a client's messages in
/// memory and the rest on disk. Beyond that each channel holds part of a record, and a piece of about that
/// size between reader and writer. A batch of records on each channel would be more than twice the limit.
fn unfinished_messages_share_their_clients_memory(harness: &Harness) -> Result<()> {
    let mut crowd = Crowd::open(harness, 250)?;
    crowd.each("message")?;
    crowd.has_grown_at_most(1024 + 250 * 7 * RECORD, "messages")?;
    crowd.each("end")?;
    let message = ".".repeat(17 * 16 * 1024);
    let printed = crowd.server.process.stdout.text();
    ensure!(printed.lines().all(|line| line.strip_prefix("[laptop] ") == Some(&message)), "another message");
    ensure!(printed.lines().count() == 250, "{} messages were printed", printed.lines().count());
    Ok(())
}

/// A server, and one client with many channels to it.
struct Crowd<'a> {
    harness: &'a Harness,
    home: Home,
    server: Server,
    client: Process,
    /// The server's resident memory in KiB, before any channel is used.
    before: u64,
}

impl<'a> Crowd<'a> {
    fn open(harness: &'a Harness, channels: usize) -> Result<Self> {
        let home = harness.home()?;
        let file = shared_key(harness, &home, "laptop")?;
        let server = Server::start(harness, &home, &["--psk", word(&file)?])?;
        let mut command = harness.peer("many_channels.py")?;
        command.args([server.address(), word(&file)?, &channels.to_string()]);
        let client = Process::start(command)?;
        client.stdout.wait_line(DEADLINE, |line| line == "open").context("the channels")?;
        let before = server.process.memory()?;
        Ok(Self { harness, home, server, client, before })
    }

    /// Has the client perform `burst` on each channel.
    fn each(&mut self, burst: &str) -> Result<()> {
        let said = self.client.stdout.len();
        self.client.write(format!("{burst}\n").as_bytes())?;
        let done = self.client.stdout.wait_len(DEADLINE, said + "done\n".len());
        done.with_context(|| format!("{burst}: {}", self.client.stderr.text()))
    }

    fn has_grown_at_most(&self, most: u64, after: &str) -> Result<()> {
        until(DEADLINE / 12, after, || {
            let now = self.server.process.memory()?;
            let grown = now.saturating_sub(self.before);
            ensure!(
                grown <= most,
                "the server had {} KiB, now it has {grown} KiB more, not {most}",
                self.before
            );
            Ok(())
        })
    }

    fn resources(&self) -> Result<Resources> {
        Resources::of(self.harness, Program::Server, &self.home, &self.server.process)
    }
}

/// Size of the longest record in KiB, rounded up. The limits allow this much for each channel between two
/// measurements, which also covers the system's allocator and the spare buffers of the server's threads.
const RECORD: u64 = 17;
