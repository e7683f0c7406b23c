//! A stream in memory with the two halves that an exchange of files needs, bounded as a socket's buffers are.

use std::collections::VecDeque;
use std::io::{self, BufRead, IoSliceMut, Read, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use files::framing::{Input, MessageReader, MessageWriter, Output};

/// Bytes that are on their way at most.
const CAPACITY: usize = 64 * 1024;
/// How long a test waits for the other side at most: by then something hangs.
const DEADLINE: Duration = Duration::from_secs(20);
/// The payload of a record.
const RECORD: usize = 16_384;

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    /// The writer has said that nothing more comes.
    has_ended: bool,
    /// One of the two is gone.
    is_cut: bool,
    /// Bytes that still get through before it is cut.
    cut_after: Option<usize>,
    carried: usize,
}

/// The reading half.
#[derive(Debug)]
pub(super) struct MemoryInput {
    direction: Arc<Direction>,
    buffer: Vec<u8>,
    start: usize,
}

/// The writing half.
#[derive(Debug)]
pub(super) struct MemoryOutput(Arc<Direction>);

/// Both halves of one side.
pub(super) type MemoryStream = (MessageReader<MemoryInput>, MessageWriter<MemoryOutput>);

/// Two sides that are connected.
pub(super) fn pair() -> (MemoryStream, MemoryStream) {
    let (there, back) = (Arc::new(Direction::default()), Arc::new(Direction::default()));
    let side = |from: &Arc<Direction>, to: &Arc<Direction>| {
        let input = MemoryInput { direction: Arc::clone(from), buffer: Vec::new(), start: 0 };
        (MessageReader::new(input), MessageWriter::new(MemoryOutput(Arc::clone(to))))
    };
    (side(&back, &there), side(&there, &back))
}

impl MemoryOutput {
    /// Lets so many more bytes through, and cuts the stream then.
    pub(super) fn cut_after(&self, bytes: usize) {
        self.0.state.lock().unwrap().cut_after = Some(bytes);
    }

    /// Bytes that it has carried.
    pub(super) fn carried(&self) -> usize {
        self.0.state.lock().unwrap().carried
    }
}

impl Direction {
    fn cut(&self) {
        self.state.lock().unwrap().is_cut = true;
        self.changed.notify_all();
    }
}

impl Drop for MemoryInput {
    fn drop(&mut self) {
        self.direction.cut();
    }
}

impl Drop for MemoryOutput {
    fn drop(&mut self) {
        self.0.cut();
    }
}

impl Input for MemoryInput {
    fn has_received(&mut self) -> io::Result<bool> {
        let state = self.direction.state.lock().unwrap();
        Ok(self.start < self.buffer.len() || !state.bytes.is_empty() || state.has_ended || state.is_cut)
    }
}

impl BufRead for MemoryInput {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            let state = self.direction.state.lock().unwrap();
            let (mut state, waited) = self
                .direction
                .changed
                .wait_timeout_while(state, DEADLINE, |state| {
                    state.bytes.is_empty() && !state.has_ended && !state.is_cut
                })
                .unwrap();
            if waited.timed_out() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if state.bytes.is_empty() && !state.has_ended {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let length = state.bytes.len().min(RECORD);
            self.buffer.extend(state.bytes.drain(..length));
            drop(state);
            self.direction.changed.notify_all();
        }
        Ok(&self.buffer[self.start..])
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
    }
}

impl Read for MemoryInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut data = self.fill_buf()?;
        let length = data.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl Write for MemoryOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let state = self.0.state.lock().unwrap();
        let (mut state, waited) = self
            .0
            .changed
            .wait_timeout_while(state, DEADLINE, |state| state.bytes.len() >= CAPACITY && !state.is_cut)
            .unwrap();
        if waited.timed_out() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if state.is_cut || state.has_ended || state.cut_after == Some(0) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut length = bytes.len().min(CAPACITY - state.bytes.len());
        if let Some(left) = &mut state.cut_after {
            length = length.min(*left);
            *left -= length;
            state.is_cut = *left == 0;
        }
        state.bytes.extend(&bytes[..length]);
        state.carried += length;
        drop(state);
        self.0.changed.notify_all();
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A byte that nobody has sent.
const STALE: u8 = 0xee;

impl Output for MemoryOutput {
    fn write_with(
        &mut self,
        most: usize,
        fill: &mut dyn FnMut(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        // What was sent before may lie there still.
        let mut memory = vec![STALE; most.min(4 * RECORD)];
        let mut places: Vec<_> = memory.chunks_mut(RECORD).map(IoSliceMut::new).collect();
        let length = fill(&mut places)?;
        self.write_all(&memory[..length])?;
        Ok(length)
    }

    fn keep_alive(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn shutdown(&mut self) -> io::Result<()> {
        self.0.state.lock().unwrap().has_ended = true;
        self.0.changed.notify_all();
        Ok(())
    }
}
