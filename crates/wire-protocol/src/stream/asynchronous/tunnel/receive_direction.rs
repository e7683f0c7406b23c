//! The direction of a relay that receives: from the channel to the plain connection.

use std::boxed::Box;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use super::pace::{Hold, Pace};
use super::shared_state::{Sending, SharedState};
use crate::channel::Event;
use crate::record::MAX_BATCH;
use crate::stream::asynchronous::duplex::{Duplex, Shared, is_transient};
use crate::stream::half::ReceiveHalf;
use crate::stream::relay_error::RelayError;
use crate::{Error, PeerMisbehaved};

/// Opens what the channel brings, and writes it to the plain connection. It holds memory only while bytes are in it.
pub(super) struct ReceiveDirection {
    pub(super) reading: Box<ReceiveHalf>,
    hold: Hold,
}

impl ReceiveDirection {
    pub(super) fn new(reading: Box<ReceiveHalf>) -> Self {
        Self { reading, hold: Hold::default() }
    }

    /// Carries on as far as it can without waiting. Ready once both sides have ended the stream.
    pub(super) fn poll<C: Duplex, P: Duplex, Q: Pace>(
        &mut self,
        shared: &SharedState<C, P, Q>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), RelayError>> {
        loop {
            if self.hold.lasts() {
                return Poll::Pending;
            }
            // Looked at each time, right before anything is read: as soon as both ends are out, what comes next may be
            // the Open of another stream.
            if self.reading.receiver.is_idle() {
                return Poll::Ready(Ok(()));
            }
            let event = ready!(self.reading.poll_event(&mut Shared(&shared.io), cx));
            match event.map_err(RelayError::Channel)? {
                // It comes again as long as any of it is left.
                Event::Data => {
                    // A peer that has more to say than a request may be waiting for room to say it.
                    if shared.sending.get() == Sending::HoldsOpened {
                        shared.tell_sender();
                    }
                    let written = ready!(self.deliver(&shared.plain, cx)).map_err(RelayError::Output)?;
                    self.hold.until(shared.pace.note(written));
                    // While the target does not take it all, no answer is likely to follow at once.
                    if self.reading.receiver.data().is_empty() {
                        shared.sending.replace(Sending::NotBegun, Sending::NotBegunButHeard);
                    }
                }
                Event::EndOfStream => {
                    // Where the other direction is over too, closing the connection comes next, and says as much.
                    if !shared.sending.get().has_ended() {
                        // A connection that is gone already says so to the sending direction.
                        shared.plain.shutdown_write().ok();
                    }
                    shared.tell_sender();
                }
                Event::Ping(_) => shared.tell_sender(),
                Event::Pong(_) => {}
                // It cannot speak for what was not sent yet.
                Event::Close => return Poll::Ready(Err(RelayError::Channel(Error::Truncated.into()))),
                _ => {
                    let error = Error::from(PeerMisbehaved::UnexpectedMessage);
                    return Poll::Ready(Err(RelayError::Channel(error.into())));
                }
            }
        }
    }

    /// Writes what it can of the data that is there, from where it was opened.
    fn deliver(&mut self, plain: &impl Duplex, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices: [IoSlice<'_>; MAX_BATCH] = [IoSlice::new(&[]); MAX_BATCH];
        let mut count = 0;
        for (slice, data) in slices.iter_mut().zip(self.reading.receiver.data_slices()) {
            *slice = IoSlice::new(data);
            count += 1;
        }
        let written = loop {
            match plain.try_write_vectored(&slices[..count]) {
                Err(error) if is_transient(&error) => ready!(plain.poll_write_ready(cx))?,
                written => break written?,
            }
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.reading.receiver.consume(written);
        Poll::Ready(Ok(written))
    }

    /// Ends the relay where the other side has been silent for too long.
    pub(super) fn handle_timeout(&mut self) -> Result<(), RelayError> {
        self.reading.handle_timeout().map_err(|error| RelayError::Channel(error.into()))
    }

    /// When [`ReceiveDirection::handle_timeout`] is due, if that can be said.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.reading.poll_timeout()
    }

    /// Until when it is held up.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.hold.end()
    }
}
