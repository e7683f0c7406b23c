//! The relay of a stream and its connection, on terms that the program sets.

use std::future::Future;

use wire_protocol::stream::{
    Channel, RelayError, ResumableStream, SecureStream, Stop, TunnelEnd, tunnel_resumable, tunnel_until,
};

use crate::network_path::NetworkPath;
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

/// Relays a stream that can be taken over, and its connection, on these terms: to the end of both, or of the channel, which also ends
/// where it is likely to be dead.
///
/// # Errors
/// Those of [`tunnel_resumable`].
pub fn relay_resumable<T: Terms>(
    stream: ResumableStream<Socket>,
    socket: Socket,
    terms: &T,
) -> impl Future<Output = Result<TunnelEnd<Socket, Socket>, RelayError>> + Send {
    let outdated = terms.outdated(NetworkPath::of(stream.get_ref()));
    let stop = async {
        tokio::select! {
            biased;
            code = terms.stopped() => Stop::Reset(code),
            () = outdated => Stop::Suspend,
        }
    };
    tunnel_resumable(stream, socket, terms.pace(), stop)
}
