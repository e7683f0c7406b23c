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
use wire_protocol::message::{LEASE_LEN, ListenAddress, ListenKind, RefusedCode, Target};
use wire_protocol::stream::{
    Incoming, RelayError, SILENCE, SecureStream, error_in, never_stood, open_early, relay_datagrams,
    tunnel_until,
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
        mut stream: SecureStream<Socket>,
        throttle: &Throttle,
        idle_timeout: Duration,
        stopping: &CancellationToken,
        revoked: &CancellationToken,
        streams: &Counter,
    ) -> io::Result<()> {
        loop {
            tokio::select! {
                biased;
                () = revoked.cancelled() => return revoke(stream).await,
                () = stopping.cancelled() => return in_time(stream.close()).await,
                () = self.ended.cancelled() => return in_time(stream.close()).await,
                incoming = timeout(idle_timeout, stream.next_incoming()) => {
                    let Ok(incoming) = incoming else { return in_time(stream.close()).await };
                    match incoming? {
                        Incoming::SignOfLife => {}
                        Incoming::Close => return in_time(stream.answer_close()).await,
                        // The channel takes neither any more.
                        Incoming::Open(_) | Incoming::Park(_) => {
                            return Err(io::ErrorKind::InvalidData.into());
                        }
                    }
                }
                pending = self.queue.take() => {
                    let _open = streams.begin();
                    stream = self.carry(stream, pending, Terms { throttle, revoked }).await?;
                }
            }
        }
    }

    async fn carry(
        &self,
        stream: SecureStream<Socket>,
        pending: Pending,
        terms: Terms<'_>,
    ) -> io::Result<SecureStream<Socket>> {
        match pending.stream {
            PendingStream::Client { socket, target, early } => {
                self.carry_to_client(stream, socket, pending.since, target, early, terms).await
            }
            PendingStream::Target { socket, dialect, host, port } => {
                let target = Target::Tcp { host, port };
                self.carry_to_target(stream, socket, pending.since, dialect, target, terms).await
            }
            PendingStream::Datagrams { flow, target } => {
                self.carry_datagrams(stream, flow, target, terms).await
            }
        }
    }

    async fn carry_datagrams(
        &self,
        mut stream: SecureStream<Socket>,
        flow: Flow,
        target: Target,
        terms: Terms<'_>,
    ) -> io::Result<SecureStream<Socket>> {
        let Terms { throttle, revoked } = terms;
        let ended = Box::pin(self.ended.clone().cancelled_owned());
        let drops = flow.drops().clone();
        let mut flow = Throttled { socket: flow, throttle: throttle.clone(), drops, ended };
        stream.begin_open(&target)?;
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
                Ok(stream)
            }
            Err(error) if refused_code(&error).is_some() => {
                flow.socket.lose(DropReason::Refused);
                Ok(stream)
            }
            Err(error) => Err(error),
        }
    }

    async fn carry_to_client(
        &self,
        mut stream: SecureStream<Socket>,
        socket: Socket,
        since: Instant,
        target: Target,
        mut early: Vec<u8>,
        terms: Terms<'_>,
    ) -> io::Result<SecureStream<Socket>> {
        let Terms { throttle, revoked } = terms;
        let opened = tokio::select! {
            biased;
            () = revoked.cancelled() => return revoke(stream).await,
            opened = timeout(SILENCE, open_early(&mut stream, &target, &socket, &mut early)) => opened,
        };
        let error = match opened {
            Ok(Ok(())) => {
                drop(early);
                return tunnel_until(stream, socket, throttle.clone(), once(revoked)).await.map_err(into_io);
            }
            Ok(Err(error)) => error,
            Err(_) => RelayError::Channel(io::ErrorKind::TimedOut.into()),
        };
        if never_stood(&error, &early) {
            // Another parked channel may do.
            self.queue.put_back(Pending { since, stream: PendingStream::Client { socket, target, early } });
        } else if is_refused(&error) {
            return Ok(stream);
        }
        Err(into_io(error))
    }

    async fn carry_to_target(
        &self,
        mut stream: SecureStream<Socket>,
        mut socket: Socket,
        since: Instant,
        dialect: Dialect,
        target: Target,
        terms: Terms<'_>,
    ) -> io::Result<SecureStream<Socket>> {
        let Terms { throttle, revoked } = terms;
        let opened = tokio::select! {
            biased;
            () = revoked.cancelled() => return revoke(stream).await,
            opened = timeout(SILENCE, stream.open(target.clone())) => opened,
        };
        let error = match opened {
            Ok(Ok(())) => {
                socks::reply(&mut socket, dialect, Reply::Succeeded, NOWHERE).await?;
                return tunnel_until(stream, socket, throttle.clone(), once(revoked)).await.map_err(into_io);
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        if let Some(code) = refused_code(&error) {
            socks::refuse(socket, dialect, code.into()).await;
            return Ok(stream);
        }
        // Nothing was sent on it: another parked channel may do.
        if let Target::Tcp { host, port } = target {
            self.queue
                .put_back(Pending { since, stream: PendingStream::Target { socket, dialect, host, port } });
        }
        Err(error)
    }
}

fn refused_code(error: &io::Error) -> Option<RefusedCode> {
    match error_in(error) {
        Some(wire_protocol::Error::Refused(code)) => Some(*code),
        _ => None,
    }
}

fn is_refused(error: &RelayError) -> bool {
    matches!(error, RelayError::Channel(error) if refused_code(error).is_some())
}
