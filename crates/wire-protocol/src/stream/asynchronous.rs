//! The stream over `AsyncRead + AsyncWrite`.

mod channel;
mod connection;
mod datagram;
mod directions;
mod duplex;
mod early;
mod halves;
mod handshake;
mod opening;
mod pending_client;
mod secure_stream;
mod timer;
mod tunnel;

pub use channel::Incoming;
pub use connection::{Channel, Connection, OpeningStream, SecureStream};
pub use datagram::{
    ANSWERED_IDLE, DatagramSocket, DatagramsEnd, Dropped, relay_datagrams, send_past_earlier_errors,
};
pub use duplex::Duplex;
pub use early::open_early;
pub use halves::{ReadHalf, Split, WriteHalf};
pub use handshake::{
    Admission, Operation, Progress, RsaPool, accept, accept_channel, accept_pipe, authenticate, connect,
    connect_channel, connect_open, fetch_server_key,
};
pub use pending_client::PendingClient;
pub use tunnel::{Pace, tunnel, tunnel_until};
