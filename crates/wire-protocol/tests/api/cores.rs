//! On which cores tunnels run: the runtime has two threads, each pinned to a core of its own, and each of two parts of the
//! work waits until the other one is at work too, which it can only be on the other core.

use std::io::{self, IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use wire_protocol::stream::{Duplex, tunnel};

use super::tunnel::{channel, open, tcp_pair};

#[test]
fn the_directions_of_one_stream_run_on_two_cores_at_once() {
    let meeting = Arc::new(Meeting::default());
    pinned().block_on(carry(&meeting, Some(0), Some(1)));
    meeting.assert_on_two_cores();
}

#[test]
fn two_streams_run_on_two_cores_at_once() {
    let meeting = Arc::new(Meeting::default());
    pinned().block_on(async {
        tokio::join!(carry(&meeting, Some(0), None), carry(&meeting, Some(1), None));
    });
    meeting.assert_on_two_cores();
}

/// A runtime of two threads, each on a core of its own.
fn pinned() -> Runtime {
    let allowed = sched_getaffinity(None).unwrap();
    let cores: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).take(2).collect();
    assert_eq!(cores.len(), 2, "there are not two cores to run on");
    let started = AtomicUsize::new(0);
    Builder::new_multi_thread()
        .worker_threads(cores.len())
        .enable_all()
        .on_thread_start(move || {
            let mut own = CpuSet::new();
            own.set(cores[started.fetch_add(1, Ordering::Relaxed) % cores.len()]);
            sched_setaffinity(None, &own).unwrap();
        })
        .build()
        .unwrap()
}

/// Carries data both ways through a tunnel until the meeting has taken place. Its client's end reads from the plain
/// connection, and writes to it, in these seats.
async fn carry(meeting: &Arc<Meeting>, reads: Option<usize>, writes: Option<usize>) {
    let (here, there) = tcp_pair().await;
    let (client, server) = channel(here, there).await;
    let (client, server) = open(client, server).await;
    let (application, plain) = tcp_pair().await;
    let (at_server, mut target) = tcp_pair().await;
    let at_client = Attending { plain, reads, writes, meeting: Arc::clone(meeting) };
    let relays = (tokio::spawn(tunnel(client, at_client, ())), tokio::spawn(tunnel(server, at_server, ())));
    let echo = tokio::spawn(async move {
        let (mut from, mut to) = target.split();
        copy(&mut from, &mut to).await?;
        to.shutdown().await
    });

    let (mut from, mut to) = application.into_split();
    let held = Arc::clone(meeting);
    let talk = tokio::spawn(async move {
        while !held.is_over() {
            to.write_all(&[7; 1 << 16]).await?;
        }
        to.shutdown().await
    });
    let carried = timeout(LIMIT, async {
        let mut chunk = vec![0; 1 << 16];
        while from.read(&mut chunk).await? > 0 {}
        talk.await?
    });
    carried.await.expect("the two parts were never at work at once").unwrap();
    echo.await.unwrap().unwrap();
    relays.0.await.unwrap().unwrap();
    relays.1.await.unwrap().unwrap();
}

/// Two seats; it is over once both have been taken at one time.
#[derive(Default)]
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The core of whoever sits there.
    seats: [Option<usize>; 2],
    over: bool,
}

impl Meeting {
    /// Takes a seat, blocks the thread until the other one is taken, and leaves after a while if it is not: what is to take
    /// it may stand in this thread's own queue.
    fn attend(&self, seat: usize) {
        let mut state = self.state.lock().unwrap();
        if state.over {
            return;
        }
        state.seats[seat] = Some(sched_getcpu());
        state.over = state.seats.iter().all(Option::is_some);
        self.changed.notify_all();
        let (mut state, _) = self.changed.wait_timeout_while(state, PATIENCE, |state| !state.over).unwrap();
        if !state.over {
            state.seats[seat] = None;
        }
    }

    fn is_over(&self) -> bool {
        self.state.lock().unwrap().over
    }

    #[track_caller]
    fn assert_on_two_cores(&self) {
        let state = self.state.lock().unwrap();
        assert!(state.over && state.seats[0] != state.seats[1], "{:?}", state.seats);
    }
}

/// A plain connection whose reads or writes attend a meeting.
struct Attending {
    plain: TcpStream,
    reads: Option<usize>,
    writes: Option<usize>,
    meeting: Arc<Meeting>,
}

impl Duplex for Attending {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.plain.poll_read_ready(cx)
    }

    fn try_read_vectored(&self, places: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if let Some(seat) = self.reads {
            self.meeting.attend(seat);
        }
        Duplex::try_read_vectored(&self.plain, places)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.plain.poll_write_ready(cx)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(seat) = self.writes {
            self.meeting.attend(seat);
        }
        Duplex::try_write_vectored(&self.plain, slices)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.plain.shutdown_write()
    }

    fn finish(self) {
        self.plain.finish();
    }

    async fn reset(&self) -> io::Error {
        self.plain.reset().await
    }
}

/// How long a seat is kept.
const PATIENCE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(30);
