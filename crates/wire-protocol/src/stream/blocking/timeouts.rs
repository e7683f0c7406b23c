//! Time limits for calls that block: the stream sets them on the transport before each call.

use std::boxed::Box;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A transport whose reads and writes can be given a time limit, with which the stream keeps the limits of the protocol:
/// for the handshake, for the Open of a client, for the other side's Close.
///
/// The functions are those of `std::net::TcpStream`, and mean the same: a call that reaches its limit fails with
/// `WouldBlock` or `TimedOut`. The stream puts the limits back that it found, and while one of its own runs each call gets
/// the shorter of the two.
///
/// A transport that has no limits goes into [`Unlimited`].
pub trait Timeouts {
    /// How long a read waits; `None` is for ever.
    ///
    /// # Errors
    /// Those of the transport.
    fn read_timeout(&self) -> io::Result<Option<Duration>>;

    /// Sets how long a read waits, which is never zero; `None` is for ever.
    ///
    /// # Errors
    /// Those of the transport.
    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()>;

    /// How long a write waits; `None` is for ever.
    ///
    /// # Errors
    /// Those of the transport.
    fn write_timeout(&self) -> io::Result<Option<Duration>>;

    /// Sets how long a write waits, which is never zero; `None` is for ever.
    ///
    /// # Errors
    /// Those of the transport.
    fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()>;
}

/// Implements [`Timeouts`] for a pointer to a transport.
macro_rules! pointer {
    ($pointer:ty) => {
        impl<T: Timeouts + ?Sized> Timeouts for $pointer {
            fn read_timeout(&self) -> io::Result<Option<Duration>> {
                (**self).read_timeout()
            }

            fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
                (**self).set_read_timeout(limit)
            }

            fn write_timeout(&self) -> io::Result<Option<Duration>> {
                (**self).write_timeout()
            }

            fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
                (**self).set_write_timeout(limit)
            }
        }
    };
}

/// Implements [`Timeouts`] for a socket of std, which has all of it.
macro_rules! socket {
    ($socket:ty) => {
        impl Timeouts for $socket {
            fn read_timeout(&self) -> io::Result<Option<Duration>> {
                self.read_timeout()
            }

            fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
                self.set_read_timeout(limit)
            }

            fn write_timeout(&self) -> io::Result<Option<Duration>> {
                self.write_timeout()
            }

            fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
                self.set_write_timeout(limit)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);
pointer!(&T);
pointer!(&mut T);
pointer!(Box<T>);

/// A transport without time limits, such as a serial line or a pair of pipes.
///
/// The limits of the protocol are then looked at between one read or write and the next: a peer that goes on sending has
/// no longer than they say, but one that is silent, or takes nothing, makes the call wait for ever.
#[derive(Debug)]
pub struct Unlimited<S>(pub S);

impl<S> Timeouts for Unlimited<S> {
    fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(None)
    }

    fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(None)
    }

    fn set_write_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Read> Read for Unlimited<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }

    fn read_vectored(&mut self, places: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read_vectored(places)
    }
}

impl<S: Write> Write for Unlimited<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Does `work` over `io` within `limit`. What it comes to where that has passed is `late`.
pub(super) fn within<S: Timeouts, T>(
    io: &mut S,
    limit: Duration,
    late: impl FnOnce() -> io::Error,
    work: impl FnOnce(&mut Limited<'_, S>) -> io::Result<T>,
) -> io::Result<T> {
    let (read, write) = (io.read_timeout()?, io.write_timeout()?);
    let deadline = Instant::now() + limit;
    let mut limited = Limited { io: &mut *io, deadline, read, write };
    let done = work(&mut limited);
    let restored = io.set_read_timeout(read).and_then(|()| io.set_write_timeout(write));
    match done {
        Err(error) if is_timeout(&error) && Instant::now() >= deadline => Err(late()),
        Err(error) => Err(error),
        Ok(value) => restored.map(|()| value),
    }
}

/// A transport that has until a certain moment.
pub(super) struct Limited<'a, S> {
    io: &'a mut S,
    deadline: Instant,
    /// The limits that the transport had of its own.
    read: Option<Duration>,
    write: Option<Duration>,
}

impl<S> Limited<'_, S> {
    /// How long a call may take whose own limit is `own`.
    fn left(&self, own: Option<Duration>) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // The system counts in ticks of its clock, and may be one early.
        let left = left + CLOCK_TICK;
        Ok(Some(own.map_or(left, |own| own.min(left))))
    }
}

impl<S: Read + Timeouts> Read for Limited<'_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.set_read_timeout(self.left(self.read)?)?;
        self.io.read(buf)
    }
}

impl<S: Write + Timeouts> Write for Limited<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.io.set_write_timeout(self.left(self.write)?)?;
        self.io.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.io.set_write_timeout(self.left(self.write)?)?;
        self.io.flush()
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The longest tick that a system has.
const CLOCK_TICK: Duration = Duration::from_millis(10);
