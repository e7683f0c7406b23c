//! The stream over `std::io::Read + Write`.

use std::boxed::Box;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;
use std::vec;
use std::vec::Vec;

use getrandom::SysRng;

use super::{
    HANDSHAKE_CHUNK, HANDSHAKE_DEADLINE, Parts, Reading, Session, Writing, abort_frame,
    closed_during_handshake, cut_off, handshake_timed_out, target_of, unix_time,
};
use crate::channel::{Event, KeyLimits};
use crate::handshake::client::{ClientConfig, ClientHandshake};
use crate::handshake::server::{Authorization, ServerConfig, ServerHandshake};
use crate::handshake::{Handshake, Step, Work as _};
use crate::message::{ClientIdentity, ControlMessage, DeniedCode, RefusedCode, ResetCode, Target};
use crate::record::batch;
use crate::{Error, PeerMisbehaved};

/// A channel over a socket, and the stream that is open on it: what is read and written is the stream's data.
///
/// As [`super::SecureStream`], for threads. [`SecureStream::shutdown`] says EndOfStream.
#[derive(Debug)]
pub struct SecureStream<S> {
    io: S,
    session: Session,
    reading: Box<Reading>,
    writing: Box<Writing>,
}

/// Connects as a client and opens what `config` says, or else a pipe.
///
/// A socket that waits for ever makes this wait for ever: give it timeouts before. With them, a server that dribbles gets
/// no more than [`super::HANDSHAKE_DEADLINE`].
///
/// # Errors
/// Those of the socket, and those of the protocol inside an `io::Error` (see [`super::error_in`]); [`Error::ApiMisuse`] for
/// a listen target.
pub fn connect<S: Read + Write>(mut io: S, mut config: ClientConfig) -> io::Result<SecureStream<S>> {
    target_of(&mut config)?;
    let mut out = Vec::new();
    let start = ClientHandshake::start(config, &mut SysRng, &mut out)?;
    let (established, early) = drive(&mut io, Step::Continue(start), out)?;
    let mut stream = SecureStream::from_parts(io, Parts::of_client(established, &early));
    match stream.event()? {
        Event::Opened => Ok(stream),
        Event::Refused(code) => Err(Error::Refused(code).into()),
        Event::Close => {
            // The stream never stood: this side closes too, and that it does not arrive changes nothing.
            stream.writing.control(&ControlMessage::Close)?;
            stream.flush().ok();
            Err(Error::Closed.into())
        }
        _ => Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
    }
}

/// Accepts a client that `authorize` lets in, and the pipe that it opens. As with [`connect`], the socket is to have
/// timeouts: a client may be silent for ever.
///
/// # Errors
/// As [`connect`]; also [`Error::Denied`] for a client that `authorize` refused.
pub fn accept<S: Read + Write>(
    mut io: S,
    config: Arc<ServerConfig>,
    authorize: impl FnOnce(&ClientIdentity) -> Result<(), DeniedCode>,
) -> io::Result<SecureStream<S>> {
    let start = Step::Continue(ServerHandshake::new(config, unix_time()));
    let driven: io::Result<(Box<Authorization>, _)> = drive(&mut io, start, Vec::new());
    let (authorization, early) = match driven {
        Ok(outcome) => outcome,
        Err(error) => {
            if let Some(code) = super::error_in(&error).and_then(Error::abort_code) {
                // The handshake has failed already; that the hint does not arrive changes nothing.
                io.write_all(&abort_frame(code)).and_then(|()| io.flush()).ok();
            }
            return Err(error);
        }
    };
    let mut out = Vec::new();
    if let Err(code) = authorization.check_policy().and_then(|()| authorize(authorization.client())) {
        authorization.deny(code, &mut out)?;
        io.write_all(&out)?;
        io.flush()?;
        return Err(Error::Denied(code).into());
    }
    let established = authorization.welcome(&mut SysRng, &mut out)?;
    io.write_all(&out)?;
    io.flush()?;
    let mut stream = SecureStream::from_parts(io, Parts::of_server(established, &early));
    match stream.event()? {
        Event::Open(Target::Pipe) => {
            stream.writing.control(&ControlMessage::Opened)?;
            stream.flush()?;
            Ok(stream)
        }
        Event::Open(_) => {
            stream.writing.control(&ControlMessage::Refused { code: RefusedCode::NotOffered })?;
            stream.flush()?;
            Err(Error::Refused(RefusedCode::NotOffered).into())
        }
        Event::Close => Err(Error::Closed.into()),
        _ => Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
    }
}

/// Drives a handshake to its outcome. Also gives the bytes that came behind it.
fn drive<H: Handshake, S: Read + Write>(
    io: &mut S,
    mut step: Step<H>,
    mut out: Vec<u8>,
) -> io::Result<(H::Outcome, Vec<u8>)> {
    let mut inbox = Vec::new();
    let deadline = Instant::now() + HANDSHAKE_DEADLINE;
    loop {
        step = match step {
            Step::Continue(handshake) => {
                io.write_all(&out)?;
                io.flush()?;
                out.clear();
                let mut message = next_message(
                    io,
                    &mut inbox,
                    |prefix| handshake.message_len(prefix),
                    handshake.peer_may_leave(),
                    deadline,
                )?;
                handshake.handle(&mut message, &mut SysRng, &mut out)?
            }
            Step::Work(work) => work.run(&mut SysRng, &mut out)?,
            Step::Done(outcome) => return Ok((outcome, inbox)),
        }
    }
}

fn next_message(
    io: &mut impl Read,
    inbox: &mut Vec<u8>,
    message_len: impl Fn(&[u8]) -> Result<Option<usize>, Error>,
    peer_may_leave: bool,
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    loop {
        match message_len(inbox)? {
            Some(len) if inbox.len() >= len => return Ok(inbox.drain(..len).collect()),
            _ if Instant::now() >= deadline => return Err(handshake_timed_out()),
            _ => {
                let mut chunk = vec![0; HANDSHAKE_CHUNK];
                match io.read(&mut chunk)? {
                    0 => return Err(closed_during_handshake(peer_may_leave && inbox.is_empty())),
                    len => inbox.extend_from_slice(&chunk[..len]),
                }
            }
        }
    }
}

impl<S> SecureStream<S> {
    /// Puts a channel on a socket again.
    pub fn from_parts(io: S, parts: Parts) -> Self {
        let Parts { session, reading, writing } = parts;
        Self { io, session, reading, writing }
    }

    /// What the handshake has settled.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Updates keys earlier than after the default limits.
    pub fn set_key_limits(&mut self, limits: KeyLimits) {
        self.writing.sender.set_key_limits(limits);
    }
}

impl<S: Split> SecureStream<S> {
    /// Splits the stream into two halves, for two threads, that share nothing but the socket.
    ///
    /// # Errors
    /// When the socket cannot be cloned.
    pub fn into_split(self) -> io::Result<Halves<S>> {
        let (read, write) = self.io.split()?;
        Ok((ReadHalf { io: read, reading: self.reading }, WriteHalf { io: write, writing: self.writing }))
    }
}

impl<S: Read + Write> SecureStream<S> {
    /// Says EndOfStream: no more data from this side.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.writing.shutdown(&mut self.io)
    }

    /// Ends the channel: both sides say Close once all that they received has reached its place, so that after
    /// this nothing is in doubt.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the other side is gone without a Close.
    pub fn close(mut self) -> io::Result<()> {
        self.writing.control(&ControlMessage::Close)?;
        self.writing.send(&mut self.io)?;
        self.reading.expect_close(&mut self.io)
    }

    fn event(&mut self) -> io::Result<Event> {
        loop {
            match self.reading.event(&mut self.io)? {
                Event::Ping(nonce) => {
                    self.reading.pongs.set(nonce);
                    self.writing.answer_ping()?;
                    self.writing.send(&mut self.io)?;
                }
                event => return Ok(event),
            }
        }
    }
}

impl Reading {
    fn event(&mut self, io: &mut impl Read) -> io::Result<Event> {
        loop {
            if let Some(event) = self.receiver.poll_event()? {
                return Ok(event);
            }
            match io.read(self.receiver.spare()) {
                Ok(0) => {
                    self.receiver.handle_end()?;
                    return Err(Error::Truncated.into());
                }
                Ok(len) => self.receiver.handle_input(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(cut_off(error)),
            }
        }
    }

    /// Waits for data; `false` at the end of the stream.
    fn wait_for_data(&mut self, io: &mut impl Read) -> io::Result<bool> {
        while !self.ended {
            match self.event(io)? {
                Event::Data => return Ok(true),
                Event::EndOfStream => self.ended = true,
                Event::Ping(nonce) => self.pongs.set(nonce),
                Event::Pong(_) => {}
                _ => return Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
            }
        }
        Ok(false)
    }

    fn read(&mut self, io: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() || !self.wait_for_data(io)? {
            return Ok(0);
        }
        let data = self.receiver.data();
        let len = data.len().min(buf.len());
        buf[..len].copy_from_slice(&data[..len]);
        self.receiver.consume(len);
        Ok(len)
    }

    fn expect_close(&mut self, io: &mut impl Read) -> io::Result<()> {
        loop {
            match self.event(io)? {
                Event::Close => return Ok(()),
                Event::Ping(nonce) => self.pongs.set(nonce),
                Event::Pong(_) => {}
                _ => return Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
            }
        }
    }
}

impl Writing {
    fn send(&mut self, io: &mut impl Write) -> io::Result<()> {
        while !self.unsent().is_empty() {
            match io.write(self.unsent()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => self.sent(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(cut_off(error)),
            }
        }
        Ok(())
    }

    fn write(&mut self, io: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let taken = self.data(bytes)?;
        self.send(io)?;
        Ok(taken)
    }

    fn flush(&mut self, io: &mut impl Write) -> io::Result<()> {
        self.send(io)?;
        self.answer_ping()?;
        self.send(io)?;
        io.flush()
    }

    fn shutdown(&mut self, io: &mut impl Write) -> io::Result<()> {
        if self.sender.is_streaming() {
            self.control(&ControlMessage::EndOfStream)?;
        }
        self.flush(io)
    }
}

impl<S: Read> Read for SecureStream<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reading.read(&mut self.io, buf)
    }
}

impl<S: Write> Write for SecureStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writing.write(&mut self.io, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writing.flush(&mut self.io)
    }
}

/// The reading half of a [`SecureStream`].
#[derive(Debug)]
pub struct ReadHalf<R> {
    io: R,
    reading: Box<Reading>,
}

impl<R: Read> ReadHalf<R> {
    /// The next data where it lies, as long as one record at most; empty at the end of the stream.
    pub(crate) fn next_data(&mut self) -> io::Result<&[u8]> {
        if self.reading.wait_for_data(&mut self.io)? { Ok(self.reading.receiver.data()) } else { Ok(&[]) }
    }

    /// The first `len` bytes of [`ReadHalf::next_data`] are done with.
    pub(crate) fn consume(&mut self, len: usize) {
        self.reading.receiver.consume(len);
    }

    /// Waits for the other side's Close, after the end of its stream.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the other side is gone without it.
    pub fn expect_close(&mut self) -> io::Result<()> {
        self.reading.expect_close(&mut self.io)
    }
}

impl<R: Read> Read for ReadHalf<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reading.read(&mut self.io, buf)
    }
}

/// The writing half of a [`SecureStream`].
#[derive(Debug)]
pub struct WriteHalf<W> {
    io: W,
    writing: Box<Writing>,
}

impl<W: Write> WriteHalf<W> {
    /// Says EndOfStream: no more data from this side.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.writing.shutdown(&mut self.io)
    }

    /// Says Close, after both sides' EndOfStream: all that was received has reached its place.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn close(&mut self) -> io::Result<()> {
        self.writing.control(&ControlMessage::Close)?;
        self.writing.flush(&mut self.io)
    }

    /// Gives the stream up, and the channel with it.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn reset(&mut self, code: ResetCode) -> io::Result<()> {
        self.writing.control(&ControlMessage::Reset { code })?;
        self.writing.flush(&mut self.io)
    }

    /// Reads once from `input` straight into the places where records are sealed, seals and sends them. Gives the
    /// bytes that were read: 0 at the end of `input`, which is the one error-free end.
    pub(crate) fn send_from(&mut self, input: &mut impl Read) -> Result<usize, SendError> {
        let writing = &mut self.writing;
        writing.prepare().map_err(SendError::channel)?;
        let read = writing.data_with(batch(), |places| {
            loop {
                match input.read_vectored(places) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read.map_err(SendError::Input),
                }
            }
        })?;
        writing.send(&mut self.io).map_err(SendError::Channel)?;
        Ok(read)
    }
}

/// Which end of a relay failed.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Where the data comes from.
    Input(io::Error),
    /// Where it goes.
    Channel(io::Error),
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        Self::channel(error)
    }
}

impl SendError {
    fn channel(error: Error) -> Self {
        Self::Channel(error.into())
    }
}

impl<W: Write> Write for WriteHalf<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writing.write(&mut self.io, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writing.flush(&mut self.io)
    }
}

/// The two halves of a stream over `S`.
pub type Halves<S> = (ReadHalf<<S as Split>::Read>, WriteHalf<<S as Split>::Write>);

/// A socket that comes apart into two halves for two threads.
pub trait Split {
    /// The reading half.
    type Read: Read;
    /// The writing half.
    type Write: Write;

    /// Takes the socket apart.
    ///
    /// # Errors
    /// When the socket cannot be cloned.
    fn split(self) -> io::Result<(Self::Read, Self::Write)>;
}

impl Split for TcpStream {
    type Read = Self;
    type Write = Self;

    fn split(self) -> io::Result<(Self, Self)> {
        Ok((self.try_clone()?, self))
    }
}

impl Split for UnixStream {
    type Read = Self;
    type Write = Self;

    fn split(self) -> io::Result<(Self, Self)> {
        Ok((self.try_clone()?, self))
    }
}
