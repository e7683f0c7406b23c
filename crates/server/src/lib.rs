//! Sockseal's server: takes messages, or is one end of a pipe.
//!
//! ```text
//! listener   accepts, within limits  --> session   handshake, access, then one stream after another
//!                                            |
//!                                            +--> service::message   a stream that is printed once it is whole
//!                                            +--> service::pipe      standard input and output
//! ```
//!
//! [`serve()`] does all of it over sockets that are bound already; `main.rs` parses and reports.

mod access;
pub mod cli;
pub mod config;
mod error;
mod limits;
mod serve;
mod service;
mod session;
mod settings;
mod ticket_file;

pub use access::{
    Access, AccessFile, Credential, Expiry, Grant, ListenRule, Name, Network, Rate, Rights, SocketPath,
    TargetRule, Transport,
};
pub use error::Error;
pub use serve::serve;
pub use service::Service;
pub use service::message::{MessageFormat, Messages};
pub use service::pipe::Pipe;
pub use settings::{Identity, Settings, Strangers};
pub use ticket_file::read_or_make_ticket_key;
