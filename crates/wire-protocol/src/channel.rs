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
//! The two directions share a few flags and no lock: a [`Sender`] and a [`Receiver`] can live in different tasks. What the
//! one does tells the other what may come: whoever has said Open waits for its answer, whoever has said Refused discards what
//! was sent before that was heard, and a Ping that has come is answered with what is sent next.
//!
//! The channel owns its timers. Whoever drives it says what time it is ([`Timestamp`]), and calls
//!
//! - [`Sender::handle_timeout`] once [`Sender::poll_timeout`] has come: a Ping is due;
//! - [`Receiver::handle_timeout`] once [`Receiver::poll_timeout`] has come: the other side has been silent for too long.
//!
//! Either changes with what is sent and received: it is to be looked at again after that, or once it has come. Keys that have
//! been in use for too long are replaced with the next record, and need no timer.

mod datagram;
mod receiver;
mod sender;
mod shared;
mod time;

use core::time::Duration;

use crypto_core::record::{ContentType, Sealer};

use crate::error::Error;
use crate::message::ControlMessage;
use crate::record::{Append, append_message};

pub use datagram::MAX_DATAGRAM_LEN;
pub use receiver::{Event, Receiver};
pub use sender::{KeyLimits, Sender};
pub use time::Timestamp;

/// A side that has sent nothing for this long in a tunnel, a flow of datagrams or a listening sends Ping, and so does the
/// client of a message (section 7.1).
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// A side that waits for records there, and gets none for this long, takes the channel as dead (section 7.1).
pub const SILENCE: Duration = Duration::from_secs(30);

/// How long one key may be in use (section 6).
pub const MAX_KEY_AGE: Duration = Duration::from_secs(60 * 60);

/// Seals a control message and appends it to `out`.
pub(crate) fn append_control(
    sealer: &mut Sealer,
    message: &ControlMessage,
    out: &mut impl Append,
) -> Result<(), Error> {
    append_message(sealer, ContentType::Control, message, out)?;
    Ok(())
}
