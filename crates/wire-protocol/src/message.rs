//! The message schema: everything that is serialized, and nothing else is (sections 3, 5 and 7).
//!
//! These are the only types of the protocol that derive `Serialize`. Bulk data never passes through here.

mod control;
mod handshake;
mod key_id;
mod target;

pub use control::{ControlMessage, RefusedCode, ResetCode};
pub use handshake::{
    Abort, AbortCode, ClientAuthPolicy, ClientHello, ClientIdentity, DeniedCode, HandshakeMessage, HelloAuth,
    KeyOffer, Mode, SUITE, ServerHello, ServerLimits, Ticket, TicketContent,
};
pub use target::{LEASE_LEN, ListenAddress, ListenKind, Target};
