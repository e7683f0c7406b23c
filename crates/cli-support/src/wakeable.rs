//! An input whose blocking reads another thread can end.

use std::fs::File;
use std::io::{self, IoSliceMut, PipeReader, PipeWriter, Read};

use rustix::event::{PollFd, PollFlags, poll};

/// An input for a thread that blocks in reads. A read that has begun cannot be interrupted, so each read first
/// waits until there is input or the waker was dropped.
#[derive(Debug)]
pub struct WakeableInput {
    file: File,
    woken: PipeReader,
}

/// Ends the reads of a [`WakeableInput`] when it is dropped: a waiting read fails, and so does every later one.
#[derive(Debug)]
pub struct Waker {
    _closed: PipeWriter,
}

impl WakeableInput {
    /// Wraps a file of any kind. A file that is always ready, such as one on a disk, is read as usual.
    ///
    /// # Errors
    /// The error of the pipe that wakes the input, when the system has none.
    pub fn new(file: File) -> io::Result<(Self, Waker)> {
        let (woken, _closed) = io::pipe()?;
        Ok((Self { file, woken }, Waker { _closed }))
    }

    fn wait(&self) -> io::Result<()> {
        loop {
            let mut polled = [
                PollFd::new(&self.file, PollFlags::IN),
                // No byte is ever written to the pipe, so the only event is that its other end is closed.
                PollFd::new(&self.woken, PollFlags::IN),
            ];
            match poll(&mut polled, None) {
                Ok(_) if !polled[1].revents().is_empty() => {
                    return Err(io::Error::other("the input was woken"));
                }
                Ok(_) if !polled[0].revents().is_empty() => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for WakeableInput {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.wait()?;
        self.file.read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.wait()?;
        self.file.read_vectored(bufs)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::OwnedFd;
    use std::thread;

    use super::*;

    #[test]
    fn a_read_that_waits_returns_when_the_input_is_woken() {
        let (reader, mut writer) = io::pipe().unwrap();
        let (mut input, waker) = WakeableInput::new(File::from(OwnedFd::from(reader))).unwrap();
        writer.write_all(b"before").unwrap();
        let mut read = [0; 6];
        input.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"before");
        let waiting = thread::spawn(move || (input.read(&mut [0]).is_err(), input));
        drop(waker);
        let (failed, mut input) = waiting.join().unwrap();
        assert!(failed);
        // Later input is not read either.
        writer.write_all(b"behind").unwrap();
        assert!(input.read(&mut [0]).is_err());
    }

    #[test]
    fn files_on_a_disk_and_ends_are_read_as_before() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"text").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let (mut input, _waker) = WakeableInput::new(file).unwrap();
        let mut text = String::new();
        input.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }
}
