//! The two directions of a stream, each over any transport that blocks.

use std::io::{self, Read, Write};

use crate::channel::Event;
use crate::message::ControlMessage;
use crate::stream::error::cut_off;
use crate::stream::half::{ReceiveHalf, SendHalf};
use crate::{Error, PeerMisbehaved};

impl ReceiveHalf {
    pub(super) fn event(&mut self, io: &mut (impl Read + ?Sized)) -> io::Result<Event> {
        loop {
            if let Some(event) = self.next_event()? {
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
    pub(super) fn wait_for_data(&mut self, io: &mut (impl Read + ?Sized)) -> io::Result<bool> {
        while !self.receiver.has_ended() {
            match self.event(io)? {
                Event::Data => return Ok(true),
                Event::EndOfStream | Event::Ping(_) | Event::Pong(_) => {}
                _ => return Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
            }
        }
        Ok(false)
    }

    pub(super) fn read(&mut self, io: &mut (impl Read + ?Sized), buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() || !self.wait_for_data(io)? {
            return Ok(0);
        }
        let data = self.receiver.data();
        let len = data.len().min(buf.len());
        buf[..len].copy_from_slice(&data[..len]);
        self.receiver.consume(len);
        Ok(len)
    }

    pub(super) fn expect_close(&mut self, io: &mut (impl Read + ?Sized)) -> io::Result<()> {
        loop {
            match self.event(io)? {
                Event::Close => return Ok(()),
                Event::Ping(_) | Event::Pong(_) => {}
                _ => return Err(Error::from(PeerMisbehaved::UnexpectedMessage).into()),
            }
        }
    }
}

impl SendHalf {
    pub(super) fn send(&mut self, io: &mut impl Write) -> io::Result<()> {
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

    pub(super) fn write(&mut self, io: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let taken = self.data(bytes)?;
        self.send(io)?;
        Ok(taken)
    }

    pub(super) fn flush(&mut self, io: &mut impl Write) -> io::Result<()> {
        self.send(io)?;
        self.answer()?;
        self.send(io)?;
        io.flush()
    }

    pub(super) fn shutdown(&mut self, io: &mut impl Write) -> io::Result<()> {
        if self.sender.is_streaming() {
            self.control(&ControlMessage::EndOfStream)?;
        }
        self.flush(io)
    }
}
