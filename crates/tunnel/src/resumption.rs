//! What is kept of a stream so that it can be taken over on another channel (section 7.7 of the protocol).

use wire_protocol::message::Retention;
use wire_protocol::stream::Reservation;

/// What is asked for, or agreed on, about a stream that can be taken over, and the memory for it.
#[derive(Debug)]
pub struct Resumption {
    /// How much is kept, and for how long.
    pub retention: Retention,
    /// The part of a budget that the kept bytes count on.
    pub reservation: Reservation,
}
