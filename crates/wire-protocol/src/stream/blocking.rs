//! The stream over `std::io::Read + Write`.
//!
//! A call that blocks can keep to a limit only where the transport does: see [`Timeouts`], which sockets have. Where the
//! other side may take its time, in the middle of a stream, no limit is set, and those that the transport has of its own hold.

mod channel;
mod connection;
mod directions;
pub(super) mod halves;
mod handshake;
mod pending_client;
mod secure_stream;
mod timeouts;

pub use connection::{Channel, Connection, SecureStream};
pub use halves::{Halves, ReadHalf, Split, WriteHalf};
pub use handshake::{accept, authenticate, connect};
pub use pending_client::PendingClient;
pub use timeouts::{Timeouts, Unlimited};
