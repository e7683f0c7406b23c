//! A network in memory, for tests under virtual time: no socket of the system, delays by tokio's clock and from a seeded
//! generator, and connections that can be cut.

mod connection;
mod host;
mod listener;
mod network;
mod random;
mod registry;
mod socket;

pub use self::host::MemoryHost;
pub use self::listener::MemoryListener;
pub use self::network::MemoryNetwork;
pub use self::random::Random;
pub use self::registry::Conditions;
pub use self::socket::MemorySocket;
