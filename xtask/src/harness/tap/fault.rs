//! Faults that a tap can inject, and the direction or side that they apply to.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The direction of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// A fault that the tap injects into each connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Closes both sides with a regular TCP close, once this many bytes have passed.
    Cut { way: Way, after: usize },
    /// Resets both sides once this many bytes have passed, so that what is on its way may be lost.
    Reset { way: Way, after: usize },
    /// Inverts one bit of the byte at this offset.
    Flip { way: Way, at: usize },
    /// Delays every byte by this time, in both directions. The order is kept, and the rate is not limited.
    Delay(Duration),
    /// Writes every byte separately, in both directions.
    Trickle,
    /// Stops forwarding in both directions once this many bytes have passed, and leaves both sides open.
    Stall { way: Way, after: usize },
    /// Closes the server's side once this many bytes have passed, and leaves the client's side open.
    HalfOpen { way: Way, after: usize },
}

/// The client or the server, as a neighbor of the tap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Locks a mutex even after a panic of another thread.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
