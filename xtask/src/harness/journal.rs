//! A journal as systemd's, which takes entries at a socket, for the log format `journald`.

use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use tempfile::TempDir;

use crate::harness::deadline::DEADLINE;
use crate::harness::recording::Recording;

/// A socket that takes the entries of a journal, each of which is one line here.
pub(crate) struct Journal {
    folder: TempDir,
    socket: UnixDatagram,
    pub(crate) entries: Arc<Recording>,
}

impl Journal {
    /// Listens, and records all entries: the lines of each with [`BETWEEN`] in between.
    pub(crate) fn listen() -> Result<Self> {
        let mut journal = Self::unread()?;
        let socket = journal.socket.try_clone()?;
        let (reader, mut writer) = io::pipe()?;
        thread::spawn(move || {
            let mut datagram = vec![0; 256 * 1024];
            while let Ok(len) = socket.recv(&mut datagram) {
                let mut line = String::from_utf8_lossy(&datagram[..len]).trim_end().replace('\n', BETWEEN);
                line.push('\n');
                if writer.write_all(line.as_bytes()).is_err() {
                    break;
                }
            }
        });
        journal.entries = Recording::of(reader);
        Ok(journal)
    }

    /// Listens, and reads nothing.
    pub(crate) fn unread() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = UnixDatagram::bind(folder.path().join("socket"))?;
        Ok(Self { folder, socket, entries: Recording::over() })
    }

    /// The option that has a program log here.
    pub(crate) fn option(&self) -> String {
        format!("--log-format=journald:{}", self.path().display())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Waits for an entry that contains all `names`.
    pub(crate) fn logged(&self, names: &[&str]) -> Result<String> {
        self.entries.wait_line(DEADLINE, |entry| names.iter().all(|name| entry.contains(name)))
    }

    /// The messages so far, as a reader of the journal shows them: with `before` in front of each.
    pub(crate) fn messages(&self, before: &str) -> String {
        let text = self.entries.text();
        let message = |entry: &str| {
            let message = entry.split(BETWEEN).find_map(|line| line.strip_prefix("MESSAGE="));
            format!("{before}{}\n", message.unwrap_or_default())
        };
        text.lines().map(message).collect()
    }
}

/// What is written between the lines of an entry.
pub(crate) const BETWEEN: &str = "\u{1f}";
