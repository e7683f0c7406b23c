//! The relay of a stream and its connection, on terms that the program sets.

use std::future::Future;

use wire_protocol::stream::{Channel, RelayError, SecureStream, tunnel_until};

use crate::socket::Socket;
use crate::terms::Terms;

/// Relays a stream and its connection on these terms, to the end of both, and gives the channel back, idle.
///
/// # Errors
/// Those of [`tunnel_until`].
pub fn relay(
    stream: SecureStream<Socket>,
    socket: Socket,
    terms: &impl Terms,
) -> impl Future<Output = Result<Channel<Socket>, RelayError>> + Send {
    tunnel_until(stream, socket, terms.pace(), terms.stopped())
}
