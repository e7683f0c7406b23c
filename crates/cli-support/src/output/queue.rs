//! A queue for output that may block: callers append lines, or other records, and a thread writes them.
//!
//! tracing-appender does the same for logs, but at the end of the program it prints its time-outs on the output
//! that may block. A single queue also keeps the order of notices and log lines.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// The lines that wait for one output.
#[derive(Debug)]
pub(super) struct Queue {
    /// The byte at the end of each line, which is nowhere else.
    end: u8,
    /// Writes a line, its end included, however long that takes.
    write: fn(&[u8]) -> io::Result<()>,
    /// Reports how many lines were lost, possibly as a line in this queue.
    tell_lost: fn(u64),
    state: Mutex<State>,
    /// Notified when there are lines to write.
    filled: Condvar,
    /// Notified when lines have been written.
    progress: Condvar,
}

#[derive(Debug)]
struct State {
    /// Whole lines that the thread has not taken yet.
    waiting: Vec<u8>,
    /// Number of bytes that the thread has taken and not written yet.
    taken: usize,
    /// Number of lines that did not fit and were not reported.
    lost: u64,
    /// Number of lines that did not fit since the start.
    lost_in_all: u64,
    /// Whether nothing has been written since a call of `flush` timed out.
    is_stuck: bool,
    is_started: bool,
}

impl Queue {
    pub(super) const fn new(end: u8, write: fn(&[u8]) -> io::Result<()>, tell_lost: fn(u64)) -> Self {
        Self {
            end,
            write,
            tell_lost,
            state: Mutex::new(State {
                waiting: Vec::new(),
                taken: 0,
                lost: 0,
                lost_in_all: 0,
                is_stuck: false,
                is_started: false,
            }),
            filled: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    /// Appends a line, its end included, or counts it as lost where there is no room. Never waits for the output.
    pub(super) fn push(&'static self, line: &[u8]) {
        let mut state = self.lock();
        if !state.is_started {
            if thread::Builder::new().name("output".into()).spawn(|| self.write_all()).is_err() {
                drop(state);
                // The system cannot start a thread, so the line is written here, even if that blocks.
                (self.write)(line).ok();
                return;
            }
            state.is_started = true;
        }
        if state.waiting.is_empty() || state.waiting.len() + line.len() <= MAX_WAITING {
            state.waiting.extend_from_slice(line);
            self.filled.notify_one();
        } else {
            state.lost += 1;
            state.lost_in_all += 1;
        }
    }

    /// How many lines have not been written since there was no room for them.
    pub(super) fn lost_since_start(&self) -> u64 {
        self.lock().lost_in_all
    }

    /// Waits until all lines are written, but at most a second for an output that takes nothing, and at most five
    /// in all.
    pub(super) fn flush(&self) {
        let begun = Instant::now();
        let mut state = self.lock();
        while state.taken > 0 || state.lost > 0 || !state.waiting.is_empty() {
            if state.is_stuck || begun.elapsed() >= MAX_FLUSH {
                return;
            }
            let before = (state.taken, state.waiting.len());
            let waited = self.progress.wait_timeout(state, MAX_PAUSE);
            let (woken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            // A line may have been written between the end of the pause and the lock.
            state.is_stuck = waited.timed_out() && before == (state.taken, state.waiting.len());
        }
    }

    fn write_all(&self) {
        let mut taken = Vec::new();
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() {
                let lost = state.lost;
                if lost == 0 {
                    state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                } else {
                    drop(state);
                    (self.tell_lost)(lost);
                    state = self.lock();
                    state.lost -= lost;
                    self.progress.notify_all();
                }
            }
            taken.clear();
            // The memory of a burst is released.
            taken.shrink_to(KEPT);
            std::mem::swap(&mut state.waiting, &mut taken);
            state.taken = taken.len();
            drop(state);
            // Each line is written by one call, which keeps it whole in a pipe that other processes write to.
            for line in taken.split_inclusive(|byte| *byte == self.end) {
                // A closed output is no reason to stop.
                (self.write)(line).ok();
                let mut state = self.lock();
                state.taken -= line.len();
                state.is_stuck = false;
                self.progress.notify_all();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes without the standard library, whose lock on standard error would be held as long as the output blocks.
pub(super) fn write_line(output: BorrowedFd<'_>, line: &[u8]) -> io::Result<()> {
    let mut left = line;
    while !left.is_empty() {
        match rustix::io::write(output, left) {
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Another process that shares the output has made it non-blocking.
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&output, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Most bytes in the queue, enough for some thousand lines.
const MAX_WAITING: usize = 256 * 1024;
/// Number of bytes of the buffer that stay allocated after it was written.
const KEPT: usize = 4096;
/// Longest wait of `flush` without progress.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Longest wait of `flush`.
const MAX_FLUSH: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Read as _};
    use std::os::fd::AsFd as _;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const LINE: [u8; 100] = {
        let mut line = [b'x'; 100];
        line[99] = b'\n';
        line
    };
    const PUSHED: u64 = 20_000;

    static PIPE: LazyLock<(PipeReader, PipeWriter)> = LazyLock::new(|| io::pipe().unwrap());
    static QUEUE: Queue = Queue::new(b'\n', |line| write_line(PIPE.1.as_fd(), line), tell_lost);
    static LOST: AtomicU64 = AtomicU64::new(0);

    fn tell_lost(lost: u64) {
        LOST.fetch_add(lost, Ordering::Relaxed);
        QUEUE.push(b"lost\n");
    }

    fn read<const N: usize>() -> [u8; N] {
        let mut bytes = [0; N];
        (&PIPE.0).read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn lines_that_are_not_read_are_counted_and_block_no_caller() {
        QUEUE.flush();
        let begun = Instant::now();
        for _ in 0..PUSHED {
            QUEUE.push(&LINE);
        }
        QUEUE.flush();
        // Later calls do not wait again.
        for _ in 0..10 {
            QUEUE.flush();
        }
        assert!(begun.elapsed() < 4 * MAX_PAUSE, "{:?}", begun.elapsed());
        assert_eq!(LOST.load(Ordering::Relaxed), 0, "it was told of before anybody could read");

        let mut lines = 0;
        loop {
            let begin = read::<5>();
            if &begin == b"lost\n" {
                break;
            }
            assert_eq!((begin, read::<95>().last()), (*b"xxxxx", Some(&b'\n')));
            lines += 1;
        }
        assert_eq!(lines + LOST.load(Ordering::Relaxed), PUSHED);
        // The bound covers the lines in the queue, those that the thread has taken, and those in the pipe.
        let most = (2 * MAX_WAITING + 64 * 1024) / LINE.len() + 1;
        assert!((1..=u64::try_from(most).unwrap()).contains(&lines), "{lines} lines were kept");
        // The queue works on as before.
        QUEUE.push(&LINE);
        QUEUE.flush();
        assert_eq!(read::<100>(), LINE);
    }
}
