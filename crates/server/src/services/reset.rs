//! How a channel ends whose client has lost the right to what it has open.

use std::io;

use tunnel::closing::stop;
use tunnel::socket::Socket;
use wire_protocol::message::ResetCode;
use wire_protocol::stream::Connection;

/// Tells the client why the channel ends. `Err` with just that.
pub(crate) async fn revoke<T, P>(connection: Connection<Socket, P>, code: ResetCode) -> io::Result<T> {
    Err(stop(connection, code).await)
}
