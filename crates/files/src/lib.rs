//! Moves and lists trees of files over a stream (PROTOCOL.md, section 7.5): a sender and a receiver, which server and client
//! both use in either role. What a peer names is reached beneath one directory alone, and never through a symbolic link.
//!
//! It knows neither command lines nor configuration files, and does not decide who may do what.
//!
#![doc = include_str!("../README.md")]

mod answers;
pub mod cause;
pub mod chunks;
pub mod claims;
pub mod client;
mod content;
pub mod control;
pub mod directory;
pub mod error;
pub mod event;
mod failure;
pub mod filter;
pub mod framing;
mod journal;
mod keep_alive;
pub mod listing;
mod made;
mod offers;
mod partial;
pub mod parts;
pub mod path;
pub mod receiver;
pub mod root;
pub mod sender;
pub mod serve;
pub mod size_up;
mod source;
mod walk;
