//! The message schema: everything that is serialized, and nothing else is (sections 3, 5 and 7).
//!
//! These are the only types of the protocol that derive `Serialize`. Bulk data never passes through here.

mod control;
mod diagnosis;
mod files;
mod handshake;
mod invite;
mod key_id;
mod resume;
mod target;

pub use control::{ControlMessage, PROOF_LEN, RefusedCode, ResetCode};
pub use diagnosis::{Diagnosis, ListenState};
pub use files::{
    Entry, EntryKind, Existing, FileTime, FilesAccess, FilesCode, FilesMessage, HASH_LEN, MAX_DATA_LEN,
    MAX_DEPTH, MAX_ENTRIES, MAX_HASHES, MAX_LINK_LEN, MAX_NAME_LEN, MAX_OUTSTANDING, MAX_PATH_LEN, MAX_PATHS,
    Part, Placement, ShareAccess, TransferOptions,
};
pub use handshake::{
    ASKS_REASON, Abort, AbortCode, ClientAuthPolicy, ClientHello, ClientIdentity, DeniedCode,
    HandshakeMessage, HelloAuth, Invite, JoinOutcome, Joined, KeyOffer, MAX_GRANT_LEN, MAX_JOINED_NAME_LEN,
    Mode, SUITE, ServerHello, ServerLimits, Ticket, TicketContent,
};
pub use invite::{INVITE_VERSION, InviteContent};
pub use resume::{MAX_HOLD_SECONDS, MAX_WINDOW, MIN_WINDOW, Resume, Resumed, Retention};
pub use target::{LEASE_LEN, ListenAddress, ListenKind, Question, Target};
