//! Sockseal's server, which accepts messages, connects tunnels to their targets, shares files, and can be one end of a
//! pipe.
//!
#![doc = include_str!("../README.md")]
//!
//! ```text
//! serve --> accept --> admission   within limits  --> admit, session   handshake, access, then one stream after another
//!   |                                                   +--> joining   a client that comes with an invite
//!   ^                                        |
//! control    status, reload, end             +--> services::message   a stream that is printed once it is whole
//!                                            +--> services::tunnels   a stream to a target that the client may reach
//!                                            +--> services::listen    listening for a client, and its parked channels
//!                                            +--> services::pipe      standard input and output
//!                                            +--> services::files     files below directories that the server shares
//! ```
//!
//! [`serve()`] runs the server on sockets that are bound already. [`program`] parses the command line, takes
//! signals, and reports errors.

// These macros panic where the output cannot be written, and `cli_support::output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod accept;
mod access;
mod accounts;
mod accounts_keeper;
mod admission;
mod admit;
mod audit;
pub mod cli;
pub mod config;
mod control;
mod counters;
mod descriptors;
mod error;
mod explain;
mod file_share;
mod held_stream;
mod joining;
mod keys;
mod limits;
mod log;
mod meter;
mod metrics;
mod open;
mod outcome;
pub mod program;
mod proxy_source;
mod quota;
mod reloadable_config;
mod revocation;
mod room;
mod serve;
mod server;
mod services;
mod session;
mod settings;
mod share_mode;
mod site;
mod status;
mod stream_owner;
mod throttle;
mod ticket_file;
mod traffic_quota;
mod tried_invites;

pub use accept::Listeners;
pub use access::{
    Access, AccessFile, Allowed, AnonymousPolicy, ClientName, Credential, Expiry, FilesRule, Grant,
    InviteFile, Invites, ListenRule, Lookup, Name, Network, NewInvite, Proxied, Rights, SocketPath,
    Surroundings, TargetRule,
};
pub use accounts::Accounts;
pub use control::{Control, ControlEvents};
pub use error::Error;
pub use explain::{AddressDecision, Decision, Explanation};
pub use file_share::FileShare;
pub use keys::{has_identity, keygen_psk, make_psk, read_identity};
pub use proxy_source::ProxySource;
pub use reloadable_config::ReloadableConfig;
pub use serve::{listen, serve};
pub use services::Services;
pub use services::message::{MessageFormat, Messages};
pub use services::pipe::Pipe;
pub use settings::{Identity, Settings};
pub use share_mode::ShareMode;
pub use ticket_file::read_or_make_ticket_key;
pub use traffic_quota::TrafficQuota;
