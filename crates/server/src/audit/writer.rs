//! The thread that writes the audit log, and the events that wait for it.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tunnel::escape::escape_json;

use super::event::Event;
use super::file::AuditFile;

/// The end of the queue that events are put into.
#[derive(Debug)]
pub(super) struct Writer {
    queue: SyncSender<Work>,
    shared: Arc<Shared>,
}

/// What both ends of the queue know.
#[derive(Debug)]
struct Shared {
    /// The number of events that are not in the file, and that no line of it has told of.
    missing: AtomicU64,
    /// The file to go on with, in place of the one that is open.
    replacement: Mutex<Option<AuditFile>>,
    path: Mutex<PathBuf>,
}

#[derive(Debug)]
enum Work {
    Event { time: Timestamp, event: String },
    Finish(Sender<()>),
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(file: AuditFile) -> io::Result<Self> {
        let (queue, work) = sync_channel(MAX_WAITING);
        let shared = Arc::new(Shared {
            missing: AtomicU64::new(0),
            replacement: Mutex::new(None),
            path: Mutex::new(file.path.clone()),
        });
        let log =
            Log { file, shared: Arc::clone(&shared), process: Process::this()?, seq: 0, is_failing: false };
        thread::Builder::new().name("audit".into()).spawn(move || log.write_all(&work))?;
        Ok(Self { queue, shared })
    }

    /// Notes an event; where too many wait, it is counted as missing.
    pub(super) fn note(&self, event: &Event<'_>) {
        let event = serde_json::to_string(event).unwrap_or_default();
        if self.queue.try_send(Work::Event { time: Timestamp::now(), event }).is_err() {
            self.shared.missing.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has all later events go to `file`.
    pub(super) fn replace(&self, file: AuditFile) {
        self.shared.path.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&file.path);
        *self.shared.replacement.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    /// Waits until all events are written, but only some seconds, and returns how many are missing.
    pub(super) fn finish(&self) -> u64 {
        let (done, finished) = channel();
        let is_done =
            self.queue.try_send(Work::Finish(done)).is_ok() && finished.recv_timeout(FINISH_DEADLINE).is_ok();
        let missing = self.shared.missing.load(Ordering::Relaxed);
        if is_done { missing } else { missing.max(1) }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.shared.path.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The other end of the queue.
struct Log {
    file: AuditFile,
    shared: Arc<Shared>,
    process: Process,
    seq: u64,
    is_failing: bool,
}

impl Log {
    fn write_all(mut self, work: &Receiver<Work>) {
        for work in work {
            match work {
                Work::Event { time, event } => self.write(time, &event),
                Work::Finish(done) => {
                    done.send(()).ok();
                }
            }
        }
    }

    fn write(&mut self, time: Timestamp, event: &str) {
        if let Some(file) = self.shared.replacement.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.file = file;
        }
        let missing = self.shared.missing.swap(0, Ordering::Relaxed);
        self.seq += missing + 1;
        let head = Head {
            schema: SCHEMA,
            time: format!("{time:.6}"),
            process: &self.process,
            seq: self.seq,
            missing: Some(missing).filter(|missing| *missing > 0),
        };
        let line = line(&head, event);
        match self.file.append(line.as_bytes()) {
            Ok(()) if std::mem::take(&mut self.is_failing) => {
                tracing::info!(missing, "the audit log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                // The number is taken again by the line that says how many are missing.
                self.seq -= missing + 1;
                self.shared.missing.fetch_add(missing + 1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    let path = self.file.path.display();
                    tracing::error!(%path, %error, "the audit log cannot be written: events are counted until it can");
                }
            }
        }
    }
}

/// What all lines have.
#[derive(Serialize)]
struct Head<'a> {
    schema: u32,
    time: String,
    #[serde(flatten)]
    process: &'a Process,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<u64>,
}

/// The process that writes.
#[derive(Debug, Serialize)]
struct Process {
    /// A number that no other process has.
    process: String,
    pid: u32,
    uid: u32,
}

impl Process {
    fn this() -> io::Result<Self> {
        let number = getrandom::u64().map_err(io::Error::other)?;
        let uid = rustix::process::getuid().as_raw();
        Ok(Self { process: format!("{number:016x}"), pid: std::process::id(), uid })
    }
}

/// One object of both, with its end. What would move a terminal is escaped.
fn line(head: &Head<'_>, event: &str) -> String {
    let head = serde_json::to_string(head).unwrap_or_default();
    let both = format!("{},{}", head.trim_end_matches('}'), event.trim_start_matches('{'));
    format!("{}\n", escape_json(&both))
}

/// The version of the form of the lines.
const SCHEMA: u32 = 1;
/// Most events that wait to be written.
const MAX_WAITING: usize = 4096;
/// Longest wait for the disk at the end.
const FINISH_DEADLINE: Duration = Duration::from_secs(5);
