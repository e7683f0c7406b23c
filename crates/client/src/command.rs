//! What a client can be told to do.

pub mod check;
pub mod doctor;
pub mod forward;
pub mod get;
pub mod join;
pub mod keygen;
pub mod ls;
pub(crate) mod outcome;
pub mod ping;
pub mod pipe;
pub mod put;
pub mod send;
mod transfer;
pub mod trust;
