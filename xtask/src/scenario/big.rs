//! Goal: ten gibibytes pass as reliably as ten bytes, without more memory.

use std::thread;

use anyhow::{Result, anyhow, ensure};

use crate::harness::{Exit, Harness, Key, Lines, Process, Server, digest_of};
use crate::scenario::registration::scenarios;

scenarios![ten_gibibytes_in_flat_memory];

fn ten_gibibytes_in_flat_memory(harness: &Harness) -> Result<()> {
    let home = harness.home_with(Key::Server)?;
    let mut command = harness.program("server");
    command.arg("--home").arg(&home).args(["pipe", "--anyone", "--listen", "127.0.0.1:0"]);
    let (process, output) = Process::start_streamed(command)?;
    let mut server = Server::from_process(process)?;
    server.process.feed(Lines::of_length(HEARTBEAT))?;
    let arguments = ["pipe", server.address(), "--server-key", server.key()?];
    let client_home = harness.home()?;
    let (mut client, answer) =
        Process::start_streamed(harness.client(&client_home, &arguments).into_command())?;
    client.feed(Lines::of_length(LENGTH))?;

    // The programs end together with their output, so their memory is read while the last bytes pass.
    let answered = thread::spawn(move || digest_of(answer));
    let sent = thread::spawn(move || digest_of(Lines::of_length(LENGTH)));
    let watched = Watched { output, server: &server.process, client: &client, seen: 0, peaks: [0, 0] };
    let (received, peaks) = watched.digest()?;
    let sent = sent.join().map_err(|_| anyhow!("the generator panicked"))??;
    ensure!(received == sent, "{received:?} came out, {sent:?} went in");
    let answered = answered.join().map_err(|_| anyhow!("the reader panicked"))??;
    ensure!(answered == digest_of(Lines::of_length(HEARTBEAT))?, "the answer is not what was sent");
    client.finish()?.expect(Exit::Done)?;
    server.finish()?.expect(Exit::Done)?;

    let [server, client] = peaks;
    eprintln!("peak memory for {LENGTH} bytes: server {server} KiB, client {client} KiB");
    ensure!(server < MOST_MEMORY && client < MOST_MEMORY, "peak memory of {server} and {client} KiB");
    Ok(())
}

/// A reader of the server's output that samples the memory of both programs now and then.
struct Watched<'a, R> {
    output: R,
    server: &'a Process,
    client: &'a Process,
    seen: u64,
    peaks: [u64; 2],
}

impl<R: std::io::Read> Watched<'_, R> {
    fn digest(mut self) -> Result<((u64, String), [u64; 2])> {
        let digest = digest_of(&mut self)?;
        Ok((digest, self.peaks))
    }
}

impl<R: std::io::Read> std::io::Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.output.read(buffer)?;
        let before = self.seen / LOOK_EVERY;
        self.seen += u64::try_from(count).map_err(std::io::Error::other)?;
        if self.seen / LOOK_EVERY > before {
            let peaks = [self.server, self.client].map(Process::peak_memory);
            for (peak, now) in self.peaks.iter_mut().zip(peaks) {
                // A client that has sent everything may have ended already.
                *peak = now.map_or(*peak, |now| now.max(*peak));
            }
        }
        Ok(count)
    }
}

const LENGTH: u64 = 10 * 1024 * 1024 * 1024;
const HEARTBEAT: u64 = 1024 * 1024;
const LOOK_EVERY: u64 = 64 * 1024 * 1024;

/// Largest resident memory of a program, in KiB.
const MOST_MEMORY: u64 = 64 * 1024;
