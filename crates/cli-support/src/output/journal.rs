//! The journal of systemd, which takes log lines with their fields: one datagram for each, in its native protocol.
//!
//! The crates that speak it send from the task that logs, and a journal that is stopped would hold up every task. Here
//! entries wait in a queue, as lines for standard error do.

use std::fs::File;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};

use super::queue::Queue;

/// Opens the journal that listens at `path`. All entries go there from now on.
///
/// # Errors
/// The system's, where nobody listens there.
pub(crate) fn open(path: &Path) -> io::Result<()> {
    // A socket that is not connected outlives a journal that is started anew.
    UnixDatagram::unbound().and_then(|socket| socket.connect(path))?;
    let socket = UnixDatagram::unbound()?;
    JOURNAL.set((socket, path.into())).ok();
    Ok(())
}

/// Waits until all entries are sent, but only a second for a journal that takes nothing.
pub(super) fn flush() {
    if JOURNAL.get().is_some() {
        QUEUE.flush();
    }
}

/// How many entries were lost since the journal took nothing in time.
pub(super) fn lost_since_start() -> u64 {
    QUEUE.lost_since_start()
}

/// The output of the log: the queue of the journal, which loses entries that cannot be sent. Each ends with [`END`].
#[derive(Debug)]
pub(crate) struct JournalOutput;

impl Write for JournalOutput {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        QUEUE.push(entry);
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn send(entry: &[u8]) -> io::Result<()> {
    let Some((socket, path)) = JOURNAL.get() else { return Ok(()) };
    let entry = entry.strip_suffix(&[END]).unwrap_or(entry);
    match socket.send_to(entry, path) {
        Err(error) if is_too_long(&error) => send_as_file(socket, path, entry),
        sent => sent.map(drop),
    }
}

fn is_too_long(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MSGSIZE | Errno::NOBUFS))
}

/// Sends an entry that is too long for a datagram, as a file in memory that nobody can change any more.
fn send_as_file(socket: &UnixDatagram, path: &Path, entry: &[u8]) -> io::Result<()> {
    let mut file =
        File::from(memfd_create("journal-entry", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(entry)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    let descriptors = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("there is no room for the descriptor"));
    }
    sendmsg_addr(socket, &SocketAddrUnix::new(path)?, &[], &mut control, SendFlags::empty())?;
    Ok(())
}

/// The byte at the end of an entry, which is in none, since all values are escaped.
pub(crate) const END: u8 = b'\0';

static JOURNAL: OnceLock<(UnixDatagram, PathBuf)> = OnceLock::new();
static QUEUE: Queue =
    Queue::new(END, send, |lines| tracing::warn!(lines, "the journal took nothing in time: lines were lost"));

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Read as _};

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    #[test]
    fn an_entry_that_is_too_long_for_a_datagram_arrives_as_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        assert_eq!(open(&folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        open(&path).unwrap();
        journal.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        QUEUE.push(b"MESSAGE=short\nPRIORITY=6\0");
        let mut datagram = [0; 64];
        let len = journal.recv(&mut datagram).unwrap();
        assert_eq!(&datagram[..len], b"MESSAGE=short\nPRIORITY=6");

        // It has room only in a queue that is empty, as this one is now.
        let entry = format!("MESSAGE={}", "x".repeat(1 << 20));
        QUEUE.push(format!("{entry}\0").as_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut datagram)];
        let received = recvmsg(&journal, &mut parts, &mut control, RecvFlags::empty()).unwrap();
        assert_eq!(received.bytes, 0);
        let Some(RecvAncillaryMessage::ScmRights(mut descriptors)) = control.drain().next() else {
            panic!("there is no descriptor");
        };
        let mut file = File::from(descriptors.next().unwrap());
        assert!(file.write_all(b"more").is_err(), "the entry can be changed");
        std::io::Seek::rewind(&mut file).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert!(text == entry, "{} bytes", text.len());
    }
}
