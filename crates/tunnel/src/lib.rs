//! Carries connections and datagrams of other programs over channels: names, targets and listeners, SOCKS and the PROXY
//! header, UDP. It knows neither files nor command lines.
//!
#![doc = include_str!("../README.md")]

pub mod address;
pub mod backoff;
pub mod closing;
pub mod counter;
pub mod datagram_target;
pub mod dial;
pub mod drops;
pub mod egress;
pub mod escape;
pub mod ingress;
pub mod keep_alive;
pub mod limited_datagrams;
pub mod listener;
pub mod lookup_pool;
#[cfg(feature = "memory-network")]
pub mod memory;
pub mod network;
pub mod network_monitor;
pub mod network_path;
pub mod parked;
pub mod pending_queue;
pub mod pending_stream;
pub mod pool;
pub mod proxied;
pub mod proxy_header;
pub mod relay;
pub mod resumable_streams;
pub mod resumption;
pub mod resumptions;
pub mod socket;
pub mod socks;
pub mod terms;
pub mod traffic;
pub mod udp;
pub mod udp_sessions;
