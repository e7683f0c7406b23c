//! The channel (section 7), without I/O: one stream at a time over one pair of keys.
//!
//! ```text
//!            Open ->              data, EndOfStream, in each direction
//!   idle ------------> opening ----------------> streaming --+
//!    ^  <- Refused        |         <- Opened                |
//!    +--------------------+----------------------------------+   both have said EndOfStream
//!    |
//!    +---> Close: the only good end
//! ```
//!
//! A resumable stream (section 7.7) is over in a direction only once its sender has also acknowledged the other side's end, and
//! can go on from another channel: `idle -> Resume -> resuming -> Resumed -> streaming`. What is kept for that is the driver's;
//! the channel counts the offsets, and says Acknowledge by itself.
//!
//! The two directions share a few flags and no lock: a [`Sender`] and a [`Receiver`] can live in different tasks. What the
//! one does tells the other what may come: whoever has said Open waits for its answer, whoever has said Refused discards what
//! was sent before that was heard. What has come may ask for an answer, which [`Sender::answer`] says.
//!
//! The channel owns its timers. Its driver says what time it is ([`Timestamp`]), and calls
//!
//! - [`Sender::handle_timeout`] once [`Sender::poll_timeout`] has come: a Ping is due;
//! - [`Receiver::handle_timeout`] once [`Receiver::poll_timeout`] has come: the other side has been silent for too long.
//!
//! Either changes with what is sent and received: it is to be looked at again after that, or once it has come. Keys that have
//! been in use for too long are replaced with the next record, and need no timer.

mod datagram;
mod offsets;
mod receiver;
mod sender;
mod shared;
mod time;

pub use datagram::MAX_DATAGRAM_LEN;
pub use offsets::Position;
pub use receiver::{Event, Receiver};
pub use sender::{KeyLimits, Sender};
pub use time::{
    ACKNOWLEDGE_AFTER, HEARTBEAT, MAX_KEY_AGE, RESUMABLE_HEARTBEAT, RESUMABLE_SILENCE, SILENCE, Timestamp,
};
