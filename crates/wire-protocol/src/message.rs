//! The message schema: everything that is serialized, and nothing else is (sections 3, 5 and 7).
//!
//! These are the only types of the protocol that derive `Serialize`. Bulk data never passes through here.

mod control;
mod files;
mod handshake;
mod invite;
mod key_id;
mod target;

pub use control::{ControlMessage, RefusedCode, ResetCode};
pub use files::{
    Entry, EntryKind, Existing, FileTime, FilesAccess, FilesCode, FilesMessage, HASH_LEN, MAX_DATA_LEN,
    MAX_DEPTH, MAX_ENTRIES, MAX_HASHES, MAX_LINK_LEN, MAX_NAME_LEN, MAX_OUTSTANDING, MAX_PATH_LEN, MAX_PATHS,
    Part, Placement, ShareAccess, TransferOptions,
};
pub use handshake::{
    Abort, AbortCode, ClientAuthPolicy, ClientHello, ClientIdentity, DeniedCode, HandshakeMessage, HelloAuth,
    Invite, JoinOutcome, Joined, KeyOffer, MAX_GRANT_LEN, MAX_JOINED_NAME_LEN, Mode, SUITE, ServerHello,
    ServerLimits, Ticket, TicketContent,
};
pub use invite::{INVITE_VERSION, InviteContent};
pub use target::{LEASE_LEN, ListenAddress, ListenKind, Target};
