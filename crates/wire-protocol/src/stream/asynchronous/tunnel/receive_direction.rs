//! The direction of a relay that receives: from the channel to the plain connection.

use std::boxed::Box;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use crypto_core::record::MAX_PAYLOAD_LEN;
use tokio::time::Instant;

use super::backlog::Backlog;
use super::pace::{Direction, Hold, Pace};
use super::shared_state::{Sending, SharedState};
use crate::channel::Event;
use crate::record::MAX_BATCH;
use crate::stream::asynchronous::duplex::{Duplex, Shared, is_transient};
use crate::stream::half::ReceiveHalf;
use crate::stream::relay_error::RelayError;
use crate::stream::retention_budget::Reservation;
use crate::{Error, PeerMisbehaved};

/// Opens what the channel brings, and writes it to the plain connection. It holds memory only while bytes are in it.
pub(super) struct ReceiveDirection {
    pub(super) reading: Box<ReceiveHalf>,
    hold: Hold,
    /// On the heap, since few streams ever have one.
    backlog: Option<Box<Backlog>>,
    /// What a backlog counts on, while there is none; `None` where the stream cannot be resumed.
    reservation: Option<Reservation>,
}

impl ReceiveDirection {
    /// What a resumable stream reads ahead counts on `reservation`.
    pub(super) fn new(reading: Box<ReceiveHalf>, reservation: Option<Reservation>) -> Self {
        Self { reading, hold: Hold::default(), backlog: None, reservation }
    }

    /// Carries on as far as it can without waiting. Ready once both sides have ended the stream.
    pub(super) fn poll<C: Duplex, P: Duplex, Q: Pace>(
        &mut self,
        shared: &SharedState<C, P, Q>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), RelayError>> {
        loop {
            if self.hold.lasts() {
                return self.read_nothing();
            }
            if self.backlog.is_some() {
                match self.work_off(shared, cx).map_err(RelayError::Output)? {
                    Poll::Ready(()) => continue,
                    // More is read ahead only while that makes room for what waits in the plain connection.
                    Poll::Pending if !shared.is_stalled() => return self.read_nothing(),
                    Poll::Pending => {}
                }
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
                    if let Some(backlog) = &mut self.backlog {
                        // Without memory, and for a peer that sends more than the window, the plain connection has to take some.
                        if !backlog.read(&mut self.reading.receiver) {
                            return Poll::Pending;
                        }
                        continue;
                    }
                    // A peer that has more to say than a request may be waiting for room to say it.
                    if shared.sending.get() == Sending::HoldsOpened {
                        shared.tell_sender();
                    }
                    let Poll::Ready(written) = self.deliver(shared, cx) else {
                        if !shared.is_stalled() || !self.begin_backlog() {
                            return Poll::Pending;
                        }
                        continue;
                    };
                    let written = written.map_err(RelayError::Output)?;
                    self.hold.until(shared.pace.note(written, Direction::Received));
                    // While the target does not take it all, no answer is likely to follow at once.
                    if self.reading.receiver.data().is_empty() {
                        shared.sending.replace(Sending::NotBegun, Sending::NotBegunButHeard);
                    }
                }
                Event::EndOfStream => match &mut self.backlog {
                    Some(backlog) => backlog.end(),
                    None => self.end(shared),
                },
                // An Acknowledge makes room, or says that all has arrived.
                Event::Ping(_) | Event::Acknowledged => shared.tell_sender(),
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

    /// Reads nothing for a while: a silence that follows is not the other side's.
    fn read_nothing<T>(&mut self) -> Poll<T> {
        if self.backlog.is_some() {
            self.reading.receiver.stop_waiting();
        }
        Poll::Pending
    }

    /// Begins to read ahead. `false` where there is no memory for it.
    fn begin_backlog(&mut self) -> bool {
        let Some(reservation) = self.reservation.take() else { return false };
        let mut backlog = Backlog::new(reservation);
        let has_begun = backlog.read(&mut self.reading.receiver);
        if has_begun {
            self.backlog = Some(Box::new(backlog));
        } else {
            self.reservation = Some(backlog.into_reservation());
        }
        has_begun
    }

    /// Tells the plain connection that the other side has said all.
    fn end<C: Duplex, P: Duplex, Q: Pace>(&mut self, shared: &SharedState<C, P, Q>) {
        // Where the other direction is over too, closing the connection comes next, and says as much; but that of a resumable stream
        // waits for the last Acknowledge.
        if !shared.sending.get().has_ended() || self.reading.receiver.is_resumable() {
            // A connection that is gone already says so to the sending direction.
            shared.plain.shutdown_write().ok();
        }
        self.reading.take_end();
        shared.tell_sender();
    }

    /// Writes what it can of what was read ahead. Ready where something was done.
    fn work_off<C: Duplex, P: Duplex, Q: Pace>(
        &mut self,
        shared: &SharedState<C, P, Q>,
        cx: &mut Context<'_>,
    ) -> io::Result<Poll<()>> {
        let most = shared.pace.records() * MAX_PAYLOAD_LEN;
        let Some(backlog) = &mut self.backlog else { return Ok(Poll::Ready(())) };
        if backlog.is_at_end() {
            backlog.take_end();
            self.end(shared);
            return Ok(Poll::Ready(()));
        }
        if backlog.is_empty() {
            // What comes next is written from where it is opened again, if the plain connection takes it.
            self.reservation = self.backlog.take().map(|backlog| backlog.into_reservation());
            return Ok(Poll::Ready(()));
        }
        let Poll::Ready(written) = write(&shared.plain, &backlog.slices(most), cx)? else {
            return Ok(Poll::Pending);
        };
        backlog.written(written);
        if self.reading.take_consumed(written) {
            shared.for_sender.raise();
        }
        self.hold.until(shared.pace.note(written, Direction::Received));
        Ok(Poll::Ready(()))
    }

    /// Writes what it can of the data that is there, from where it was opened.
    fn deliver<C, P: Duplex, Q>(
        &mut self,
        shared: &SharedState<C, P, Q>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices: [IoSlice<'_>; MAX_BATCH] = [IoSlice::new(&[]); MAX_BATCH];
        let mut count = 0;
        for (slice, data) in slices.iter_mut().zip(self.reading.receiver.data_slices()) {
            *slice = IoSlice::new(data);
            count += 1;
        }
        let written = ready!(write(&shared.plain, &slices[..count], cx)?);
        if self.reading.take(written) {
            shared.for_sender.raise();
        }
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

/// Writes what the plain connection takes now, one byte at least.
fn write(plain: &impl Duplex, slices: &[IoSlice<'_>], cx: &mut Context<'_>) -> io::Result<Poll<usize>> {
    loop {
        match plain.try_write_vectored(slices) {
            Err(error) if is_transient(&error) => match plain.poll_write_ready(cx)? {
                Poll::Ready(()) => {}
                Poll::Pending => return Ok(Poll::Pending),
            },
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            written => return written.map(Poll::Ready),
        }
    }
}
