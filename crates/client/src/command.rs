//! What a client can be told to do.

pub mod check;
pub mod forward;
pub mod get;
pub mod join;
pub mod keygen;
pub mod ls;
pub mod ping;
pub mod pipe;
pub mod put;
pub mod send;
mod transfer;
pub mod trust;
