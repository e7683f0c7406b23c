//! A lease: the server listens for this client for as long as its channel holds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cli_support::forward::RemoteForward;
use crypto_core::secret::Secret;
use getrandom::SysRng;
use tokio::time::{Instant, timeout};
use tunnel::closing::close;
use tunnel::dial::in_time;
use tunnel::socket::Socket;
use wire_protocol::message::{LEASE_LEN, ListenAddress, ListenKind, Target};
use wire_protocol::stream::{OpenError, SecureStream};

use crate::Error;
use crate::command::forward::remote::parking::{Parking, unknown_lease};
use crate::command::forward::upstream::Upstream;

/// A server that listens.
pub(super) struct Lease {
    stream: SecureStream<Socket>,
    id: [u8; LEASE_LEN],
    port: u16,
}

impl Lease {
    /// Asks the server to listen.
    ///
    /// # Errors
    /// [`Error::Listening`] where it does not, or those of the pool.
    pub(super) async fn claim(
        upstream: &Upstream,
        address: &ListenAddress,
        kind: ListenKind,
    ) -> Result<Self, Error> {
        let ingress = &upstream.ingress;
        let channel = ingress.pool.get(Instant::now() + ingress.wait).await?;
        let id = *Secret::random(&mut SysRng).map_err(cli_support::Error::from)?.expose();
        let target = Target::Listen { address: address.clone(), kind, lease: id };
        let source = match in_time(async { Ok(channel.open_listen(&target).await) }).await {
            Ok(Ok((stream, port))) => return Ok(Self { stream, id, port }),
            Ok(Err(OpenError::Refused { code, channel })) => {
                ingress.pool.put(channel);
                wire_protocol::Error::Refused(code).into()
            }
            Ok(Err(error)) => error.into(),
            Err(error) => error,
        };
        Err(Error::Listening { address: address.to_string(), source })
    }

    /// The port that the server listens on; 0 for a unix socket.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Keeps enough channels parked for as long as the lease holds.
    pub(super) async fn hold(self, upstream: &Arc<Upstream>, forward: &Arc<RemoteForward>) -> io::Result<()> {
        let Self { mut stream, id, .. } = self;
        let tunnels = &upstream.tunnels;
        let _lease = (tunnels.leases.begin(), tunnels.streams.begin());
        let parking = Parking::new(upstream, forward, id);
        // However this ends, parked channels that wait end with it, and channels in use once they come to wait again.
        let _ended = parking.ended.clone().drop_guard();
        loop {
            parking.fill();
            tokio::select! {
                () = tunnels.draining.cancelled() => {
                    // The server stops listening with this.
                    close(in_time(stream.finish()).await?).await;
                    return Ok(());
                }
                ended = stream.hold() => return end(stream, ended).await,
                () = parking.doubted.notified() => {
                    // Where the lease has ended, its own channel says so, and why.
                    if let Ok(ended) = timeout(REASON_DEADLINE, stream.hold()).await {
                        return end(stream, ended).await;
                    }
                    // A channel that is gone would be noticed only once it has been silent for too long.
                    match timeout(DOUBT_DEADLINE, stream.ping()).await {
                        Ok(Ok(_)) => upstream.tell_of_several_servers(),
                        Ok(Err(error)) => return Err(error),
                        Err(_) => return Err(unknown_lease()),
                    }
                }
                () = parking.changed.notified() => {}
            }
        }
    }
}

/// Lets go of a lease in good order where the server has ended it in good order.
async fn end(stream: SecureStream<Socket>, ended: io::Result<()>) -> io::Result<()> {
    ended?;
    close(in_time(stream.finish()).await?).await;
    Ok(())
}

/// How long the reason for the end of a lease may be behind the end of a channel that was parked for it.
const REASON_DEADLINE: Duration = Duration::from_millis(500);
/// How long the channel of a lease may take for a sign of life, once there is reason to doubt it.
const DOUBT_DEADLINE: Duration = Duration::from_secs(5);
