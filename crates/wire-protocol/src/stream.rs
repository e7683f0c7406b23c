//! A secure stream over a socket.
//!
//! [`connect`] and [`accept`] do it over any `AsyncRead + AsyncWrite` (feature `tokio`), [`blocking::connect`]
//! and [`blocking::accept`] over any `std::io::Read + Write` (feature `std-io`).
//!
//! A stream ends well only when the other side has said so: reading gives an end of file after the other side's
//! EndOfStream, and an error of the kind `UnexpectedEof` where the connection was cut, with
//! [`Error::Truncated`] inside. [`error_in`] finds the protocol's error in an
//! `std::io::Error`.
//!
//! Randomness comes from the operating system here.

#[cfg(feature = "tokio")]
mod asynchronous;
#[cfg(feature = "std-io")]
pub mod blocking;
mod clock;
mod deadline;
mod error;
mod half;
mod handshake;
mod memory;
mod open_error;
mod parts;
mod phase;
#[cfg(feature = "std-io")]
pub mod relay;
mod relay_error;
#[cfg(feature = "tokio")]
mod resumable;
#[cfg(feature = "tokio")]
mod retained;
#[cfg(feature = "tokio")]
mod retention_budget;
mod session;

#[cfg(doc)]
use crate::Error;

pub use crate::channel::{HEARTBEAT, MAX_KEY_AGE, SILENCE};
#[cfg(feature = "tokio")]
pub use asynchronous::{
    ANSWERED_IDLE, Admission, Channel, Connection, DatagramSocket, DatagramsEnd, Direction, Dropped, Duplex,
    Incoming, Interrupted, OpenedStream, OpeningStream, Operation, Pace, PendingClient, Progress, ReadHalf,
    Resumable, ResumableStream, ResumeError, RsaPool, SecureStream, Split, Stop, TunnelEnd, VerifiedServer,
    WriteHalf, accept, accept_channel, accept_pipe, authenticate, connect, connect_channel, connect_open,
    fetch_server_key, is_loss, open_early, relay_datagrams, send_past_earlier_errors, tunnel,
    tunnel_resumable, tunnel_until, verify_server,
};
pub use crypto_core::stream_secret::StreamId;
pub use deadline::{CLOSE_DEADLINE, HANDSHAKE_DEADLINE};
pub use error::error_in;
pub use handshake::abort_frame;
pub use open_error::OpenError;
pub use parts::Parts;
pub use phase::{Idle, Open, Opening, Streaming};
pub use relay_error::RelayError;
#[cfg(feature = "tokio")]
pub use resumable::{ResumeRequest, ResumeVerifier, Suspended, Tombstone};
#[cfg(feature = "tokio")]
pub use retention_budget::{Reservation, RetentionBudget};
pub use session::{Peer, Session};
