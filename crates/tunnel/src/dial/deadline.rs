//! The one limit of time for whatever another machine has to answer.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

/// Gives `work` as long as [`DEADLINE`].
///
/// # Errors
/// Those of `work`, or `TimedOut`.
pub async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    within(work, || format!("no answer within {} seconds", DEADLINE.as_secs())).await
}

/// As [`in_time`], with the words for an answer that did not come.
pub(super) async fn within<T>(
    work: impl Future<Output = io::Result<T>>,
    in_vain: impl FnOnce() -> String,
) -> io::Result<T> {
    match timeout(DEADLINE, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, in_vain())),
    }
}

/// For each of name resolution, connecting to an address, the handshake (which the server itself limits to as much), and
/// whatever else the other side has to answer without having anything to do.
pub const DEADLINE: Duration = Duration::from_secs(10);
