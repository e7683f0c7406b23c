//! Sockseal's client, which sends messages, forwards connections and datagrams through a server, and opens pipes.
//!
#![doc = include_str!("../README.md")]
//!
//! ```text
//! join      uses an invite, which pins the server's key and has this client's enrolled
//! connect   dials, decides on the server's key (trust), brings a ticket if there is one (tickets)
//!    |
//!    +--> command::send    a stream to the server's messages, confirmed
//!    +--> command::pipe    standard input and output
//!    +--> command::ping    how long, and what was negotiated
//!    +--> command::forward tunnels, until a future of the caller's own is ready
//! ```
//!
//! [`connect()`] gives a channel to whoever wants to do something else with it; [`program`] parses and reports.

// They panic where the output cannot be written: cli_support::output does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod command;
pub mod config;
mod connect;
mod control;
mod error;
mod fault;
pub mod files;
mod fingerprint;
mod join;
mod named_servers;
pub mod program;
mod server;
mod server_spec;
mod site;
mod tickets;
mod trust;

pub use connect::{Credentials, connect};
pub use control::{Control, ControlEvents};
pub use error::Error;
pub use join::{Membership, join};
pub use named_servers::{NamedServer, NamedServers};
pub use server::Server;
pub use server_spec::{ServerName, ServerNameError, ServerSpec};
pub use trust::{KnownServers, TrustPolicy};
