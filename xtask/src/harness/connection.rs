//! The two ends of a connection under test: payloads in both directions at once, and how the connection ended.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::net::sockopt::set_socket_linger;

use crate::harness::deadline::{DEADLINE, until};
use crate::harness::payload::{Lines, digest_of};

/// A plain connection: TCP or a unix socket.
pub(crate) trait Connection: Read + Write + Send + Sized + 'static {
    fn duplicate(&self) -> io::Result<Self>;
    fn close(&self, how: Shutdown) -> io::Result<()>;
}

impl Connection for TcpStream {
    fn duplicate(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn close(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
}

impl Connection for UnixStream {
    fn duplicate(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn close(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
}

/// Connects to an address. Reads fail at the deadline rather than wait forever.
pub(crate) fn dial(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connection to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Payloads in both directions at once. The target answers with the SHA-256 of what it got.
#[derive(Clone, Copy)]
pub(crate) struct Exchange {
    /// Bytes from the application to the target.
    pub(crate) up: u64,
    /// Bytes from the target to the application.
    pub(crate) down: u64,
}

impl Exchange {
    /// An exchange that is small enough to run many times, and larger than one record each way.
    pub(crate) const SMALL: Self = Self { up: 40_000, down: 70_001 };

    /// Runs the target's side: sends its payload, and, once the application has ended its direction, the
    /// length and hash of the bytes that arrived.
    pub(crate) fn answer(self, mut connection: impl Connection) -> io::Result<()> {
        let mut sending = connection.duplicate()?;
        let sender = thread::spawn(move || io::copy(&mut Lines::of_length(self.down), &mut sending));
        let got = digest_of(&mut connection).map_err(io::Error::other)?;
        sender.join().map_err(|_| io::Error::other("the sender panicked"))??;
        connection.write_all(trailer(&got).as_bytes())?;
        connection.close(Shutdown::Write)
    }

    /// Runs the application's side, and checks that both payloads arrive complete and end cleanly.
    pub(crate) fn ask(self, mut connection: impl Connection) -> Result<()> {
        let mut sending = connection.duplicate()?;
        let sender = thread::spawn(move || -> io::Result<()> {
            io::copy(&mut Lines::of_length(self.up), &mut sending)?;
            sending.close(Shutdown::Write)
        });
        let heard = self.hear(&mut connection);
        // The system reports a reset only once: where the sender got it, the reader saw an end of the stream.
        let has_said = || {
            ensure!(sender.is_finished());
            Ok(())
        };
        if heard.is_err() && until(TOLD, "the sender's view", has_said).is_err() {
            connection.close(Shutdown::Both).ok();
            return heard;
        }
        let said = sender.join().map_err(|_| anyhow!("the sender panicked"))?.context("on the way up");
        said.and(heard)
    }

    /// Reads the target's payload and its report to the end, and checks both.
    fn hear(self, mut connection: impl Read) -> Result<()> {
        let got = digest_of((&mut connection).take(self.down)).context("on the way down")?;
        ensure!(got == digest_of(Lines::of_length(self.down))?, "{} bytes came down, and others", got.0);
        let mut told = String::new();
        connection.read_to_string(&mut told).context("the target's answer")?;
        let expected = trailer(&digest_of(Lines::of_length(self.up))?);
        ensure!(told == expected, "the target got {told:?}, and not {expected:?}");
        Ok(())
    }
}

fn trailer((length, hash): &(u64, String)) -> String {
    format!("{length} {hash}\n")
}

/// Sends `text` and waits for its echo, which proves that the connection works end to end.
pub(crate) fn echoed(connection: &mut (impl Read + Write), text: &[u8]) -> Result<()> {
    connection.write_all(text)?;
    let mut back = vec![0; text.len()];
    connection.read_exact(&mut back).context("no echo")?;
    ensure!(back == text, "the echo is another text");
    Ok(())
}

/// How a connection ended, as its reader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The other side has ended its direction after its last byte.
    Clean,
    /// The connection is broken, and the reader got an error.
    Reset,
}

/// Reads until the end, and returns the number of bytes and how the connection ended.
pub(crate) fn read_to_end_of(mut reader: impl Read) -> Result<(u64, End)> {
    let mut buffer = vec![0; 64 * 1024];
    let mut length = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((length, End::Clean)),
            Ok(count) => length += u64::try_from(count)?,
            Err(error) if is_break(&error) => return Ok((length, End::Reset)),
            Err(error) => return Err(error).context("neither an end nor a reset"),
        }
    }
}

/// Sends `text`, ends this direction, and returns how many bytes came back and how the connection ended.
pub(crate) fn end_behind(mut stream: TcpStream, text: &[u8]) -> Result<(u64, End)> {
    let said = stream.write_all(text).and_then(|()| stream.shutdown(Shutdown::Write));
    match said {
        Ok(()) => read_to_end_of(stream),
        // The system reports a reset only once: a read after this one would look like an end.
        Err(error) if is_break(&error) => Ok((0, End::Reset)),
        Err(error) => Err(error).context("neither taken nor reset"),
    }
}

/// Returns whether the error tells the application that its connection is broken.
pub(crate) fn is_break(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected)
}

/// Breaks a connection so that the other side sees a reset, not an end.
pub(crate) fn reset(stream: TcpStream) -> io::Result<()> {
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

/// Time within which a sender that got the reset has ended, counted from its reader's error.
const TOLD: Duration = Duration::from_secs(1);

/// Checks that a connection to `address` is reset, and does not look like one that ended cleanly.
pub(crate) fn expect_reset(address: &str) -> Result<()> {
    let ended = end_behind(dial(address)?, b"anybody there?")?;
    ensure!(ended == (0, End::Reset), "{ended:?} instead of a reset");
    Ok(())
}

/// Waits until a connection to `address` works again.
pub(crate) fn works_again(address: &str) -> Result<()> {
    until(DEADLINE, "a connection goes through", || echoed(&mut dial(address)?, b"again"))
}
