//! What is asked of a tunnel, or of its target without one, and the target that answers.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::harness::dial;

/// A TCP service whose threads outlive their connections, so that a short connection costs it as little as possible. It
/// lasts as long as this program.
pub(crate) struct Target(SocketAddr);

impl Target {
    pub(crate) fn start() -> Result<Self> {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").context("a target")?);
        let address = listener.local_addr()?;
        spawn_worker(listener, Arc::new(AtomicUsize::new(0)));
        Ok(Self(address))
    }

    pub(crate) fn address(&self) -> String {
        self.0.to_string()
    }
}

/// A thread that serves one connection after the other, and that starts another one when nobody else would accept.
fn spawn_worker(listener: Arc<TcpListener>, waiting: Arc<AtomicUsize>) {
    waiting.fetch_add(1, Ordering::SeqCst);
    thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let Ok((stream, _)) = listener.accept() else { continue };
            if waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
                spawn_worker(Arc::clone(&listener), Arc::clone(&waiting));
            }
            // An application that is gone does not concern the next one.
            serve(stream, &mut buffer).ok();
            waiting.fetch_add(1, Ordering::SeqCst);
        }
    });
}

/// The first byte says what a connection is for: to be thrown away, or to come back.
fn serve(mut stream: TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wish = [0];
    stream.read_exact(&mut wish)?;
    loop {
        let read = stream.read(buffer)?;
        if read == 0 {
            return Ok(());
        }
        if wish == ECHO {
            stream.write_all(&buffer[..read])?;
        }
    }
}

/// How much of something took how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) count: f64,
    pub(crate) seconds: f64,
}

impl Amount {
    pub(crate) fn per_second(self) -> f64 {
        self.count / self.seconds
    }
}

/// Sends as much as goes through so many streams until `time` is over, and waits until all of it has arrived: 10^9 bytes.
pub(crate) fn bulk(address: &str, streams: usize, time: Duration) -> Result<Amount> {
    let started = Instant::now();
    let bytes = at_once(streams, || {
        let address = address.to_owned();
        move || {
            let mut stream = dial(&address)?;
            stream.write_all(&SINK)?;
            let (chunk, mut sent) = (vec![7; CHUNK], 0);
            while started.elapsed() < time {
                stream.write_all(&chunk)?;
                sent += u64::try_from(chunk.len())?;
            }
            end_behind_all(&mut stream)?;
            Ok(sent)
        }
    })?;
    let gigabytes = f64::from(u32::try_from(bytes / 1_000_000)?) / 1000.0;
    ensure!(gigabytes > 0.0, "next to nothing was sent");
    Ok(Amount { count: gigabytes, seconds: started.elapsed().as_secs_f64() })
}

/// Ends a stream to a sink, which ends it as well once it has read all.
pub(crate) fn end_behind_all(stream: &mut TcpStream) -> Result<()> {
    stream.shutdown(Shutdown::Write)?;
    ensure!(stream.read(&mut [0])? == 0, "a sink has answered");
    Ok(())
}

/// What 64 bytes take there and back, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundTrips {
    /// The median.
    pub(crate) p50: f64,
    /// One in a hundred takes longer.
    pub(crate) p99: f64,
}

pub(crate) fn round_trips(address: &str, time: Duration) -> Result<RoundTrips> {
    let mut stream = echoing(address)?;
    let mut times = Vec::new();
    let (started, mut payload) = (Instant::now(), [7; 64]);
    while started.elapsed() < time {
        let sent = Instant::now();
        stream.write_all(&payload)?;
        stream.read_exact(&mut payload)?;
        times.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get(times.len() * share / 100).copied().context("no round trip");
    Ok(RoundTrips { p50: at(50)?, p99: at(99)? })
}

/// Short connections, so many at once: a byte each way, then the end.
pub(crate) fn connections(address: &str, applications: usize, time: Duration) -> Result<Amount> {
    let started = Instant::now();
    let count = at_once(applications, || {
        let address = address.to_owned();
        move || {
            let mut count = 0;
            while started.elapsed() < time {
                echoing(&address)?;
                count += 1;
            }
            Ok(count)
        }
    })?;
    Ok(Amount { count: f64::from(u32::try_from(count)?), seconds: started.elapsed().as_secs_f64() })
}

/// A connection on which a byte has come back.
pub(crate) fn echoing(address: &str) -> Result<TcpStream> {
    let mut stream = dial(address)?;
    stream.write_all(&[ECHO[0], b'!'])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    ensure!(answer == *b"!", "another byte came back");
    Ok(stream)
}

/// Does the same on so many threads, and gives the sum of what they count.
fn at_once<F>(threads: usize, make: impl Fn() -> F) -> Result<u64>
where
    F: FnOnce() -> Result<u64> + Send + 'static,
{
    let running: Vec<_> = (0..threads).map(|_| thread::spawn(make())).collect();
    let mut sum = 0;
    for thread in running {
        sum += thread.join().map_err(|_| anyhow!("a thread of the load panicked"))??;
    }
    Ok(sum)
}

/// The first byte of a connection whose bytes come back.
const ECHO: [u8; 1] = *b"E";
/// The first byte of a connection whose bytes are thrown away.
pub(crate) const SINK: [u8; 1] = *b"S";
/// What a sender of bulk writes at once.
const CHUNK: usize = 1024 * 1024;
