//! What a client can be told to do.

pub mod check;
pub mod forward;
pub mod keygen;
pub mod ping;
pub mod pipe;
pub mod send;
pub mod trust;
