//! What a tap does to a connection, and on which side or way.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What the tap does to each connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Closes both sides, in good order for TCP, once this many bytes have passed.
    Cut { way: Way, after: usize },
    /// Turns one bit of the byte at this offset.
    Flip { way: Way, at: usize },
    /// Every byte arrives so much later than it was sent, each way, in order and at any rate.
    Delay(Duration),
    /// Every byte is written by itself, each way.
    Trickle,
    /// Once this many bytes have passed, nothing passes any more, neither way, and nobody hangs up.
    Stall { way: Way, after: usize },
    /// Once this many bytes have passed, the server's side is gone, and the client is not told.
    HalfOpen { way: Way, after: usize },
}

/// One of the tap's neighbors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Client,
    Server,
}

/// A lock that a panic elsewhere does not close.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
