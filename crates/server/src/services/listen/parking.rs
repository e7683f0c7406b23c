//! Parked channels: each serves one connection, or flow of datagrams, after the other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::counter::Counter;
use tunnel::dial::in_time;
use tunnel::drops::DropReason;
use tunnel::flows::Flow;
use tunnel::socket::Socket;
use tunnel::socks::{self, Dialect, NOWHERE, Reply};
use wire_protocol::message::{LEASE_LEN, ListenAddress, ListenKind, Target};
use wire_protocol::stream::{
    Channel, Incoming, OpenError, RelayError, SILENCE, error_in, relay_datagrams, tunnel_until,
};

use crate::services::listen::pending_queue::{Pending, PendingQueue, PendingStream};
use crate::services::reset::revoke;
use crate::services::tunnels::{MAX_UDP_TIMEOUT, into_io, once};
use crate::throttle::{Throttle, Throttled};

/// What a parked channel waits for.
#[derive(Debug)]
pub(crate) struct Parking {
    pub(super) address: ListenAddress,
    pub(super) kind: ListenKind,
    pub(super) id: [u8; LEASE_LEN],
    pub(super) queue: Arc<PendingQueue>,
    pub(super) ended: CancellationToken,
}

/// On which terms what comes in is carried.
#[derive(Clone, Copy)]
struct Terms<'a> {
    throttle: &'a Throttle,
    /// The client has lost the right to it.
    revoked: &'a CancellationToken,
}

impl Parking {
    /// What the client needs the right to.
    pub(crate) fn target(&self) -> Target {
        Target::Listen { address: self.address.clone(), kind: self.kind, lease: self.id }
    }

    /// Serves a parked channel to its end.
    pub(crate) async fn serve(
        self,
        mut channel: Channel<Socket>,
        throttle: &Throttle,
        idle_timeout: Duration,
        stopping: &CancellationToken,
        revoked: &CancellationToken,
        streams: &Counter,
    ) -> io::Result<()> {
        loop {
            tokio::select! {
                biased;
                () = revoked.cancelled() => return revoke(channel).await,
                () = stopping.cancelled() => return in_time(channel.close()).await,
                () = self.ended.cancelled() => return in_time(channel.close()).await,
                incoming = timeout(idle_timeout, channel.next_incoming()) => {
                    let Ok(incoming) = incoming else { return in_time(channel.close()).await };
                    match incoming? {
                        Incoming::SignOfLife => {}
                        Incoming::Close => return in_time(channel.close()).await,
                        // The channel takes neither any more.
                        Incoming::Open(_) | Incoming::Park(_) => {
                            return Err(io::ErrorKind::InvalidData.into());
                        }
                    }
                }
                pending = self.queue.take() => {
                    let _open = streams.begin();
                    channel = self.carry(channel, pending, Terms { throttle, revoked }).await?;
                }
            }
        }
    }

    async fn carry(
        &self,
        channel: Channel<Socket>,
        pending: Pending,
        terms: Terms<'_>,
    ) -> io::Result<Channel<Socket>> {
        match pending.stream {
            PendingStream::Client { socket, target, early } => {
                self.carry_to_client(channel, socket, pending.since, target, early, terms).await
            }
            PendingStream::Target { socket, dialect, host, port } => {
                let target = Target::Tcp { host, port };
                self.carry_to_target(channel, socket, pending.since, dialect, target, terms).await
            }
            PendingStream::Datagrams { flow, target } => {
                self.carry_datagrams(channel, flow, target, terms).await
            }
        }
    }

    async fn carry_datagrams(
        &self,
        channel: Channel<Socket>,
        flow: Flow,
        target: Target,
        terms: Terms<'_>,
    ) -> io::Result<Channel<Socket>> {
        let Terms { throttle, revoked } = terms;
        let ended = Box::pin(self.ended.clone().cancelled_owned());
        let drops = flow.drops().clone();
        let mut flow = Throttled { socket: flow, throttle: throttle.clone(), drops, ended };
        let mut stream = channel.begin_open(&target)?;
        let relayed = tokio::select! {
            relayed = relay_datagrams(&mut stream, &mut flow, MAX_UDP_TIMEOUT) => relayed,
            () = revoked.cancelled() => return revoke(stream).await,
        };
        match relayed {
            Ok(_) => {
                let flow = flow.socket;
                // One that came while the end was said.
                if flow.has_waiting() && !self.ended.is_cancelled() {
                    self.queue.put_back(Pending {
                        since: Instant::now(),
                        stream: PendingStream::Datagrams { flow, target },
                    });
                }
            }
            Err(error) if is_refused(&error) => flow.socket.lose(DropReason::Refused),
            Err(error) => return Err(error),
        }
        stream.finish().await
    }

    async fn carry_to_client(
        &self,
        channel: Channel<Socket>,
        socket: Socket,
        since: Instant,
        target: Target,
        mut early: Vec<u8>,
        terms: Terms<'_>,
    ) -> io::Result<Channel<Socket>> {
        let Terms { throttle, revoked } = terms;
        let mut opening = channel.begin_open(&target)?;
        let answered = tokio::select! {
            biased;
            () = revoked.cancelled() => return revoke(opening).await,
            answered = timeout(SILENCE, opening.send_early(&socket, &mut early)) => answered,
        };
        let opened = match answered {
            Ok(Ok(())) => opening.confirm().await.map_err(|error| error.map_failed(RelayError::Channel)),
            Ok(Err(error)) => Err(OpenError::Failed(error)),
            Err(_) => Err(OpenError::Failed(RelayError::Channel(io::ErrorKind::TimedOut.into()))),
        };
        match opened {
            Ok(stream) => {
                drop(early);
                tunnel_until(stream, socket, throttle.clone(), once(revoked)).await.map_err(into_io)
            }
            Err(error) if error.is_retryable(&early) => {
                // Another parked channel may do.
                let stream = PendingStream::Client { socket, target, early };
                self.queue.put_back(Pending { since, stream });
                Err(into_io(error.into()))
            }
            Err(OpenError::Refused { channel, .. }) => Ok(channel),
            Err(error) => Err(into_io(error.into())),
        }
    }

    async fn carry_to_target(
        &self,
        channel: Channel<Socket>,
        mut socket: Socket,
        since: Instant,
        dialect: Dialect,
        target: Target,
        terms: Terms<'_>,
    ) -> io::Result<Channel<Socket>> {
        let Terms { throttle, revoked } = terms;
        let mut opening = channel.begin_open(&target)?;
        let answered = tokio::select! {
            biased;
            () = revoked.cancelled() => return revoke(opening).await,
            answered = timeout(SILENCE, opening.answered()) => answered,
        };
        let opened = match answered {
            Ok(Ok(())) => opening.confirm().await,
            Ok(Err(error)) => Err(OpenError::Failed(error)),
            Err(_) => Err(OpenError::Failed(io::ErrorKind::TimedOut.into())),
        };
        let error = match opened {
            Ok(stream) => {
                socks::reply(&mut socket, dialect, Reply::Succeeded, NOWHERE).await?;
                return tunnel_until(stream, socket, throttle.clone(), once(revoked)).await.map_err(into_io);
            }
            Err(OpenError::Refused { code, channel }) => {
                socks::refuse(socket, dialect, code.into()).await;
                return Ok(channel);
            }
            Err(error) => error.into(),
        };
        // Nothing was sent on it: another parked channel may do.
        if let Target::Tcp { host, port } = target {
            self.queue
                .put_back(Pending { since, stream: PendingStream::Target { socket, dialect, host, port } });
        }
        Err(error)
    }
}

fn is_refused(error: &io::Error) -> bool {
    matches!(error_in(error), Some(wire_protocol::Error::Refused(_)))
}
