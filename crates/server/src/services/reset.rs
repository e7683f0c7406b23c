//! How a channel ends for a reason that its client is told.

use std::io;
use std::time::Duration;

use tokio::time::timeout;
use tunnel::socket::Socket;
use wire_protocol::message::ResetCode;
use wire_protocol::stream::Connection;

/// Tells the client why, and reads what it still sends until it has heard it: a socket that is closed before that
/// takes the reason with it.
pub(crate) async fn reset<P>(connection: Connection<Socket, P>, code: ResetCode) -> io::Result<()> {
    let mut socket = connection.reset(code).await?;
    let mut nowhere = tokio::io::sink();
    // How it ends does not matter any more.
    timeout(LINGER, tokio::io::copy(&mut socket, &mut nowhere)).await.ok();
    Ok(())
}

/// As [`reset`], for a client that has lost the right to what it has open. `Err` with just that.
pub(crate) async fn revoke<T, P>(connection: Connection<Socket, P>) -> io::Result<T> {
    // A client that takes nothing any more is not waited for.
    timeout(LINGER, reset(connection, ResetCode::NotAllowed)).await.ok();
    Err(revoked())
}

/// What a connection ends with whose client has lost its rights.
pub(crate) fn revoked() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, ResetCode::NotAllowed.to_string())
}

/// What a client gets to hear the reason.
const LINGER: Duration = Duration::from_secs(2);
