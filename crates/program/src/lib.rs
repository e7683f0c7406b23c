//! What Sockseal's two programs share as programs, and nothing of the protocol: how they end and report, where
//! they keep their files, how addresses are written, and the `classic` commands, which both have.

// They panic where the output cannot be written: program::output does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod address;
pub mod admin;
pub mod classic;
pub mod config;
pub mod control;
mod conversion;
pub mod counter;
pub mod crew;
pub mod datagram_target;
pub mod dial;
pub mod drops;
pub mod duration;
pub mod end_signals;
mod error;
pub mod escape;
pub mod flows;
pub mod forward;
pub mod hardening;
pub mod home;
pub mod identity;
pub mod listener;
pub mod log_limit;
pub mod logging;
pub mod lookup_pool;
pub mod output;
pub mod private_file;
pub mod proxied;
pub mod proxy_header;
pub mod report;
pub mod socket;
pub mod socks;
pub mod terminal;
pub mod udp;
pub mod wakeable;

pub use error::Error;
