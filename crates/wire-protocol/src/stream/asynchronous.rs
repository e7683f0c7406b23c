//! The stream over `AsyncRead + AsyncWrite`.

mod admission;
mod channel;
mod connection;
mod datagram;
mod directions;
mod drive;
mod duplex;
mod early;
mod halves;
mod handshake;
mod opening;
mod pending_client;
mod resume;
mod secure_stream;
mod timer;
mod tunnel;
mod verified_server;

pub use admission::{Admission, Operation, Progress, RsaPool};
pub use channel::Incoming;
pub use connection::{Channel, Connection, OpeningStream, SecureStream};
pub use datagram::{
    ANSWERED_IDLE, DatagramSocket, DatagramsEnd, Dropped, relay_datagrams, send_past_earlier_errors,
};
pub use duplex::Duplex;
pub use early::open_early;
pub use halves::{ReadHalf, Split, WriteHalf};
pub use handshake::{
    accept, accept_channel, accept_pipe, authenticate, connect, connect_channel, connect_open,
    fetch_server_key, verify_server,
};
pub use pending_client::PendingClient;
pub use resume::{OpenedStream, Resumable, ResumableStream, ResumeError, is_loss};
pub use tunnel::{Direction, Interrupted, Pace, Stop, TunnelEnd, tunnel, tunnel_resumable, tunnel_until};
pub use verified_server::VerifiedServer;
