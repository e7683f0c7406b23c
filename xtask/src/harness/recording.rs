//! Records what comes out of a pipe or a socket, and lets scenarios wait for parts of it.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Bytes that one thread appends and other threads wait for.
#[derive(Default)]
pub(crate) struct Recording {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl Recording {
    /// Records all bytes of `reader`, until its end or first error.
    pub(crate) fn of(mut reader: impl Read + Send + 'static) -> Arc<Self> {
        let recording = Arc::new(Self::default());
        let writer = Arc::clone(&recording);
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                writer.append(&buffer[..count]);
            }
            writer.end();
        });
        recording
    }

    /// An empty recording that has ended.
    pub(crate) fn over() -> Arc<Self> {
        let recording = Self::default();
        recording.end();
        Arc::new(recording)
    }

    pub(crate) fn append(&self, bytes: &[u8]) {
        self.lock().bytes.extend_from_slice(bytes);
        self.changed.notify_all();
    }

    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Waits for a complete line that `matches`.
    pub(crate) fn wait_line(
        &self,
        within: Duration,
        mut matches: impl FnMut(&str) -> bool,
    ) -> Result<String> {
        let mut line_start = 0;
        let mut searched = 0;
        self.wait(within, |bytes| {
            while let Some(length) = bytes[searched..].iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8_lossy(&bytes[line_start..searched + length]).into_owned();
                searched += length + 1;
                line_start = searched;
                if matches(&line) {
                    return Some(line);
                }
            }
            searched = bytes.len();
            None
        })
    }

    /// Waits until the recording has at least `count` bytes.
    pub(crate) fn wait_len(&self, within: Duration, count: usize) -> Result<()> {
        self.wait(within, |bytes| (bytes.len() >= count).then_some(()))
    }

    /// Waits until the recording has ended, and returns all of it.
    pub(crate) fn wait_end(&self, within: Duration) -> Result<Vec<u8>> {
        let deadline = Instant::now() + within;
        let mut state = self.lock();
        while !state.ended {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                bail!("no end within {within:?}, {} bytes so far", state.bytes.len());
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state.bytes.clone())
    }

    fn wait<T>(&self, within: Duration, mut found: impl FnMut(&[u8]) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + within;
        let mut state = self.lock();
        loop {
            if let Some(found) = found(&state.bytes) {
                return Ok(found);
            }
            if state.ended {
                bail!("ended without what was waited for; there is only:\n{}", excerpt(&state.bytes));
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                bail!("not seen within {within:?}; there is only:\n{}", excerpt(&state.bytes));
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the bytes as text, for an error message.
fn excerpt(bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(4096);
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}
