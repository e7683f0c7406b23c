//! The idle channel over a transport that blocks: opening streams, answering those of the other side, and the end.

use std::io::{self, Read, Write};

use super::connection::{Channel, Connection, SecureStream, unexpected};
use super::timeouts::Timeouts;
use crate::Error;
use crate::channel::{Event, SILENCE};
use crate::message::{ControlMessage, RefusedCode, Target};
use crate::stream::deadline::CLOSE_DEADLINE;
use crate::stream::error::{idle_for, silent};
use crate::stream::open_error::OpenError;
use crate::stream::phase::Opening;
use crate::stream::session::idle_timeout;

impl<S: Read + Write + Timeouts> Channel<S> {
    /// Opens a stream and waits until it stands: for [`SILENCE`] at most (but see [`Timeouts`] for the transport).
    ///
    /// # Errors
    /// [`OpenError`]; [`Error::ApiMisuse`] inside where it is the other side that opens the streams of this channel, or has an
    /// Open to be answered, and for a listen target.
    pub fn open(mut self, target: &Target) -> Result<SecureStream<S>, OpenError<Self>> {
        if let Target::Listen { .. } = target {
            return Err(io::Error::from(Error::ApiMisuse("a listen target has no data")).into());
        }
        self.say_within(SILENCE, &ControlMessage::Open { target: target.clone() })?;
        self.into_phase::<Opening>().confirm()
    }

    /// Waits for the other side to open a stream, which is to be answered with [`Channel::answer_open`] or
    /// [`Channel::refuse_open`]; `None` when it closes the channel instead, to be answered with [`Channel::close`]. A server
    /// closes a channel that has been idle for as long as its limits say.
    ///
    /// # Errors
    /// `TimedOut` when the channel was closed for having been idle, else whatever ends it.
    pub fn next_open(&mut self) -> io::Result<Option<Target>> {
        let limit = idle_timeout(&self.session);
        loop {
            let mut was_idle = false;
            let late = || {
                was_idle = true;
                idle_for(limit)
            };
            match self.any_event_within(limit, late) {
                Ok(Event::Ping(_) | Event::Pong(_)) => {}
                Ok(Event::Open(target)) => return Ok(Some(target)),
                Ok(Event::Close) => return Ok(None),
                Ok(_) => return Err(unexpected()),
                Err(error) => {
                    if was_idle {
                        // Whether the other side closes too makes no difference to why.
                        self.exchange_closes().ok();
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Answers the other side's Open: the stream stands.
    ///
    /// # Errors
    /// Those of the transport; [`Error::ApiMisuse`] when there is no Open to answer.
    pub fn answer_open(mut self) -> io::Result<SecureStream<S>> {
        self.say_within(SILENCE, &ControlMessage::Opened)?;
        Ok(self.into_phase())
    }

    /// Answers the other side's Open: there will be no stream. Gives the channel back, idle.
    ///
    /// # Errors
    /// As [`Channel::answer_open`].
    pub fn refuse_open(mut self, code: RefusedCode) -> io::Result<Self> {
        self.say_within(SILENCE, &ControlMessage::Refused { code })?;
        Ok(self)
    }

    /// Ends the channel: both sides say Close once all that they received has reached its place, so that after
    /// this nothing is in doubt. Where the other side has said Close already, this one answers it.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the other side is gone without a Close, `TimedOut` when it has not said it after
    /// [`CLOSE_DEADLINE`].
    pub fn close(mut self) -> io::Result<()> {
        if self.reading.receiver.is_closed() {
            self.flush_within(CLOSE_DEADLINE)
        } else {
            self.exchange_closes()
        }
    }
}

impl<S: Read + Write + Timeouts> Connection<S, Opening> {
    /// Waits until the stream stands, for [`SILENCE`] at most.
    pub(super) fn confirm(mut self) -> Result<SecureStream<S>, OpenError<Channel<S>>> {
        match self.event_within(SILENCE, silent)? {
            Event::Opened => Ok(self.into_phase()),
            Event::Refused(code) => {
                // That the other side is gone already changes nothing about its answer.
                self.flush_within(SILENCE).ok();
                Err(OpenError::Refused { code, channel: self.into_phase() })
            }
            Event::Close => {
                // It is answered, as far as that is still of use to the other side.
                self.flush_within(CLOSE_DEADLINE).ok();
                Err(OpenError::Failed(Error::Closed.into()))
            }
            _ => Err(OpenError::Failed(unexpected())),
        }
    }
}
