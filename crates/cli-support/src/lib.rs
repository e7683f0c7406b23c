//! The features that the two programs share as programs, without the protocol: reports and exit codes, files, the
//! forms of forwards, and the `classic` commands.
//!
#![doc = include_str!("../README.md")]
// These macros panic where the output cannot be written, and `cli_support::output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod classic;
pub mod completion;
pub mod config;
pub mod control;
mod conversion;
pub mod duration;
pub mod end_signals;
mod error;
pub mod forward;
pub mod hardening;
pub mod home;
pub mod identity;
pub mod invocation;
pub mod log_limit;
pub mod logging;
pub mod metrics;
mod metrics_format;
pub mod name;
pub mod output;
pub mod passed_sockets;
pub mod private_file;
pub mod protection;
pub mod questioner;
pub mod rate;
pub mod report;
pub mod service_manager;
pub mod status_server;
pub mod terminal;
pub mod wakeable;

pub use error::{Error, hint_of_usage};
