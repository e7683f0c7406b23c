//! The two ends of a connection under test: what is said at each, both ways at once, and how it ended.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::net::sockopt::set_socket_linger;

use crate::harness::deadline::{DEADLINE, until};
use crate::harness::payload::{Lines, digest_of};

/// A plain connection, of either kind.
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

/// A connection to an address, whose reads fail rather than wait forever.
pub(crate) fn dial(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connection to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Payloads both ways at once; each side tells the SHA-256 of what it sends, or of what it got.
#[derive(Clone, Copy)]
pub(crate) struct Exchange {
    /// Bytes from the application to the target.
    pub(crate) up: u64,
    /// Bytes from the target to the application.
    pub(crate) down: u64,
}

impl Exchange {
    /// Small enough to be one of many, and more than one record each way.
    pub(crate) const SMALL: Self = Self { up: 40_000, down: 70_001 };

    /// The target's part: its payload, and when the application has ended, the length and the hash of what it said.
    pub(crate) fn answer(self, mut connection: impl Connection) -> io::Result<()> {
        let mut sending = connection.duplicate()?;
        let sender = thread::spawn(move || io::copy(&mut Lines::of_length(self.down), &mut sending));
        let got = digest_of(&mut connection).map_err(io::Error::other)?;
        sender.join().map_err(|_| io::Error::other("the sender panicked"))??;
        connection.write_all(trailer(&got).as_bytes())?;
        connection.close(Shutdown::Write)
    }

    /// The application's part: everything has to arrive on both sides, and to end there.
    pub(crate) fn ask(self, mut connection: impl Connection) -> Result<()> {
        let mut sending = connection.duplicate()?;
        let sender = thread::spawn(move || -> io::Result<()> {
            io::copy(&mut Lines::of_length(self.up), &mut sending)?;
            sending.close(Shutdown::Write)
        });
        let heard = self.hear(&mut connection);
        // The system tells of a reset once: where the sender was told, the reader saw an end.
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

    /// What the target has to say, to its end.
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

/// Sends `text` and waits for the same text: the connection stands, end to end.
pub(crate) fn echoed(connection: &mut (impl Read + Write), text: &[u8]) -> Result<()> {
    connection.write_all(text)?;
    let mut back = vec![0; text.len()];
    connection.read_exact(&mut back).context("no echo")?;
    ensure!(back == text, "the echo is another text");
    Ok(())
}

/// How a connection ended for the one who reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The other side has said all.
    Clean,
    /// The connection is broken, and the reader knows it.
    Reset,
}

/// Reads until the end: how many bytes came, and how it ended.
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

/// Says all that an application has to say, and how the connection ended then.
pub(crate) fn end_behind(mut stream: TcpStream, text: &[u8]) -> Result<(u64, End)> {
    let said = stream.write_all(text).and_then(|()| stream.shutdown(Shutdown::Write));
    match said {
        Ok(()) => read_to_end_of(stream),
        // The system tells of a reset once: a read after this would look like an end.
        Err(error) if is_break(&error) => Ok((0, End::Reset)),
        Err(error) => Err(error).context("neither taken nor reset"),
    }
}

/// The connection broke, and the application was told so.
pub(crate) fn is_break(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected)
}

/// Breaks a connection so that the other side sees a reset, not an end.
pub(crate) fn reset(stream: TcpStream) -> io::Result<()> {
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

/// A sender that was told of a reset has ended before its reader saw anything.
const TOLD: Duration = Duration::from_secs(1);

/// A connection there is broken, and does not look like one that has ended.
pub(crate) fn expect_reset(address: &str) -> Result<()> {
    let ended = end_behind(dial(address)?, b"anybody there?")?;
    ensure!(ended == (0, End::Reset), "{ended:?} instead of a reset");
    Ok(())
}

/// Waits until a connection goes through again.
pub(crate) fn works_again(address: &str) -> Result<()> {
    until(DEADLINE, "a connection goes through", || echoed(&mut dial(address)?, b"again"))
}
