//! The harness of the scenarios: it runs the real programs with homes of their own, and controls the network
//! between them.

mod arguments;
mod balancer;
mod classic;
mod client;
mod connection;
mod datagrams;
mod deadline;
mod environment;
mod fixture;
mod forward;
mod home;
mod hosts;
mod key;
mod load;
mod missing;
mod payload;
mod ping;
mod planted;
mod port;
mod process;
mod proxy;
mod raw_peer;
mod recording;
mod resources;
mod server;
pub(crate) mod services;
mod shared_key;
pub(crate) mod socks;
mod tap;
mod target;
mod tool;
mod tree;

pub(crate) use self::arguments::{local, word};
pub(crate) use self::balancer::Balancer;
pub(crate) use self::classic::{address, connecting, listening};
pub(crate) use self::client::Run;
pub(crate) use self::connection::{
    End, Exchange, dial, echoed, end_behind, expect_reset, read_to_end_of, reset, works_again,
};
pub(crate) use self::datagrams::{Datagrams, RESOLVED, datagram_echoed, datagrams_to};
pub(crate) use self::deadline::{DEADLINE, throughout, until};
pub(crate) use self::environment::{Harness, raise_descriptor_limit};
pub(crate) use self::fixture::Fixture;
pub(crate) use self::forward::Forward;
pub(crate) use self::home::{Home, set_mode};
pub(crate) use self::hosts::Hosts;
pub(crate) use self::key::Key;
pub(crate) use self::load::{Done, Load};
pub(crate) use self::missing::Missing;
pub(crate) use self::payload::{Lines, PHRASE, digest, digest_of, noise};
pub(crate) use self::ping::ping;
pub(crate) use self::planted::{entries, expect_same, plant};
pub(crate) use self::port::Port;
pub(crate) use self::process::{Exit, Outcome, Process, wrapped};
pub(crate) use self::proxy::proxied;
pub(crate) use self::raw_peer::{Impostor, Then, Visitor};
pub(crate) use self::recording::Recording;
pub(crate) use self::resources::{Program, Resources};
pub(crate) use self::server::Server;
pub(crate) use self::shared_key::shared_key;
pub(crate) use self::tap::Tap;
pub(crate) use self::tap::fault::{Fault, Side, Way};
pub(crate) use self::target::{Gate, Target, echo, serve_unix};
pub(crate) use self::tool::{Tool, printed};
pub(crate) use self::tree::{make_file, nothing_partial, same_trees};
