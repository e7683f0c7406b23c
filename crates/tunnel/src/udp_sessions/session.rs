//! One session of datagrams: what waits in it, and the way back.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use wire_protocol::stream::{DatagramSocket, Dropped};

use crate::drops::{DropReason, FlowDrops};
use crate::udp::{Correspondent, UdpListener};

/// One session, to be relayed with [`relay_datagrams`](wire_protocol::stream::relay_datagrams). It ends with its
/// `UdpSessions`, or when it gives way to another, and once it is dropped the next datagram begins another.
#[derive(Debug)]
pub struct UdpSession {
    pub(super) socket: Arc<UdpListener>,
    pub(super) from: Correspondent,
    pub(super) header: Vec<u8>,
    pub(super) incoming: mpsc::Receiver<Queued>,
    pub(super) ended: oneshot::Receiver<()>,
    pub(super) started: Instant,
    pub(super) last: Arc<AtomicU64>,
    pub(super) drops: FlowDrops,
}

/// A datagram that waits.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) payload: Vec<u8>,
    pub(super) queued: Arc<AtomicUsize>,
}

impl UdpSession {
    /// Where the datagram that has begun it came from.
    #[must_use]
    pub fn peer(&self) -> Correspondent {
        self.from
    }

    /// Where datagrams of it that are dropped are told of.
    #[must_use]
    pub fn drops(&self) -> &FlowDrops {
        &self.drops
    }

    /// Whether a datagram waits in it.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Waits until there is to be no more of it. Can be dropped and called again.
    pub async fn ended(&mut self) {
        if !self.ended.is_terminated() {
            (&mut self.ended).await.ok();
        }
    }

    /// Drops what waits in it, for a reason that is told.
    pub fn lose(&mut self, reason: DropReason) {
        while let Ok(datagram) = self.incoming.try_recv() {
            self.drops.note(reason, datagram.payload.len());
        }
    }
}

impl Drop for UdpSession {
    fn drop(&mut self) {
        // From now on the next datagram begins another one.
        self.incoming.close();
        self.lose(DropReason::Ended);
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.payload.len(), Ordering::Relaxed);
    }
}

impl DatagramSocket for UdpSession {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(datagram) = ready!(self.incoming.poll_recv(cx)) else {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        };
        let len = datagram.payload.len().min(buf.len());
        buf[..len].copy_from_slice(&datagram.payload[..len]);
        Poll::Ready(Ok(len))
    }

    fn try_send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.last.store(millis(self.started.elapsed()), Ordering::Relaxed);
        self.socket.try_send(self.from, &[IoSlice::new(&self.header), IoSlice::new(datagram)]).map(drop)
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send_ready(self.from, cx)
    }

    fn dropped(&mut self, len: usize, why: &Dropped<'_>) {
        self.drops.note_relay(why, len);
    }
}

/// For an atomic number.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
